"""Evaluation of a detector on a data set: jitted detection, scoring on the host."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, cast

import jax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from data_pipeline import Batch, Dataset, LoaderOptions, eval_batches, prefetch
from ugs_jax.detectors import Detections, Postprocess, TrainableDetector
from ugs_jax.evaluation import ImageDetections, Scorer, split_batch
from ugs_jax.runs.sharding import DATA, batch_sharding, data_share, image_sharding, replicated

Detect = Callable[[Any, Any, Any], Detections]


def jit_detect(detector: TrainableDetector, options: Postprocess, mesh: Mesh) -> Detect:
    """Return the jitted `(params, stats, images) → Detections` over a mesh: images sharded, detections replicated.

    Devices that split a batch send each other nothing but their detections. Left to the compiler, each would get the
    scores of all images for `jax.lax.top_k`.

    Args:
      detector: Detector.
      options: Postprocessing of the detections.
      mesh: Mesh from `device_mesh`.
    """
    detect = jax.shard_map(
        lambda params, stats, images: detector.detect(params, stats, images, options),
        mesh=mesh,
        in_specs=(P(), P(), P(DATA)),
        out_specs=P(DATA),
        axis_names={DATA},
        check_vma=False,  # the loop of the suppression starts from constants
    )
    return jax.jit(
        detect,
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
    """Yield the detections of every batch as NumPy arrays, with the batch. They are identical in every process.

    Args:
      detect: Jitted function from `jit_detect`.
      params: Parameters of the detector.
      stats: Batch statistics of the detector.
      dataset: Data set to detect on.
      options: Options of the loader.
      mesh: Device mesh of `detect`.
      images: Sends the images of each process to all others. If False, batches may lack their images.
    """
    on_host: deque[Batch] = deque()  # batches in progress, kept to avoid a copy back from the device

    def remembered() -> Iterator[Batch]:
        for batch in eval_batches(dataset, options, *data_share(mesh)):
            on_host.append(batch)
            yield batch

    with closing(prefetch(remembered(), batch_sharding(mesh))) as batches:
        for batch in batches:
            detected = jax.device_get(detect(params, stats, batch.images))
            local = on_host.popleft()
            yield detected, local if jax.process_count() == 1 else _whole(batch, images)


def _whole(batch: Batch, images: bool) -> Batch:
    """Gather the global batch, of which the devices of this process hold a part."""
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
    found: list[tuple[int, ImageDetections]] | None = None,
) -> dict[str, float | None]:
    """Return AP and AR by the protocol of the scorer.

    Args:
      detect: Function from `jit_detect`.
      params: Parameters of the network.
      stats: Batch statistics of the network.
      dataset: Images to detect in.
      options: Image size and batch size of the loader.
      mesh: Mesh of `detect`.
      scorer: Scorer of the images. It is reset first.
      found: List that gets the index and the detections of each image, px of the stored image, for `report.diagnose`.
    """
    scorer.reset()
    for detected, batch in detections(detect, params, stats, dataset, options, mesh, images=False):
        scorer.add_batch(detected, batch)
        if found is not None:
            found += split_batch(detected, batch)
    return scorer.score()
