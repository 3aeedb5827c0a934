"""The command `ugs ablate`: the parts of UGS one by one, in one table."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import tyro

from ugs_jax.commands.data_option import OWN_DATA
from ugs_jax.commands.several_runs import (
    check_names,
    check_places,
    check_seeds,
    overridden,
    split_overrides,
    train_once,
)

if TYPE_CHECKING:
    from ugs_jax.experiment import Experiment


def ablate_command(words: list[str]) -> None:
    """Run `ugs ablate`: train one config with several objectives."""
    own, overrides = split_overrides(words)
    if any(word.partition("=")[0] == "--name" for word in overrides):
        raise ValueError("expected fields of the config after `--`, got --name; methods have names of their own")
    tyro.cli(_ablate(overrides), args=own, prog="ugs ablate")


def _ablate(overrides: list[str]) -> Callable[..., None]:
    from ugs_jax.experiment.ablation import DEFAULT_METHODS, ablation

    def ablate(
        config: tyro.conf.Positional[str | None] = None,
        data: str | None = None,
        methods: tuple[str, ...] = DEFAULT_METHODS,
        seeds: tuple[int, ...] = (0,),
        folder: str = "runs/ablation",
        resume: bool = False,
        repeats: int = 20,
    ) -> None:
        """Train one config with each part of UGS and each seed, on the same batches, and write one table.

        The table shows AP by object size, the variance of gradients and the curvature of small boxes, and the time and
        memory of a step. Fields after `--` override the config: `ugs ablate CONFIG -- --epochs 5`.

        Args:
          config: Name of a config, or a Python file. If its objective is a `UGS` or a `SideUGS`, that is the complete
            one. The default is first_light_ugs, and with --data own_data.
          data: Data set of yours: a data.yaml (YOLO), or a folder in YOLO, COCO or VisDrone format.
          methods: Rows of the table, with the baseline first: l2, smooth_l1, ciou, dfl, ce, in, um, um_ur, um_entropy,
            um_match, ur, fitted, box, box_um_ur, second, quality, config. The rows of the paper's table are probably
            l2 ce in um um_ur ur. To add one part in each row, use l2 ciou ce in um_match ur box_um_ur.
          seeds: Seeds. Each method is trained once with each seed.
          folder: Folder or URL for the runs, ablation.md, ablation.json and comparison.png.
          resume: Keep the finished runs in the folder, and continue the interrupted ones.
          repeats: Number of timed steps of each method. With 0, the table has no time and memory.
        """
        check_seeds(seeds)
        name = config or ("first_light_ugs" if data is None else OWN_DATA)
        experiments = ablation(overridden(name, overrides, "ugs ablate … --", data), methods)
        train_and_tabulate(f"Ablation of {name}", experiments, seeds, folder, resume=resume, repeats=repeats)

    return ablate


def train_and_tabulate(
    title: str, experiments: "Sequence[Experiment]", seeds: Sequence[int], folder: str, *, resume: bool, repeats: int
) -> None:
    """Train experiments with each seed, and write the table of an ablation.

    Args:
      title: Title of the table.
      experiments: Experiments with different names, the baseline first.
      seeds: Seeds. Each experiment is trained once with each seed.
      folder: Folder or URL for the runs and the table.
      resume: Keep the finished runs in the folder, and continue the interrupted ones.
      repeats: Number of timed steps of each experiment. With 0, the table has no time and memory.
    """
    check_seeds(seeds)
    seeded = [replace(experiment, seed=seed) for seed in seeds for experiment in experiments]
    check_names(experiments)
    check_places(seeded, folder, resume=resume)
    runs = [train_once(experiment, folder, resume=resume) for experiment in seeded]
    _write(title, experiments, runs, folder, repeats)


def _write(
    title: str, experiments: "Sequence[Experiment]", runs: Sequence[str], destination: str, repeats: int
) -> None:
    from contextlib import ExitStack

    from ugs_jax.analysis.step_cost import step_costs
    from ugs_jax.atomic import write_atomically
    from ugs_jax.evaluation import DEFAULT_PROTOCOL
    from ugs_jax.report import ablate, ablation_table, group_by_name, plot_comparison
    from ugs_jax.runs.remote.opened import opened_folder, opened_run

    costs = step_costs(experiments, repeats) if repeats else []
    by_name = {experiment.name: cost for experiment, cost in zip(experiments, costs, strict=bool(costs))}
    with ExitStack() as stack:
        groups = group_by_name([stack.enter_context(opened_run(run)).folder for run in runs])
        results = ablate({experiment.name: groups[experiment.name] for experiment in experiments}, by_name)
        table = f"{ablation_table(results)}\n{DEFAULT_PROTOCOL.describe()}\n"
        with opened_folder(destination) as folder:
            write_atomically(folder / "ablation.md", f"# {title}\n\n{table}".encode())
            write_atomically(folder / "ablation.json", json.dumps(results.json(), indent=1).encode())
            plot_comparison(groups, folder / "comparison.png")
    print(table)
    print(f"table: {destination.rstrip('/')}/ablation.md  curves: {destination.rstrip('/')}/comparison.png")
