"""The padded batch that the loader yields and that training and evaluation consume."""

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """Fixed-shape training or evaluation batch, a pytree of NumPy arrays with leading axis B.

    Boxes are `xyxy` in px of `images` (x right, y down, edges continuous: pixel k spans [k, k+1]).

    Attributes:
      images: RGB images, uint8 [B, H, W, 3].
      boxes: Boxes, float32 [B, M, 4] xyxy px. Zeros where `mask` is False.
      classes: 0-based class indices, int32 [B, M]. Zero where `mask` is False.
      mask: True for real boxes, bool [B, M].
      ignore: Regions that are neither object nor background, float32 [B, R, 4] xyxy px.
      ignore_mask: True for real regions, bool [B, R].
      image_id: Index of the record in its split, int32 [B]. For a training mosaic, the index of the first image.
      original_size: Height and width of the stored image, px, int32 [B, 2].
      letterbox: Scale, pad_x and pad_y with `batch_xy = original_xy * scale + pad`, float32 [B, 3]. (1, 0, 0) in
        training, where a random warp takes the place of this map.
      valid: False for rows that pad the last evaluation batch and for evaluation images that cannot be read, bool [B].
    """

    images: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    mask: np.ndarray
    ignore: np.ndarray
    ignore_mask: np.ndarray
    image_id: np.ndarray
    original_size: np.ndarray
    letterbox: np.ndarray
    valid: np.ndarray
