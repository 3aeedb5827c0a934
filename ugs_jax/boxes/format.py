"""Box formats. Inside the project every box is xyxy in px: x to the right, y down, continuous edges."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Real

from ugs_jax.numerics import COORDINATE_LIMIT, Scalar, narrow, widen

ImageSize = Real[Array | np.ndarray, "... two"] | tuple[Scalar, Scalar]


def cxcywh_to_xyxy(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Turn centre and sides into corners; px in, px out.

    Example:
      >>> import jax.numpy as jnp
      >>> print(cxcywh_to_xyxy(jnp.array([5.0, 5.0, 4.0, 2.0])))
      [3. 4. 7. 6.]
    """
    (wide,) = widen(boxes)
    center, half = wide[..., :2], wide[..., 2:] / 2
    return narrow(jnp.concatenate([center - half, center + half], axis=-1), boxes)


def xyxy_to_cxcywh(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Turn corners into centre and sides; px in, px out. A reversed box keeps its negative sides."""
    (wide,) = widen(boxes)
    low, high = wide[..., :2], wide[..., 2:]
    return narrow(jnp.concatenate([(low + high) / 2, high - low], axis=-1), boxes)


def xywh_to_xyxy(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Turn the left top corner and sides (the COCO format) into corners; px in, px out."""
    (wide,) = widen(boxes)
    return narrow(jnp.concatenate([wide[..., :2], wide[..., :2] + wide[..., 2:]], axis=-1), boxes)


def xyxy_to_xywh(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Turn corners into the left top corner and sides (the COCO format); px in, px out."""
    (wide,) = widen(boxes)
    return narrow(jnp.concatenate([wide[..., :2], wide[..., 2:] - wide[..., :2]], axis=-1), boxes)


def corners(
    boxes: Float[Array, "*batch 4"],
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"], Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Split xyxy boxes (px) into x1, y1, x2, y2 in at least float32, clipped to ±`numerics.COORDINATE_LIMIT`."""
    (wide,) = widen(boxes)
    wide = jnp.clip(wide, -COORDINATE_LIMIT, COORDINATE_LIMIT)
    return wide[..., 0], wide[..., 1], wide[..., 2], wide[..., 3]


def center_and_sides(boxes: Float[Array, "*batch 4"]) -> tuple[Float[Array, "*batch 2"], Float[Array, "*batch 2"]]:
    """Return centres (x, y) and sides (w, h) of xyxy boxes, px, from `corners`; a reversed box has negative sides."""
    x1, y1, x2, y2 = corners(boxes)
    return jnp.stack([(x1 + x2) / 2, (y1 + y2) / 2], axis=-1), jnp.stack([x2 - x1, y2 - y1], axis=-1)


def area(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch"]:
    """Return the area of xyxy boxes, px²; a reversed box (x2 < x1 or y2 < y1) is empty.

    Example:
      >>> import jax.numpy as jnp
      >>> print(area(jnp.array([[0.0, 0.0, 4.0, 3.0], [4.0, 0.0, 0.0, 3.0]])))
      [12.  0.]
    """
    x1, y1, x2, y2 = corners(boxes)
    return narrow(jnp.maximum(x2 - x1, 0.0) * jnp.maximum(y2 - y1, 0.0), boxes)


def clip_to_image(boxes: Float[Array, "*batch 4"], image_size: ImageSize) -> Float[Array, "*batch 4"]:
    """Move the corners that lie outside the image onto its border.

    Args:
      boxes: Boxes, xyxy, px.
      image_size: Height and width, px: a tuple, or an array `[..., 2]` that broadcasts against the batch axes.

    Returns:
      Boxes with x in [0, width] and y in [0, height].

    Raises:
      ValueError: The last axis of `image_size` does not have length 2.

    Example:
      >>> import jax.numpy as jnp
      >>> print(clip_to_image(jnp.array([-3.0, 2.0, 50.0, 60.0]), (40, 30)))
      [ 0.  2. 30. 40.]
    """
    wide, size = widen(boxes, jnp.asarray(image_size))
    if size.shape[-1:] != (2,):
        raise ValueError(f"image_size: expected (height, width) on the last axis, got shape {size.shape}")
    limit = jnp.concatenate([size[..., ::-1], size[..., ::-1]], axis=-1)
    return narrow(jnp.clip(wide, 0.0, limit), boxes)
