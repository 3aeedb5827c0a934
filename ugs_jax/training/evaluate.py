"""Score a detector on a data set: jitted detection, scoring on the host."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, cast

import jax
from jax.sharding import Mesh

from data_pipeline import Batch, Dataset, LoaderOptions, eval_batches, prefetch
from ugs_jax.detectors import Detections, Postprocess, TrainableDetector
from ugs_jax.evaluation import Scorer
from ugs_jax.runs.sharding import batch_sharding, data_share, image_sharding, replicated

Detect = Callable[[Any, Any, Any], Detections]


def jit_detect(detector: TrainableDetector, options: Postprocess, mesh: Mesh) -> Detect:
    """Compiled `(params, stats, images) → Detections` over a mesh: images split, detections whole on every device."""
    return jax.jit(
        lambda params, stats, images: detector.detect(params, stats, images, options),
        in_shardings=(None, None, image_sharding(mesh)),
        out_shardings=replicated(mesh),
    )


def detections(
    detect: Detect,
    params: Any,
    stats: Any,
    dataset: Dataset,
    options: LoaderOptions,
    mesh: Mesh,
    *,
    images: bool = True,
) -> Generator[tuple[Detections, Batch], None, None]:
    """Detections of every batch, as NumPy arrays, with the batch they were made on; the same in every process.

    Args:
      detect: from `jit_detect`.
      params: of the detector.
      stats: likewise.
      dataset: what to detect on.
      options: of the batches.
      mesh: of `detect`.
      images: False where several processes need not send each other their images; the batch may then lack them.
    """
    on_host: deque[Batch] = deque()  # batches on their way through the device, which need not come back from there

    def noted() -> Iterator[Batch]:
        for batch in eval_batches(dataset, options, *data_share(mesh)):
            on_host.append(batch)
            yield batch

    with closing(prefetch(noted(), batch_sharding(mesh))) as batches:
        for batch in batches:
            found = jax.device_get(detect(params, stats, batch.images))
            local = on_host.popleft()
            yield found, local if jax.process_count() == 1 else _whole(batch, images)


def _whole(batch: Batch, images: bool) -> Batch:
    """The global batch, of which this process's devices hold parts."""
    from jax.experimental import multihost_utils

    wanted: Any = batch if images else batch._replace(images=None)  # type: ignore[arg-type]
    return cast("Batch", multihost_utils.process_allgather(wanted, tiled=True))


def evaluate(
    detect: Detect,
    params: Any,
    stats: Any,
    dataset: Dataset,
    options: LoaderOptions,
    mesh: Mesh,
    scorer: Scorer,
) -> dict[str, float | None]:
    """AP and AR by the scorer's protocol."""
    scorer.reset()
    for found, batch in detections(detect, params, stats, dataset, options, mesh, images=False):
        scorer.add_batch(found, batch)
    return scorer.score()
