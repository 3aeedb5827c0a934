"""Score a detector on a data set: jitted detection, COCO scoring on the host."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from data_pipeline import Batch, Dataset, LoaderOptions, eval_batches, prefetch
from ugs_jax.detectors import Detections, Detector, Postprocess
from ugs_jax.evaluation import CocoScorer

Detect = Callable[[Any, Any, Any], Detections]


def jit_detect(detector: Detector, options: Postprocess, mesh: Mesh) -> Detect:
    """Compiled `(params, stats, images) → Detections` over a mesh, images split along `data`."""
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    return jax.jit(
        lambda params, stats, images: detector.detect(params, stats, images, options),
        in_shardings=(whole, whole, split),
        out_shardings=split,
    )


def detections(
    detect: Detect, params: Any, stats: Any, dataset: Dataset, options: LoaderOptions, mesh: Mesh
) -> Iterator[tuple[Detections, Batch]]:
    """Detections of every batch, as NumPy arrays, with the batch they were made on."""
    sharding = NamedSharding(mesh, P("data"))
    for batch in prefetch(eval_batches(dataset, options), sharding):
        found = detect(params, stats, batch.images)
        yield jax.tree.map(np.asarray, jax.device_get(found)), jax.tree.map(np.asarray, jax.device_get(batch))


def evaluate(
    detect: Detect,
    params: Any,
    stats: Any,
    dataset: Dataset,
    options: LoaderOptions,
    mesh: Mesh,
    scorer: CocoScorer,
) -> dict[str, float | None]:
    """AP and AR by the scorer's protocol."""
    scorer.reset()
    for found, batch in detections(detect, params, stats, dataset, options, mesh):
        scorer.add_batch(found, batch)
    return scorer.score()
