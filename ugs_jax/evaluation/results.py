"""From detections on a letterboxed batch to COCO result rows on the stored images."""

import typing

import numpy as np
from jaxtyping import Bool, Float, Int


class CocoRow(typing.TypedDict):
    """One detection as COCO's result files store it: `bbox` is [x, y, width, height] px of the stored image."""

    image_id: int
    category_id: int
    bbox: list[float]
    score: float


@typing.runtime_checkable
class DetectionArrays(typing.Protocol):
    """A batch of detections, NumPy or JAX arrays; at most K an image."""

    @property
    def boxes(self) -> typing.Any:
        """[B,K,4] xyxy, px of the batch image."""

    @property
    def scores(self) -> typing.Any:
        """[B,K]."""

    @property
    def classes(self) -> typing.Any:
        """[B,K] from 0."""

    @property
    def valid(self) -> typing.Any:
        """[B,K], False where there is no detection."""


@typing.runtime_checkable
class BatchGeometry(typing.Protocol):
    """Where the images of a batch come from; `data_pipeline.Batch` is one."""

    @property
    def image_id(self) -> typing.Any:
        """[B] index of the record in its data set."""

    @property
    def original_size(self) -> typing.Any:
        """[B,2] height, width of the stored image, px."""

    @property
    def letterbox(self) -> typing.Any:
        """[B,3] scale, pad_x, pad_y: batch_xy = original_xy · scale + pad."""

    @property
    def valid(self) -> typing.Any:
        """[B], False for padding rows."""


class ImageDetections(typing.NamedTuple):
    """The detections of one image: boxes [n,4] xyxy px of the stored image, scores [n], classes [n] from 0."""

    image_id: int
    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    classes: Int[np.ndarray, " n"]


def to_original(
    boxes: Float[np.ndarray, "*batch k 4"],
    letterbox: Float[np.ndarray, "*batch 3"],
    original_size: Int[np.ndarray, "*batch 2"],
) -> Float[np.ndarray, "*batch k 4"]:
    """Undoes the letterbox and clips to the stored image.

    Args:
      boxes: xyxy, px of the batch image.
      letterbox: scale, pad_x, pad_y with batch_xy = original_xy · scale + pad; scale 0 marks a padding row.
      original_size: height, width of the stored image, px.

    Returns:
      xyxy, px of the stored image, float32.
    """
    scale = np.asarray(letterbox, np.float32)[..., None, :1]
    pad = np.asarray(letterbox, np.float32)[..., None, [1, 2, 1, 2]]
    limit = np.asarray(original_size, np.float32)[..., None, [1, 0, 1, 0]]
    unscaled = (np.asarray(boxes, np.float32) - pad) / np.where(scale > 0, scale, 1)
    return np.clip(unscaled, 0, limit).astype(np.float32)


def split_batch(detections: DetectionArrays, batch: BatchGeometry) -> list[ImageDetections]:
    """The valid detections of every real image of a batch, in px of the stored images.

    Args:
      detections: what the detector found on `batch`.
      batch: the letterboxed images they were found on; its padding rows are left out.

    Returns:
      One entry per real image, in the order of the batch, possibly without detections.
    """
    boxes = to_original(np.asarray(detections.boxes), np.asarray(batch.letterbox), np.asarray(batch.original_size))
    scores, classes = np.asarray(detections.scores, np.float32), np.asarray(detections.classes, np.int32)
    keep, image_id = np.asarray(detections.valid, bool), np.asarray(batch.image_id)
    real: Bool[np.ndarray, " images"] = np.asarray(batch.valid, bool)
    return [
        ImageDetections(int(image_id[i]), boxes[i][keep[i]], scores[i][keep[i]], classes[i][keep[i]])
        for i in np.flatnonzero(real)
    ]


def coco_rows(image: ImageDetections) -> list[CocoRow]:
    """The detections of one image as COCO result rows; boxes without area are left out, for they can match nothing.

    Args:
      image: boxes xyxy, px of the stored image.

    Returns:
      Rows with category_id = class + 1.

    Raises:
      ValueError: where a box or a score is not finite.
    """
    finite = np.isfinite(image.boxes).all(-1) & np.isfinite(image.scores)
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"image {image.image_id}: expected finite boxes and scores, got box {image.boxes[first].tolist()} with "
            f"score {float(image.scores[first])} at detection {first}; the detector's output has overflowed: "
            "look for non-finite parameters, or lower the learning rate"
        )
    xywh = np.concatenate([image.boxes[:, :2], image.boxes[:, 2:] - image.boxes[:, :2]], -1).astype(np.float64)
    has_area = (xywh[:, 2:] > 0).all(-1)
    fields = zip(
        xywh[has_area].tolist(), image.scores[has_area].tolist(), image.classes[has_area].tolist(), strict=True
    )
    return [
        {"image_id": image.image_id, "category_id": label + 1, "bbox": box, "score": score}
        for box, score, label in fields
    ]


def rows_from_detections(detections: DetectionArrays, batch: BatchGeometry) -> list[CocoRow]:
    """The valid detections of a batch as COCO result rows, in px of the stored images.

    Args:
      detections: what the detector found on `batch`.
      batch: the letterboxed images they were found on; its padding rows are left out.

    Returns:
      Rows in the order of the batch, ready for `CocoScorer.add` or a results file.

    Raises:
      ValueError: where a box or a score is not finite.
    """
    return [row for image in split_batch(detections, batch) for row in coco_rows(image)]
