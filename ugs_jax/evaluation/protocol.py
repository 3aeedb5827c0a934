"""What a score means: thresholds, caps and size bins, said in one line beside every number."""

import dataclasses
import itertools
import math
from collections.abc import Collection

REGION = "region"
"""Mark of an ignore region that belongs to no class, as the data sets of this library have them."""


@dataclasses.dataclass(frozen=True)
class SizeBin:
    """Objects whose √area lies in [low, high] px of the stored image; both ends count, as in pycocotools."""

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        """Raises ValueError unless 0 <= low < high."""
        if not 0 <= self.low < self.high:
            raise ValueError(
                f"SizeBin {self.name!r}: expected 0 <= low < high, got low={self.low}, high={self.high}; "
                "give sides in px (not areas), smaller one first"
            )

    def describe(self) -> str:
        """The bin as words, e.g. `very tiny 0–8`."""
        name = self.name.replace("_", " ")
        return f"{name} >{self.low:g}" if math.isinf(self.high) else f"{name} {self.low:g}–{self.high:g}"


AI_TOD_BINS = (
    SizeBin("very_tiny", 0.0, 8.0),
    SizeBin("tiny", 8.0, 16.0),
    SizeBin("small", 16.0, 32.0),
    SizeBin("medium", 32.0, 64.0),
)
"""Sizes of Wang et al., Tiny Object Detection in Aerial Images, ICPR 2020."""
COCO_BINS = (
    SizeBin("coco_small", 0.0, 32.0),
    SizeBin("coco_medium", 32.0, 96.0),
    SizeBin("coco_large", 96.0, math.inf),
)
"""Sizes of COCO."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How detections are scored.

    Attributes:
      name: shown first in `describe()`.
      max_detections: detections kept for each image and class, highest scores first (pycocotools' maxDets).
      iou_thresholds: increasing, within (0, 1].
      size_bins: one `ap_<name>` each. The default has AI-TOD's four (its lowest bin starts at 0, as in AI-TOD's
        code; `medium` ends at 64, as in its paper) and COCO's three.
      size_thresholds: each bin is also scored at each of these thresholds alone, as `ap<t>_<name>`.
      scope: objects that `ap`, `ap<t>`, `ar<n>` and `ap/<class>` count; others are ignored there. None for all.
      recall_caps: smaller caps at which recall is reported too, as `ar<n>`.
      crowds: marks of annotations that are crowds: each takes any number of detections, by the share of the detection
        that lies inside. None for every mark.
      ignores: marks of annotations that are ignored objects: each takes one detection, by intersection over union.
      ignored_by_share: a detection without a match is also ignored for its share inside an ignored object or an object
        of another size bin, as TinyPerson's evaluator does.

    Raises:
      ValueError: for an empty or unordered list of thresholds, a cap below 1, caps out of order, a size threshold that
        is none of the thresholds, or two bins of one name.
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
        """Checks the fields; see the class for what is raised."""
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
            raise ValueError(f"size_bins: expected a different name for each, got {names}; rename the repeated one")
        if list(self.caps) != sorted(set(self.caps)) or self.caps[0] < 1:
            raise ValueError(
                f"recall_caps: expected increasing numbers from 1, below max_detections={self.max_detections}, got "
                f"{self.recall_caps}; COCO's are 1, 10 and 100"
            )
        if not set(self.size_thresholds) <= set(self.iou_thresholds):
            raise ValueError(
                f"size_thresholds: expected some of {self.iou_thresholds}, got {self.size_thresholds}; add them to "
                "iou_thresholds"
            )

    @property
    def caps(self) -> tuple[int, ...]:
        """Detections an image and class may have where recall is reported; precision counts the last."""
        return (*self.recall_caps, self.max_detections)

    def is_crowd(self, marks: Collection[str]) -> bool:
        """Tell whether an annotation with these marks is a crowd."""
        return bool(marks) if self.crowds is None else any(mark in self.crowds for mark in marks)

    def is_ignored(self, marks: Collection[str]) -> bool:
        """Tell whether an annotation with these marks is an ignored object, but no crowd."""
        return not self.is_crowd(marks) and any(mark in self.ignores for mark in marks)

    def describe(self) -> str:
        """One line to print beside every number."""
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
"""The thresholds of COCO with 500 detections an image, by both sets of sizes."""
