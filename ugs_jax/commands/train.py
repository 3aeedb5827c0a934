"""`ugs train`, and the loading of configs and command-line overrides that other commands share."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import tyro

if TYPE_CHECKING:
    from ugs_jax.experiment import Experiment


def load_config(name: str) -> "Experiment":
    """Return the experiment of a config.

    Args:
      name: Name of a config that comes with the library, or a Python file that defines `experiment`.

    Raises:
      ValueError: The config does not exist, it defines no `experiment`, or running it fails. The message has the file
        and line of the error and, for a misspelt field, the nearest known name.
    """
    import importlib

    from ugs_jax.experiment import Experiment
    from ugs_jax.experiment.user_code import import_file

    if name.endswith(".py"):
        experiment = vars(import_file(Path(name), explain=_explain)).get("experiment")
    else:
        modules = config_modules()
        if name not in modules:
            raise ValueError(
                f"unknown config {name!r}{_suggest(name, modules)}; the name of a config file must end in .py"
            )
        experiment = importlib.import_module(modules[name]).experiment
    if not isinstance(experiment, Experiment):
        raise ValueError(f"{name}: expected `experiment = Experiment(…)`, got {type(experiment).__name__}; define it")
    return experiment


class TrainOptions(NamedTuple):
    """Experiment to train, and options of the run. See `ugs train --help`."""

    experiment: Any
    folder: str | None
    resume: bool
    profile: bool
    distributed: bool
    coordinator: str | None
    processes: int | None
    process: int | None
    logger: tuple[str, ...]


def train_command(words: list[str]) -> None:
    """Train one experiment."""
    from ugs_jax.commands.data_option import OWN_DATA, split_data, with_data
    from ugs_jax.commands.loggers import load_loggers
    from ugs_jax.commands.score import print_scores
    from ugs_jax.commands.tiled_data import whole_image_note
    from ugs_jax.evaluation import DEFAULT_PROTOCOL
    from ugs_jax.runs import join_processes
    from ugs_jax.runs.companions import Companions
    from ugs_jax.runs.processes import is_first_process
    from ugs_jax.training import train

    words, data = split_data(words)
    default = "first_light_ugs" if data is None else OWN_DATA
    name = words.pop(0) if words and not words[0].startswith("-") else default
    options = with_overrides(with_data(load_config(name), data), words, f"ugs train {name}")
    folder = options.folder or run_folder("runs", options.experiment)
    loggers = load_loggers(options.logger)
    cluster = (options.coordinator, options.processes, options.process)
    if options.distributed or any(value is not None for value in cluster):
        join_processes(*cluster)
    with Companions():
        result = train(options.experiment, folder, resume=options.resume, profile=options.profile, loggers=loggers)
    if is_first_process():
        print_scores(result.best, options.experiment.name, DEFAULT_PROTOCOL.describe())
        if note := whole_image_note(options.experiment.data, folder):
            print(note)
        print(f"report: {folder.rstrip('/')}/report.md  page: {folder.rstrip('/')}/report.html")


def with_overrides(default: "Experiment", words: Sequence[str], prog: str) -> TrainOptions:
    """Return the options of `ugs train`, with the fields of the experiment that the command line changes.

    Args:
      default: Experiment before the changes.
      words: Words of the command line: `--FIELD VALUE …`.
      prog: Name of the command in help texts and errors.
    """
    from ugs_jax.commands.overrides import mirror, restore
    from ugs_jax.commands.tiled_data import with_tiles

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
        logger: tuple[str, ...] = (),
        tile: tuple[int] | tuple[int, int] | None = None,
        tile_overlap: float | None = None,
        tile_empty_share: float | None = None,
        tile_keep_visible: float | None = None,
        tile_whole: bool = False,
        tile_val: Literal["tiles", "whole"] | None = None,
    ) -> TrainOptions:
        """Train one experiment into a run folder.

        The defaults below are the values of the config. Each of them can be changed. The option --data PATH trains on
        a data set of yours: a data.yaml (YOLO), or a folder in YOLO, COCO or VisDrone format. Without a config, the
        config is then own_data.

        Args:
          experiment: Experiment to train.
          folder: Folder of the run, or a URL such as gs://bucket/run or s3://bucket/run, to which checkpoints and log
            are copied in the background. The default is runs/NAME-seedN.
          resume: Continue the run in the folder from its last checkpoint. If there is no checkpoint, start the run.
          profile: Record ten steps in the folder `profile` of the run, for XProf, TensorBoard or Perfetto.
          distributed: Join several processes, of which only the first reads and writes the folder. On Cloud TPU, GKE,
            Slurm and Open MPI the processes find each other.
          coordinator: Address HOST:PORT of process 0. Needed if the processes cannot find each other.
          processes: Number of processes. Needed if the processes cannot find each other.
          process: Index of this process, from 0. Needed if the processes cannot find each other.
          logger: Loggers that get the values of the run: MODULE:NAME or FILE.py:NAME of subclasses of `RunLogger`.
          tile: Height and width of the tiles that the images are cut into, px. One number gives square tiles. The
            network's input gets the same size, unless --loader.image-size gives another.
          tile_overlap: Least share of a tile that it has in common with its neighbour. The default is 0.2.
          tile_empty_share: Share of the training tiles without objects that is kept. The default is 0.2.
          tile_keep_visible: Least visible share of an object's area with which it stays an object in a tile. The
            default is 0.5.
          tile_whole: Add each training image as a whole, for objects larger than a tile.
          tile_val: Validate during training on tiles, which is the default, or on whole images.
        """
        changes = {
            "overlap": tile_overlap,
            "empty_share": tile_empty_share,
            "keep_visible": tile_keep_visible,
            "whole": tile_whole or None,
            "val": tile_val,
        }
        experiment = with_tiles(default, restore(default, experiment), tile, changes)
        cluster = (distributed, coordinator, processes, process)
        return TrainOptions(experiment, folder, resume, profile, *cluster, logger)

    return tyro.cli(options, args=list(words), prog=prog, config=(tyro.conf.AvoidSubcommands,))


def run_folder(parent: str, experiment: "Experiment") -> str:
    """Return the folder `NAME-seedN` of an experiment's run.

    All characters of the name except ASCII letters, ASCII digits, `-`, `_` and `.` are replaced by `_`.

    Args:
      parent: Folder or URL that contains the run.
      experiment: Experiment with its name and seed.
    """
    safe = "".join(c if (c.isascii() and c.isalnum()) or c in "-_." else "_" for c in experiment.name)
    return f"{parent.rstrip('/')}/{safe}-seed{experiment.seed}"


def is_run(folder: str, file: str = "config.json") -> bool:
    """Return True if a folder or URL has the config of a run, or another file of a run.

    Args:
      folder: Folder or URL.
      file: Name of the file.
    """
    from ugs_jax.runs.remote.store import Remote, is_url

    return Remote(folder).read(file) is not None if is_url(folder) else (Path(folder) / file).is_file()


def config_modules() -> dict[str, str]:
    """Return the module of each config that an installed package offers, by the name of the config, sorted.

    A package offers its configs by an entry point of the group `ugs_jax.configs` whose value is a package with one
    module per config. The configs of this project are offered in the same way.
    """
    from importlib.metadata import entry_points
    from importlib.resources import files

    modules = {}
    for package in {point.value for point in entry_points(group="ugs_jax.configs")}:
        for entry in files(package).iterdir():
            if entry.name.endswith(".py") and not entry.name.startswith("_"):
                name = entry.name.removesuffix(".py")
                modules[name] = f"{package}.{name}"
    return dict(sorted(modules.items()))


def _explain(error: Exception) -> str:
    """Return the message of an error. For an unknown keyword argument, suggest the nearest known field."""
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
