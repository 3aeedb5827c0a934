"""The losses of `ugs_jax.losses` in PyTorch, with Hessians as PyTorch users would compute them; for `hessian` only."""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


def iou_loss(box: Tensor, target: Tensor) -> Tensor:
    """Return 1 − IoU of one box, xyxy."""
    return 1 - _iou(box, target)


def log_iou(box: Tensor, target: Tensor) -> Tensor:
    """Return −ln IoU of one box, xyxy."""
    return -torch.log(_iou(box, target))


def giou(box: Tensor, target: Tensor) -> Tensor:
    """Return the GIoU loss of one box, xyxy."""
    inter, union = _areas(box, target)
    outer = _outer(box, target)
    hull = outer[0] * outer[1]
    return 1 - inter / union + (hull - union) / hull


def diou(box: Tensor, target: Tensor) -> Tensor:
    """Return the DIoU loss of one box, xyxy."""
    shift = (box[:2] + box[2:] - target[:2] - target[2:]) / 2
    return 1 - _iou(box, target) + (shift**2).sum() / (_outer(box, target) ** 2).sum()


def ciou(box: Tensor, target: Tensor) -> Tensor:
    """Return the CIoU loss of one box, xyxy. α is a constant for derivatives."""
    v = 4 / math.pi**2 * (_angle(box) - _angle(target)) ** 2
    alpha = (v / (1 - _iou(box, target) + v + 1e-7)).detach()
    return diou(box, target) + alpha * v


def nwd(box: Tensor, target: Tensor) -> Tensor:
    """Return the NWD loss of one box, xyxy, with the constant 12.8 px."""
    shift, growth = (box[:2] + box[2:] - target[:2] - target[2:]) / 2, (box[2:] - box[:2] - target[2:] + target[:2]) / 2
    return 1 - torch.exp(-torch.sqrt((shift**2).sum() + (growth**2).sum()) / 12.8)


def dotd(box: Tensor, target: Tensor) -> Tensor:
    """Return the DotD loss of one box, xyxy, with the constant 12.7 px."""
    shift = (box[:2] + box[2:] - target[:2] - target[2:]) / 2
    return 1 - torch.exp(-torch.linalg.vector_norm(shift) / 12.7)


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return the cross entropy of one box's logits with a distribution."""
    return -(label * torch.log_softmax(logits, 0)).sum()


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of one box's logits."""
    log_p = torch.log_softmax(logits, 0)
    return -(log_p.exp() * log_p).sum()


def normalised_entropy(logits: Tensor) -> Tensor:
    """Return the entropy of one box's logits over its largest value."""
    return entropy(logits) / math.log(len(logits))


def entropy_gap(logits: Tensor, label: Tensor) -> Tensor:
    """Return the absolute difference of the entropies of one box's logits and of its label."""
    return (entropy(logits) + torch.special.xlogy(label, label).sum()).abs()


LOSSES: dict[str, Callable[..., Tensor]] = {
    **{f.__name__: f for f in (iou_loss, log_iou, giou, diou, ciou, nwd, dotd)},
    "l1": functools.partial(torch.nn.functional.l1_loss, reduction="sum"),
    "l2": functools.partial(torch.nn.functional.mse_loss, reduction="sum"),
    "smooth_l1": functools.partial(torch.nn.functional.smooth_l1_loss, reduction="sum"),
    "distribution_focal": cross_entropy,
    "interval_cross_entropy": cross_entropy,
    **{f.__name__: f for f in (entropy, normalised_entropy, entropy_gap)},
}
"""Losses of one box. Those of labels take the label's distribution instead of its offset."""


def compute(loss: str, given: Sequence[np.ndarray], threads: int | None) -> Callable[[], Tensor]:
    """Return a function that computes the Hessians of all boxes by the first argument, and waits for them.

    It runs on a GPU if PyTorch has one.

    Args:
      loss: Name of the loss.
      given: Arguments of the loss, [count, …].
      threads: Number of threads of PyTorch; None leaves it unchanged.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    mapped = torch.func.vmap(torch.func.hessian(LOSSES[loss]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tensors = [torch.tensor(values, device=device) for values in given]

    def call() -> Tensor:
        found = mapped(*tensors)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return found

    return call


def _iou(box: Tensor, target: Tensor) -> Tensor:
    inter, union = _areas(box, target)
    return inter / union


def _areas(box: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return intersection and union, px²."""
    sides = (torch.minimum(box[2:], target[2:]) - torch.maximum(box[:2], target[:2])).clamp(min=0)
    inter = sides[0] * sides[1]
    own, wanted = box[2:] - box[:2], target[2:] - target[:2]
    return inter, own[0] * own[1] + wanted[0] * wanted[1] - inter


def _outer(box: Tensor, target: Tensor) -> Tensor:
    """Return the sides of the smallest box around both, px."""
    return torch.maximum(box[2:], target[2:]) - torch.minimum(box[:2], target[:2])


def _angle(box: Tensor) -> Tensor:
    return torch.atan2(box[2] - box[0], box[3] - box[1])
