"""The commands of `ugs` that train, compare, score and predict."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import tyro

if TYPE_CHECKING:
    from ugs_jax.training import Experiment


def load_config(name: str) -> "Experiment":
    """An experiment by the name of one of ours, or from a Python file that defines `experiment`.

    Raises:
      ValueError: no such config, one without `experiment`, or a misspelt field; with the nearest known name.
    """
    import importlib
    import runpy

    from ugs_jax.training import Experiment

    try:
        if name.endswith(".py"):
            if not Path(name).is_file():
                raise ValueError(f"{name}: expected a Python file, found none")
            found = runpy.run_path(name).get("experiment")
        else:
            if name not in known_configs():
                raise ValueError(f"no config {name!r}{_suggest(name, known_configs())}; a file's name ends in .py")
            found = importlib.import_module(f"experiments.configs.{name}").experiment
    except TypeError as error:
        raise ValueError(f"{name}: {_explain_keyword(error)}") from error
    if not isinstance(found, Experiment):
        raise ValueError(f"{name}: expected `experiment = Experiment(…)`, found {type(found).__name__}")
    return found


class _TrainOptions(NamedTuple):
    experiment: Any
    folder: str | None
    resume: bool
    profile: bool
    distributed: bool
    coordinator: str | None
    processes: int | None
    process: int | None


def train_command(words: list[str]) -> None:
    """Train one experiment."""
    from ugs_jax.training import join_processes, train
    from ugs_jax.training.processes import is_first_process

    name = words.pop(0) if words and not words[0].startswith("-") else "first_light_ugs"
    options = _with_overrides(load_config(name), words, f"ugs train {name}")
    folder = options.folder or _run_folder("runs", options.experiment)
    if options.distributed or options.coordinator:
        join_processes(options.coordinator, options.processes, options.process)
    result = train(options.experiment, folder, resume=options.resume, profile=options.profile)
    if is_first_process():
        _print_scores(result.best, options.experiment.name)
        print(f"report: {folder.rstrip('/')}/report.md")


def _with_overrides(default: "Experiment", words: Sequence[str], prog: str) -> "_TrainOptions":
    from ugs_jax.training import Experiment

    def options(
        experiment: Annotated[Experiment, tyro.conf.arg(name="")] = default,
        folder: str | None = None,
        resume: bool = False,
        profile: bool = False,
        distributed: bool = False,
        coordinator: str | None = None,
        processes: int | None = None,
        process: int | None = None,
    ) -> _TrainOptions:
        """Train one experiment into a run folder. The values are those of the config; change any of them.

        Args:
          experiment: the experiment.
          folder: where the run goes, runs/NAME-seedN if none is given: a folder, or a URL such as gs://bucket/run or
            s3://bucket/run, to which checkpoints and log are copied in the background.
          resume: continue the run in the folder from its last checkpoint; begin it where there is none.
          profile: record ten steps into the run's folder `profile`, for XProf, TensorBoard or Perfetto.
          distributed: this is one of several processes, of which the first reads and writes the folder; on Cloud TPU,
            GKE, Slurm and Open MPI they find each other.
          coordinator: elsewhere, HOST:PORT of process 0.
          processes: elsewhere, how many there are.
          process: elsewhere, the number of this one, from 0.
        """
        return _TrainOptions(experiment, folder, resume, profile, distributed, coordinator, processes, process)

    return tyro.cli(options, args=list(words), prog=prog, config=(tyro.conf.AvoidSubcommands,))


def compare_command(words: list[str]) -> None:
    """Train several, or compare finished runs."""
    own, overrides = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    tyro.cli(_compare_runs(overrides), args=own, prog="ugs compare")


def _compare_runs(overrides: list[str]) -> Callable[..., None]:
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
        from ugs_jax.training import train

        runs = [(place, name) for place, name in enumerate(configs) if _is_run(name)]
        for seed in seeds:
            for place, name in enumerate(configs):
                if _is_run(name):
                    continue
                seeded = replace(load_config(name), seed=seed)
                experiment = _with_overrides(seeded, overrides, "ugs compare … --").experiment
                run = _run_folder(folder, experiment)
                if not (resume and _is_run(run, "report.md")):
                    train(experiment, run, resume=resume and _is_run(run))
                runs.append((place, run))
        _write_comparison([run for _, run in sorted(runs, key=lambda pair: pair[0])], folder)

    return compare


def _is_run(name: str, file: str = "config.json") -> bool:
    from ugs_jax.training.remote.store import Remote, is_url

    return Remote(name).read(file) is not None if is_url(name) else (Path(name) / file).is_file()


def _write_comparison(runs: Sequence[str], place: str) -> None:
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


def eval_command(words: list[str]) -> None:
    """Score a run."""
    tyro.cli(_evaluate_run, args=words, prog="ugs eval")


def _evaluate_run(
    run: tyro.conf.Positional[str],
    which: Literal["best", "last"] = "best",
    split: Literal["val", "train"] = "val",
    protocol: Literal["default", "visdrone", "coco", "aitod", "sodad", "tinyperson"] = "default",
) -> None:
    """Score a run on the images of its config.

    With `--protocol visdrone` results are also written as a submission: a folder of text files and a zip archive.

    Args:
      run: a run folder, or the URL of a run.
      which: checkpoint.
      split: the validation images, or the training images as they are: what the run has learned by heart.
      protocol: what to count; other than by default, as many detections are kept as the protocol counts.
    """
    from ugs_jax.score_command import print_scores, room_for, scorer_for, write_evaluation
    from ugs_jax.training import evaluate, jit_detect, load_for_inference, read_experiment
    from ugs_jax.training.remote.opened import opened_run

    with opened_run(run, which) as opened:
        experiment = read_experiment(opened.folder)
        data = experiment.data.open(split)
        detector, state, mesh = load_for_inference(opened.folder, experiment, which=which)
        detect = jit_detect(detector, room_for(protocol, experiment.postprocess), mesh)
        scorer = scorer_for(protocol, data, experiment.data)
        scores = evaluate(detect, state.ema_params, state.ema_stats, data, experiment.loader, mesh, scorer)
        suffix = f"{which}{'_train' if split == 'train' else ''}{'' if protocol == 'default' else f'_{protocol}'}"
        written = write_evaluation(opened.folder, suffix, scorer, scores, data)
    print_scores(scores, f"{experiment.name} ({which}, {split})", scorer.describe())
    for what, file in written.items():
        print(f"{what}: {opened.shown(file)}")


def _print_scores(scores: dict[str, float | None], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from ugs_jax.evaluation import DEFAULT_PROTOCOL

    table = Table(title=title)
    table.add_column("score")
    table.add_column("%", justify="right")
    for name, value in scores.items():
        if name not in ("kind", "step", "epoch"):
            table.add_row(name, "–" if value is None else f"{100 * value:.1f}")
    console = Console()
    console.print(table)
    console.print(DEFAULT_PROTOCOL.describe(), style="dim")


def _run_folder(parent: str, experiment: "Experiment") -> str:
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in experiment.name)
    return f"{parent.rstrip('/')}/{safe}-seed{experiment.seed}"


def known_configs() -> list[str]:
    """Names of the configs that come with the library."""
    from importlib.resources import files

    names = (entry.name for entry in files("experiments.configs").iterdir())
    return sorted(name.removesuffix(".py") for name in names if name.endswith(".py") and not name.startswith("_"))


def _explain_keyword(error: TypeError) -> str:
    """Python's message on an unknown keyword, with the nearest field of ours added."""
    import dataclasses
    import re

    from ugs_jax.training import serialize

    match = re.search(r"(?:(\w+)\.__init__\(\) )?got an unexpected keyword argument '(\w+)'", str(error))
    if match is None:
        return str(error)
    known = serialize.KNOWN_TYPES
    kinds = [known[match[1]]] if match[1] in known else list(known.values())
    fields = {f.name for kind in kinds for f in dataclasses.fields(kind)}
    return f"{match[1] or 'the config'} has no field {match[2]!r}{serialize.suggestion(match[2], fields)}"


def _suggest(name: str, known: Any) -> str:
    from ugs_jax.training.serialize import suggestion

    return suggestion(name, known)
