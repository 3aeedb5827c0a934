"""Boxes of a split beside each other: labels that occur twice, neighbours, and boxes that borders cut."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data_pipeline.dataset import Dataset, Example
from data_pipeline.faults import Fault

REPEATED_BOX = "boxes that repeat a box of their class (IoU ≥ 0.95)"
TWO_CLASSES = "boxes of two classes in one place (IoU ≥ 0.95)"
SAME_PLACE = 0.95
SUPPRESSED = 0.6
BORDER = 0.5
"""Distance from the border of the image up to which a side counts as cut, px."""


@dataclass(frozen=True)
class Neighbours:
    """Boxes beside other boxes, and shapes of boxes.

    Attributes:
      overlap_quantiles: Largest IoU of a box with another one of its image, at 50, 90 and 99 % of the boxes.
      suppressed: Share of the boxes that overlap another box of their class by more than `SUPPRESSED`. Non-maximum
        suppression with this threshold removes a correct detection there.
      close: Mean number of other boxes whose centre is within one √area of a box's centre.
      cut: Share of the boxes with a side within `BORDER` px of the border of their image.
      aspect_quantiles: Width over height at 1, 50 and 99 % of the boxes.
    """

    overlap_quantiles: tuple[float, ...]
    suppressed: float
    close: float
    cut: float
    aspect_quantiles: tuple[float, ...]


def neighbours_of(dataset: Dataset) -> tuple[Neighbours | None, list[Fault]]:
    """Return the statistics of a split's boxes, None without boxes, and a fault for every box that occurs twice.

    Args:
      dataset: Data set.
    """
    faults: list[Fault] = []
    overlaps, suppressed, close, cut, aspects = [], [], [], [], []
    for index in range(len(dataset)):
        example = dataset.annotations(index)
        if not len(example.boxes):
            continue
        iou = pairwise_iou(example.boxes)
        same = example.classes[:, None] == example.classes
        faults += _faults(example, dataset.classes, iou, same)
        overlaps.append(iou.max(axis=1))
        suppressed.append((iou * same).max(axis=1) > SUPPRESSED)
        close.append(_close(example.boxes))
        limits = np.array([example.width, example.height]) - BORDER
        cut.append((example.boxes[:, :2] <= BORDER).any(axis=1) | (example.boxes[:, 2:] >= limits).any(axis=1))
        sides = example.boxes[:, 2:] - example.boxes[:, :2]
        aspects.append(sides[:, 0] / sides[:, 1])
    if not overlaps:
        return None, faults
    found = Neighbours(
        quantiles(np.concatenate(overlaps), (0.5, 0.9, 0.99)),
        float(np.concatenate(suppressed).mean()),
        float(np.concatenate(close).mean()),
        float(np.concatenate(cut).mean()),
        quantiles(np.concatenate(aspects), (0.01, 0.5, 0.99)),
    )
    return found, faults


def pairwise_iou(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n n"]:
    """Return the IoU of every box with every other one; 0 with itself.

    Args:
      boxes: Boxes with positive sides, xyxy px.
    """
    wide = boxes.astype(np.float64)
    low = np.maximum(wide[:, None, :2], wide[None, :, :2])
    high = np.minimum(wide[:, None, 2:], wide[None, :, 2:])
    common = np.maximum(high - low, 0).prod(axis=-1)
    area = (wide[:, 2:] - wide[:, :2]).prod(axis=-1)
    iou: np.ndarray = common / (area[:, None] + area - common)
    np.fill_diagonal(iou, 0.0)
    return iou


def quantiles(values: np.ndarray, levels: tuple[float, ...]) -> tuple[float, ...]:
    """Return quantiles, rounded to three digits after the point."""
    return tuple(round(float(value), 3) for value in np.quantile(values, levels))


def _close(boxes: np.ndarray) -> np.ndarray:
    """Return the number of other boxes whose centre is within one √area of each box's centre."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    apart = np.linalg.norm(centers[:, None] - centers, axis=-1)
    return (apart < np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=-1))[:, None]).sum(axis=1) - 1


def _faults(example: Example, classes: tuple[str, ...], iou: np.ndarray, same: np.ndarray) -> list[Fault]:
    faults = []
    earlier = np.tril(iou >= SAME_PLACE)  # of each pair, the later box has the fault
    for reason, pairs in ((REPEATED_BOX, earlier & same), (TWO_CLASSES, earlier & ~same)):
        for index in np.flatnonzero(pairs.any(axis=1)).tolist():
            names = [_described(example, classes, k) for k in (index, int(pairs[index].argmax()))]
            faults.append(Fault(example.file_name, " and ".join(names), reason))
    return faults


def _described(example: Example, classes: tuple[str, ...], index: int) -> str:
    corners = ", ".join(f"{value:.5g}" for value in example.boxes[index].tolist())
    return f"{classes[int(example.classes[index])]} [{corners}]"
