"""A detector of a few layers with the interface of the real one, so that training programs compile in seconds."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data_pipeline import Batch, LoaderOptions, TinyScenes
from tests.compiling import compiled_quickly
from ugs_jax import losses
from ugs_jax.detectors import Detector, Level, Localizer, Outputs, Postprocess
from ugs_jax.detectors.blocks import SPPF, ConvNormAct, upsample
from ugs_jax.detectors.decode import detect
from ugs_jax.experiment import AdamW, Ema, Experiment, Network, Schedule, detector_with, fitting
from ugs_jax.objectives import BoxRegression, Localization
from ugs_jax.training import loop

CHANNELS = 8


@dataclass(frozen=True)
class ToyDetector(Detector):
    """Every level sees the mean colour of its cells through one layer; running statistics are the images' mean."""

    def init(self, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        rng = np.random.default_rng(seed)
        draw = lambda *shape: jnp.asarray(rng.normal(size=shape, scale=0.3), jnp.float32)  # noqa: E731
        outputs, anchors = self.localization.num_outputs, len(self.arch.anchors[0])
        level = lambda: {  # noqa: E731
            "features": {"kernel": draw(3, CHANNELS), "bias": draw(CHANNELS)},
            "scores": {"kernel": draw(CHANNELS, anchors * (1 + self.arch.classes)), "bias": draw(1)},
            "localizer": {"kernel": draw(CHANNELS, anchors, outputs), "bias": jnp.zeros((anchors, outputs))},
        }
        return {f"level{i}": level() for i in range(len(self.arch.strides))}, {"mean": jnp.zeros(3)}

    def apply(self, params, stats, images, *, train, key=None):
        pixels = jnp.asarray(images, jnp.float32) / 255
        mean = 0.9 * stats["mean"] + 0.1 * jnp.mean(pixels, axis=(0, 1, 2)) if train else stats["mean"]
        pixels = pixels - mean
        features = []
        for name, stride in zip(sorted(params), self.arch.strides, strict=True):
            b, h, w, _ = pixels.shape
            cells = pixels.reshape(b, h // stride, stride, w // stride, stride, 3).mean((2, 4))
            layer = params[name]["features"]
            features.append(jax.nn.silu(cells @ layer["kernel"] + layer["bias"]))
        return self.apply_heads(params, stats, tuple(features)), {"mean": mean}

    def apply_heads(self, params, stats, features):
        levels, localizers = [], []
        for name, seen in zip(sorted(params), features, strict=True):
            layer = params[name]
            scores = seen @ layer["scores"]["kernel"] + layer["scores"]["bias"]
            scores = scores.reshape(*seen.shape[:3], len(self.arch.anchors[0]), -1)
            objectness = scores[..., 0] if self.arch.network.has_objectness else None
            levels.append(Level(seen, objectness, scores[..., 1:]))
            localizers.append(Localizer(**layer["localizer"]))
        return Outputs(tuple(levels), tuple(localizers))

    def detect(self, params, stats, images, options):
        outputs, _ = self.apply(params, stats, images, train=False)
        return detect(outputs.levels, outputs.localizers, self.localization, self.arch, options)


class Backbone(nnx.Module):
    """Strides 8, 16 and 32 from the real blocks: strided convolutions, batch normalisation, pooling, upsampling."""

    def __init__(self, dtype, rngs):
        make = partial(ConvNormAct, kernel=3, stride=2, dtype=dtype, rngs=rngs)
        widths = (3, 4, 4, CHANNELS, CHANNELS, CHANNELS)
        self.down = nnx.List([make(a, b) for a, b in itertools.pairwise(widths)])
        self.pool = SPPF(CHANNELS, CHANNELS, dtype=dtype, rngs=rngs)
        self.up = ConvNormAct(2 * CHANNELS, CHANNELS, 3, dtype=dtype, rngs=rngs)

    def __call__(self, x):
        maps = []
        for block in self.down:
            x = block(x)
            maps.append(x)
        deep = self.pool(maps[4])
        return maps[2], self.up(jnp.concatenate([maps[3], upsample(deep)], -1)), deep


@dataclass(frozen=True)
class ConvDetector(ToyDetector):
    """As the toy, on features of a small convolutional network with batch normalisation."""

    def _backbone(self, seed):
        return nnx.split(Backbone(self.arch.dtype, nnx.Rngs(seed)), nnx.Param, nnx.BatchStat)

    def init(self, seed):
        layers, _ = super().init(seed)
        _, params, stats = self._backbone(seed)
        pure = lambda tree: nnx.to_pure_dict(nnx.as_pure(tree))  # noqa: E731
        layers = {name: {key: layer[key] for key in ("scores", "localizer")} for name, layer in layers.items()}
        return {"backbone": pure(params), "layers": layers}, pure(stats)

    def apply(self, params, stats, images, *, train, key=None):
        graph, _, _ = nnx.eval_shape(lambda: self._backbone(0))
        model = nnx.merge(graph, params["backbone"], stats)
        (model.train if train else model.eval)()
        if train:
            self._fix_statistics(model)
        features = model(jnp.asarray(images, self.arch.dtype) / 255)
        stats = nnx.to_pure_dict(nnx.as_pure(nnx.state(model, nnx.BatchStat))) if train else stats
        return self.apply_heads(params, stats, features), stats

    def apply_heads(self, params, stats, features):
        return super().apply_heads(params["layers"], stats, features)


def toy_detector_with(experiment: Experiment, anchors: Any, classes: int) -> Detector:
    real = detector_with(replace(experiment, freeze=()), anchors, classes)  # whose layers have other names
    return ToyDetector(real.arch, real.localization, assigner=real.assigner)


def toy_experiment(localization: Localization | None = None, **changes: Any) -> Experiment:
    """12 images in batches of 4, 2 epochs; an evaluation after each."""
    options = {
        "name": "toy",
        "data": TinyScenes(train_images=12, val_images=4, image_size=(64, 64)),
        "localization": localization or BoxRegression(losses.l2, space="offsets"),  # quicker to compile than CIoU
        "network": Network("p", p2=False),
        "loader": LoaderOptions(image_size=(64, 64), batch_size=4, max_boxes=8, max_ignore=3, threads=0),
        "optimizer": AdamW(Schedule(0.01, warmup_epochs=0.5)),
        "ema": Ema(0.9, ramp=2.0),
        "postprocess": Postprocess(pre_nms_topk=50, max_detections=20),
        "epochs": 2,
        "log_every": 1,
    }
    return Experiment(**(options | changes))


@contextmanager
def toy_runs() -> Iterator[None]:
    """Runs inside train the toy, on programs that are compiled quickly and once for all runs of an experiment."""
    compiled: dict[Any, Any] = {}

    def once(make: Callable[..., Any]) -> Callable[..., Any]:
        def jitted(*arguments: Any) -> Any:
            named = (replace(part, name="") if isinstance(part, Experiment) else part for part in arguments)
            return compiled.setdefault((make.__name__, *named), make(*arguments))

        return jitted

    with compiled_quickly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "detector_with", toy_detector_with)
        patch.setattr(loop, "jit_detect", once(loop.jit_detect))
        patch.setattr(loop, "build_program", once(loop.build_program))
        yield


def random_batch(
    size: int = 2, boxes: int = 6, regions: int = 2, side: int = 64, width: int | None = None, seed: int = 0
) -> Batch:
    """Boxes of 4–24 px, the last row of each image padding; no ignore regions. Square images without a width."""
    rng, width = np.random.default_rng(seed), width or side
    corner = rng.uniform(0, (width - 24, side - 24), (size, boxes, 2))
    sides = rng.uniform(4, 24, (size, boxes, 2))
    mask = np.ones((size, boxes), bool)
    mask[:, -1] = False
    xyxy = np.where(mask[..., None], np.concatenate([corner, corner + sides], -1), 0).astype(np.float32)
    return Batch(
        images=rng.integers(0, 256, (size, side, width, 3), np.uint8),
        boxes=xyxy,
        classes=np.where(mask, rng.integers(0, 3, (size, boxes)), 0).astype(np.int32),
        mask=mask,
        ignore=np.zeros((size, regions, 4), np.float32),
        ignore_mask=np.zeros((size, regions), bool),
        image_id=np.arange(size, dtype=np.int32),
        original_size=np.tile(np.int32([side, width]), (size, 1)),
        letterbox=np.tile(np.float32([1, 0, 0]), (size, 1)),
        valid=np.ones(size, bool),
    )


def bits(tree: Any) -> list[tuple[Any, bytes]]:
    """Every array of a pytree to the bit."""
    return [(path, np.asarray(leaf).tobytes()) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    import json

    lines = (folder / ("timing.jsonl" if kind == "timing" else "metrics.jsonl")).read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]
