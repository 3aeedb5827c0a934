"""Scorers for detections of this library on its data sets, by protocol."""

import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipeline.sources.visdrone import read_columns
from ugs_jax.evaluation.coco import AnnotatedDataset, CocoScorer
from ugs_jax.evaluation.protocol import Protocol
from ugs_jax.evaluation.results import BatchGeometry, CocoRow, DetectionArrays, rows_by_score
from ugs_jax.evaluation.visdrone import DESCRIPTION, TruthImage, visdrone_scores, visdrone_table

CROSS_CHECK = Protocol(size_bins=())
"""COCO's AP with 500 detections, reported beside VisDrone's as `coco_ap`, `coco_ap50` and `coco_ap75`."""


@typing.runtime_checkable
class Scorer(typing.Protocol):
    """Collector and scorer of detections."""

    def reset(self) -> None:
        """Remove all detections."""

    def add_batch(self, detections: DetectionArrays, batch: BatchGeometry, /) -> None:
        """Add the valid detections of the real images of a letterboxed batch.

        Args:
          detections: Detections of the batch, px of the letterboxed images.
          batch: Geometry of the letterboxed batch, which leads back to the stored images.
        """

    def score(self) -> dict[str, float | None]:
        """Return scores in [0, 1] by name; None if there is nothing to score."""

    def describe(self) -> str:
        """Return a one-line description of what the scores count."""


class VisDroneScorer:
    """Scorer by VisDrone's official protocol, with COCO's AP beside it.

    Args:
      dataset: Data set with the images and classes. COCO's AP is computed on its annotations.
      truth: Annotations in VisDrone's form; None for those of the data set, with its ignore regions as ignored regions.

    Raises:
      ValueError: `truth` does not have one entry per image.
    """

    def __init__(self, dataset: AnnotatedDataset, truth: Sequence[TruthImage] | None = None) -> None:
        self.truth = list(dataset_truth(dataset) if truth is None else truth)
        if len(self.truth) != len(dataset):
            raise ValueError(
                f"truth: expected annotations of {len(dataset)} images, got {len(self.truth)}; read those of the same "
                "split"
            )
        self.classes = tuple(dataset.classes)
        self._coco = CocoScorer(dataset, CROSS_CHECK)

    @property
    def rows(self) -> list[CocoRow]:
        """Detections since the last `reset`, as COCO result rows."""
        return self._coco.rows

    def reset(self) -> None:
        """Remove all detections; the ground truth is kept."""
        self._coco.reset()

    def add(self, rows: Sequence[CocoRow]) -> None:
        """Add COCO result rows; see `CocoScorer.add`."""
        self._coco.add(rows)

    def add_batch(self, detections: DetectionArrays, batch: BatchGeometry) -> None:
        """Add the valid detections of the real images of a letterboxed batch; see `CocoScorer.add_batch`."""
        self._coco.add_batch(detections, batch)

    def score(self) -> dict[str, float | None]:
        """Return the scores of `visdrone_scores`, and `coco_ap`, `coco_ap50`, `coco_ap75`."""
        table = visdrone_table(self.truth, rows_by_score(self.rows), len(self.classes))
        return with_coco(visdrone_scores(table, self.classes), self._coco.score())

    def describe(self) -> str:
        """Return a one-line description of what the scores count."""
        return describe_visdrone()


def with_coco(official: dict[str, float | None], coco: dict[str, float | None]) -> dict[str, float | None]:
    """Return VisDrone's scores with COCO's AP between the means and the scores of the classes."""
    means = {key: value for key, value in official.items() if "/" not in key}
    return means | {f"coco_{key}": coco[key] for key in ("ap", "ap50", "ap75")} | official


def describe_visdrone() -> str:
    """Return a one-line description of what VisDrone's scores, and COCO's beside them, count."""
    return f"{DESCRIPTION}. coco_…: {CROSS_CHECK.describe().partition('; object size')[0]}"


def dataset_truth(dataset: AnnotatedDataset) -> list[TruthImage]:
    """Return the annotations of a data set in VisDrone's form; its ignore regions are ignored regions."""
    images = []
    for index in range(len(dataset)):
        example = dataset.annotations(index)
        corners = np.concatenate([example.boxes, example.ignore]).astype(np.float64)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        categories = np.concatenate([example.classes.astype(np.int64) + 1, np.zeros(len(example.ignore), np.int64)])
        images.append(
            TruthImage(boxes, categories, np.ones(len(boxes), bool), (int(example.height), int(example.width)))
        )
    return images


def visdrone_truth(files: Sequence[Path], sizes: Sequence[tuple[int, int] | None]) -> list[TruthImage]:
    """Read all annotations of VisDrone's own files.

    Args:
      files: Annotation file of each image.
      sizes: Height and width of each image, px; None if no box reaches beyond the image.

    Raises:
      DataError: A row cannot be read. The message names the file and the line.
    """
    images = []
    for file, size in zip(files, sizes, strict=True):
        columns = read_columns(file)
        images.append(TruthImage(columns[:, :4], columns[:, 5].astype(np.int64), columns[:, 4] != 0, size))
    return images
