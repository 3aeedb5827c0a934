"""Augmentation of one training sample: what may happen to it, and the boxes that come out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float64, Int32, UInt8

from data_pipeline.augment.clipping import KeepRule, keep, warped_hulls
from data_pipeline.augment.colour import jitter_hsv
from data_pipeline.augment.geometry import (
    Matrix,
    mirror_x,
    mirror_y,
    perspective,
    rotation,
    scaling,
    shearing,
    sides,
    translation,
)
from data_pipeline.augment.mosaic import TILES, mosaic_placement
from data_pipeline.augment.warp import covers, grey_canvas, paste
from data_pipeline.letterbox import Letterbox, letterbox_of
from data_pipeline.pictures import Pictures


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training samples. Geometry is composed into one warp, so pixels are resampled once.

    Attributes:
      mosaic: probability of joining four images.
      mixup: probability that a mosaic is blended with a second one, by Beta(32, 32).
      hsv: gains of hue, saturation and value: factors are 1 + U(−gain, gain).
      invert: probability of the negative. For thermal images, where an object is warmer or colder than the ground by
        the hour of the day.
      degrees: rotation U(−degrees, degrees).
      translate: shift U(−translate, translate) of the output's width and height.
      scale: zoom U(1 − scale, 1 + scale).
      shear: U(−shear, shear), degrees, per axis.
      perspective: largest relative change of size half an image away from the centre, per axis; at most 0.25.
      flip_lr: probability of a left-right flip.
      flip_ud: probability of an upside-down flip.
      min_side: a box stays if both visible sides are longer than this, px of the output,
      min_visible: and more than this share of its area is visible,
      max_aspect: and its long side is under this many short sides. What remains visible of a box that does not stay
        becomes an ignore region: it is neither object nor background.
    """

    mosaic: float = 1.0
    mixup: float = 0.0
    hsv: tuple[float, float, float] = (0.015, 0.7, 0.4)
    invert: float = 0.0
    degrees: float = 0.0
    translate: float = 0.1
    scale: float = 0.5
    shear: float = 0.0
    perspective: float = 0.0
    flip_lr: float = 0.5
    flip_ud: float = 0.0
    min_side: float = 2.0
    min_visible: float = 0.1
    max_aspect: float = 100.0

    def __post_init__(self) -> None:
        limits = dict.fromkeys(("mosaic", "mixup", "invert", "flip_lr", "flip_ud", "translate", "min_visible"), 1.0)
        limits |= {"scale": 0.99, "perspective": 0.25, "shear": 80.0, "degrees": 180.0, "min_side": math.inf}
        for name, most in limits.items():
            if not 0.0 <= getattr(self, name) <= most:
                raise ValueError(f"Augmentation.{name}: expected a number in [0, {most}], got {getattr(self, name)}")
        if len(self.hsv) != 3 or not all(0.0 <= gain <= 1.0 for gain in self.hsv):
            raise ValueError(f"Augmentation.hsv: expected three gains in [0, 1], got {self.hsv}")

    @property
    def keep_rule(self) -> KeepRule:
        """Which boxes stay labels."""
        return KeepRule(self.min_side, self.min_visible, self.max_aspect)

    @classmethod
    def none(cls) -> "Augmentation":
        """Letterboxing only, and no box is taken away."""
        zeros = dict.fromkeys(("mosaic", "translate", "scale", "flip_lr", "min_side", "min_visible"), 0.0)
        return cls(hsv=(0.0, 0.0, 0.0), max_aspect=math.inf, **zeros)


class Sample(NamedTuple):
    """One unpadded sample.

    Attributes:
      image: RGB.
      boxes: xyxy px of `image`.
      labels: 0-based class index.
      ignore: xyxy px of `image`.
      letterbox: from px of the stored image to px of `image`; (1, 0, 0) where there is no such map.
      unreadable: how many of the images in it could not be read; an ignore region is where each would be.
    """

    image: UInt8[np.ndarray, "H W 3"]
    boxes: Float64[np.ndarray, "n 4"]
    labels: Int32[np.ndarray, "n"]
    ignore: Float64[np.ndarray, "r 4"]
    letterbox: Letterbox
    unreadable: int = 0


def letterboxed(pictures: Pictures, index: int) -> Sample:
    """Image `index` as it is evaluated: letterboxed, no random change, all boxes."""
    example = pictures.annotations(index)
    fit = letterbox_of(example.height, example.width, pictures.size)
    return draw(pictures, [(index, fit.matrix())], Augmentation.none().keep_rule)._replace(letterbox=fit)


def augmented(pictures: Pictures, index: int, augmentation: Augmentation, rng: np.random.Generator) -> Sample:
    """Image `index` as it is trained on; mosaic partners are drawn from all images with the sample's own generator."""
    if rng.random() >= augmentation.mosaic:
        sample = _single(pictures, index, augmentation, rng)
    else:
        sample = _mosaic(pictures, index, augmentation, rng)
        if rng.random() < augmentation.mixup:
            other = _mosaic(pictures, int(rng.integers(len(pictures))), augmentation, rng)
            sample = mix(sample, other, float(rng.beta(32.0, 32.0)))
    image = jitter_hsv(sample.image, augmentation.hsv, rng)
    return sample._replace(image=np.invert(image) if rng.random() < augmentation.invert else image)


def most_boxes(
    counts: np.ndarray, sizes: np.ndarray, index: int, augmentation: Augmentation, rng: np.random.Generator
) -> int:
    """As many boxes as `augmented` can find with an equal generator: those of all images it draws from.

    Args:
      counts: int [N], boxes of every image.
      sizes: int [N, 2], height and width of every image, px.
      index: of the image.
      augmentation: as for `augmented`.
      rng: its numbers are used up as `augmented` does, pixels aside.
    """
    if rng.random() >= augmentation.mosaic:
        return int(counts[index])
    indices = _mosaic_images(len(counts), index, rng)
    if augmentation.mixup:
        _mosaic_matrices(sizes[indices], (1, 1), augmentation, rng)
        if rng.random() < augmentation.mixup:
            indices += _mosaic_images(len(counts), int(rng.integers(len(counts))), rng)
    return int(counts[indices].sum())


def random_warp(
    augmentation: Augmentation, canvas: tuple[int, int], size: tuple[int, int], rng: np.random.Generator
) -> Matrix:
    """Draws the warp from a canvas (height, width) to an output of `size` px.

    In order: centre, perspective, rotation and zoom, shear, shift to the output, flips.
    """
    (canvas_height, canvas_width), (height, width), a = canvas, size, augmentation
    tilt = rng.uniform(-a.perspective, a.perspective, 2) / (0.5 * width, 0.5 * height)
    turn = rng.uniform(-a.degrees, a.degrees)
    zoom = rng.uniform(1.0 - a.scale, 1.0 + a.scale)
    shear_x, shear_y = rng.uniform(-a.shear, a.shear, 2)
    shift_x, shift_y = 0.5 + rng.uniform(-a.translate, a.translate, 2)
    flip_lr, flip_ud = rng.random(2) < (a.flip_lr, a.flip_ud)
    matrix = perspective(*tilt) @ translation(-canvas_width / 2, -canvas_height / 2)
    matrix = shearing(shear_x, shear_y) @ rotation(turn) @ scaling(zoom, zoom) @ matrix
    matrix = translation(shift_x * width, shift_y * height) @ matrix
    matrix = mirror_x(width) @ matrix if flip_lr else matrix
    return mirror_y(height) @ matrix if flip_ud else matrix


def draw(pictures: Pictures, placed: Sequence[tuple[int, Matrix]], rule: KeepRule) -> Sample:
    """Draws images with their boxes on grey.

    Args:
      pictures: source; only images that can be seen in the output are decoded.
      placed: image indices and matrices from px of the stored image to px of the output.
      rule: which boxes stay.
    """
    canvas = grey_canvas(pictures.size)
    boxes, labels, ignore, unreadable = [], [], [], 0
    for index, matrix in placed:
        example = pictures.annotations(index)
        if not covers(example.height, example.width, matrix, pictures.size):
            continue
        picture = pictures.picture(index)
        if picture is None:
            whole = np.array([[0, 0, example.width, example.height]], np.float64)
            ignore.append(warped_hulls(whole, matrix, pictures.size)[1])
            unreadable += 1
            continue
        paste(canvas, picture.image, matrix @ scaling(1.0 / picture.scale, 1.0 / picture.scale), picture.extent)
        hulls, seen = warped_hulls(example.boxes, matrix, pictures.size)
        stays, part = keep(hulls, seen, rule)
        _, regions = warped_hulls(example.ignore, matrix, pictures.size)
        boxes.append(seen[stays])
        labels.append(example.labels[stays])
        ignore += [regions[(sides(regions) > 0.0).all(axis=1)], seen[part]]
    return Sample(
        image=canvas,
        boxes=np.concatenate([np.zeros((0, 4)), *boxes]),
        labels=np.concatenate([np.zeros(0, np.int32), *labels]),
        ignore=np.concatenate([np.zeros((0, 4)), *ignore]),
        letterbox=Letterbox(1.0, 0.0, 0.0),
        unreadable=unreadable,
    )


def mix(first: Sample, second: Sample, share: float) -> Sample:
    """Blends two samples, `share` of the first; boxes and ignore regions of both count in full (MixUp)."""
    return Sample(
        image=cv2.addWeighted(first.image, share, second.image, 1.0 - share, 0.0),
        boxes=np.concatenate([first.boxes, second.boxes]),
        labels=np.concatenate([first.labels, second.labels]),
        ignore=np.concatenate([first.ignore, second.ignore]),
        letterbox=first.letterbox,
        unreadable=first.unreadable + second.unreadable,
    )


def _single(pictures: Pictures, index: int, augmentation: Augmentation, rng: np.random.Generator) -> Sample:
    example = pictures.annotations(index)
    fit = letterbox_of(example.height, example.width, pictures.size).matrix()
    warp = random_warp(augmentation, pictures.size, pictures.size, rng)
    return draw(pictures, [(index, warp @ fit)], augmentation.keep_rule)


def _mosaic(pictures: Pictures, index: int, augmentation: Augmentation, rng: np.random.Generator) -> Sample:
    indices = _mosaic_images(len(pictures), index, rng)
    matrices = _mosaic_matrices(pictures.dataset.table.sizes[indices], pictures.size, augmentation, rng)
    return draw(pictures, list(zip(indices, matrices, strict=True)), augmentation.keep_rule)


def _mosaic_images(count: int, index: int, rng: np.random.Generator) -> list[int]:
    return [index, *rng.integers(count, size=TILES - 1).tolist()]


def _mosaic_matrices(
    sizes: np.ndarray, size: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
) -> list[Matrix]:
    placement = mosaic_placement([(height, width) for height, width in sizes.tolist()], size, rng)
    warp = random_warp(augmentation, (2 * size[0], 2 * size[1]), size, rng)
    return [warp @ at for at in placement]
