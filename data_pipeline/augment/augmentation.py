"""Augmentation of one training sample: the random changes of the image, and the boxes that result."""

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
from data_pipeline.augment.mosaic import TILES, ImageDraw, mosaic_placement
from data_pipeline.augment.warp import covers, grey_canvas, paste
from data_pipeline.letterbox import Letterbox, letterbox_of
from data_pipeline.pictures import Pictures


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training samples.

    All geometric changes are composed into one warp, so that pixels are resampled only once.

    A warped box stays a label if it meets `min_side`, `min_visible` and `max_aspect`. The visible part of any other box
    becomes an ignore region: it is neither object nor background.

    Attributes:
      mosaic: Probability of joining four images.
      mixup: Probability of blending a mosaic with a second one. The weight is drawn from Beta(32, 32).
      hsv: Gains of hue, saturation and value. The factors are drawn from 1 + U(−gain, gain).
      invert: Probability of inverting the image to its negative. This is for thermal images, where the time of day
        decides whether an object is warmer or colder than the ground.
      degrees: Largest rotation, degrees. The angle is drawn from U(−degrees, degrees).
      translate: Largest shift as a share of the output's width and height. It is drawn from U(−translate, translate).
      scale: Largest change of the zoom factor, which is drawn from U(1 − scale, 1 + scale).
      shear: Largest shear angle per axis, degrees. It is drawn from U(−shear, shear).
      perspective: Largest relative change of size half an image away from the centre, per axis. At most 0.25.
      flip_lr: Probability of a left-right flip.
      flip_ud: Probability of an upside-down flip.
      min_side: Length that both visible sides of a label exceed, px of the output.
      min_visible: Share of a label's area that its visible part exceeds.
      max_aspect: Ratio of the long to the short visible side that a label stays below.
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
        for name, limit in limits.items():
            if not 0.0 <= getattr(self, name) <= limit:
                raise ValueError(f"Augmentation.{name}: expected a number in [0, {limit}], got {getattr(self, name)}")
        if len(self.hsv) != 3 or not all(0.0 <= gain <= 1.0 for gain in self.hsv):
            raise ValueError(f"Augmentation.hsv: expected three gains in [0, 1], got {self.hsv}")

    @property
    def keep_rule(self) -> KeepRule:
        """Rule that decides which boxes stay labels."""
        return KeepRule(self.min_side, self.min_visible, self.max_aspect)

    @classmethod
    def none(cls) -> "Augmentation":
        """Return an augmentation that only letterboxes images and keeps every box."""
        zeros = dict.fromkeys(("mosaic", "translate", "scale", "flip_lr", "min_side", "min_visible"), 0.0)
        return cls(hsv=(0.0, 0.0, 0.0), max_aspect=math.inf, **zeros)


class Sample(NamedTuple):
    """One unpadded sample.

    Attributes:
      image: RGB image.
      boxes: Boxes, xyxy px of `image`.
      classes: 0-based class index of every box.
      ignore: Ignore regions, xyxy px of `image`.
      letterbox: Map from px of the stored image to px of `image`, or (1, 0, 0) if the sample was not letterboxed.
      unreadable: Number of its source images that could not be read. An ignore region marks the place of each.
    """

    image: UInt8[np.ndarray, "H W 3"]
    boxes: Float64[np.ndarray, "n 4"]
    classes: Int32[np.ndarray, "n"]
    ignore: Float64[np.ndarray, "r 4"]
    letterbox: Letterbox
    unreadable: int = 0


def letterboxed(pictures: Pictures, index: int) -> Sample:
    """Return image `index` as an evaluation sees it: letterboxed, with all boxes and without random changes."""
    example = pictures.annotations(index)
    fit = letterbox_of(example.height, example.width, pictures.size)
    return draw(pictures, [(index, fit.matrix())], Augmentation.none().keep_rule)._replace(letterbox=fit)


def augmented(
    pictures: Pictures,
    index: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
    others: ImageDraw | None = None,
) -> Sample:
    """Return image `index` as training sees it, with random changes.

    Args:
      pictures: Source of the images.
      index: Index of the image.
      augmentation: Random changes.
      rng: Generator that draws all changes, and the other images of a mosaic.
      others: Choice of the other images of a mosaic; None draws all images with equal probability.
    """
    others = others or ImageDraw(len(pictures))
    if rng.random() >= augmentation.mosaic:
        sample = _single(pictures, index, augmentation, rng)
    else:
        sample = _mosaic(pictures, index, augmentation, rng, others)
        if rng.random() < augmentation.mixup:
            (second,) = others(rng)
            other = _mosaic(pictures, second, augmentation, rng, others)
            sample = mix(sample, other, float(rng.beta(32.0, 32.0)))
    image = jitter_hsv(sample.image, augmentation.hsv, rng)
    return sample._replace(image=np.invert(image) if rng.random() < augmentation.invert else image)


def most_boxes(
    counts: np.ndarray,
    sizes: np.ndarray,
    index: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
    others: ImageDraw | None = None,
) -> int:
    """Return an upper bound of the number of boxes that `augmented` yields with an equal generator.

    The bound is the number of boxes in all images that `augmented` draws from.

    Args:
      counts: Number of boxes of every image, int [N].
      sizes: Height and width of every image, px, int [N, 2].
      index: Index of the image.
      augmentation: Augmentation that is passed to `augmented`.
      rng: Generator in the state in which `augmented` receives it. The numbers that choose images are drawn alike.
      others: Choice that is passed to `augmented`.
    """
    others = others or ImageDraw(len(counts))
    if rng.random() >= augmentation.mosaic:
        return int(counts[index])
    indices = [index, *others(rng, TILES - 1)]
    if augmentation.mixup:
        _mosaic_matrices(sizes[indices], (1, 1), augmentation, rng)
        if rng.random() < augmentation.mixup:
            indices += [*others(rng), *others(rng, TILES - 1)]
    return int(counts[indices].sum())


def random_warp(
    augmentation: Augmentation, canvas: tuple[int, int], size: tuple[int, int], rng: np.random.Generator
) -> Matrix:
    """Draw a random warp from a canvas of (height, width) px to an output of `size` px.

    The steps in order are: centre, perspective, rotation and zoom, shear, shift to the output, flips.
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
    """Draw warped images and their boxes on a grey canvas.

    Args:
      pictures: Source of the images. Only images that are visible in the output are decoded.
      placed: Index of every image, and its matrix from px of the stored image to px of the output.
      rule: Rule that decides which boxes stay labels.
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
        labels.append(example.classes[stays])
        ignore += [regions[(sides(regions) > 0.0).all(axis=1)], seen[part]]
    return Sample(
        image=canvas,
        boxes=np.concatenate([np.zeros((0, 4)), *boxes]),
        classes=np.concatenate([np.zeros(0, np.int32), *labels]),
        ignore=np.concatenate([np.zeros((0, 4)), *ignore]),
        letterbox=Letterbox(1.0, 0.0, 0.0),
        unreadable=unreadable,
    )


def mix(first: Sample, second: Sample, share: float) -> Sample:
    """Blend two samples with weight `share` for the first (MixUp). All boxes and ignore regions of both are kept."""
    return Sample(
        image=cv2.addWeighted(first.image, share, second.image, 1.0 - share, 0.0),
        boxes=np.concatenate([first.boxes, second.boxes]),
        classes=np.concatenate([first.classes, second.classes]),
        ignore=np.concatenate([first.ignore, second.ignore]),
        letterbox=first.letterbox,
        unreadable=first.unreadable + second.unreadable,
    )


def _single(pictures: Pictures, index: int, augmentation: Augmentation, rng: np.random.Generator) -> Sample:
    example = pictures.annotations(index)
    fit = letterbox_of(example.height, example.width, pictures.size).matrix()
    warp = random_warp(augmentation, pictures.size, pictures.size, rng)
    return draw(pictures, [(index, warp @ fit)], augmentation.keep_rule)


def _mosaic(
    pictures: Pictures, index: int, augmentation: Augmentation, rng: np.random.Generator, others: ImageDraw
) -> Sample:
    indices = [index, *others(rng, TILES - 1)]
    matrices = _mosaic_matrices(pictures.dataset.table.sizes[indices], pictures.size, augmentation, rng)
    return draw(pictures, list(zip(indices, matrices, strict=True)), augmentation.keep_rule)


def _mosaic_matrices(
    sizes: np.ndarray, size: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
) -> list[Matrix]:
    placement = mosaic_placement([(height, width) for height, width in sizes.tolist()], size, rng)
    warp = random_warp(augmentation, (2 * size[0], 2 * size[1]), size, rng)
    return [warp @ matrix for matrix in placement]
