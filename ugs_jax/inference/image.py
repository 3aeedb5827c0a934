"""Detections on an image of any size: whole, in tiles, mirrored, at several scales."""

from dataclasses import dataclass, field

import numpy as np

from ugs_jax.inference.found import Found, by_score, concatenate
from ugs_jax.inference.fusion import weighted_box_fusion
from ugs_jax.inference.merge import Merge, merge
from ugs_jax.inference.passes import Detect, View, run_pass, views_of
from ugs_jax.inference.tiles import Window, WindowedImage, check_image, overview, tile_windows


@dataclass(frozen=True)
class Tiling:
    """How a large image is cut up and put together again.

    Attributes:
      tile: height and width of a tile, px of the image and of the network's input at scale 1; multiples of 32.
      overlap: share of a tile, at least, that neighbours share; an object up to that long is whole in one tile.
      batch: tiles that the network sees at once.
      full_image: whether the image is looked at as a whole too, for objects larger than a tile.
      min_score: detections that score no more are dropped before they are merged: by intersection over the smaller box,
        a poor large box matches every object inside it.
      merge: how detections of overlapping tiles become one.
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
    """At what the network looks of every image or tile; what it finds there is fused (`weighted_box_fusion`).

    Attributes:
      flip: also at the mirror image, left to right.
      scales: of the network's input, rounded to multiples of 32 px.
      fusion_threshold: IoU above which boxes of different views are one.
    """

    __test__ = False  # the name is no test's, whatever pytest makes of it
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    fusion_threshold: float = 0.55


def detect_image(
    detect: Detect,
    image: WindowedImage,
    size: tuple[int, int],
    *,
    tiling: Tiling | None = None,
    augmented: TestTimeAugmentation = TestTimeAugmentation(),
) -> Found:
    """Detections on one image, in its px.

    Args:
      detect: jitted detector, images [b, h, w, 3] uint8 to `Detections`; it meets one shape for each view of the tiles
        and one for each view of the whole.
      image: uint8 [height, width, 3]; an array, or anything that is sliced like one, of which only windows are read.
      size: height and width of the network's input for the whole image, px.
      tiling: how the image is cut up; None looks only at the whole. An image no larger than a tile is not cut up.
      augmented: mirror images and scales.

    Returns:
      Best first.

    Raises:
      ValueError: no 8-bit RGB image, or scales that are not positive.
    """
    check_image(image)
    whole = views_of(size, augmented.scales, augmented.flip)
    if tiling is None:
        found = [_whole(detect, image, view, 0.0) for view in whole]
    else:
        parts = views_of(tiling.tile, augmented.scales, augmented.flip)
        found = [_tiled(detect, image, *views, tiling) for views in zip(parts, whole, strict=True)]
    return found[0] if len(found) == 1 else weighted_box_fusion(found, threshold=augmented.fusion_threshold)


def _tiled(detect: Detect, image: WindowedImage, part: View, whole: View, tiling: Tiling) -> Found:
    windows = tile_windows(*check_image(image), tiling.tile, tiling.overlap)
    found = [run_pass(detect, image, windows, part, tiling.batch, tiling.min_score)]
    if len(windows) == 1:
        return by_score(found[0])
    if tiling.full_image:
        found.append(_whole(detect, image, whole, tiling.min_score))
    return merge(concatenate(found), tiling.merge)


def _whole(detect: Detect, image: WindowedImage, view: View, min_score: float) -> Found:
    small, factor = overview(image, view.size)
    found = run_pass(detect, small, [Window(0, 0, *small.shape[:2])], view, 1, min_score)
    deviation = None if found.deviation is None else found.deviation * factor
    height, width = check_image(image)
    boxes = np.minimum(found.boxes * factor, [width, height, width, height])
    return by_score(found._replace(boxes=boxes, deviation=deviation))
