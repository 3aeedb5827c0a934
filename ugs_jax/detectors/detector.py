"""A detector as pure functions of plain dictionaries, for training and evaluation."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from ugs_jax.detectors.architecture import Architecture
from ugs_jax.detectors.assigner import Assigner
from ugs_jax.detectors.decode import Detections, LocalizedCandidates, Postprocess, detect, localize_candidates
from ugs_jax.detectors.network import Network
from ugs_jax.detectors.protocol import Images, Outputs, Tree
from ugs_jax.detectors.task_aligned import TaskAligned
from ugs_jax.objectives import Localization, PredictsDistribution, StartsAt


@dataclass(frozen=True)
class Detector:
    """YOLOv5, YOLOv5u, TPH-YOLOv5, YOLOv8, YOLO11 or YOLO26 with any localization objective.

    Attributes:
      arch: Description of the network. The objective sets its `num_outputs`.
      localization: Localization objective.
      fixed_statistics: Paths of the batch statistics that training does not change. Their layers normalise by them.
      assigner: Rule by which boxes choose cells, for networks without anchors.
    """

    arch: Architecture
    localization: Localization
    fixed_statistics: frozenset[str] = frozenset()
    assigner: Assigner = field(default_factory=TaskAligned)

    @cached_property
    def full_arch(self) -> Architecture:
        """Description of the network with the outputs and layers that the objective needs."""
        objective, second_stage, quality = self.localization, 0, 0
        if isinstance(objective, PredictsDistribution):
            second_stage = 0 if objective.second_stage is None else objective.second_stage.hidden
            quality = 0 if objective.quality is None else objective.quality.hidden
        return replace(self.arch, num_outputs=objective.num_outputs, second_stage=second_stage, quality=quality)

    @cached_property
    def _shape(self) -> Network:
        return nnx.eval_shape(lambda: self.arch.network(self.full_arch, rngs=_SameKey()))

    @cached_property
    def _graph(self) -> Any:
        return nnx.split(self._shape, nnx.Param, nnx.BatchStat)[0]

    @property
    def random(self) -> bool:
        """True if the network drops units at random in training, for which `apply` takes a key."""
        return self.arch.network.random

    def init(self, seed: int) -> tuple[Tree, Tree]:
        """Return fresh parameters and batch statistics. Layers that two objectives share are equal for equal seeds."""
        # Layers that only some objectives have draw from streams of their own, so that the other layers do not change.
        added = {name: jax.random.fold_in(jax.random.key(seed), i) for i, name in enumerate(("second", "quality"))}
        model = self.arch.network(self.full_arch, rngs=nnx.Rngs(seed, **added))
        params = _plain(nnx.state(model, nnx.Param))
        if isinstance(self.localization, StartsAt):
            for head in params["heads"].values():
                head["localize"]["bias"] = jnp.full_like(head["localize"]["bias"], self.localization.initial_output)
        return params, _plain(nnx.state(model, nnx.BatchStat))

    def apply(
        self, params: Tree, stats: Tree, images: Images, *, train: bool, key: Array | None = None
    ) -> tuple[Outputs, Tree]:
        """Run the network; in training, normalise by the batch and return the new running statistics.

        Args:
          params: Parameters, as `init` returns them.
          stats: Batch statistics, as `init` returns them.
          images: Images with values 0…255. They are scaled to 0…1 here, on the device.
          train: Normalises by the statistics of the batch instead of the running ones.
          key: Key of the units that a transformer drops at random in training. Without a key nothing is dropped.

        Raises:
          ValueError: A side of the images is not a multiple of 32.
        """
        model = nnx.merge(self._graph, params, stats)
        if train:
            model.train()
            self._fix_statistics(model)
        else:
            model.eval()
        levels = model(jnp.asarray(images, self.full_arch.dtype) / 255, key)
        return Outputs(levels, model.localizers()), _plain(nnx.state(model, nnx.BatchStat)) if train else stats

    def _fix_statistics(self, model: nnx.Module) -> None:
        layers = {path.rpartition("/")[0] for path in self.fixed_statistics}
        for path, layer in nnx.iter_modules(model) if layers else ():
            if "/".join(map(str, path)) in layers:
                layer.eval()

    def with_fixed_statistics(self, paths: frozenset[str]) -> "Detector":
        """Return the detector with batch statistics at these paths that training does not change."""
        return replace(self, fixed_statistics=paths)

    def apply_heads(self, params: Tree, stats: Tree, features: tuple[Array, ...]) -> Outputs:
        """Run the heads alone, on the features of every level, finest first."""
        model = nnx.merge(self._graph, params, stats)
        model.eval()
        levels = tuple(head(x) for head, x in zip(model.heads, features, strict=True))
        return Outputs(levels, model.localizers())

    def detect(self, params: Tree, stats: Tree, images: Images, options: Postprocess) -> Detections:
        """Return detections in px of `images`."""
        outputs, _ = self.apply(params, stats, images, train=False)
        return detect(outputs.levels, outputs.localizers, self.localization, self.full_arch, options)

    def candidates(self, params: Tree, stats: Tree, images: Images, count: int) -> LocalizedCandidates:
        """Return the `count` best candidates of each image before suppression, px of `images`.

        Args:
          params: Parameters, as `init` returns them.
          stats: Batch statistics, as `init` returns them.
          images: Images with values 0…255, [b, h, w, 3].
          count: Largest number of candidates of an image.
        """
        outputs, _ = self.apply(params, stats, images, train=False)
        return localize_candidates(*outputs, self.localization, self.full_arch, count)

    def shapes(self) -> tuple[Tree, Tree]:
        """Return shapes and dtypes of the trees that `init` returns, without drawing values."""
        return _shapes(self._shape)

    def num_parameters(self) -> int:
        """Return the number of trainable parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(self._shape, nnx.Param)))


def network_shapes(arch: Architecture) -> tuple[Tree, Tree]:
    """Return shapes and dtypes of the parameters and batch statistics of a network, without drawing values.

    Args:
      arch: Architecture with the outputs and layers of the objective, such as `Detector.full_arch`.
    """
    return _shapes(nnx.eval_shape(lambda: arch.network(arch, rngs=_SameKey())))


def _shapes(model: Network) -> tuple[Tree, Tree]:
    return _plain(nnx.state(model, nnx.Param)), _plain(nnx.state(model, nnx.BatchStat))


class _SameKey(nnx.Rngs):
    """Generator with the same key for every draw: enough for shapes, and much faster to trace than counted keys."""

    def __init__(self) -> None:
        pass

    def params(self) -> Array:
        return jax.random.key(0)

    second = quality = params


def _plain(state: Any) -> Tree:
    return nnx.to_pure_dict(nnx.as_pure(state))
