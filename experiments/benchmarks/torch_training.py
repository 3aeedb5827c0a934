"""A training step in PyTorch that does what `ugs_jax.training.step` does; for `benchmarks.train_step` only."""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from data_pipeline import Batch
from experiments.benchmarks.torch_objective import Objective, TorchBatch
from experiments.benchmarks.torch_yolov5 import YOLOv5
from ugs_jax.detectors import Architecture
from ugs_jax.experiment import SGD, AdamW, Experiment, Schedule


class Loss(nn.Module):
    """Network and objective: what is compiled, with its gradient.

    Args:
      arch: the network.
      experiment: loss_weights, image size, and the dtype of the computation; bfloat16 by autocast.
    """

    def __init__(self, arch: Architecture, experiment: Experiment) -> None:
        super().__init__()
        self.network = YOLOv5(arch)
        self.objective = Objective(arch, experiment.loss_weights, experiment.loader.image_size)
        self.half = experiment.network.dtype == "bfloat16"

    def forward(self, batch: TorchBatch) -> Tensor:
        """The scalar to minimise."""
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=self.half):
            levels = self.network(batch.images.float() / 255)
            return self.objective(levels, [head.localize for head in self.network.heads], batch)


class Trainer:
    """Loss, gradient, clipping, optimizer with its schedule, moving averages.

    Attributes:
      loss: the module; load parameters into its `network` before the first step.
      average: of parameters and batch statistics.
      eager: why the loss is not compiled; empty where it is.
      steps: taken.

    Args:
      arch: the network.
      experiment: everything else; `log_every` and `parallel` mean nothing here.
      steps_per_epoch: for the schedule.
      compiled: whether to use `torch.compile`; without a compiler that works, it is left out and `eager` says so.
    """

    def __init__(self, arch: Architecture, experiment: Experiment, steps_per_epoch: int, *, compiled: bool) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # as XLA tries out algorithms
            torch.set_float32_matmul_precision("high")  # TF32, JAX's default for float32 on GPUs
        self.experiment, self.steps, self.eager = experiment, 0, "" if compiled else "not asked for"
        self.loss = Loss(arch, experiment).to(self.device, memory_format=torch.channels_last).train()
        self.optimizer = _optimizer(self.loss.network, experiment.optimizer)
        self.rate = schedule(experiment.optimizer.schedule, steps_per_epoch, experiment.epochs * steps_per_epoch)
        self.average = [tensor.clone() for tensor in self._state()]
        self._call: Callable[[TorchBatch], Tensor] = torch.compile(self.loss) if compiled else self.loss

    def place(self, batch: Batch) -> TorchBatch:
        """A batch of the loader on the device."""
        images = torch.from_numpy(batch.images).to(self.device).permute(0, 3, 1, 2)  # channels last, without a copy
        on = lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(self.device)  # noqa: E731
        labels = on(batch.labels).long()
        return TorchBatch(images, on(batch.boxes), labels, on(batch.mask), on(batch.ignore), on(batch.ignore_mask))

    def step(self, batch: TorchBatch) -> Tensor:
        """One step; the loss before it."""
        loss = self._gradient(batch)
        nn.utils.clip_grad_norm_(self.loss.network.parameters(), self.experiment.optimizer.clip_norm, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.steps)
        self.optimizer.step()
        self.steps += 1
        ema = self.experiment.ema
        weight = 1 - ema.decay * (1 - math.exp(-self.steps / ema.ramp))
        torch._foreach_lerp_(self.average, self._state(), weight)
        return loss.detach()

    def wait(self) -> None:
        """Until the device has done everything it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _gradient(self, batch: TorchBatch) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        try:
            loss = self._call(batch)
            loss.backward()
        except RuntimeError as error:  # what torch.compile raises derives from it
            if self.steps or self.eager:
                raise
            self.eager, self._call = f"torch.compile failed: {str(error)[:500]}", self.loss
            return self._gradient(batch)
        return loss

    def _state(self) -> list[Tensor]:
        network = self.loss.network
        stats = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        return [parameter.detach() for parameter in network.parameters()] + stats


def schedule(options: Schedule, steps_per_epoch: int, total: int) -> Callable[[int], float]:
    """Learning rate by step: linear warm-up, then a cosine."""
    peak, warmup = options.learning_rate, min(round(options.warmup_epochs * steps_per_epoch), max(total - 1, 0))

    def rate(step: int) -> float:
        if step < warmup:
            start = peak / warmup
            return start + (peak - start) * step / warmup
        done = min((step - warmup) / max(total - warmup, 1), 1.0)
        return peak * (options.final + (1 - options.final) * (1 + math.cos(math.pi * done)) / 2)

    return rate


def product_rate(side: int, dtype: str, seconds: float = 1.0) -> float:
    """FLOP/s of a product of square matrices, the best of repetitions for so long."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    matrix = torch.ones(side, side, dtype=getattr(torch, dtype), device=device)
    best, until = math.inf, time.perf_counter() + seconds
    while math.isinf(best) or time.perf_counter() < until:
        start = time.perf_counter()
        _ = (matrix @ matrix)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def _optimizer(network: nn.Module, options: AdamW | SGD) -> torch.optim.Optimizer:
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": kernels, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]
    rate = options.schedule.learning_rate
    if isinstance(options, AdamW):
        return torch.optim.AdamW(groups, rate, (options.b1, options.b2), fused=True)
    return torch.optim.SGD(groups, rate, options.momentum, nesterov=True, fused=True)
