"""An experiment as one immutable value: data, detector, objective, optimizer, schedule."""

from dataclasses import dataclass, field
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from data_pipeline import DataSource, LoaderOptions
from ugs_jax.detectors import (
    Assigner,
    Detector,
    DetectorConfig,
    Postprocess,
    TaskAligned,
    TrainableDetector,
    auto_anchors,
    fit_anchors,
)
from ugs_jax.detectors.architecture import Architecture, published_anchors
from ugs_jax.detectors.levels import AnchorSizes, pyramid_strides
from ugs_jax.detectors.network import Network as NetworkModule
from ugs_jax.detectors.network_options import Size
from ugs_jax.detectors.networks import network_named
from ugs_jax.experiment.freezing import freeze_statistics
from ugs_jax.experiment.loss_weights import LossWeights
from ugs_jax.experiment.optimizer import AdamW, Optimizer
from ugs_jax.experiment.parallel import Parallel
from ugs_jax.experiment.registry import register
from ugs_jax.objectives import UGS, Localization, PredictsDeviation, PredictsSpread

Kind = Literal[
    "yolov5", "tph", "tph_cbam", "tph_plus", "yolov5u", "yolov8", "yolo11", "yolo26", "yolov8_linear_pool",
    "yolo11_linear_pool",
]  # fmt: skip
"""Names of the networks on the command line and in a config file, each a key of `detectors.networks.NETWORKS`."""


@dataclass(frozen=True)
class Network:
    """Settings of a YOLOv5, YOLOv5u, TPH-YOLOv5, YOLOv8, YOLO11 or YOLO26 detector.

    Attributes:
      size: Size of the network: p (ours, for CPUs), n, s, m, l or x.
      p2: Add the level of stride 4, which small objects need.
      anchors: Anchor sides (w, h) in px of the network's input for every level, finest first. None fits the anchors to
        the data set.
      dtype: Precision of the computation. Parameters, losses and batch statistics are always float32.
      remat: Discard the activations inside blocks and compute them again for the gradient. This takes less memory and
        more work. Loss and gradient are the same.
      weights: File of weights that a new run starts from, or its URL: a `.pt` file of YOLOv5 v6 or v7, YOLOv5u,
        YOLOv8, YOLO11 or YOLO26, or a `.safetensors` file. Layers that depend on the classes or the objective are
        initialised as usual if these differ. See docs/weights.md.
      kind: Architecture: `yolov5`, or a variant of TPH-YOLOv5: `tph` (Swin blocks before four heads; size x is the
        paper's baseline), `tph_cbam` (transformers, pooling and gates) or `tph_plus` (three heads, `p2=False`).
        See `ugs_jax/detectors/tph.py`. `yolov5u`, `yolov8`, `yolo11` and `yolo26` have no anchors. The
        `_linear_pool` kinds are for the few files whose pooling block has no SiLU.
      anchor_fit: Method that fits the anchors: `levels` (`fit_anchors`), or `auto` (`auto_anchors`), the method of
        YOLOv5, which gives tiny anchors to coarse levels if objects are small.
      assigner: Rule by which boxes choose cells, for the kinds without anchors: `TaskAligned`, `ReceptiveField`,
        `CenterSampling`, or yours. Other kinds match boxes and anchors by their sides. See docs/anchor_free.md.
      p2_joins: P2 joins the bottom-up path, as in the published networks with P2. If False, P2 ends the top-down path,
        and published weights without P2 fit all other layers: the run starts with their features. Without P2 it has
        no effect.
    """

    size: Size = "n"
    p2: bool = True
    anchors: AnchorSizes | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    weights: str | None = None
    kind: Kind = "yolov5"
    anchor_fit: Literal["levels", "auto"] = "levels"
    assigner: Assigner = field(default_factory=TaskAligned)
    p2_joins: bool = True

    def __post_init__(self) -> None:
        self.network_type.check_levels(self.p2, self.p2_joins)
        check_members(self.assigner, Assigner, "Network.assigner")

    def __str__(self) -> str:
        return self.network_type.display_name(self.size, self.p2, self.p2_joins)

    @property
    def network_type(self) -> type[NetworkModule]:
        """Class of the network that `kind` names."""
        return network_named(self.kind)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of every level, finest first."""
        return pyramid_strides(self.p2)

    def fit_anchors(self, sizes: Float[np.ndarray, "n 2"], *, anchor_ratio_threshold: float, seed: int) -> AnchorSizes:
        """Return `anchors`, or anchors fitted by the method `anchor_fit` if `anchors` is None.

        Args:
          sizes: Box sides (w, h), px of the network's input.
          anchor_ratio_threshold: Largest side ratio at which a box and an anchor match.
          seed: Seed of AutoAnchor.
        """
        if self.anchors is not None:
            return self.anchors
        if self.anchor_fit == "auto":
            start = published_anchors(self.network_type, self.p2)
            return auto_anchors(
                sizes, start, keep=not self.p2, anchor_ratio_threshold=anchor_ratio_threshold, seed=seed
            )
        return fit_anchors(sizes, strides=self.strides, per_level=self.network_type.anchors_per_cell)

    def build(self, classes: int, anchors: AnchorSizes, localization: Localization) -> Detector:
        """Return the detector.

        Args:
          classes: Number of classes.
          anchors: Anchor sides (w, h) of every level, px of the network's input.
          localization: Localization objective.
        """
        dtype: Any = jnp.bfloat16 if self.dtype == "bfloat16" else jnp.float32
        arch = Architecture(
            self.size,
            self.p2,
            classes,
            anchors,
            dtype=dtype,
            remat=self.remat,
            p2_joins=self.p2_joins,
            network=self.network_type,
        )
        return Detector(arch, localization, assigner=self.assigner)


@dataclass(frozen=True)
class Ema:
    """Exponential moving average of parameters and batch statistics. Scores are those of the averages.

    Attributes:
      decay: Final decay per step.
      ramp: Number of steps in which the decay grows towards its final value: decay · (1 − e^(−step/ramp)).
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
    """All settings of a training run.

    Data set, objective, detector and optimizer can be ours or yours. Each of these fields takes any dataclass with the
    members of its protocol. docs/bring_your_own.md has an example of each.

    Attributes:
      name: Name of the method. Runs of the same name are compared as one method with several seeds.
      data: Data set: `TinyScenes`, `CocoJson`, `VisDrone`, `YoloFolder`, or yours.
      localization: Localization objective: `UGS`, `DFL`, `BoxRegression`, or yours.
      network: Settings of the detector: `Network`, or yours.
      loader: Settings of the batches: image size, batch size, padding, augmentation, workers. Its seed is
        replaced by `seed`.
      loss_weights: Weights of the loss terms.
      optimizer: Optimizer with its schedule: `AdamW`, `SGD`, any optax chain (`OptaxChain`), or yours.
      ema: Moving average of the parameters.
      postprocess: Settings that turn outputs into detections for scoring.
      parallel: Distribution of the work over devices.
      epochs: Number of passes over the training images. It may grow when a run is resumed; from there the learning
        rate follows the schedule of the new number. See docs/control.md.
      evaluate_every: Number of epochs between evaluations. The last epoch is always evaluated.
      freeze: Layers that do not learn, such as `backbone`, or patterns of paths of parameters, such as
        `heads/*/score/bias`. They keep their parameters and batch statistics. See docs/control.md.
      patience: Number of evaluations in a row without a better AP after which the run ends. The learning rate follows
        the schedule of all epochs until then. None trains all epochs. It may change when a run is resumed.
      log_every: Number of steps between two rows of the log. The host waits for the device only at these steps.
      save_every: Number of steps between further checkpoints, besides those after evaluations. A run that is killed
        loses at most this many steps. None saves checkpoints only after evaluations.
      seed: Seed of initial parameters, order and augmentation. Experiments with equal seeds see equal batches.
      accumulate: Number of parts that a batch is divided into. A step computes them one after another, so that batches
        larger than the memory can be used. Gradients are averaged over the parts. Batch statistics and the means in the
        loss are computed for each part.
    """

    name: str
    data: DataSource
    localization: Localization = field(default_factory=UGS)
    network: DetectorConfig = field(default_factory=Network)
    loader: LoaderOptions = field(default_factory=LoaderOptions)
    loss_weights: LossWeights = field(default_factory=LossWeights)
    optimizer: Optimizer = field(default_factory=AdamW)
    ema: Ema = field(default_factory=Ema)
    postprocess: Postprocess = field(default_factory=Postprocess)
    parallel: Parallel = field(default_factory=Parallel)
    epochs: int = 100
    evaluate_every: int = 1
    freeze: tuple[str, ...] = ()
    patience: int | None = None
    log_every: int = 20
    save_every: int | None = None
    seed: int = 0
    accumulate: int = 1

    def __post_init__(self) -> None:
        for name, protocol in _PROTOCOLS.items():
            check_members(getattr(self, name), protocol, f"Experiment.{name}")
        register(self, "Experiment")
        for name in ("epochs", "evaluate_every", "patience", "log_every", "save_every", "accumulate"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"Experiment.{name}: expected at least 1, got {value}")
        freeze: Any = self.freeze
        if isinstance(freeze, str):
            raise ValueError(
                f"Experiment.freeze: expected a tuple of patterns, got the text {freeze!r}; write ({freeze!r},)"
            )
        if self.loader.batch_size % self.accumulate:
            raise ValueError(
                f"Experiment.accumulate: expected a divisor of loader.batch_size {self.loader.batch_size}, the images "
                f"of all parts together, got {self.accumulate}; change one of the two"
            )
        if self.postprocess.spread_penalty and not isinstance(self.localization, (PredictsSpread, PredictsDeviation)):
            raise ValueError(
                f"postprocess.spread_penalty: expected 0, because {type(self.localization).__name__} predicts no "
                f"deviations, got {self.postprocess.spread_penalty}; set it to 0, or use UGS or DFL"
            )
        stride = max(self.network.strides)
        sizes = {"image_size": self.loader.image_size}
        sizes |= {f"image_sizes[{i}]": size for i, size in enumerate(self.loader.image_sizes)}
        for name, size in sizes.items():
            if any(side % stride for side in size):
                larger = tuple(-(-side // stride) * stride for side in size)
                raise ValueError(
                    f"loader.{name}: expected height and width that are multiples of {stride} (the coarsest stride), "
                    f"got {size}; try {larger}"
                )


_PROTOCOLS: dict[str, Any] = {
    "data": DataSource,
    "localization": Localization,
    "network": DetectorConfig,
    "optimizer": Optimizer,
}


def check_members(value: Any, protocol: Any, where: str) -> None:
    """Raise a ValueError for an object that lacks members of a protocol."""
    if isinstance(value, type):
        raise ValueError(f"{where}: expected an object, got the class {value.__name__}; write {value.__name__}()")
    missing = [name for name in vars(protocol) if not name.startswith("_") and not hasattr(value, name)]
    if missing:
        raise ValueError(
            f"{where}: expected an object like {protocol.__name__}, got {type(value).__name__}, which has no "
            f"{', '.join(missing)}; see the examples in docs/bring_your_own.md"
        )


def detector_with(experiment: Experiment, anchors: AnchorSizes, classes: int) -> TrainableDetector:
    """Return the detector of an experiment, with the batch statistics of frozen layers fixed.

    Args:
      experiment: Experiment.
      anchors: Anchor sides (w, h) in px of the network's input for every level, finest first.
      classes: Number of classes.

    Raises:
      ValueError: A pattern of `freeze` fits nothing, or the detector cannot fix batch statistics.
    """
    return freeze_statistics(experiment.network.build(classes, anchors, experiment.localization), experiment.freeze)
