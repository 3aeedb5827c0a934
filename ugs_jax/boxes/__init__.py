"""Boxes: formats, overlap, offsets from anchors, non-maximum suppression, voting.

Boxes are xyxy in px unless a name says otherwise.
"""

from ugs_jax.boxes.codec import Anchors, decode, encode
from ugs_jax.boxes.format import (
    area,
    center_and_sides,
    clip_to_image,
    corners,
    cxcywh_to_xyxy,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)
from ugs_jax.boxes.nms import Kept, non_maximum_suppression
from ugs_jax.boxes.overlap import enclosing_box, intersection, iou, pairwise_coverage, pairwise_iou, union
from ugs_jax.boxes.voting import score_voting, variance_voting

__all__ = [
    "Anchors",
    "Kept",
    "area",
    "center_and_sides",
    "clip_to_image",
    "corners",
    "cxcywh_to_xyxy",
    "decode",
    "enclosing_box",
    "encode",
    "intersection",
    "iou",
    "non_maximum_suppression",
    "pairwise_coverage",
    "pairwise_iou",
    "score_voting",
    "union",
    "variance_voting",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh",
    "xyxy_to_xywh",
]
