"""`ugs train`, and what several commands need: configs by name, fields from the command line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

if TYPE_CHECKING:
    from ugs_jax.experiment import Experiment


def load_config(name: str) -> "Experiment":
    """Return an experiment by the name of one of ours, or from a Python file that defines `experiment`.

    Raises:
      ValueError: There is no such config, it has no `experiment`, or an error in the file, with its line and, for a
        misspelt field, the nearest known name.
    """
    import importlib

    from ugs_jax.experiment import Experiment
    from ugs_jax.experiment.user_code import import_file

    if name.endswith(".py"):
        found = vars(import_file(Path(name), explain=_explain)).get("experiment")
    else:
        if name not in known_configs():
            raise ValueError(f"no config {name!r}{_suggest(name, known_configs())}; a file's name ends in .py")
        found = importlib.import_module(f"experiments.configs.{name}").experiment
    if not isinstance(found, Experiment):
        raise ValueError(f"{name}: expected `experiment = Experiment(…)`, found {type(found).__name__}")
    return found


class TrainOptions(NamedTuple):
    """What the command line says of a training: an experiment, and how to run it."""

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
    from ugs_jax.commands.score import print_scores
    from ugs_jax.evaluation import DEFAULT_PROTOCOL
    from ugs_jax.runs import join_processes
    from ugs_jax.runs.companions import Companions
    from ugs_jax.runs.processes import is_first_process
    from ugs_jax.training import train

    name = words.pop(0) if words and not words[0].startswith("-") else "first_light_ugs"
    options = with_overrides(load_config(name), words, f"ugs train {name}")
    folder = options.folder or run_folder("runs", options.experiment, resume=options.resume)
    place = (options.coordinator, options.processes, options.process)
    if options.distributed or any(given is not None for given in place):
        join_processes(*place)
    with Companions():
        result = train(options.experiment, folder, resume=options.resume, profile=options.profile)
    if is_first_process():
        print_scores(result.best, options.experiment.name, DEFAULT_PROTOCOL.describe())
        print(f"report: {folder.rstrip('/')}/report.md")


def with_overrides(default: "Experiment", words: Sequence[str], prog: str) -> TrainOptions:
    """The options of `ugs train`, with any field of an experiment changed.

    Args:
      default: the experiment.
      words: `--FIELD VALUE …`.
      prog: name of the command, for its help and errors.
    """
    from ugs_jax.commands.overrides import mirror, restore

    fields = mirror(default)
    kind: Any = type(fields)

    def options(
        experiment: Annotated[kind, tyro.conf.arg(name="")] = fields,
        folder: str | None = None,
        resume: bool = False,
        profile: bool = False,
        distributed: bool = False,
        coordinator: str | None = None,
        processes: int | None = None,
        process: int | None = None,
    ) -> TrainOptions:
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
        experiment = restore(default, experiment)
        return TrainOptions(experiment, folder, resume, profile, distributed, coordinator, processes, process)

    return tyro.cli(options, args=list(words), prog=prog, config=(tyro.conf.AvoidSubcommands,))


def run_folder(parent: str, experiment: "Experiment", *, resume: bool = False) -> str:
    """The folder of an experiment's run in `parent`: `NAME-seedN`, with `_` for all but ASCII letters, digits and -_.

    Args:
      parent: a folder or URL.
      experiment: with its seed.
      resume: a run that an older version began keeps its folder, whose name has letters and digits of any alphabet.
    """

    def named(keeps: Callable[[str], bool]) -> str:
        safe = "".join(c if keeps(c) or c in "-_." else "_" for c in experiment.name)
        return f"{parent.rstrip('/')}/{safe}-seed{experiment.seed}"

    now, before = named(lambda c: c.isascii() and c.isalnum()), named(str.isalnum)
    return before if resume and now != before and is_run(before) and not is_run(now) else now


def is_run(place: str, file: str = "config.json") -> bool:
    """Whether a folder or URL has a run's config, or another of its files."""
    from ugs_jax.runs.remote.store import Remote, is_url

    return Remote(place).read(file) is not None if is_url(place) else (Path(place) / file).is_file()


def known_configs() -> list[str]:
    """Names of the configs that come with the library."""
    from importlib.resources import files

    names = (entry.name for entry in files("experiments.configs").iterdir())
    return sorted(name.removesuffix(".py") for name in names if name.endswith(".py") and not name.startswith("_"))


def _explain(error: Exception) -> str:
    """Return Python's message, and for an unknown keyword the nearest field of ours."""
    import dataclasses
    import re

    from ugs_jax.experiment.registry import suggestion
    from ugs_jax.experiment.serialize import KNOWN_TYPES

    match = re.search(r"(?:(\w+)\.__init__\(\) )?got an unexpected keyword argument '(\w+)'", str(error))
    if match is None or not isinstance(error, TypeError):
        return str(error)
    kinds = [KNOWN_TYPES[match[1]]] if match[1] in KNOWN_TYPES else list(KNOWN_TYPES.values())
    fields = {f.name for kind in kinds for f in dataclasses.fields(kind)}
    return f"{match[1] or 'the config'} has no field {match[2]!r}{suggestion(match[2], fields)}"


def _suggest(name: str, known: Any) -> str:
    from ugs_jax.experiment.registry import suggestion

    return suggestion(name, known)
