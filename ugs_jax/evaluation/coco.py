"""COCO average precision by object size, through faster-coco-eval (C++)."""

import math
import typing
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ugs_jax.evaluation.protocol import DEFAULT_PROTOCOL, REGION, Protocol, SizeBin
from ugs_jax.evaluation.results import BatchGeometry, CocoRow, DetectionArrays, rows_from_detections
from ugs_jax.evaluation.tiny_person import Boxes, evaluate_by_share

GroundTruth = dict[str, list[dict[str, typing.Any]]]
"""Annotations in COCO's format: `images`, `annotations` and `categories`."""
_UNBOUNDED_AREA = 1e10  # px²; pycocotools' own upper end, squares of 1e5 px


@typing.runtime_checkable
class AnnotatedDataset(typing.Protocol):
    """Annotated images, as the scorers need them; `data_pipeline.Dataset` is one."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the class indices."""

    def __len__(self) -> int:
        """Number of images."""

    def annotations(self, index: int, /) -> typing.Any:
        """Return the annotations of an image, such as a `data_pipeline.Example`.

        They have `boxes` [n,4] and `ignore` [r,4] (xyxy, px of the stored image), `classes` [n] from 0, `height` and
        `width`.
        """


class CocoScorer:
    """Scorer of detections on a data set. The ground truth is prepared once, for any number of scorings.

    Image ids are indices into the data set. An ignore region belongs to every class. If the protocol treats it as a
    crowd, an unmatched detection is ignored if the share of its area inside reaches the threshold.

    Args:
      dataset: Data set; or ground truth in COCO's format with image ids from 0, category ids from 1 and annotation ids
        from 1. There, `marks` lists the marks of an annotation. Without it, `iscrowd`, `ignore` and `uncertain` are
        read.
      protocol: Thresholds, caps and size bins.

    Raises:
      ValueError: A label is not a class index.

    References:
      Lin et al., Microsoft COCO, ECCV 2014; Wang et al., Tiny Object Detection in Aerial Images, ICPR 2021.
    """

    def __init__(self, dataset: AnnotatedDataset | GroundTruth, protocol: Protocol = DEFAULT_PROTOCOL) -> None:
        from faster_coco_eval import COCO

        truth = dataset if isinstance(dataset, dict) else _coco_ground_truth(dataset)
        self.protocol = protocol
        self.classes = tuple(category["name"] for category in truth["categories"])
        self._images = len(truth["images"])
        annotations = [_marked(annotation, protocol) for annotation in truth["annotations"]]
        self._truth = COCO({**truth, "annotations": annotations})
        self._rows: list[CocoRow] = []

    @property
    def rows(self) -> list[CocoRow]:
        """Detections since the last `reset`, as COCO result rows."""
        return list(self._rows)

    def reset(self) -> None:
        """Remove all detections; the ground truth is kept."""
        self._rows = []

    def add(self, rows: Iterable[CocoRow]) -> None:
        """Add COCO result rows.

        Raises:
          ValueError: The data set has no such image or category.
        """
        rows = list(rows)
        for row in rows:
            if not 0 <= row["image_id"] < self._images:
                raise ValueError(
                    f"image_id {row['image_id']}: expected 0…{self._images - 1}, the index of an image; "
                    "score on the data set of the detections"
                )
            if not 1 <= row["category_id"] <= len(self.classes):
                raise ValueError(
                    f"category_id {row['category_id']} (image {row['image_id']}): expected 1…{len(self.classes)}, "
                    "the class index + 1; use a detector with the classes of the data set"
                )
        self._rows += rows

    def add_batch(self, detections: DetectionArrays, batch: BatchGeometry) -> None:
        """Add the valid detections of the real images of a letterboxed batch.

        Args:
          detections: Detections of the batch, px of the letterboxed images.
          batch: Geometry of the letterboxed batch, which leads back to the stored images.

        Raises:
          ValueError: A box or a score is not finite, or the data set has no such class.
        """
        self.add(rows_from_detections(detections, batch))

    def describe(self) -> str:
        """Return a one-line description of what the scores count."""
        return self.protocol.describe()

    def score(self) -> dict[str, float | None]:
        """Return the scores of all detections since the last `reset`.

        Returns:
          `ap`, `ap<t>` for the thresholds .25, .5 and .75 if the protocol has them, `ap_<size>` for each size bin,
          `ap<t>_<size>` for each size threshold, `ar<n>` for each cap, and `ap/<class>`. All are in [0, 1], or None if
          there is no such object.
        """
        from faster_coco_eval import COCOeval_faster

        protocol = self.protocol
        ranges = (protocol.scope or SizeBin("all", 0.0, math.inf), *protocol.size_bins)
        if protocol.ignored_by_share:
            objects, detections = _columns(self._truth.dataset["annotations"], len(self.classes)), self._detections()
            return self._summary(*evaluate_by_share(objects, detections, len(self.classes), protocol, ranges))
        found = self._truth.loadRes([dict(row) for row in self._rows])
        evaluation = COCOeval_faster(self._truth, found, "bbox")
        evaluation.params.iouThrs = np.asarray(protocol.iou_thresholds)
        evaluation.params.maxDets = list(protocol.caps)
        evaluation.params.areaRngLbl = [size.name for size in ranges]
        evaluation.params.areaRng = [[size.low**2, min(size.high**2, _UNBOUNDED_AREA)] for size in ranges]
        evaluation.evaluate()
        evaluation.accumulate()
        return self._summary(np.asarray(evaluation.eval["precision"])[..., -1], np.asarray(evaluation.eval["recall"]))

    def _detections(self) -> Boxes:
        rows = [{**row, "area": row["bbox"][2] * row["bbox"][3]} for row in self._rows]
        return _columns(rows, len(self.classes))

    def _summary(self, precision: np.ndarray, recall: np.ndarray) -> dict[str, float | None]:
        """Average precision [threshold, recall point, class, size] and recall [threshold, class, size, cap]."""
        scores = {"ap": _mean(precision[..., 0])}
        at = {round(100 * threshold): i for i, threshold in enumerate(self.protocol.iou_thresholds)}
        for percent in (25, 50, 75):
            if percent in at:
                scores[f"ap{percent}"] = _mean(precision[at[percent], ..., 0])
        for i, size in enumerate(self.protocol.size_bins, start=1):
            scores[f"ap_{size.name}"] = _mean(precision[..., i])
            for threshold in self.protocol.size_thresholds:
                percent = round(100 * threshold)
                scores[f"ap{percent}_{size.name}"] = _mean(precision[at[percent], ..., i])
        for k, cap in enumerate(self.protocol.caps):
            scores[f"ar{cap}"] = _mean(recall[:, :, 0, k])
        for k, name in enumerate(self.classes):
            scores[f"ap/{name}"] = _mean(precision[:, :, k, 0])
        return scores


def _mean(values: np.ndarray) -> float | None:
    """Return the mean without the entries -1, with which faster-coco-eval marks classes and sizes without objects."""
    values = values[values > -1]
    return float(values.mean()) if values.size else None


def _marked(annotation: dict[str, typing.Any], protocol: Protocol) -> dict[str, typing.Any]:
    """Return an annotation with the `iscrowd`, `ignore` and `area` that a protocol gives it.

    An ignored object gets an area below every size bin, because faster-coco-eval then ignores it without treating it as
    a crowd.
    """
    marks = annotation.get("marks", [key for key in ("iscrowd", "ignore", "uncertain") if annotation.get(key)])
    crowd, ignored = protocol.is_crowd(marks), protocol.is_ignored(marks)
    area = -1.0 if ignored and not protocol.ignored_by_share else annotation["area"]
    return {**annotation, "iscrowd": int(crowd), "ignore": int(crowd or ignored), "area": area}


def _columns(entries: Sequence[Mapping[str, typing.Any]], classes: int) -> Boxes:
    """Convert annotations or detections to arrays."""
    return Boxes(
        boxes=np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4),
        groups=np.array([entry["image_id"] * classes + entry["category_id"] - 1 for entry in entries], np.int64),
        areas=np.array([entry["area"] for entry in entries], np.float64),
        scores=np.array([entry.get("score", 0.0) for entry in entries], np.float64),
        crowds=np.array([entry.get("iscrowd", 0) for entry in entries], bool),
        ignored=np.array([entry.get("ignore", 0) for entry in entries], bool),
    )


def _coco_ground_truth(dataset: AnnotatedDataset) -> GroundTruth:
    """Convert a data set to COCO's format. Annotation ids start at 1, because 0 means "unmatched" in pycocotools."""
    classes = len(dataset.classes)
    images: list[dict[str, typing.Any]] = []
    annotations: list[dict[str, typing.Any]] = []

    def append(image_id: int, label: int, box: np.ndarray, marks: tuple[str, ...]) -> None:
        x, y, right, bottom = (float(side) for side in box)
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": label + 1,
                "bbox": [x, y, right - x, bottom - y],
                "area": (right - x) * (bottom - y),
                "marks": marks,
            }
        )

    for i in range(len(dataset)):
        example = dataset.annotations(i)
        images.append({"id": i, "height": int(example.height), "width": int(example.width)})
        for box, label in zip(example.boxes, example.classes, strict=True):
            if not 0 <= label < classes:
                raise ValueError(
                    f"image {i}: expected class indices 0…{classes - 1}, got {int(label)}; `classes` and the boxes of "
                    "the data set disagree: rebuild it"
                )
            append(i, int(label), box, marks=())
        for region in example.ignore:
            for label in range(classes):
                append(i, label, region, marks=(REGION,))
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(dataset.classes)]
    return {"images": images, "annotations": annotations, "categories": categories}
