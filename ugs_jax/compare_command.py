"""`ugs compare`: several methods, trained on the same batches, or finished runs, side by side."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ugs_jax.commands import load_config, run_folder, with_overrides

if TYPE_CHECKING:
    from ugs_jax.training import Experiment

_PROG = "ugs compare … --"


def compare_command(words: list[str]) -> None:
    """Train several, or compare finished runs."""
    own, overrides = split_overrides(words)
    tyro.cli(_compare(overrides), args=own, prog="ugs compare")


def _compare(overrides: list[str]) -> Callable[..., None]:
    def compare(
        configs: tyro.conf.Positional[tuple[str, ...]] = ("first_light_ciou", "first_light_ugs"),
        seeds: tuple[int, ...] = (0,),
        folder: str = "runs/compare",
        resume: bool = False,
    ) -> None:
        """Train each config with each seed on the same batches, then draw AP by epoch and write a table.

        Fields after `--` override every config: `ugs compare A B -- --epochs 5`. Runs that are trained already, here
        or elsewhere, are compared by naming their folders.

        Args:
          configs: names, Python files or folders or URLs of finished runs, the baseline first.
          seeds: each config is trained once with each.
          folder: a folder or URL; holds the runs, comparison.png, comparison.md and comparison.json.
          resume: keep finished runs in the folder and continue interrupted ones.
        """
        check_seeds(seeds)
        found = [name if _is_run(name) else with_overrides(load_config(name), overrides, _PROG) for name in configs]
        _check_names([options.experiment.name for options in found if not isinstance(options, str)])
        runs: list[list[str]] = [[run] if isinstance(run, str) else [] for run in found]
        for seed in seeds:
            for options, own in zip(found, runs, strict=True):
                if not isinstance(options, str):
                    own.append(train_once(replace(options.experiment, seed=seed), folder, resume=resume))
        write_comparison([run for own in runs for run in own], folder)

    return compare


def split_overrides(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands before `--`, and the fields for every config behind it."""
    return (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])


def check_seeds(seeds: Sequence[int]) -> None:
    """Raises ValueError unless there are some and all differ: a run counted twice would make the spread look small."""
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: expected one or more different ones, got {' '.join(map(str, seeds)) or 'none'}")


def _check_names(names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"expected configs with names of their own, got {twice[0]!r} twice; runs are told apart by them"
        )


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

    run = run_folder(folder, experiment)
    if not (resume and _is_run(run, "report.md")):
        train(experiment, run, resume=resume and _is_run(run))
    return run


def _is_run(name: str, file: str = "config.json") -> bool:
    from ugs_jax.training.remote.store import Remote, is_url

    return Remote(name).read(file) is not None if is_url(name) else (Path(name) / file).is_file()


def write_comparison(runs: Sequence[str], place: str) -> None:
    """Writes comparison.md, .json and .png of runs, and prints the table.

    Args:
      runs: folders or URLs, the baseline first.
      place: a folder or URL.
    """
    import json
    from contextlib import ExitStack

    from ugs_jax.atomic import write_atomically
    from ugs_jax.evaluation import DEFAULT_PROTOCOL
    from ugs_jax.plotting import plot_comparison
    from ugs_jax.report import compare, comparison_table, group_by_name, read_groups
    from ugs_jax.training.remote.opened import opened_folder, opened_run

    with ExitStack() as stack:
        groups = group_by_name([stack.enter_context(opened_run(run)).folder for run in runs])
        table = comparison_table(groups)
        values = json.dumps(compare(read_groups(groups)).json(), indent=1)
        with opened_folder(place) as folder:
            write_atomically(folder / "comparison.md", f"{table}\n\n{DEFAULT_PROTOCOL.describe()}\n".encode())
            write_atomically(folder / "comparison.json", values.encode())
            plot_comparison(groups, folder / "comparison.png")
    print(table)
    print(f"\n{DEFAULT_PROTOCOL.describe()}\n")
    print(f"curves: {place.rstrip('/')}/comparison.png  table: {place.rstrip('/')}/comparison.md")
    for run in runs:
        print(f"report: {run}/report.md  pictures: {run}/predictions.png")
