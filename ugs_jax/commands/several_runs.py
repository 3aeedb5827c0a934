"""Several runs in one folder: what `ugs compare` and `ugs ablate` check and train."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from ugs_jax.commands.train import is_run, load_config, run_folder, with_overrides

if TYPE_CHECKING:
    from ugs_jax.experiment import Experiment

_BEFORE = {"folder": "--folder", "resume": "--resume", "no-resume": "--resume", "seed": "--seeds"}
_ALONE = ("profile", "no-profile", "distributed", "no-distributed", "coordinator", "processes", "process")


def split_overrides(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands before `--`, and the fields for every config behind it.

    Raises:
      ValueError: behind `--`, what says how to run and not what to train.
    """
    if "--" not in words:
        return words, []
    own, overrides = words[: words.index("--")], words[words.index("--") + 1 :]
    for word in overrides:
        name = word.partition("=")[0].removeprefix("--").replace("_", "-") if word.startswith("--") else ""
        if name in _BEFORE:
            raise ValueError(
                f"expected fields of the configs behind `--`, got --{name}, which is said once for all runs; write "
                f"{_BEFORE[name]} before `--`"
            )
        if name in _ALONE:
            raise ValueError(
                f"expected fields of the configs behind `--`, got --{name}, which is for one run; train each by "
                f"`ugs train CONFIG --{name} …`, then name their folders: `ugs compare RUN RUN …`"
            )
    return own, overrides


def overridden(config: str, overrides: Sequence[str], prog: str) -> "Experiment":
    """A config by its name or file, with fields overridden.

    Args:
      config: see `load_config`.
      overrides: from `split_overrides`.
      prog: name of the command, for its help and errors.
    """
    experiment: Experiment = with_overrides(load_config(config), overrides, prog).experiment
    return experiment


def check_seeds(seeds: Sequence[int]) -> None:
    """Raises ValueError unless there are some and all differ: a run counted twice would make the spread look small."""
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: expected one or more different ones, got {' '.join(map(str, seeds)) or 'none'}")


def check_names(experiments: Sequence["Experiment"]) -> None:
    """Raises ValueError for two experiments of one name and seed, or whose runs would go into one folder."""
    for one, other in combinations(experiments, 2):
        if (one.name, one.seed) == (other.name, other.seed):
            raise ValueError(
                f"expected configs with names of their own, got {one.name!r} twice; runs are told apart by them"
            )
        if run_folder("", one) == run_folder("", other):
            raise ValueError(
                f"expected configs with folders of their own, got {one.name!r} and {other.name!r}, which differ only "
                "in what a folder's name cannot have; rename one"
            )


def check_runs(runs: Sequence[str], experiments: Sequence["Experiment"]) -> None:
    """Raises RunError for finished runs that cannot be compared, with one another or with what will be trained.

    Args:
      runs: folders or URLs.
      experiments: with their seeds.
    """
    from ugs_jax.report import RunError, compare, group_by_name, read_groups
    from ugs_jax.runs.remote.opened import opened_run

    if not runs:
        return
    with ExitStack() as stack:
        there = read_groups(group_by_name([stack.enter_context(opened_run(run)).folder for run in runs]))
        compare(there)  # which refuses those without scores
    seeds = {name: [run.seed for run in members] for name, members in there.items()}
    for one in experiments:
        if one.seed in seeds.get(one.name, ()):
            raise RunError(
                f"{one.name}: expected a different seed for each run, got a finished run and a config with seed "
                f"{one.seed}; leave one out"
            )


def check_places(experiments: Iterable["Experiment"], folder: str, *, resume: bool) -> None:
    """Look whether all of them may be trained in `folder`, before the first costs time.

    Args:
      experiments: with their seeds.
      folder: a folder or URL.
      resume: keep finished runs, continue interrupted ones.

    Raises:
      FileExistsError: a run is there already and `resume` is not set, or there are remains of one.
      ValueError: a run there has another config; names the fields.
    """
    for experiment in experiments:
        _check_place(experiment, run_folder(folder, experiment, resume=resume), resume=resume)


def train_once(experiment: "Experiment", folder: str, *, resume: bool) -> str:
    """Train an experiment into a folder of its own in `folder`, unless that is done and `resume` is set.

    Args:
      experiment: with its seed.
      folder: a folder or URL.
      resume: keep a finished run, continue an interrupted one.

    Returns:
      The run's folder.
    """
    from ugs_jax.training import train

    run = run_folder(folder, experiment, resume=resume)
    if not (resume and is_run(run, "report.md")):
        train(experiment, run, resume=resume and is_run(run))
    return run


def _check_place(experiment: "Experiment", run: str, *, resume: bool) -> None:
    from ugs_jax.runs import RunFolder
    from ugs_jax.runs.remote.opened import opened_run
    from ugs_jax.runs.remote.store import is_url

    if not is_url(run):
        RunFolder(Path(run)).check(experiment, resume=resume)
    elif is_run(run):
        with opened_run(run) as opened:
            try:
                RunFolder(opened.folder).check(experiment, resume=resume)
            except (FileExistsError, ValueError) as error:
                raise type(error)(str(error).replace(str(opened.folder), opened.name)) from error
