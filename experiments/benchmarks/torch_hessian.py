"""−ln IoU and CIoU in PyTorch, with Hessians as PyTorch users would compute them; for `benchmarks.hessian` only."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def log_iou(box: Tensor, target: Tensor) -> Tensor:
    """Return −ln IoU of one box, xyxy."""
    inter, union = _areas(box, target)
    return -torch.log(inter / union)


def ciou(box: Tensor, target: Tensor) -> Tensor:
    """Return the CIoU loss of one box, xyxy. α is a constant for derivatives."""
    inter, union = _areas(box, target)
    iou = inter / union
    shift = (box[:2] + box[2:] - target[:2] - target[2:]) / 2
    outer = torch.maximum(box[2:], target[2:]) - torch.minimum(box[:2], target[:2])
    v = 4 / math.pi**2 * (_angle(box) - _angle(target)) ** 2
    alpha = (v / (1 - iou + v + 1e-7)).detach()
    return 1 - iou + (shift**2).sum() / (outer**2).sum() + alpha * v


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"log_iou": log_iou, "ciou": ciou}


def compute(loss: str, boxes: np.ndarray, targets: np.ndarray, chunk: int, threads: int | None) -> Callable[[], Tensor]:
    """Return a function that computes all Hessians and waits for them. It runs on a GPU if PyTorch has one.

    Args:
      loss: Name of the loss.
      boxes: Predictions, xyxy px.
      targets: Targets, xyxy px.
      chunk: Number of boxes that are mapped over at once.
      threads: Number of threads of PyTorch; None leaves it unchanged.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    mapped = torch.func.vmap(torch.func.hessian(LOSSES[loss]), chunk_size=chunk)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    given = torch.tensor(boxes, device=device), torch.tensor(targets, device=device)

    def call() -> Tensor:
        result = mapped(*given)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return result

    return call


def _areas(box: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return intersection and union, px²."""
    sides = (torch.minimum(box[2:], target[2:]) - torch.maximum(box[:2], target[:2])).clamp(min=0)
    inter = sides[0] * sides[1]
    own, wanted = box[2:] - box[:2], target[2:] - target[:2]
    return inter, own[0] * own[1] + wanted[0] * wanted[1] - inter


def _angle(box: Tensor) -> Tensor:
    return torch.atan2(box[2] - box[0], box[3] - box[1])
