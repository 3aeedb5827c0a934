"""`ugs compare`: comparison of methods that are trained on the same batches, and of finished runs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import tyro

from ugs_jax.commands.data_option import OWN_DATA
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
    """Train several configs, or compare finished runs."""
    own, overrides = split_overrides(words)
    tyro.cli(_compare(overrides), args=own, prog="ugs compare")


def _compare(overrides: list[str]) -> Callable[..., None]:
    def compare(
        configs: tyro.conf.Positional[tuple[str, ...]] = (),
        data: str | None = None,
        seeds: tuple[int, ...] = (0,),
        folder: str = "runs/compare",
        resume: bool = False,
        protocol: ProtocolName | None = None,
    ) -> None:
        """Train each config with each seed on the same batches, then plot AP by epoch and write a table.

        Fields after `--` override every config: `ugs compare A B -- --epochs 5`. To compare runs that are already
        trained, on this machine or elsewhere, name their folders.

        Args:
          configs: Names of configs, Python files, and folders or URLs of finished runs, the baseline first. If a run
            uses classes or functions of yours, add the option `--import MODULE` or `--import FILE.py`. The default is
            first_light_ciou and first_light_ugs, and with --data own_data_ciou and own_data.
          data: Data set of yours for every config: a data.yaml (YOLO), or a folder in YOLO, COCO or VisDrone format.
          seeds: Seeds. Each config is trained once with each seed.
          folder: Folder or URL for the runs, comparison.png, comparison.md and comparison.json.
          resume: Keep finished runs in the folder and continue interrupted ones.
          protocol: Also score the best checkpoint of each run by this protocol, as `ugs eval` does, in a second table.
        """
        check_seeds(seeds)
        names = configs or (("first_light_ciou", "first_light_ugs") if data is None else (f"{OWN_DATA}_ciou", OWN_DATA))
        groups = [[name] if is_run(name) else _experiments(name, overrides, seeds, data) for name in names]
        members = [member for group in groups for member in group]
        new = [member for member in members if not isinstance(member, str)]
        if overrides and not new:
            raise ValueError(
                f"expected a config for {' '.join(overrides)} to override, got finished runs only; leave out the words "
                "after `--`"
            )
        if data is not None and not new:
            raise ValueError("expected a config to train on --data, got finished runs only; leave --data out")
        check_names(new)
        check_runs([member for member in members if isinstance(member, str)], new)
        check_places(new, folder, resume=resume)
        trained = {(e.name, e.seed): train_once(e, folder, resume=resume) for e in _by_seed(new, seeds)}
        runs = [member if isinstance(member, str) else trained[member.name, member.seed] for member in members]
        write_comparison(runs, folder, protocol)

    return compare


def _experiments(name: str, overrides: list[str], seeds: Sequence[int], data: str | None) -> "list[Experiment]":
    experiment = overridden(name, overrides, "ugs compare … --", data)
    return [replace(experiment, seed=seed) for seed in seeds]


def _by_seed(experiments: "Sequence[Experiment]", seeds: Sequence[int]) -> "list[Experiment]":
    """Sort experiments by seed, so that all methods can be compared as soon as the first seed is trained."""
    return sorted(experiments, key=lambda experiment: seeds.index(experiment.seed))


def write_comparison(runs: Sequence[str], destination: str, protocol: ProtocolName | None = None) -> None:
    """Write comparison.md, comparison.json and comparison.png of runs, and print the tables.

    Args:
      runs: Folders or URLs of runs, the baseline first.
      destination: Folder or URL for the files.
      protocol: Scoring protocol of the best checkpoints, for a second table. None leaves this table out.
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
        with opened_folder(destination) as folder:
            write_atomically(folder / "comparison.md", text.encode())
            write_atomically(folder / "comparison.json", json.dumps(values, indent=1).encode())
            plot_comparison(groups, folder / "comparison.png")
    print(text)
    print(f"curves: {destination.rstrip('/')}/comparison.png  table: {destination.rstrip('/')}/comparison.md")
    for run in runs:
        print(f"report: {run}/report.md  pictures: {run}/predictions.png")


def _score_all(runs: Sequence[str], protocol: ProtocolName) -> tuple[str, dict[str, Any]]:
    """Return the scores of the best checkpoints by a protocol, as a table and as JSON values."""
    from dataclasses import asdict

    from ugs_jax.commands.evaluate import evaluate_run
    from ugs_jax.report import protocol_scores, protocol_table
    from ugs_jax.runs import read_experiment
    from ugs_jax.runs.remote.opened import opened_run

    scores_by_name: dict[str, list[dict[str, float | None]]] = {}
    counted = ""
    for run in runs:
        print(f"{run}: scoring its best checkpoint, {protocol} …", flush=True)
        with opened_run(run, "best") as opened:
            scores, counted, _ = evaluate_run(opened.folder, protocol=protocol)
            scores_by_name.setdefault(read_experiment(opened.folder).name, []).append(scores)
    methods = protocol_scores(scores_by_name)
    values = {name: {key: asdict(value) for key, value in scores.items()} for name, scores in methods.items()}
    return protocol_table(methods, protocol, counted), {"name": protocol, "counts": counted, "methods": values}
