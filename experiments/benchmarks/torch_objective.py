"""Training objective with CIoU in PyTorch, equal to `ugs_jax.training.objective`; for `benchmarks.train_step` only.

Boxes are padded as there, so that `torch.compile` sees static shapes: B images, M boxes, three cells for each box, and
A anchors for each cell.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from experiments.benchmarks.torch_yolov5 import Level
from ugs_jax.detectors import Architecture
from ugs_jax.experiment import LossWeights

_WEIGHTS = {3: (4.0, 1.0, 0.4), 4: (4.0, 1.0, 0.25, 0.06)}
_SHORTEST = 1e-3  # px; shorter sides are lengthened to this


class TorchBatch(NamedTuple):
    """Arrays of a `data_pipeline.Batch` that a step uses.

    Attributes:
      images: Images, uint8 [B, 3, H, W], channels-last in memory.
      boxes: Boxes, [B, M, 4] xyxy px.
      labels: Class indices, int64 [B, M].
      mask: True for boxes, False for padding, bool [B, M].
      ignore: Ignore regions, [B, R, 4] xyxy px.
      ignore_mask: True for regions, False for padding, bool [B, R].
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    mask: Tensor
    ignore: Tensor
    ignore_mask: Tensor


class Candidates(NamedTuple):
    """Cells of one level that may learn a box.

    Attributes:
      cell: Cell index row · width + column, int64 [B, 3M].
      center: Centre of the cell, [B, M, 3, 1, 2], px.
      positive: True where an anchor learns the box, bool [B, M, 3, A].
    """

    cell: Tensor
    center: Tensor
    positive: Tensor


class Objective(nn.Module):
    """Box (CIoU), objectness and class loss of a batch, for a network of the same architecture.

    Args:
      arch: Architecture with anchors, strides and classes.
      loss_weights: Weights of the terms.
      image_size: Height and width, px.
    """

    def __init__(self, arch: Architecture, loss_weights: LossWeights, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.strides, self.loss_weights, self.classes = arch.strides, loss_weights, arch.classes
        self.shapes = [(image_size[0] // stride, image_size[1] // stride) for stride in arch.strides]
        for i, (sizes, (rows, columns)) in enumerate(zip(arch.anchors, self.shapes, strict=True)):
            self.register_buffer(f"sizes{i}", torch.tensor(sizes, dtype=torch.float32))
            self.register_buffer(f"extent{i}", torch.tensor([columns, rows]))

    def forward(self, levels: Sequence[Level], localizers: Sequence[nn.Linear], batch: TorchBatch) -> Tensor:
        """Return the scalar to minimise."""
        mask = batch.mask & ~_covered(batch)
        found = [self.assign(batch.boxes, mask, i) for i in range(len(levels))]
        decoded = [
            self._decode(layer(_at(level.features, one.cell)), one, i)
            for i, (level, layer, one) in enumerate(zip(levels, localizers, found, strict=True))
        ]
        positive = torch.cat([one.positive for one in found], dim=3)
        boxes = torch.cat(decoded, dim=3)  # [B, M, 3, ΣA, 4]
        loss = ciou(boxes, batch.boxes[:, :, None, None])
        quality = 1 - self.loss_weights.quality + self.loss_weights.quality * (1 - loss.detach()).clamp(min=0)
        logits = torch.cat(
            [
                _at(level.classes.flatten(2), one.cell).view(*one.positive.shape, self.classes)
                for level, one in zip(levels, found, strict=True)
            ],
            dim=3,
        )
        goal = nn.functional.one_hot(batch.classes, self.classes).to(logits.dtype)[:, :, None, None]
        wrong = nn.functional.binary_cross_entropy_with_logits(logits, goal.expand_as(logits), reduction="none")
        return (
            self.loss_weights.box * _masked_mean(loss, positive)
            + self.loss_weights.classes * _masked_mean(wrong.mean(dim=-1), positive)
            + self.loss_weights.objectness * self._objectness(levels, found, quality, batch)
        )

    def assign(self, boxes: Tensor, mask: Tensor, i: int) -> Candidates:
        """Return the candidates of level i; see `ugs_jax.detectors.assign`."""
        extent, sizes, (_, columns) = getattr(self, f"extent{i}"), getattr(self, f"sizes{i}"), self.shapes[i]
        position = (boxes[..., :2] + boxes[..., 2:]) / 2 / self.strides[i]
        own = torch.minimum(position.floor().long().clamp(min=0), extent - 1)
        before = (position - own < 0.5) & (position > 1)
        after = (position - own > 0.5) & (extent - position > 1)
        step = after.long() - before.long()
        nothing = torch.zeros_like(step[..., 0])
        cells = torch.stack(
            [
                own,
                own + torch.stack([step[..., 0], nothing], dim=-1),
                own + torch.stack([nothing, step[..., 1]], dim=-1),
            ],
            dim=2,
        )
        exists = torch.cat([torch.ones_like(mask)[..., None], step != 0], dim=-1)
        ratio = (boxes[..., 2:] - boxes[..., :2]).clamp(min=_SHORTEST)[:, :, None] / sizes
        fits = torch.maximum(ratio, 1 / ratio).amax(dim=-1) < self.loss_weights.anchor_ratio_threshold
        positive = mask[..., None, None] & exists[..., None] & fits[:, :, None]
        cell = torch.where(positive.any(dim=-1), cells[..., 1] * columns + cells[..., 0], 0)
        center = (cells + 0.5) * self.strides[i]
        return Candidates(cell.flatten(1), center[:, :, :, None], positive)

    def _decode(self, raw: Tensor, found: Candidates, i: int) -> Tensor:
        """Decode four numbers for each candidate and anchor to boxes, xyxy px."""
        gate = 2 * torch.sigmoid(raw.float().view(*found.positive.shape, 4))
        center = found.center + (gate[..., :2] - 1) * self.strides[i]
        half = gate[..., 2:].square() * getattr(self, f"sizes{i}") / 2
        return torch.cat([center - half, center + half], dim=-1)

    def _objectness(
        self, levels: Sequence[Level], found: Sequence[Candidates], quality: Tensor, batch: TorchBatch
    ) -> Tensor:
        total, first = quality.new_zeros(()), 0
        for i, (level, one) in enumerate(zip(levels, found, strict=True)):
            anchors = one.positive.shape[-1]
            reached = torch.where(one.positive, quality[..., first : first + anchors], -1.0).flatten(1, 2)
            first += anchors
            index = one.cell[..., None].expand_as(reached)
            marked = torch.full_like(level.objectness, -1.0).scatter_reduce(1, index, reached, "amax")
            loss = nn.functional.binary_cross_entropy_with_logits(
                level.objectness, marked.clamp(min=0), reduction="none"
            )
            empty = _background(batch, self.strides[i], self.shapes[i])
            total = total + _WEIGHTS[len(levels)][i] * _masked_mean(loss, empty[..., None] | (marked >= 0))
        return total


def ciou(boxes: Tensor, targets: Tensor) -> Tensor:
    """Return the CIoU loss 1 − IoU + ρ²/c² + αv of xyxy boxes. α is a constant for the gradient."""
    low, high = torch.maximum(boxes[..., :2], targets[..., :2]), torch.minimum(boxes[..., 2:], targets[..., 2:])
    inter = (high - low).clamp(min=0).prod(dim=-1)
    sides, goals = boxes[..., 2:] - boxes[..., :2], targets[..., 2:] - targets[..., :2]
    overlap = inter / (sides.prod(dim=-1) + goals.prod(dim=-1) - inter).clamp(min=1e-12)
    outer = torch.maximum(boxes[..., 2:], targets[..., 2:]) - torch.minimum(boxes[..., :2], targets[..., :2])
    shift = (boxes[..., :2] + boxes[..., 2:] - targets[..., :2] - targets[..., 2:]) / 2
    aspect = 4 / math.pi**2 * (_angle(sides) - _angle(goals)).square()
    alpha = (aspect / (1 - overlap + aspect + 1e-7)).detach()
    return 1 - overlap + shift.square().sum(dim=-1) / outer.square().sum(dim=-1).clamp(min=1e-12) + alpha * aspect


def _angle(sides: Tensor) -> Tensor:
    bounded = sides.clamp(min=_SHORTEST)
    return torch.atan2(bounded[..., 0], bounded[..., 1])


def _covered(batch: TorchBatch) -> Tensor:
    """Return True for boxes with at least half of their area in one ignore region, bool [B, M]."""
    a, b = batch.boxes[:, :, None], batch.ignore[:, None]
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    area = (a[..., 2:] - a[..., :2]).prod(dim=-1)
    share = (high - low).clamp(min=0).prod(dim=-1) / area.clamp(min=1e-12)
    return ((share >= 0.5) & batch.ignore_mask[:, None]).any(dim=-1)


def _background(batch: TorchBatch, stride: int, shape: tuple[int, int]) -> Tensor:
    """Return True for cells that no ignore region overlaps, bool [B, H·W]."""
    rows, columns = (torch.arange(count, device=batch.ignore.device) * stride for count in shape)
    x1, y1, x2, y2 = batch.ignore[..., None].unbind(dim=2)  # [B, R, 1]
    in_x = (columns + stride > x1) & (columns < x2) & batch.ignore_mask[..., None]
    in_y = (rows + stride > y1) & (rows < y2)
    return ~(in_y[..., :, None] & in_x[..., None, :]).any(dim=1).flatten(1)


def _at(values: Tensor, cells: Tensor) -> Tensor:
    """Return the rows of [B, H·W, C] at the cells [B, N]."""
    return values.gather(1, cells[..., None].expand(-1, -1, values.shape[-1]))


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)
