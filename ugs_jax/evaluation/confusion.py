"""Confusion matrix with background, and the errors of each image, by `match_any_class`."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ugs_jax.evaluation.matching import Found, Matches, Objects


class ImageErrors(NamedTuple):
    """Outcomes of each image, by number.

    Attributes:
      right: Objects that are detected as their class.
      confused: Objects that are detected as another class.
      missed: Objects that match no detection.
      false: Detections that match no object and lie in no ignore region.
    """

    right: Int[np.ndarray, " images"]
    confused: Int[np.ndarray, " images"]
    missed: Int[np.ndarray, " images"]
    false: Int[np.ndarray, " images"]

    @property
    def total(self) -> Int[np.ndarray, " images"]:
        """Number of errors of each image."""
        return self.confused + self.missed + self.false


def confusion_matrix(
    objects: Objects, found: Found, matches: Matches, classes: int
) -> Int[np.ndarray, "truth predicted"]:
    """Return the numbers of objects (rows) that are detected as each class (columns).

    The last column counts missed objects, and the last row counts detections of background.

    Args:
      objects: Objects of all images.
      found: Detections of all images, above the confidence of interest.
      matches: Matches of these detections from `match_any_class`.
      classes: Number of classes.
    """
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    right, wrong = matches.right, ~matches.right & ~matches.ignored
    np.add.at(matrix, (objects.classes[matches.objects[right]], found.classes[right]), 1)
    matrix[classes, :classes] = np.bincount(found.classes[wrong], minlength=classes)
    matrix[:classes, classes] = np.bincount(objects.classes[missed(objects, matches)], minlength=classes)
    return matrix


def errors_by_image(objects: Objects, found: Found, matches: Matches, images: int) -> ImageErrors:
    """Return the numbers of right, confused, missed and false detections of each image.

    Args:
      objects: Objects of all images.
      found: Detections of all images, above the confidence of interest.
      matches: Matches of these detections from `match_any_class`.
      images: Number of images.
    """
    pairs = np.flatnonzero(matches.right)
    same = found.classes[pairs] == objects.classes[matches.objects[pairs]]
    count = lambda where: np.bincount(where, minlength=images)  # noqa: E731
    return ImageErrors(
        right=count(found.images[pairs[same]]),
        confused=count(found.images[pairs[~same]]),
        missed=count(objects.images[missed(objects, matches)]),
        false=count(found.images[~matches.right & ~matches.ignored]),
    )


def missed(objects: Objects, matches: Matches) -> Int[np.ndarray, " m"]:
    """Return the indices of the objects that match no detection."""
    return np.setdiff1d(np.arange(len(objects.boxes)), matches.objects)
