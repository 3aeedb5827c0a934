"""Base of all networks: names, sizes and levels, and the functions that a `Detector` calls."""

import math
from collections.abc import Mapping
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from ugs_jax.detectors.levels import Level, Localizer
from ugs_jax.detectors.network_options import SCALES, NetworkOptions, Scale, Size


class Network(nnx.Module):
    """Backbone, neck and heads: `[B,H,W,3]` in 0…1 with H, W multiples of 32 → a `Level` for every stride.

    A subclass is built from `NetworkOptions` and `rngs`, and has a list `heads`, one for every level, finest first.
    """

    name = ""
    """Name in configs and files of weights."""
    anchors_per_cell = 3
    """Number of anchors per cell of the published network."""
    has_objectness = True
    """True if heads predict whether there is an object, besides its classes."""
    random = False
    """If True, the network drops units at random in training."""
    has_p2: bool | None = None
    """True or False if the network exists only with or only without the stride-4 level, None if it exists with both."""
    title, variant = "", ""
    """Words of the display name before and after the size."""
    scales: Mapping[str, Scale] = SCALES
    """Depth and width of every size."""
    heads: Any

    def __init__(self, arch: NetworkOptions, *, rngs: nnx.Rngs) -> None:
        raise NotImplementedError

    @classmethod
    def family(cls) -> type["Network"]:
        """Return the class below `Network` that this one is derived from. Layers of one family fit each other."""
        return next(base for base in cls.__mro__ if Network in base.__bases__)

    @classmethod
    def display_name(cls, size: Size, p2: bool, p2_joins: bool = True) -> str:
        """Return the display name: `YOLOv5n`, `YOLOv5s-P2`, `YOLOv5s+P2`, `TPH-YOLOv5x`, `TPH-YOLOv5l (cbam)`."""
        level = ("-P2" if p2_joins else "+P2") if p2 and cls.has_p2 is None else ""
        return f"{cls.title}{size}{cls.variant}{level}"

    @classmethod
    def check_levels(cls, p2: bool, p2_joins: bool = True) -> None:
        """Check that the network exists with (or without) the stride-4 level.

        Raises:
          ValueError: `p2` or `p2_joins` does not suit the network.
        """
        if cls.has_p2 and not p2_joins:
            raise ValueError(
                f"expected p2_joins=True, got False: {cls.name} was published with P2 only; set p2_joins=True"
            )
        if cls.has_p2 is not None and p2 != cls.has_p2:
            level = "no" if p2 else "a"
            raise ValueError(
                f"expected p2={not p2}, got p2={p2}: {cls.name} has {level} head at stride 4; set p2={not p2}"
            )

    def maps(self, images: Float[Array, "b h w 3"], key: Array | None = None) -> list[Array]:
        """Return the inputs of the heads, finest first, [b, h, w, c].

        Args:
          images: Images with values 0…1.
          key: Key of the units that are dropped at random in training, or None.
        """
        raise NotImplementedError

    def __call__(self, images: Float[Array, "b h w 3"], key: Array | None = None) -> tuple[Level, ...]:
        """Run the network.

        Args:
          images: Images with values 0…1.
          key: Key of random blocks in training. Without a key the network is deterministic.

        Raises:
          ValueError: Height or width is not a multiple of 32, so that the maps of the levels do not fit together.
        """
        height, width = images.shape[1:3]
        if height % 32 or width % 32:
            fit = tuple(math.ceil(side / 32) * 32 for side in (height, width))
            raise ValueError(
                f"images: expected height and width that are multiples of 32, got {height}×{width}; "
                f"letterbox or pad them, for instance to {fit[0]}×{fit[1]}"
            )
        return tuple(head(x) for head, x in zip(self.heads, self.maps(images, key), strict=True))

    def localizers(self) -> tuple[Localizer, ...]:
        """Return the localization layers of every level, finest first."""
        return tuple(head.localizer() for head in self.heads)
