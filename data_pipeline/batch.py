"""The padded batch: what the loader yields and everything downstream consumes."""

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """Fixed-shape training or evaluation batch, a pytree of NumPy arrays with leading axis B.

    Boxes are `xyxy` in px of `images` (x right, y down, edges continuous: pixel k spans [k, k+1]).

    Attributes:
      images: uint8 [B, H, W, 3], RGB.
      boxes: float32 [B, M, 4] xyxy px; zeros where `mask` is False.
      labels: int32 [B, M], 0-based class index; 0 where `mask` is False.
      mask: bool [B, M], True for real boxes.
      ignore: float32 [B, R, 4] xyxy px, regions that are neither object nor background.
      ignore_mask: bool [B, R], True for real regions.
      image_id: int32 [B], index of the record in its split (of a training mosaic: the first image's).
      original_size: int32 [B, 2], height and width of the stored image, px.
      letterbox: float32 [B, 3], scale, pad_x, pad_y with `batch_xy = original_xy * scale + pad`; (1, 0, 0) where
        there is no such map (training with a random warp).
      valid: bool [B], False for the rows that pad the last evaluation batch, and for images that cannot be read there.
    """

    images: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    mask: np.ndarray
    ignore: np.ndarray
    ignore_mask: np.ndarray
    image_id: np.ndarray
    original_size: np.ndarray
    letterbox: np.ndarray
    valid: np.ndarray
