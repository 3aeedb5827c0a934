"""Checks and training of several runs in one folder, for `ugs compare` and `ugs ablate`."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from ugs_jax.commands.data_option import with_data
from ugs_jax.commands.train import is_run, load_config, run_folder, with_overrides

if TYPE_CHECKING:
    from ugs_jax.experiment import Experiment

_BEFORE = {"folder": "--folder", "resume": "--resume", "no-resume": "--resume", "seed": "--seeds", "data": "--data"}
_ALONE = ("profile", "no-profile", "distributed", "no-distributed", "coordinator", "processes", "process")


def split_overrides(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words before `--`, and the words after it, which override fields of every config.

    Raises:
      ValueError: A word after `--` is an option of the command, not a field of a config.
    """
    if "--" not in words:
        return words, []
    own, overrides = words[: words.index("--")], words[words.index("--") + 1 :]
    for word in overrides:
        name = word.partition("=")[0].removeprefix("--").replace("_", "-") if word.startswith("--") else ""
        if name in _BEFORE:
            raise ValueError(
                f"expected fields of the configs after `--`, got --{name}, which is given once for all runs; write "
                f"{_BEFORE[name]} before `--`"
            )
        if name in _ALONE:
            raise ValueError(
                f"expected fields of the configs after `--`, got --{name}, which is an option of a single run; train "
                f"each config by `ugs train CONFIG --{name} …`, then compare their folders: `ugs compare RUN RUN …`"
            )
    return own, overrides


def overridden(config: str, overrides: Sequence[str], prog: str, data: str | None = None) -> "Experiment":
    """Return the experiment of a config, with fields overridden.

    Args:
      config: Name or file of the config, see `load_config`.
      overrides: Words after `--`, from `split_overrides`.
      prog: Name of the command in help texts and errors.
      data: Path of a data set that replaces that of the config, or None.
    """
    experiment: Experiment = with_overrides(with_data(load_config(config), data), overrides, prog).experiment
    return experiment


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise a ValueError for repeated or missing seeds. A run counted twice would make the spread look too small."""
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: expected one or more different seeds, got {' '.join(map(str, seeds)) or 'none'}")


def check_names(experiments: Sequence["Experiment"]) -> None:
    """Raise a ValueError for two experiments with the same name and seed, or with the same run folder."""
    for first, second in combinations(experiments, 2):
        if (first.name, first.seed) == (second.name, second.seed):
            raise ValueError(
                f"expected configs with different names, got {first.name!r} twice; rename one, because runs are told "
                "apart by name"
            )
        if run_folder("", first) == run_folder("", second):
            raise ValueError(
                f"expected configs with different folders, got {first.name!r} and {second.name!r}, which differ only "
                "in characters that folder names cannot have; rename one"
            )


def check_runs(runs: Sequence[str], experiments: Sequence["Experiment"]) -> None:
    """Raise a RunError for finished runs that cannot be compared with each other or with the experiments.

    Args:
      runs: Folders or URLs of finished runs.
      experiments: Experiments to train, with their seeds.
    """
    from ugs_jax.report import RunError, compare, group_by_name, read_groups
    from ugs_jax.runs.remote.opened import opened_run

    if not runs:
        return
    with ExitStack() as stack:
        finished = read_groups(group_by_name([stack.enter_context(opened_run(run)).folder for run in runs]))
        compare(finished)  # raises an error for runs without scores
    seeds = {name: [run.seed for run in members] for name, members in finished.items()}
    for experiment in experiments:
        if experiment.seed in seeds.get(experiment.name, ()):
            raise RunError(
                f"{experiment.name}: expected a different seed for each run, got a finished run and a config with seed "
                f"{experiment.seed}; leave one out"
            )


def check_places(experiments: Iterable["Experiment"], folder: str, *, resume: bool) -> None:
    """Raise an error if one of the experiments cannot be trained in `folder`, before any time is spent on training.

    Args:
      experiments: Experiments with their seeds.
      folder: Folder or URL for the runs.
      resume: Keep finished runs and continue interrupted ones.

    Raises:
      FileExistsError: A run already exists and `resume` is not set, or the remains of a run exist.
      ValueError: An existing run has a different config. The message names the fields that differ.
    """
    for experiment in experiments:
        _check_place(experiment, run_folder(folder, experiment), resume=resume)


def train_once(experiment: "Experiment", folder: str, *, resume: bool) -> str:
    """Train an experiment into its own run folder in `folder`. With `resume`, a finished run is not trained again.

    Args:
      experiment: Experiment with its seed.
      folder: Folder or URL for the runs.
      resume: Keep a finished run and continue an interrupted one.

    Returns:
      The run's folder.
    """
    from ugs_jax.training import train

    run = run_folder(folder, experiment)
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
