"""UGS on the distances to the four sides, for detectors without anchors."""

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ugs_jax import boxes as bx
from ugs_jax.labels import deviation, variance
from ugs_jax.numerics import root
from ugs_jax.objectives.grids import AnyGrid, FittedGrid, GridPoints
from ugs_jax.objectives.interval import IntervalObjective
from ugs_jax.objectives.sides import SIDES, box_at, distances, in_px, layer_of_distances
from ugs_jax.objectives.start_layer import resampled_layer

SIDE_POINTS = GridPoints(
    (-1.0, *np.arange(0, 1, 0.25).tolist(), *np.arange(1, 3, 0.5).tolist(), *map(float, range(3, 17)))
)
"""Default grid of distances, in strides: −1, then steps of ¼ to 1, of ½ to 3 and of 1 to 16.

Sides of small objects lie within 2 strides of the cell's centre, so the points are dense there. One point below 0 is
enough: if a box does not contain the centre, its nearest side is usually less than one stride away. All points of
published heads, 0 to 15, are in the grid. Their distributions are narrow, and a coarser grid would miss them.
"""


@dataclass(frozen=True)
class SideUGS(IntervalObjective):
    """UGS on distances from the anchor's centre to the left, upper, right and lower side, as distributions over a grid.

    The loss is that of `UGS`. The anchor's sides are not used. Each side has its own distribution, so a side that is
    hidden can be uncertain while the others are not. The localization layer can start from the published layer of
    YOLOv8, YOLO11 or YOLO26 (`layer_from_distribution`), or from that of YOLOv5.

    Attributes:
      grid: Grid of the distances, in units (strides): `Grid`, `GridPoints` or `FittedGrid`.
      um: Uncertainty minimisation, or None.
      refinement: Uncertainty-guided refinement, or None.
      weight: Weight of cross entropy and UM.
      box_loss: Loss on the decoded box.
      box_weight: Weight of `box_loss`; 0 leaves it out.
      second_stage: Second localization stage, or None.
      quality: Quality predictor, or None.
    """

    grid: AnyGrid = SIDE_POINTS

    def fit(self, anchors: bx.Anchors, targets: Float[np.ndarray, "n 4"]) -> "SideUGS":
        """Return the same objective with its `FittedGrid` fitted to the distances of all four sides.

        Args:
          anchors: Anchor of every target, px.
          targets: Sample of target boxes, xyxy px.

        Raises:
          ValueError: The targets do not define a grid.
        """
        if not isinstance(self.grid, FittedGrid):
            return self
        return replace(self, grid=self.grid.fit(np.asarray(distances(anchors, jnp.asarray(targets)))))

    @property
    def parameters(self) -> tuple[str, str, str, str]:
        """Names of the box parameters: distances from the anchor's centre to the sides, in units."""
        return SIDES

    @property
    def decoding(self) -> str:
        """Meaning of the raw outputs: what `decode` depends on, and nothing else."""
        return f"SideUGS(grid={self.grid})"

    def deviation(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the standard deviation of each side (x1, y1, x2, y2), px, computed as if sides could cross."""
        return in_px(deviation(self.probabilities(raw), self.grid.points()), anchors)

    def spread(self, raw: Float[Array, "*batch outputs"], anchors: bx.Anchors) -> Float[Array, "*batch 4"]:
        """Return the spread of each side (x1, y1, x2, y2), px, computed as if sides could cross."""
        return in_px(root(variance(self.probabilities(raw), self.grid.points())), anchors)

    def layer_from_regression(
        self,
        kernel: Float[np.ndarray, "c a 4"],
        bias: Float[np.ndarray, "a 4"],
        published_anchors: Float[np.ndarray, "a 2"],
        anchors: Float[np.ndarray, "a 2"],
        stride: int,
        width: Float[np.ndarray, "4"],
    ) -> tuple[Float[np.ndarray, "c a outputs"], Float[np.ndarray, "a outputs"]]:
        """Return kernel and bias of a layer that decodes like a regression layer; see `StartsFromRegression`."""
        return layer_of_distances(self.grid.points(), kernel, bias, published_anchors, stride, width)

    def layer_from_distribution(
        self,
        kernel: Float[np.ndarray, "c a published"],
        bias: Float[np.ndarray, "a published"],
        points: Float[np.ndarray, "k"],
    ) -> tuple[Float[np.ndarray, "c a outputs"], Float[np.ndarray, "a outputs"]]:
        """Return kernel and bias of a layer that decodes like a layer of DFL; see `StartsFromDistribution`."""
        return resampled_layer(kernel, bias, points, self.grid.points())

    @property
    def _grids(self) -> tuple[AnyGrid, AnyGrid, AnyGrid, AnyGrid]:
        return self.grid, self.grid, self.grid, self.grid

    def _targets(self, anchors: bx.Anchors, boxes: Array) -> Array:
        return distances(anchors, boxes)

    def _boxes(self, parameters: Array, anchors: bx.Anchors) -> Array:
        return box_at(parameters, anchors)
