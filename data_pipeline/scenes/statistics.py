"""Statistics of drone images, counted from the public VisDrone2019-DET-train annotations (6,471 images).

There are 343,204 boxes. Sizes are in px of the original images. `full` scenes follow these numbers. `light` scenes are
a smaller problem of the same kind for a first run on a CPU.
"""

from dataclasses import dataclass

import numpy as np

QUANTILE_LEVELS = (0.01, 0.05, 0.25, 0.50, 0.75, 0.95, 0.99)
OBJECTS_PER_IMAGE_QUANTILES = (4.0, 9.0, 24.0, 42.0, 70.0, 132.0, 211.3)
CLASS_SHARE = {
    "pedestrian": 0.2312,
    "people": 0.0788,
    "bicycle": 0.0305,
    "car": 0.4221,
    "van": 0.0727,
    "truck": 0.0375,
    "tricycle": 0.014,
    "awning-tricycle": 0.0095,
    "bus": 0.0173,
    "motor": 0.0864,
}
MEDIAN_SQRT_AREA = {
    "pedestrian": 17.7,
    "people": 16.5,
    "bicycle": 24.7,
    "car": 33.2,
    "van": 36.8,
    "truck": 46.3,
    "tricycle": 34.5,
    "awning-tricycle": 36.3,
    "bus": 48.8,
    "motor": 22.6,
}


@dataclass(frozen=True)
class SceneStatistics:
    """Distributions from which scenes are drawn.

    Attributes:
      class_share: Share of all objects, by class name.
      median_size: Median √(box area), px, by class name.
      scale_spread: Standard deviation of ln size between images (altitude of the drone).
      scale_by_crowding: Rate at which ln size falls with ln of the number of objects.
      crowded_count: Number of objects at which crowding leaves the medians unchanged.
      size_spread: Standard deviation of ln size within an image.
      perspective: Largest difference in ln size between the bottom and the top of an image.
      size_limits: Smallest and largest √(box area), px.
      count_quantiles: Number of objects per image at `QUANTILE_LEVELS`.
      reference_side: Side of a square, px. In images of smaller area, the counts shrink in proportion to the area.
      far_crowds: Mean number of unlabelled distant crowds per image. They are ignore regions.
    """

    class_share: dict[str, float]
    median_size: dict[str, float]
    scale_spread: float
    scale_by_crowding: float
    crowded_count: float
    size_spread: float
    perspective: float
    size_limits: tuple[float, float]
    count_quantiles: tuple[float, ...]
    reference_side: float
    far_crowds: float

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return tuple(self.class_share)

    def draw_count(self, rng: np.random.Generator, height: int, width: int) -> int:
        """Draw the number of objects of an image of `height` × `width` px from its quantile function."""
        count = np.exp(np.interp(rng.uniform(), QUANTILE_LEVELS, np.log(self.count_quantiles)))
        return max(1, round(float(count) * min(1.0, height * width / self.reference_side**2)))

    def draw_labels(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draw `count` labels according to the shares of the classes, int [count]."""
        share = np.array(list(self.class_share.values()))
        return rng.choice(len(share), size=count, p=share / share.sum())

    def draw_altitude(self, rng: np.random.Generator, count: int) -> float:
        """Draw the common scale of an image. It is log-normal, and smaller for images with many objects."""
        crowding = np.log(max(count, 1) / self.crowded_count)
        return float(np.exp(self.scale_spread * rng.standard_normal() - self.scale_by_crowding * crowding))

    def draw_sizes(self, rng: np.random.Generator, labels: np.ndarray, altitude: float, largest: float) -> np.ndarray:
        """Draw √(box area), px [count], log-normal around the median of the class times the scale of the image."""
        median = np.array(list(self.median_size.values()))[labels]
        within = np.exp(self.size_spread * rng.standard_normal(len(labels)))
        sizes: np.ndarray = np.clip(altitude * median * within, self.size_limits[0], min(self.size_limits[1], largest))
        return sizes


FULL = SceneStatistics(
    class_share=CLASS_SHARE,
    median_size=MEDIAN_SQRT_AREA,
    # The variance of ln size is 0.61 (from the quantiles), of which 0.11 lies between the medians of the classes.
    scale_spread=0.65,
    # Larger than the typical number of objects around an object: crowded scenes reject large objects for lack of room.
    scale_by_crowding=0.3,
    crowded_count=130.0,
    size_spread=0.25,
    perspective=1.2,
    size_limits=(3.0, 240.0),
    count_quantiles=OBJECTS_PER_IMAGE_QUANTILES,
    reference_side=640.0,
    far_crowds=1.2,
)

LIGHT = SceneStatistics(
    class_share={"pedestrian": 0.35, "car": 0.65},
    median_size={"pedestrian": 9.0, "car": 16.0},
    scale_spread=0.18,
    scale_by_crowding=0.0,
    crowded_count=1.0,
    size_spread=0.18,
    perspective=0.3,
    size_limits=(5.0, 40.0),
    count_quantiles=(4.0, 6.0, 10.0, 14.0, 19.0, 26.0, 32.0),
    reference_side=160.0,
    far_crowds=0.0,
)
