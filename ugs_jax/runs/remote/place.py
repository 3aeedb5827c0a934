"""Claim of a run: in a local folder, or at a URL with a local working folder."""

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
    """Lock the folder of a run. If `place` is a URL, also keep a copy of the run there.

    Args:
      place: Folder or URL of the run.
      experiment: Experiment to be trained.
      resume: Continue an existing run.

    Yields:
      The run folder, and the `Mirror` that copies it to its URL (None for a folder).

    Raises:
      FileExistsError, ValueError, BlockingIOError: See `RunFolder.claim` and `Mirror.fetch`.
      OSError: The folder cannot be written, or the URL cannot be reached.
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
