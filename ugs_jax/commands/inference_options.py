"""Inference options that `ugs predict` and `ugs eval` have in common."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ugs_jax.commands.postprocess_options import PostprocessOptions

if TYPE_CHECKING:
    from ugs_jax.detectors import Postprocess
    from ugs_jax.inference import TestTimeAugmentation, Tiling


@dataclass(frozen=True)
class InferenceOptions:
    """Tiles, test-time augmentation and postprocessing.

    Attributes:
      tile: Height and width of the tiles that images are cut into, px. One number gives square tiles. By default, an
        image is processed as a whole.
      overlap: Least share of a tile that it has in common with its neighbour. An object of at most this length is
        completely inside one of the tiles.
      merge: Method that merges detections of the same object in several tiles: greedy non-maximum merging (nmm) or
        non-maximum suppression (nms).
      metric: Overlap of two boxes: intersection over the smaller box (ios) or intersection over union (iou).
      merge_threshold: Overlap above which two boxes are merged.
      full_image: With tiles, detect in the whole image as well.
      tile_batch: Number of tiles in a batch.
      min_score: With tiles, score that a box must exceed to be kept for merging.
      flip: Detect in the mirror image as well, and fuse the boxes.
      scales: Scales of the network's input, such as 1 0.83. The boxes of all scales are fused.
      voting: Sigma of box voting, about 0.02. Boxes move towards those they suppress. 0 turns voting off. The default
        is the value of the run's config.
      votes: Weights of the votes: the certainty of sides (deviation), or the score, which is always taken if the
        objective predicts no deviations. The default is the value of the run's config.
      spread_penalty: Constant κ of the factor exp(-κ · spread/side) on scores. The default is the value of the run's
        config.
      quality_power: Power of the predicted IoU in scores. The default is the value of the run's config.
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
    votes: Literal["deviation", "score"] | None = None
    spread_penalty: float | None = None
    quality_power: float | None = None

    @property
    def one_look(self) -> bool:
        """True if each image is processed once and as a whole, so that images can share a batch."""
        return self.tile is None and not self.flip and self.scales == (1.0,)

    @property
    def tiling(self) -> "Tiling | None":
        """Tiling of the images, or None without tiles."""
        from ugs_jax.inference import Merge, Tiling

        if self.tile is None:
            return None
        merge = Merge(self.merge, self.metric, self.merge_threshold)
        size = (self.tile[0], self.tile[-1])
        return Tiling(size, self.overlap, self.tile_batch, self.full_image, self.min_score, merge)

    @property
    def augmented(self) -> "TestTimeAugmentation":
        """Test-time augmentation: the flips and scales of an image or tile whose detections are fused."""
        from ugs_jax.inference import TestTimeAugmentation

        return TestTimeAugmentation(flip=self.flip, scales=self.scales)

    def postprocess(self, own: "Postprocess") -> "Postprocess":
        """Return the postprocessing of a run, with the values that these options set."""
        given = PostprocessOptions(
            voting=self.voting,
            votes=self.votes,
            spread_penalty=self.spread_penalty,
            quality_power=self.quality_power,
        )
        return given.applied(own)

    def describe(self) -> str:
        """Return all options that are not defaults, as a part of file names. The text is empty for the defaults."""
        parts = []
        if self.tile is not None:
            parts.append(f"tile{'x'.join(map(str, self.tile))}_{self.overlap:g}_{self.merge}_{self.metric}")
            parts.append(f"{self.merge_threshold:g}_above{self.min_score:g}")
            parts += [] if self.full_image else ["tiles_only"]
        parts += ["flip"] if self.flip else []
        parts += [] if self.scales == (1.0,) else [f"scales{'-'.join(f'{scale:g}' for scale in self.scales)}"]
        parts += [] if self.votes is None else [f"{self.votes}_votes"]
        for name in ("voting", "spread_penalty", "quality_power"):
            value = getattr(self, name)
            parts += [] if value is None else [f"{name.partition('_')[0]}{value:g}"]
        return "_".join(parts)
