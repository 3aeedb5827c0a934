"""Training step in PyTorch, equal to `ugs_jax.training.step`; for `benchmarks.train_step` only."""

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
    """Network and objective. This module is compiled with its gradient.

    Args:
      arch: Architecture of the network.
      experiment: Experiment with loss weights, image size, and type of the computation. bfloat16 uses autocast.
    """

    def __init__(self, arch: Architecture, experiment: Experiment) -> None:
        super().__init__()
        self.network = YOLOv5(arch)
        self.objective = Objective(arch, experiment.loss_weights, experiment.loader.image_size)
        self.half = experiment.network.dtype == "bfloat16"

    def forward(self, batch: TorchBatch) -> Tensor:
        """Return the scalar to minimise."""
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=self.half):
            levels = self.network(batch.images.float() / 255)
            return self.objective(levels, [head.localize for head in self.network.heads], batch)


class Trainer:
    """Trainer with loss, gradient, clipping, optimizer, schedule and moving averages.

    Attributes:
      loss: Loss module. Load parameters into its `network` before the first step.
      average: Moving averages of parameters and batch statistics.
      eager: Reason why the loss is not compiled; empty if it is compiled.
      steps: Number of steps taken.

    Args:
      arch: Architecture of the network.
      experiment: Experiment with all other settings. `log_every` and `parallel` have no effect here.
      steps_per_epoch: Number of steps in an epoch, for the schedule.
      compiled: Use `torch.compile`. If compiling fails, the loss runs without it, and `eager` has the reason.
    """

    def __init__(self, arch: Architecture, experiment: Experiment, steps_per_epoch: int, *, compiled: bool) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # XLA tries out algorithms too
            torch.set_float32_matmul_precision("high")  # TF32, JAX's default for float32 on GPUs
        self.experiment, self.steps, self.eager = experiment, 0, "" if compiled else "not asked for"
        self.loss = Loss(arch, experiment).to(self.device, memory_format=torch.channels_last).train()
        self.optimizer = _optimizer(self.loss.network, experiment.optimizer)
        self.rate = schedule(experiment.optimizer.schedule, steps_per_epoch, experiment.epochs * steps_per_epoch)
        self.average = [tensor.clone() for tensor in self._state()]
        self._call: Callable[[TorchBatch], Tensor] = torch.compile(self.loss) if compiled else self.loss

    def place(self, batch: Batch) -> TorchBatch:
        """Return a batch of the loader on the device."""
        images = torch.from_numpy(batch.images).to(self.device).permute(0, 3, 1, 2)  # channels last, without a copy
        on = lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(self.device)  # noqa: E731
        labels = on(batch.classes).long()
        return TorchBatch(images, on(batch.boxes), labels, on(batch.mask), on(batch.ignore), on(batch.ignore_mask))

    def step(self, batch: TorchBatch) -> Tensor:
        """Take one step, and return the loss before it."""
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
        """Wait until the device has finished all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _gradient(self, batch: TorchBatch) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        try:
            loss = self._call(batch)
            loss.backward()
        except RuntimeError as error:  # errors of torch.compile derive from it
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
    """Return the learning rate as a function of the step: linear warm-up, then a cosine decay."""
    peak, warmup = options.learning_rate, min(round(options.warmup_epochs * steps_per_epoch), max(total - 1, 0))

    def rate(step: int) -> float:
        if step < warmup:
            start = peak / warmup
            return start + (peak - start) * step / warmup
        done = min((step - warmup) / max(total - warmup, 1), 1.0)
        return peak * (options.final + (1 - options.final) * (1 + math.cos(math.pi * done)) / 2)

    return rate


def product_rate(side: int, dtype: str, seconds: float) -> float:
    """Return the FLOP/s of a product of square matrices, the best of all repetitions within `seconds`."""
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
