"""`ugs compare`: several methods, trained on the same batches, or finished runs, side by side."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import tyro

from ugs_jax.commands.score import ProtocolName
from ugs_jax.commands.several_runs import (
    check_names,
    check_places,
    check_runs,
    check_seeds,
    overridden,
    split_overrides,
    train_once,
)
from ugs_jax.commands.train import is_run

if TYPE_CHECKING:
    from ugs_jax.experiment import Experiment


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
        protocol: ProtocolName | None = None,
    ) -> None:
        """Train each config with each seed on the same batches, then draw AP by epoch and write a table.

        Fields after `--` override every config: `ugs compare A B -- --epochs 5`. Runs that are trained already, here
        or elsewhere, are compared by naming their folders.

        Args:
          configs: names, Python files or folders or URLs of finished runs, the baseline first. If a run uses classes or
            functions of yours, add --import MODULE or --import FILE.py.
          seeds: each config is trained once with each.
          folder: a folder or URL; holds the runs, comparison.png, comparison.md and comparison.json.
          resume: keep finished runs in the folder and continue interrupted ones.
          protocol: also score the best checkpoint of each run as `ugs eval` does, in a second table.
        """
        check_seeds(seeds)
        groups = [[name] if is_run(name) else _experiments(name, overrides, seeds) for name in configs]
        new = [one for group in groups for one in group if not isinstance(one, str)]
        if overrides and not new:
            raise ValueError(
                f"expected a config for {' '.join(overrides)} to override, got finished runs only; leave out what is "
                "behind `--`"
            )
        check_names(new)
        check_runs([one for group in groups for one in group if isinstance(one, str)], new)
        check_places(new, folder, resume=resume)
        trained = {(one.name, one.seed): train_once(one, folder, resume=resume) for one in _by_seed(new, seeds)}
        runs = [one if isinstance(one, str) else trained[one.name, one.seed] for group in groups for one in group]
        write_comparison(runs, folder, protocol)

    return compare


def _experiments(name: str, overrides: list[str], seeds: Sequence[int]) -> "list[Experiment]":
    experiment = overridden(name, overrides, "ugs compare … --")
    return [replace(experiment, seed=seed) for seed in seeds]


def _by_seed(experiments: "Sequence[Experiment]", seeds: Sequence[int]) -> "list[Experiment]":
    """All methods with the first seed, then with the next: what is there early can be compared."""
    return sorted(experiments, key=lambda one: seeds.index(one.seed))


def write_comparison(runs: Sequence[str], place: str, protocol: ProtocolName | None = None) -> None:
    """Writes comparison.md, .json and .png of runs, and prints the tables.

    Args:
      runs: folders or URLs, the baseline first.
      place: a folder or URL.
      protocol: what the best checkpoints are scored by, in a second table; None leaves it out.
    """
    import json
    from contextlib import ExitStack

    from ugs_jax.atomic import write_atomically
    from ugs_jax.evaluation import DEFAULT_PROTOCOL
    from ugs_jax.report import compare, comparison_table, group_by_name, plot_comparison, read_groups
    from ugs_jax.runs.remote.opened import opened_folder, opened_run

    with ExitStack() as stack:
        groups = group_by_name([stack.enter_context(opened_run(run)).folder for run in runs])
        text = f"{comparison_table(groups)}\n\n{DEFAULT_PROTOCOL.describe()}\n"
        values = compare(read_groups(groups)).json()
        if protocol is not None:
            table, values["protocol"] = _score_all(runs, protocol)
            text += f"\n{table}"
        with opened_folder(place) as folder:
            write_atomically(folder / "comparison.md", text.encode())
            write_atomically(folder / "comparison.json", json.dumps(values, indent=1).encode())
            plot_comparison(groups, folder / "comparison.png")
    print(text)
    print(f"curves: {place.rstrip('/')}/comparison.png  table: {place.rstrip('/')}/comparison.md")
    for run in runs:
        print(f"report: {run}/report.md  pictures: {run}/predictions.png")


def _score_all(runs: Sequence[str], protocol: ProtocolName) -> tuple[str, dict[str, Any]]:
    """The best checkpoints by a protocol: a table, and the same as plain values."""
    from dataclasses import asdict

    from ugs_jax.commands.evaluate import evaluate_run
    from ugs_jax.report import protocol_scores, protocol_table
    from ugs_jax.runs import read_experiment
    from ugs_jax.runs.remote.opened import opened_run

    found: dict[str, list[dict[str, float | None]]] = {}
    counted = ""
    for run in runs:
        print(f"{run}: scoring its best checkpoint, {protocol} …", flush=True)
        with opened_run(run, "best") as opened:
            scores, counted, _ = evaluate_run(opened.folder, protocol=protocol)
            found.setdefault(read_experiment(opened.folder).name, []).append(scores)
    methods = protocol_scores(found)
    values = {name: {key: asdict(value) for key, value in scores.items()} for name, scores in methods.items()}
    return protocol_table(methods, protocol, counted), {"name": protocol, "counts": counted, "methods": values}
