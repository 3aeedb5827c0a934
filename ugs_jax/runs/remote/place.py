"""Where a run is: a folder of this machine, or a URL and the folder in which it is worked on."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from ugs_jax.experiment.config import Experiment
from ugs_jax.runs.processes import in_first_process
from ugs_jax.runs.remote.mirror import Mirror
from ugs_jax.runs.remote.store import is_url, working_folder
from ugs_jax.runs.run_folder import RunFolder


@contextmanager
def claimed_run(
    place: Path | str, experiment: Experiment, *, resume: bool
) -> Iterator[tuple[RunFolder, Mirror | None]]:
    """The folder of a run, locked, and what copies it to its URL, if that is what `place` is.

    Args:
      place: a folder or a URL.
      experiment: what will be trained.
      resume: continue a run that is there.

    Raises:
      FileExistsError, ValueError, BlockingIOError: see `RunFolder.claim` and `Mirror.fetch`.
      OSError: the folder cannot be written, or the URL cannot be reached.
    """
    mirror = Mirror(str(place), working_folder(str(place))) if is_url(place) else None
    run = RunFolder(working_folder(str(place)) if mirror else Path(place))

    def claim() -> None:
        if mirror is None:
            run.claim(experiment, resume=resume)
            return
        run.lock()
        mirror.fetch(resume=resume)
        run.check(experiment, resume=resume)
        mirror.claim()

    with closing(run):
        in_first_process(claim)
        with mirror or nullcontext():
            yield run, mirror
