"""Weights of the terms of the training loss."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms.

    Box and class loss are means over the positives of all levels, so that every positive weighs the same. (YOLOv5 adds
    up the means of the levels: a level with two positives pulls as hard as one with two hundred.) Objectness is the
    mean over the cells of a level, summed over levels with YOLOv5's weights.

    Attributes:
      box: of the localization loss.
      objectness: of the objectness loss.
      classes: of the class loss.
      quality: share of the IoU in the objectness target of a positive, 1 − quality + quality · max(CIoU, 0).
      ratio_limit: side ratio up to which an anchor may learn a box.
    """

    box: float = 1.0
    objectness: float = 1.0
    classes: float = 1.0
    quality: float = 1.0
    ratio_limit: float = 4.0
