"""Evaluation protocols: thresholds, caps and size bins, with a one-line description to print beside every score."""

import dataclasses
import itertools
import math
from collections.abc import Collection

REGION = "region"
"""Mark of the ignore regions of this library's data sets, which belong to no class."""


@dataclasses.dataclass(frozen=True)
class SizeBin:
    """Size bin: objects whose √area lies in [low, high] px of the stored image.

    Both ends are included, as in pycocotools.

    Attributes:
      name: Name of the bin, used in `ap_<name>`.
      low: Least √area, px.
      high: Largest √area, px.

    Raises:
      ValueError: `low` is negative or not below `high`.
    """

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ValueError(
                f"SizeBin {self.name!r}: expected 0 <= low < high, got low={self.low}, high={self.high}; "
                "give sides in px (not areas), the smaller one first"
            )

    def describe(self) -> str:
        """Return the bin as words, such as `very tiny 0–8`."""
        name = self.name.replace("_", " ")
        return f"{name} >{self.low:g}" if math.isinf(self.high) else f"{name} {self.low:g}–{self.high:g}"


AI_TOD_BINS = (
    SizeBin("very_tiny", 0.0, 8.0),
    SizeBin("tiny", 8.0, 16.0),
    SizeBin("small", 16.0, 32.0),
    SizeBin("medium", 32.0, 64.0),
)
"""Size bins of Wang et al., Tiny Object Detection in Aerial Images, ICPR 2020."""
COCO_BINS = (
    SizeBin("coco_small", 0.0, 32.0),
    SizeBin("coco_medium", 32.0, 96.0),
    SizeBin("coco_large", 96.0, math.inf),
)
"""Size bins of COCO."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Evaluation protocol with COCO's average precision.

    Attributes:
      name: Name of the protocol, at the start of `describe()`.
      max_detections: Largest number of detections per image and class; those with the highest scores are kept.
        pycocotools calls it maxDets.
      iou_thresholds: Increasing IoU thresholds in (0, 1].
      size_bins: Size bins. Each gives a score `ap_<name>`. The default has the four of AI-TOD (the lowest starts at 0,
        as in AI-TOD's code; `medium` ends at 64, as in its paper) and the three of COCO.
      size_thresholds: IoU thresholds at each of which every bin is also scored alone, as `ap<t>_<name>`.
      scope: Size bin of the objects that `ap`, `ap<t>`, `ar<n>` and `ap/<class>` count; others are ignored there. None
        counts all objects.
      recall_caps: Smaller numbers of detections at which recall is also reported, as `ar<n>`.
      crowds: Marks of annotations that are crowds. A crowd takes any number of detections, by the share of a detection
        inside. None takes every mark.
      ignores: Marks of annotations that are ignored objects. An ignored object takes one detection, by IoU.
      ignored_by_share: Ignores unmatched detections also by their share inside an ignored object or one of another size
        bin, like TinyPerson's evaluator.

    Raises:
      ValueError: Thresholds are missing or unordered, a cap is below 1 or out of order, a size threshold is not one of
        the IoU thresholds, or two bins have the same name.
    """

    name: str = "COCO"
    max_detections: int = 500
    iou_thresholds: tuple[float, ...] = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
    size_bins: tuple[SizeBin, ...] = AI_TOD_BINS + COCO_BINS
    size_thresholds: tuple[float, ...] = ()
    scope: SizeBin | None = None
    recall_caps: tuple[int, ...] = ()
    crowds: tuple[str, ...] | None = None
    ignores: tuple[str, ...] = ()
    ignored_by_share: bool = False

    def __post_init__(self) -> None:
        ordered = list(self.iou_thresholds) == sorted(set(self.iou_thresholds))
        if not self.iou_thresholds or not ordered or self.iou_thresholds[0] <= 0 or self.iou_thresholds[-1] > 1:
            raise ValueError(
                f"iou_thresholds: expected increasing values within (0, 1], got {self.iou_thresholds}; "
                "COCO's are 0.5, 0.55, …, 0.95"
            )
        if self.max_detections < 1:
            raise ValueError(f"max_detections: expected at least 1, got {self.max_detections}; 500 suits drone images")
        names = [size.name for size in self.size_bins]
        if len(set(names)) != len(names):
            raise ValueError(f"size_bins: expected unique names, got {names}; rename the repeated one")
        if list(self.caps) != sorted(set(self.caps)) or self.caps[0] < 1:
            raise ValueError(
                f"recall_caps: expected increasing numbers from 1, below max_detections={self.max_detections}, got "
                f"{self.recall_caps}; COCO's are 1 and 10"
            )
        if not set(self.size_thresholds) <= set(self.iou_thresholds):
            raise ValueError(
                f"size_thresholds: expected some of {self.iou_thresholds}, got {self.size_thresholds}; add them to "
                "iou_thresholds"
            )

    @property
    def caps(self) -> tuple[int, ...]:
        """Numbers of detections per image and class at which recall is reported. Precision uses the last."""
        return (*self.recall_caps, self.max_detections)

    def is_crowd(self, marks: Collection[str]) -> bool:
        """Return True if an annotation with these marks is a crowd."""
        return bool(marks) if self.crowds is None else any(mark in self.crowds for mark in marks)

    def is_ignored(self, marks: Collection[str]) -> bool:
        """Return True if an annotation with these marks is an ignored object and not a crowd."""
        return not self.is_crowd(marks) and any(mark in self.ignores for mark in marks)

    def describe(self) -> str:
        """Return a one-line description of what the scores count."""
        thresholds = self.iou_thresholds
        steps = {round(b - a, 6) for a, b in itertools.pairwise(thresholds)}
        iou = (
            f"{thresholds[0]:.2f}:{steps.pop():.2f}:{thresholds[-1]:.2f}"
            if len(thresholds) > 2 and len(steps) == 1
            else ", ".join(f"{t:.2f}" for t in thresholds)
        )
        sizes = ", ".join(size.describe() for size in self.size_bins)
        recall = f" (recall also at {', '.join(map(str, self.recall_caps))})" if self.recall_caps else ""
        scope = f", objects of {self.scope.describe()} only except in the bins" if self.scope else ""
        return (
            f"{self.name} AP: IoU {iou}, 101 recall points, mean over classes{scope}, "
            f"at most {self.max_detections} detections per image and class{recall}, {self._marks()}; "
            f"object size = √area in px of the stored image: {sizes}"
        )

    def _marks(self) -> str:
        if self.crowds is None:
            return "ignore regions and whatever is marked as crowd, ignored or uncertain as crowds"
        parts = [
            f"{' or '.join(mark for mark in marks if mark != REGION)} as {kind}"
            for marks, kind in ((self.crowds, "crowds"), (self.ignores, "ignored objects"))
            if any(mark != REGION for mark in marks)
        ]
        kind = "crowds" if REGION in self.crowds else "ignored objects"
        share = "; what lies in an ignored object or one of another size is ignored" if self.ignored_by_share else ""
        return f"ignore regions as {kind}, {', '.join(parts)}{share}"


DEFAULT_PROTOCOL = Protocol()
"""COCO's thresholds with 500 detections per image and class, and the size bins of AI-TOD and COCO."""
