"""Scorers by protocol, for detections of this library on its data sets."""

import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipeline.sources.visdrone import read_columns
from ugs_jax.evaluation.coco import AnnotatedDataset, CocoScorer
from ugs_jax.evaluation.protocol import Protocol
from ugs_jax.evaluation.results import BatchGeometry, CocoRow, DetectionArrays
from ugs_jax.evaluation.visdrone import (
    DESCRIPTION,
    FoundImage,
    TruthImage,
    visdrone_scores,
    visdrone_table,
)

CROSS_CHECK = Protocol(size_bins=())
"""COCO's AP with 500 detections, shown beside VisDrone's as `coco_ap`, `coco_ap50` and `coco_ap75`."""


@typing.runtime_checkable
class Scorer(typing.Protocol):
    """Collects detections and scores them."""

    def reset(self) -> None:
        """Forgets the detections."""

    def add_batch(self, detections: DetectionArrays, batch: BatchGeometry, /) -> None:
        """Adds the valid detections of the real images of a letterboxed batch."""

    def score(self) -> dict[str, float | None]:
        """Scores in [0, 1] by name, None where there is nothing to score."""

    def describe(self) -> str:
        """One line to print beside every number."""


class VisDroneScorer:
    """Scores detections by VisDrone's official protocol, with COCO's AP beside it.

    Args:
      dataset: images and classes; COCO's AP is scored on it.
      truth: its annotations as VisDrone has them; None takes the data set's, with ignore regions as ignored regions.

    Raises:
      ValueError: not one entry of `truth` for each image.
    """

    def __init__(self, dataset: AnnotatedDataset, truth: Sequence[TruthImage] | None = None) -> None:
        self.truth = list(dataset_truth(dataset) if truth is None else truth)
        if len(self.truth) != len(dataset):
            raise ValueError(
                f"expected annotations of {len(dataset)} images, got {len(self.truth)}; read those of the same split"
            )
        self.classes = tuple(dataset.classes)
        self._coco = CocoScorer(dataset, CROSS_CHECK)

    @property
    def found(self) -> list[FoundImage]:
        """The detections of each image, best score first."""
        return found_images(self._coco.rows, len(self.truth))

    def reset(self) -> None:
        """Forgets the detections; keeps the ground truth."""
        self._coco.reset()

    def add(self, rows: Sequence[CocoRow]) -> None:
        """Adds COCO result rows; see `CocoScorer.add`."""
        self._coco.add(rows)

    def add_batch(self, detections: DetectionArrays, batch: BatchGeometry) -> None:
        """Adds the valid detections of the real images of a letterboxed batch; see `CocoScorer.add_batch`."""
        self._coco.add_batch(detections, batch)

    def score(self) -> dict[str, float | None]:
        """See `visdrone_scores`; and `coco_ap`, `coco_ap50`, `coco_ap75`."""
        return with_coco(
            visdrone_scores(visdrone_table(self.truth, self.found, len(self.classes)), self.classes), self._coco.score()
        )

    def describe(self) -> str:
        """One line to print beside every number."""
        return describe_visdrone()


def with_coco(official: dict[str, float | None], coco: dict[str, float | None]) -> dict[str, float | None]:
    """Puts COCO's AP between the means and the classes of VisDrone's scores."""
    means = {key: value for key, value in official.items() if "/" not in key}
    return means | {f"coco_{key}": coco[key] for key in ("ap", "ap50", "ap75")} | official


def describe_visdrone() -> str:
    """What VisDrone's scores and those beside them count, in one line."""
    return f"{DESCRIPTION}. coco_…: {CROSS_CHECK.describe().partition('; object size')[0]}"


def found_images(rows: Sequence[CocoRow], images: int) -> list[FoundImage]:
    """Result rows, whose image ids count from 0, by image, best score first.

    Args:
      rows: of all images.
      images: how many there are.
    """
    by_image: list[list[CocoRow]] = [[] for _ in range(images)]
    for row in rows:
        by_image[row["image_id"]].append(row)
    return [
        FoundImage(
            np.array([row["bbox"] for row in ordered], np.float64).reshape(-1, 4),
            np.array([row["category_id"] for row in ordered], np.int64),
            np.array([row["score"] for row in ordered], np.float64),
        )
        for ordered in (sorted(rows, key=lambda row: -row["score"]) for rows in by_image)
    ]


def dataset_truth(dataset: AnnotatedDataset) -> list[TruthImage]:
    """The annotations of a data set for VisDrone's protocol: its ignore regions are ignored regions."""
    images = []
    for index in range(len(dataset)):
        example = dataset.annotations(index)
        corners = np.concatenate([example.boxes, example.ignore]).astype(np.float64)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        categories = np.concatenate([example.labels.astype(np.int64) + 1, np.zeros(len(example.ignore), np.int64)])
        images.append(
            TruthImage(boxes, categories, np.ones(len(boxes), bool), (int(example.height), int(example.width)))
        )
    return images


def visdrone_truth(files: Sequence[Path], sizes: Sequence[tuple[int, int] | None]) -> list[TruthImage]:
    """The annotations of VisDrone's own files, nothing left out.

    Args:
      files: one for each image.
      sizes: height and width of each image, px; None where no box reaches beyond it.

    Raises:
      DataError: a row that cannot be read, by file and line.
    """
    images = []
    for file, size in zip(files, sizes, strict=True):
        columns = read_columns(file)
        images.append(TruthImage(columns[:, :4], columns[:, 5].astype(np.int64), columns[:, 4] != 0, size))
    return images
