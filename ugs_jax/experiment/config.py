"""An experiment as one immutable value: data, detector, objective, optimizer, schedule."""

from dataclasses import dataclass, field
from typing import Any, Literal

import jax.numpy as jnp

from data_pipeline import CocoJson, LoaderOptions, TinyScenes, VisDrone
from ugs_jax.detectors import Detector, Postprocess
from ugs_jax.detectors.architecture import (
    AnchorSizes,
    Architecture,
    Kind,
    Size,
    check_levels,
    network_name,
)
from ugs_jax.experiment.loss_weights import LossWeights
from ugs_jax.experiment.optimizer import SGD, AdamW
from ugs_jax.experiment.parallel import Parallel
from ugs_jax.objectives import DFL, UGS, BoxRegression


@dataclass(frozen=True)
class Network:
    """Which detector.

    Attributes:
      size: p (ours, for CPUs), n, s, m, l or x.
      p2: adds the stride-4 level, which small objects need.
      anchors: (w, h) in px of the network's input for every level, finest first; None fits them to the data set.
      dtype: of the computation. Parameters, losses and batch statistics are float32 either way.
      remat: forget the activations inside blocks and compute them again for the gradient: less memory, more work. Loss
        and gradient stay the same.
      weights: file that a fresh run starts from, `.pt` of YOLOv5 v6 or v7 or `.safetensors`; see docs/weights.md. What
        has other classes or another objective starts as without it.
      kind: `yolov5`; or TPH-YOLOv5's `tph` (Swin blocks before four heads; in size x the paper's baseline), `tph_cbam`
        (transformers, pooling and gates) or `tph_plus` (three heads, `p2=False`). See `ugs_jax/detectors/tph.py`.
      anchor_fit: how anchors are fitted: `levels` (`fit_anchors`), or `auto`, YOLOv5's way (`auto_anchors`), that
        gives tiny anchors to coarse levels where objects are small.
    """

    size: Size = "n"
    p2: bool = True
    anchors: AnchorSizes | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    weights: str | None = None
    kind: Kind = "yolov5"
    anchor_fit: Literal["levels", "auto"] = "levels"

    def __post_init__(self) -> None:
        check_levels(self.kind, self.p2)

    def describe(self) -> str:
        """For people: `YOLOv5n-P2`, `TPH-YOLOv5x`."""
        return network_name(self.size, self.kind, self.p2)


@dataclass(frozen=True)
class Ema:
    """Exponential moving average of parameters and batch statistics, which is what is scored.

    Attributes:
      decay: final decay a step.
      ramp: steps over which it gets there: decay · (1 − e^(−step/ramp)).
    """

    decay: float = 0.9999
    ramp: float = 2000.0

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(
                f"Ema.decay: expected a number in [0, 1), got {self.decay}; 0 scores the parameters themselves"
            )
        if not self.ramp > 0:
            raise ValueError(f"Ema.ramp: expected a positive number of steps, got {self.ramp}")


@dataclass(frozen=True)
class Experiment:
    """Everything a run depends on.

    Attributes:
      name: of the method, under which runs with different seeds are compared.
      data: the data set.
      localization: the objective: `BoxRegression`, `DFL` (DFL) or `UGS` (UGS).
      network: the detector.
      loader: batches: image size, batch size, padding, augmentation, workers. Its seed is replaced by `seed`.
      loss_weights: weights of the loss terms.
      optimizer: `AdamW` or `SGD`, with its schedule.
      ema: averaging of parameters.
      postprocess: from outputs to detections, for scoring.
      parallel: how the work is spread over devices.
      epochs: passes over the training images.
      evaluate_every: epochs between evaluations; the last epoch is always evaluated.
      log_every: steps between two rows of the log; the only times the host waits for the device.
      save_every: steps between checkpoints beside those after evaluations, the most a kill can cost; None for none.
      seed: of initial parameters, order and augmentation. Experiments with equal seeds see equal batches.
      accumulate: parts of a batch that are computed one after the other for one step, to train with batches that memory
        has no room for. Gradients are averaged over them; batch statistics and the means in the loss are those of a
        part.
    """

    name: str
    data: TinyScenes | CocoJson | VisDrone
    localization: BoxRegression | DFL | UGS = field(default_factory=UGS)
    network: Network = field(default_factory=Network)
    loader: LoaderOptions = field(default_factory=LoaderOptions)
    loss_weights: LossWeights = field(default_factory=LossWeights)
    optimizer: AdamW | SGD = field(default_factory=AdamW)
    ema: Ema = field(default_factory=Ema)
    postprocess: Postprocess = field(default_factory=Postprocess)
    parallel: Parallel = field(default_factory=Parallel)
    epochs: int = 100
    evaluate_every: int = 1
    log_every: int = 20
    save_every: int | None = None
    seed: int = 0
    accumulate: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "evaluate_every", "log_every", "save_every", "accumulate"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"Experiment.{name}: expected at least 1, got {value}")
        if self.loader.batch_size % self.accumulate:
            raise ValueError(
                f"Experiment.accumulate: expected a divisor of loader.batch_size {self.loader.batch_size}, the images "
                f"of a whole step, got {self.accumulate}"
            )
        if any(side % 32 for side in self.loader.image_size):
            raise ValueError(
                f"loader.image_size: expected height and width that are multiples of 32 (the coarsest stride), "
                f"got {self.loader.image_size}; try {tuple(-(-side // 32) * 32 for side in self.loader.image_size)}"
            )


def detector_with(experiment: Experiment, anchors: AnchorSizes, classes: int) -> Detector:
    """The experiment's detector with given anchors, (w, h) in px of the network's input for every level."""
    network = experiment.network
    dtype: Any = jnp.bfloat16 if network.dtype == "bfloat16" else jnp.float32
    arch = Architecture(network.size, network.p2, classes, anchors, dtype=dtype, remat=network.remat, kind=network.kind)
    return Detector(arch, experiment.localization)
