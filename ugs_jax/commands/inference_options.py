"""How the network looks at images: the options that `ugs predict` and `ugs eval` have in common."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ugs_jax.detectors import Postprocess
    from ugs_jax.inference import TestTimeAugmentation, Tiling


@dataclass(frozen=True)
class InferenceOptions:
    """How the network looks at images.

    Attributes:
      tile: look at images in tiles of this height and width, px (one number: square); images are taken as a whole
        otherwise.
      overlap: least share of a tile that its neighbour has too; an object up to that long is whole in one tile.
      merge: what is found twice becomes one by greedy non-maximum merging, or by suppression.
      metric: overlap is intersection over the smaller box, or over the union.
      merge_threshold: boxes that overlap by more are one.
      full_image: with tiles, look at the whole image too.
      tile_batch: tiles at a time.
      min_score: with tiles, boxes that score no more are dropped before merging.
      flip: look at mirror images too, and fuse the boxes.
      scales: of the network's input to look at, such as 1 0.83; boxes are fused.
      voting: Sigma of box voting, about 0.02: boxes move towards those they suppress, weighted by how sure their sides
        are, or by score where the objective predicts no deviations. 0 turns it off; without it, as in the run's config.
      spread_penalty: κ of the factor exp(-κ · deviation/side) on scores; without it, as in the run's config.
      quality_power: Power of the predicted IoU on scores; without it, as in the run's config.
    """

    tile: tuple[int] | tuple[int, int] | None = None
    overlap: float = 0.2
    merge: Literal["nmm", "nms"] = "nmm"
    metric: Literal["ios", "iou"] = "ios"
    merge_threshold: float = 0.5
    full_image: bool = True
    tile_batch: int = 8
    min_score: float = 0.05
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    voting: float | None = None
    spread_penalty: float | None = None
    quality_power: float | None = None

    @property
    def one_look(self) -> bool:
        """Whether every image is looked at once and as a whole, so that images can share a batch."""
        return self.tile is None and not self.flip and self.scales == (1.0,)

    @property
    def tiling(self) -> "Tiling | None":
        """How images are cut up, if they are."""
        from ugs_jax.inference import Merge, Tiling

        if self.tile is None:
            return None
        merge = Merge(self.merge, self.metric, self.merge_threshold)
        size = (self.tile[0], self.tile[-1])
        return Tiling(size, self.overlap, self.tile_batch, self.full_image, self.min_score, merge)

    @property
    def augmented(self) -> "TestTimeAugmentation":
        """At what the network looks of every image or tile."""
        from ugs_jax.inference import TestTimeAugmentation

        return TestTimeAugmentation(flip=self.flip, scales=self.scales)

    def postprocess(self, own: "Postprocess") -> "Postprocess":
        """Return a run's way from outputs to detections, with what these options set."""
        if self.voting is not None:
            own = replace(own, voting=self.voting or None)
        if self.spread_penalty is not None:
            own = replace(own, spread_penalty=self.spread_penalty)
        if self.quality_power is not None:
            own = replace(own, quality_power=self.quality_power)
        return own

    def describe(self) -> str:
        """What differs from looking at each image once, as a part of a file's name; empty if nothing does."""
        parts = []
        if self.tile is not None:
            parts.append(f"tile{'x'.join(map(str, self.tile))}_{self.overlap:g}_{self.merge}_{self.metric}")
            parts.append(f"{self.merge_threshold:g}_above{self.min_score:g}")
            parts += [] if self.full_image else ["tiles_only"]
        parts += ["flip"] if self.flip else []
        parts += [] if self.scales == (1.0,) else [f"scales{'-'.join(f'{scale:g}' for scale in self.scales)}"]
        for name in ("voting", "spread_penalty", "quality_power"):
            value = getattr(self, name)
            parts += [] if value is None else [f"{name.partition('_')[0]}{value:g}"]
        return "_".join(parts)
