"""Score a detector on a data set: jitted detection, COCO scoring on the host."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import jax
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
) -> Generator[tuple[Detections, Batch], None, None]:
    """Detections of every batch, as NumPy arrays, with the batch they were made on."""
    on_host: deque[Batch] = deque()  # batches on their way through the device, which need not come back from there

    def noted() -> Iterator[Batch]:
        for batch in eval_batches(dataset, options):
            on_host.append(batch)
            yield batch

    with closing(prefetch(noted(), NamedSharding(mesh, P("data")))) as batches:
        for batch in batches:
            found = jax.device_get(detect(params, stats, batch.images))
            yield found, on_host.popleft()


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
