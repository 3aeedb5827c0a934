"""Weights of the terms of the training loss."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of the training loss.

    Box and class loss are means over the positives of all levels, so that every positive has the same weight. (YOLOv5
    adds the means of the levels. There, a level with two positives weighs as much as a level with two hundred.) The
    objectness loss is the mean over the cells of a level, summed over levels with YOLOv5's weights.

    Attributes:
      box: Weight of the localization loss.
      objectness: Weight of the objectness loss.
      classes: Weight of the class loss.
      quality: Share of the IoU in the objectness target of a positive, 1 − quality + quality · max(CIoU, 0).
      anchor_ratio_threshold: Largest side ratio at which a box and an anchor match.
      class_weights: Weight of every class in the class loss. "balanced" gives rare classes larger weights, by the
        effective number of their training boxes (`class_weights.balanced_weights`). None weighs all boxes alike.
    """

    box: float = 1.0
    objectness: float = 1.0
    classes: float = 1.0
    quality: float = 1.0
    anchor_ratio_threshold: float = 4.0
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None

    def __post_init__(self) -> None:
        given = self.class_weights
        if isinstance(given, str) and given != "balanced":
            raise ValueError(f'LossWeights.class_weights: expected numbers, "balanced" or None, got {given!r}')
        if isinstance(given, tuple) and not all(math.isfinite(weight) and weight >= 0 for weight in given):
            raise ValueError(f"LossWeights.class_weights: expected numbers of at least 0, got {given}")
