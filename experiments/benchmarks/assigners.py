"""Grid of assigners and objectives: which cells learn a tiny object, and what do they learn?

    python -m experiments.benchmarks.assigners --seeds 0 1 2 --folder runs/assigners --resume

It trains a config once for each assigner, objective and seed, on the same batches, and writes the table of `ugs ablate`
(AP by object size, time and memory of a step) to `ablation.md` in the folder. With `--resume`, finished runs are kept,
so that parts of the grid can be trained one after the other, or at the same time:

    python -m experiments.benchmarks.assigners --assigners tal --objectives side --seeds 0 --repeats 0 --resume

Fields of the config follow after `--`, as with `ugs ablate`: `-- --epochs 12`.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import tyro

from ugs_jax.commands.ablate import train_and_tabulate
from ugs_jax.commands.several_runs import overridden, split_overrides
from ugs_jax.detectors import Assigner, ReceptiveField, TaskAligned
from ugs_jax.experiment import Experiment, Network
from ugs_jax.objectives import DFL, UGS, BoxRegression, Localization, Quality, SecondStage, SideUGS

ASSIGNERS: dict[str, tuple[str, Assigner | None]] = {
    "anchors": ("anchors", None),
    "tal": ("TAL", TaskAligned()),
    "stal": ("STAL", TaskAligned(widen="second")),
    "rfla": ("RFLA", ReceptiveField()),
}
"""Names in the table, and rules; None for the anchors of YOLOv5."""

OBJECTIVES: dict[str, tuple[str, Localization]] = {
    "ciou": ("CIoU", BoxRegression()),
    "dfl": ("DFL", DFL()),
    "ugs": ("UGS", UGS()),
    "side": ("SideUGS", SideUGS()),
    "ugs_refined": ("UGS refined", UGS(second_stage=SecondStage(), quality=Quality())),
    "side_refined": ("SideUGS refined", SideUGS(second_stage=SecondStage(), quality=Quality())),
}
"""Names in the table, and objectives. The refined ones have a second stage and a quality predictor."""


@dataclass(frozen=True)
class Settings:
    """Part of the grid to train.

    Attributes:
      config: Config that all runs share: data, batches, optimizer, schedule, size and levels of the network.
      assigners: Rules by which boxes choose anchors or cells.
      objectives: Localization objectives.
      seeds: Seeds. Each run is trained once with each seed.
      folder: Folder for the runs and the table.
      resume: Keep the finished runs in the folder, and continue the interrupted ones.
      kind: Network of the assigners. YOLOv5u differs from YOLOv5 in its heads alone, and starts from the same weights.
      repeats: Number of timed steps of each program. With 0, the table has no time and memory.
      box_weight: Weight of the box loss of networks without anchors. The published proportion is 1. YOLOv5 keeps that
        of the config.
      quality_power: Power of the predicted IoU in the scores of the refined objectives.
    """

    config: str = "first_light_ciou"
    assigners: tuple[Literal["anchors", "tal", "stal", "rfla"], ...] = ("anchors", "tal", "stal", "rfla")
    objectives: tuple[Literal["ciou", "dfl", "ugs", "side", "ugs_refined", "side_refined"], ...] = (
        "ciou",
        "dfl",
        "ugs",
        "side",
        "ugs_refined",
        "side_refined",
    )
    seeds: tuple[int, ...] = (0,)
    folder: str = "runs/assigners"
    kind: Literal["yolov8", "yolov5u"] = "yolov8"
    resume: bool = False
    repeats: int = 20
    box_weight: float = 1.0
    quality_power: float = 0.5


def grid(base: Experiment, settings: Settings) -> Iterator[Experiment]:
    """Yield one experiment for each assigner and objective, named after them.

    Args:
      base: Settings that all experiments share. Its `network` has to be a `Network`.
      settings: Part of the grid.

    Raises:
      TypeError: The network of `base` is not a `Network`.
    """
    if not isinstance(base.network, Network):
        raise TypeError(f"expected a config whose network is a Network, got {type(base.network).__name__}")
    for rule in settings.assigners:
        of_rule, assigner = ASSIGNERS[rule]
        network, weights = base.network, base.loss_weights
        if assigner is not None:  # weights of YOLOv5 fit YOLOv5u alone, its anchors fit none
            given = network.weights if settings.kind == "yolov5u" else None
            network = replace(network, kind=settings.kind, assigner=assigner, weights=given, anchors=None)
            weights = replace(weights, box=settings.box_weight)
        kind = network.network_type
        for name in settings.objectives:
            of_objective, localization = OBJECTIVES[name]
            power = settings.quality_power if name.endswith("refined") else 0.0
            yield replace(
                base,
                name=f"{kind.title}{kind.variant} {of_rule}, {of_objective}",
                network=network,
                localization=localization,
                loss_weights=weights,
                postprocess=replace(base.postprocess, spread_penalty=0.0, quality_power=power),
            )


def main(words: Sequence[str]) -> None:
    """Train the part of the grid that the command line names, and write its table."""
    own, overrides = split_overrides(list(words))
    settings = tyro.cli(Settings, args=own, prog="python -m experiments.benchmarks.assigners")
    experiments = list(grid(overridden(settings.config, overrides, "… --"), settings))
    title = f"Assigners and objectives on {settings.config}"
    train_and_tabulate(
        title, experiments, settings.seeds, settings.folder, resume=settings.resume, repeats=settings.repeats
    )


if __name__ == "__main__":
    main(sys.argv[1:])
