"""Postprocessing that a command sets in the place of the values of the run's config."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ugs_jax.detectors import Postprocess


@dataclass(frozen=True)
class PostprocessOptions:
    """Postprocessing inside a program. The defaults are the values of the run's config.

    Attributes:
      score_threshold: Score that a detection has to exceed: .001 for evaluation, about .25 for viewing.
      iou_threshold: IoU above which the better of two boxes of a class suppresses the other.
      max_detections: Largest number of detections per image.
      voting: Sigma of box voting, about 0.02. 0 turns voting off.
      votes: Weights of the votes: predicted deviation, or score.
      spread_penalty: Constant κ of the factor exp(-κ · spread/side) on scores.
      quality_power: Power of the predicted IoU in scores.
    """

    score_threshold: float | None = None
    iou_threshold: float | None = None
    max_detections: int | None = None
    voting: float | None = None
    votes: Literal["deviation", "score"] | None = None
    spread_penalty: float | None = None
    quality_power: float | None = None

    def applied(self, own: "Postprocess") -> "Postprocess":
        """Return the postprocessing of a run, with the values that these options set."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if self.voting is not None:
            given["voting"] = self.voting or None
        return replace(own, **given)
