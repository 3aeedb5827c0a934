"""Inference on images of any size: tiling, merging, test-time augmentation and fusion; calibration."""

from ugs_jax.inference.calibration import Calibration, SideErrors, calibration, side_errors
from ugs_jax.inference.fusion import weighted_box_fusion
from ugs_jax.inference.image import TestTimeAugmentation, Tiling, detect_image
from ugs_jax.inference.merge import Merge, merge
from ugs_jax.inference.passes import ImageDetector
from ugs_jax.inference.tiles import Window, WindowedImage, tile_starts, tile_windows

__all__ = [
    "Calibration",
    "ImageDetector",
    "Merge",
    "SideErrors",
    "TestTimeAugmentation",
    "Tiling",
    "Window",
    "WindowedImage",
    "calibration",
    "detect_image",
    "merge",
    "side_errors",
    "tile_starts",
    "tile_windows",
    "weighted_box_fusion",
]
