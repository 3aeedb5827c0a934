"""The embedded default data set: procedural aerial scenes that a seed determines, without a download."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from data_pipeline.cache import SourceId, SplitRecipe, fingerprint, open_split
from data_pipeline.dataset import Dataset, Example
from data_pipeline.scenes.render import render_scene
from data_pipeline.scenes.statistics import FULL, LIGHT, SceneStatistics

_VERSION = 3  # increase it whenever the same seed gives a different picture
_JPEG_QUALITY = 95
_SPLITS = ("train", "val")


@dataclass(frozen=True)
class TinyScenes:
    """Procedural aerial scenes with small objects.

    `full` has the ten classes of VisDrone with its object sizes, aspect ratios, class shares and crowding. `light` has
    two classes, and about fourteen objects per image, most of them between 6 and 32 px. A small network learns it on a
    CPU within minutes. Image i of a split depends only on `seed`, the split and i.

    Attributes:
      variant: Statistics of the scenes, `light` or `full`.
      image_size: Height and width of the images, px.
      train_images: Number of images in `train`.
      val_images: Number of images in `val`.
      seed: Seed of all random choices, not negative.
    """

    variant: Literal["light", "full"] = "light"
    image_size: tuple[int, int] = (160, 160)
    train_images: int = 512
    val_images: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
          ValueError: The variant is unknown, a side is below 32 px, a split has no images, or the seed is negative.
        """
        if self.variant not in ("light", "full"):
            raise ValueError(f"variant: expected 'light' or 'full', got {self.variant!r}.")
        if min(self.image_size) < 32:
            raise ValueError(f"image_size: expected sides of at least 32 px, got {self.image_size}.")
        if min(self.train_images, self.val_images) < 1:
            raise ValueError(
                f"train_images, val_images: expected at least 1, got {self.train_images} and {self.val_images}."
            )
        if self.seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {self.seed}.")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names. A label is an index into them."""
        return self._statistics.classes

    def open(self, split: str, cache_dir: Path | None = None) -> Dataset:
        """Open a split. It is rendered once and then read from the cache.

        Args:
          split: Name of the split, `train` or `val`.
          cache_dir: Folder of built data sets. None means the environment variable UGS_CACHE, or else
            `~/.cache/ugs_jax/datasets`.

        Raises:
          ValueError: The split is unknown.
        """
        if split not in _SPLITS:
            raise ValueError(f"split: expected one of {_SPLITS}, got {split!r}.")
        images = self.train_images if split == "train" else self.val_images

        def examples(summary: Counter[str]) -> Iterator[tuple[SourceId, Example]]:
            del summary  # nothing to drop
            for index in range(images):
                yield index, self.example(split, index)

        content = (_VERSION, cv2.__version__, np.__version__, self.variant, self.image_size, images, self.seed)
        recipe = SplitRecipe(
            name="tiny_scenes",
            split=split,
            classes=self.classes,
            category_ids=tuple(range(len(self.classes))),
            fingerprint=fingerprint("tiny_scenes", split, *content),
            examples=examples,
        )
        return open_split(recipe, cache_dir)

    def example(self, split: str, index: int) -> Example:
        """Render image `index` of a split, encoded as JPEG, without the cache.

        Args:
          split: Name of the split, `train` or `val`.
          index: Index of the image, from 0.
        """
        rng = np.random.default_rng([self.seed, _SPLITS.index(split), index])
        scene = render_scene(rng, *self.image_size, self._statistics)
        bgr = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        return Example(
            image=encoded.tobytes(),
            boxes=scene.boxes,
            classes=scene.classes,
            ignore=scene.ignore,
            image_id=index,
            file_name=f"{split}_{index:06d}.jpg",
            height=self.image_size[0],
            width=self.image_size[1],
        )

    @property
    def _statistics(self) -> SceneStatistics:
        return FULL if self.variant == "full" else LIGHT
