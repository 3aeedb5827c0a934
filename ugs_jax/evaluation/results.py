"""Conversion of detections on a letterboxed batch to detections and COCO result rows on the stored images."""

from collections.abc import Iterable
from typing import Any, Protocol, TypedDict, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from ugs_jax.evaluation.detections import ImageDetections


class CocoRow(TypedDict):
    """One detection in a result file, with the keys of COCO's JSON format.

    Submissions to VisDrone have the same numbers. `ImageDetections` are converted by `coco_rows`.

    Attributes:
      image_id: Index of the image in its data set.
      category_id: Class index + 1.
      bbox: Left, top, width and height, px of the stored image.
      score: Score in [0, 1].
    """

    image_id: int
    category_id: int
    bbox: list[float]
    score: float


@runtime_checkable
class DetectionArrays(Protocol):
    """Padded detections of a batch, as NumPy or JAX arrays; `detectors.Detections` is one.

    They may also have `deviation` [B,K,4]: the standard deviation of each side, px of the batch image.
    """

    @property
    def boxes(self) -> Any:
        """Boxes [B,K,4], xyxy, px of the batch image."""

    @property
    def scores(self) -> Any:
        """Scores [B,K]."""

    @property
    def classes(self) -> Any:
        """Class indices [B,K], from 0."""

    @property
    def valid(self) -> Any:
        """Mask [B,K], False for padding."""


@runtime_checkable
class BatchGeometry(Protocol):
    """Origin of the images of a letterboxed batch; `data_pipeline.Batch` is one."""

    @property
    def image_id(self) -> Any:
        """Indices [B] of the images in their data set."""

    @property
    def original_size(self) -> Any:
        """Heights and widths [B,2] of the stored images, px."""

    @property
    def letterbox(self) -> Any:
        """Scale, pad_x and pad_y [B,3], with batch_xy = original_xy · scale + pad."""

    @property
    def valid(self) -> Any:
        """Mask [B], False for padding rows."""


def to_original(
    boxes: Float[np.ndarray, "*batch k 4"],
    letterbox: Float[np.ndarray, "*batch 3"],
    original_size: Int[np.ndarray, "*batch 2"],
) -> Float[np.ndarray, "*batch k 4"]:
    """Return boxes in px of the stored image: undo the letterbox and clip.

    Args:
      boxes: Boxes, xyxy, px of the batch image.
      letterbox: Scale, pad_x and pad_y, with batch_xy = original_xy · scale + pad. Scale 0 marks a padding row.
      original_size: Height and width of the stored image, px.

    Returns:
      Boxes, xyxy, px of the stored image, float32.
    """
    scale = np.asarray(letterbox, np.float32)[..., None, :1]
    pad = np.asarray(letterbox, np.float32)[..., None, [1, 2, 1, 2]]
    limit = np.asarray(original_size, np.float32)[..., None, [1, 0, 1, 0]]
    unscaled = (np.asarray(boxes, np.float32) - pad) / np.where(scale > 0, scale, 1)
    return np.clip(unscaled, 0, limit).astype(np.float32)


def split_batch(detections: DetectionArrays, batch: BatchGeometry) -> list[tuple[int, ImageDetections]]:
    """Return the valid detections of every real image of a batch, in px of the stored images.

    Args:
      detections: Detections on `batch`.
      batch: Letterboxed images. Its padding rows are left out.

    Returns:
      Index and detections of every real image, in the order of the batch. An image may have no detections.
    """
    letterbox = np.asarray(batch.letterbox)
    boxes = to_original(np.asarray(detections.boxes), letterbox, np.asarray(batch.original_size))
    scores, classes = np.asarray(detections.scores, np.float32), np.asarray(detections.classes, np.int32)
    deviation = getattr(detections, "deviation", None)
    keep, image_id = np.asarray(detections.valid, bool), np.asarray(batch.image_id)
    real: Bool[np.ndarray, " images"] = np.asarray(batch.valid, bool)
    images = []
    for i in np.flatnonzero(real).tolist():
        sides = None if deviation is None else np.asarray(deviation)[i][keep[i]] / letterbox[i, 0]
        image = ImageDetections(boxes[i][keep[i]], scores[i][keep[i]], classes[i][keep[i]], sides)
        images.append((int(image_id[i]), image))
    return images


def coco_rows(image_id: int, detections: ImageDetections) -> list[CocoRow]:
    """Return the detections of one image as COCO result rows.

    Boxes without area are left out, because they cannot match an object.

    Args:
      image_id: Index of the image in its data set.
      detections: Detections in px of the stored image.

    Returns:
      Rows with `category_id` = class index + 1.

    Raises:
      ValueError: A box or a score is not finite.
    """
    finite = np.isfinite(detections.boxes).all(-1) & np.isfinite(detections.scores)
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"image {image_id}: expected finite boxes and scores, got box {detections.boxes[first].tolist()} with "
            f"score {float(detections.scores[first])} at detection {first}; the detector's output has overflowed: "
            "look for non-finite parameters, or lower the learning rate"
        )
    boxes = detections.boxes
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], -1).astype(np.float64)
    has_area = (xywh[:, 2:] > 0).all(-1)
    columns = (xywh, detections.scores, detections.classes)
    return [
        {"image_id": image_id, "category_id": index + 1, "bbox": box, "score": score}
        for box, score, index in zip(*(column[has_area].tolist() for column in columns), strict=True)
    ]


def rows_from_detections(detections: DetectionArrays, batch: BatchGeometry) -> list[CocoRow]:
    """Return the valid detections of a batch as COCO result rows, in px of the stored images.

    Args:
      detections: Detections on `batch`.
      batch: Letterboxed images. Its padding rows are left out.

    Returns:
      Rows in the order of the batch, as `CocoScorer.add` takes them and result files store them.

    Raises:
      ValueError: A box or a score is not finite.
    """
    return [row for image_id, image in split_batch(detections, batch) for row in coco_rows(image_id, image)]


def rows_by_score(rows: Iterable[CocoRow]) -> list[CocoRow]:
    """Sort result rows, best first; the order of equal scores is kept."""
    return sorted(rows, key=lambda row: -row["score"])
