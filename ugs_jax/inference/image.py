"""Detection on an image of any size: as a whole, in tiles, mirrored, at several scales."""

from dataclasses import dataclass, field

import numpy as np

from ugs_jax.evaluation.detections import ImageDetections, by_score, concatenate
from ugs_jax.inference.fusion import weighted_box_fusion
from ugs_jax.inference.merge import Merge, merge
from ugs_jax.inference.passes import ImageDetector, View, run_pass, views_of
from ugs_jax.inference.tiles import Window, WindowedImage, check_image, overview, tile_windows


@dataclass(frozen=True)
class Tiling:
    """Options for cutting a large image into tiles and merging their detections.

    Attributes:
      tile: Height and width of a tile, px of the image and of the network's input at scale 1; multiples of 32.
      overlap: Least share of a tile that neighbours have in common. An object up to that length lies whole in one tile.
      batch: Number of tiles per batch.
      full_image: Also detects on the image as a whole, for objects larger than a tile.
      min_score: Score that a detection has to exceed before merging. Otherwise, by intersection over the smaller box, a
        large box with a low score would match every object inside it. Without merging, all detections are kept.
      merge: Options for merging the detections of overlapping tiles.
    """

    tile: tuple[int, int] = (640, 640)
    overlap: float = 0.2
    batch: int = 8
    full_image: bool = True
    min_score: float = 0.05
    merge: Merge = field(default_factory=Merge)

    def __post_init__(self) -> None:
        if any(side < 32 or side % 32 for side in self.tile):
            fit = tuple(max(1, -(-side // 32)) * 32 for side in self.tile)
            raise ValueError(f"Tiling.tile: expected sides that are multiples of 32, got {self.tile}; try {fit}")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"Tiling.overlap: expected a share of the tile in [0, 1), got {self.overlap}")
        if self.batch < 1:
            raise ValueError(f"Tiling.batch: expected at least 1 tile, got {self.batch}")


@dataclass(frozen=True)
class TestTimeAugmentation:
    """Test-time augmentation: views (flips and scales) of every image or tile that are fused by `weighted_box_fusion`.

    Attributes:
      flip: Adds the mirror image, left to right, of every view.
      scales: Scales of the network's input, whose sides are rounded to multiples of 32 px.
      fusion_threshold: IoU above which boxes of different views are fused.
    """

    __test__ = False  # keeps pytest from collecting this class, whose name starts with "Test"
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    fusion_threshold: float = 0.55


def detect_image(
    detect: ImageDetector,
    image: WindowedImage,
    size: tuple[int, int],
    *,
    tiling: Tiling | None = None,
    augmented: TestTimeAugmentation = TestTimeAugmentation(),
) -> ImageDetections:
    """Return the detections on one image, in px of that image.

    Args:
      detect: Jitted detector from images [b, h, w, 3] uint8 to `Detections`. It is compiled for one shape per view of
        the tiles and one per view of the whole image.
      image: Image, uint8 [height, width, 3]: an array, or an object that is sliced like one. Only windows are read.
      size: Height and width of the network's input for the whole image, px.
      tiling: Options for tiles; None detects on the whole image only. An image that fits one tile is not cut.
      augmented: Test-time augmentation: mirror images and scales.

    Returns:
      Detections, best first.

    Raises:
      ValueError: The image is not an 8-bit RGB image, or a scale is not positive.
    """
    check_image(image)
    whole = views_of(size, augmented.scales, augmented.flip)
    if tiling is None:
        found = [_whole(detect, image, view, 0.0) for view in whole]
    else:
        parts = views_of(tiling.tile, augmented.scales, augmented.flip)
        found = [_tiled(detect, image, *views, tiling) for views in zip(parts, whole, strict=True)]
    return found[0] if len(found) == 1 else weighted_box_fusion(found, threshold=augmented.fusion_threshold)


def _tiled(detect: ImageDetector, image: WindowedImage, part: View, whole: View, tiling: Tiling) -> ImageDetections:
    windows = tile_windows(*check_image(image), tiling.tile, tiling.overlap)
    if len(windows) == 1:  # nothing is merged, so that low scores do no harm
        return by_score(run_pass(detect, image, windows, part, tiling.batch, 0.0)[0])
    found, cut = run_pass(detect, image, windows, part, tiling.batch, tiling.min_score)
    if tiling.full_image:
        full = _whole(detect, image, whole, tiling.min_score)
        found, cut = concatenate([found, full]), np.append(cut, np.zeros(len(full.scores), bool))
    return merge(found, tiling.merge, cut)


def _whole(detect: ImageDetector, image: WindowedImage, view: View, min_score: float) -> ImageDetections:
    small, factor = overview(image, view.size)
    found, _ = run_pass(detect, small, [Window(0, 0, *small.shape[:2])], view, 1, min_score)
    deviation = None if found.deviation is None else found.deviation * factor
    height, width = check_image(image)
    boxes = np.minimum(found.boxes * factor, [width, height, width, height])
    return by_score(found._replace(boxes=boxes, deviation=deviation))
