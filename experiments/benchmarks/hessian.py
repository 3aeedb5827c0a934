"""Time of exact 4×4 Hessians of −ln IoU and CIoU for a million boxes, computed in five ways.

    python -m experiments.benchmarks.hessian

The command takes about three minutes on two cores and 4 GB of memory. All ways use float32 and the same boxes:

- closed form: `curvature.closed_forms`, compiled;
- autodiff: `curvature.hessian` of the library's loss, compiled;
- naive: `jax.jit(jax.vmap(jax.hessian(loss)))` of the same loss;
- torch: `torch.func.vmap(torch.func.hessian(loss), chunk_size=…)` of the loss written in PyTorch, on a GPU if
  PyTorch has one. Without PyTorch it is left out, and its results are null;
- bare: as autodiff, of the loss as it is written for PyTorch (that of `curvature.BEYOND`), without the guards for
  degenerate boxes of the library's loss. It compares the two ways of differentiating on the same function.

The ways are compared with a copy of the same number of bytes. The copy is a compiled JAX program that reads both inputs
[count, 4] and writes [count, 4, 4]. Every output is the sum of one number of each input, so that the compiler cannot
leave anything out. Every way has to move these bytes, and GB/s are computed from them. The copy and the closed forms
write into the buffer of the previous call (a donated argument). Otherwise each call might wait until the system has
cleared 64 MB of new pages, depending on the state of the allocator. This takes longer than the copy, and would hide the
cost of the closed forms.

All ways run in turns, in alternating order. Ratios are ratios of median times. Each leading key is the worse of the two
losses: the larger one for `closed_form_over_copy`, and the smaller one for the others. `by_loss_processor_time` has the
ratios of processor times, which are more reliable on a busy machine.

`disagreement` is the largest difference between the Hessians of a way and the closed form in float64, relative to the
largest entry of the matrix of each box. It must not exceed `TOLERANCE`. The last line is JSON.
"""

import functools
import importlib.metadata
import importlib.util
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array
from rich.console import Console
from rich.table import Table

from ugs_jax import losses
from ugs_jax.curvature import BEYOND, closed_forms, hessian, in_double

LOSSES: Mapping[str, tuple[Callable[..., Array], Callable[..., Array], str]] = {
    "log_iou": (closed_forms.log_iou, losses.log_iou, "A2"),
    "ciou": (closed_forms.ciou, losses.ciou, "A9"),
}
"""Closed form, loss, and number of the same loss in `curvature.BEYOND`."""

TOLERANCE = 1e-4
"""Largest relative disagreement. The spacing of float32 at 1000 px is 6e-5 px. This is the accuracy of a centre, and
1e-5 of the shortest diagonal (about 6 px). Ten times as much is allowed, because terms of ρ²/c² cancel."""

BYTES = 4 * (4 + 4 + 16)
"""Bytes moved for each box: two inputs and a matrix, in float32."""


@dataclass(frozen=True)
class Settings:
    """Settings of the measurement.

    Attributes:
      count: Number of boxes.
      repeats: Number of timed calls of each way.
      warmup: Number of calls before the timed ones.
      chunk: Number of boxes that PyTorch maps over at once. More boxes need more memory.
      torch_threads: Number of threads of PyTorch, by default its own choice. On a busy machine, its threads wait for
        each other at every operation, up to a hundred times as long as a single thread takes. Then set 1 and compare
        processor times.
      seed: Seed of the boxes.
    """

    count: int = 1_000_000
    repeats: int = 15
    warmup: int = 2
    chunk: int = 1_000_000
    torch_threads: int | None = None
    seed: int = 0


class Times(NamedTuple):
    """Seconds of every timed call.

    Attributes:
      wall: Elapsed time.
      processor: Processor time of this process.
    """

    wall: list[float]
    processor: list[float]


class Way(NamedTuple):
    """One way to compute all Hessians of one loss.

    Attributes:
      loss: Name of the loss; empty for the copy.
      name: Name of the way.
      call: Function without arguments that returns when the result is computed.
    """

    loss: str
    name: str
    call: Callable[[], Any]


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw predictions and targets, xyxy px, with sides of about 4 to 64 px in a 1000 px image. Every pair overlaps."""
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(6), np.log(48), (count, 1)) + rng.uniform(-0.4, 0.4, (count, 2)))
    targets = np.concatenate([rng.uniform(64, 936, (count, 2)), sides], axis=1)
    boxes = targets + np.tile(sides, 2) * rng.uniform(-0.3, 0.3, (count, 4))
    return _corners(boxes), _corners(targets)


def copy(boxes: Array, targets: Array) -> Array:
    """Return [..., 4, 4] from two arrays [..., 4]. It reads and writes as many bytes as a Hessian, without its work."""
    return boxes[..., :, None] + targets[..., None, :]


class Reused:
    """Compiled function of two arrays that writes its result into the buffer of its previous result."""

    def __init__(self, function: Callable[..., Array], boxes: Array, targets: Array) -> None:
        def into(_: Array, *given: Array) -> Array:
            return function(*given)

        program = jax.jit(into, donate_argnums=0, keep_unused=True)
        self.given = (boxes, targets)
        self.out = jnp.zeros((*boxes.shape, 4), boxes.dtype)
        self.program = program.lower(self.out, *self.given).compile()

    def __call__(self) -> Array:
        """Return the result. It is valid until the next call."""
        self.out = jax.block_until_ready(self.program(self.out, *self.given))
        return self.out


def ways(boxes: Array, targets: Array, settings: Settings) -> list[Way]:
    """Return the copy and every way, compiled."""
    compiled = [Way("", "copy", Reused(copy, boxes, targets))]
    bare = {equation.number: jax.vmap(equation.loss) for equation in BEYOND}
    for name, (closed, loss, number) in LOSSES.items():
        compiled += [
            Way(name, "closed_form", Reused(closed, boxes, targets)),
            Way(name, "autodiff", _compiled(functools.partial(hessian, loss), boxes, targets)),
            Way(name, "naive", _compiled(jax.vmap(jax.hessian(loss)), boxes, targets)),
            Way(name, "bare", _compiled(functools.partial(hessian, bare[number]), boxes, targets)),
        ]
        if importlib.util.find_spec("torch") is not None:
            from experiments.benchmarks import torch_hessian

            call = torch_hessian.compute(
                name, np.asarray(boxes), np.asarray(targets), settings.chunk, settings.torch_threads
            )
            compiled.append(Way(name, "torch", call))
    return compiled


def interleave(compiled: Sequence[Way], settings: Settings) -> dict[tuple[str, str], Times]:
    """Time all ways in turns, in alternating order. Return times by loss and way."""
    times = {(way.loss, way.name): Times([], []) for way in compiled}
    for turn in range(settings.warmup + settings.repeats):
        for way in compiled if turn % 2 else reversed(compiled):
            wall, processor = time.perf_counter(), time.process_time()
            way.call()
            if turn >= settings.warmup:
                times[way.loss, way.name].wall.append(time.perf_counter() - wall)
                times[way.loss, way.name].processor.append(time.process_time() - processor)
    return times


def disagreement(way: Way, boxes: Array, targets: Array) -> float:
    """Return the largest difference from the closed form in float64, over the largest entry of the matrix.

    Boxes with ties are left out: if an edge lies exactly on an edge of the target, the loss has a kink, and each way
    may choose either side.
    """
    wanted = in_double(LOSSES[way.loss][0], boxes, targets)
    computed = way.call()
    result = np.asarray(computed.cpu() if way.name == "torch" else computed, np.float64)
    error = np.max(np.abs(result - wanted), axis=(1, 2)) / np.max(np.abs(wanted), axis=(1, 2))
    return float(np.max(error[np.all(np.asarray(boxes) != np.asarray(targets), axis=1)]))


def ratios(medians: Mapping[tuple[str, str], float]) -> dict[str, dict[str, float | None]]:
    """Return ratios of times by key and loss: the time of the way named first over that of the second."""
    pairs = {
        "closed_form_over_copy": ("closed_form", "copy"),
        "naive_over_autodiff": ("naive", "autodiff"),
        "torch_over_autodiff": ("torch", "autodiff"),
        "torch_over_bare": ("torch", "bare"),
        "torch_over_closed_form": ("torch", "closed_form"),
        "autodiff_over_closed_form": ("autodiff", "closed_form"),
    }
    by_key: dict[str, dict[str, float | None]] = {}
    for key, (above, below) in pairs.items():
        by_key[key] = {}
        for loss in LOSSES:
            divisor = medians["" if below.startswith("copy") else loss, below]
            by_key[key][loss] = round(medians[loss, above] / divisor, 3) if (loss, above) in medians else None
    return by_key


def worst(by_loss: Mapping[str, float | None], goal: Callable[..., float]) -> float | None:
    """Return `goal` (max or min) over the losses; None if a way was left out."""
    values = [value for value in by_loss.values() if value is not None]
    return goal(values) if values else None


def measure(settings: Settings, console: Console) -> tuple[dict[str, Any], dict[tuple[str, str], Times]]:
    """Run the measurement. Return the result and the times.

    Raises:
      RuntimeError: Two ways disagree by more than `TOLERANCE`.
    """
    with console.status("compiling"):
        boxes, targets = map(jnp.asarray, draw(settings.count, settings.seed))
        compiled = ways(boxes, targets, settings)
    apart = {}
    for way in compiled:
        if way.loss:
            with console.status(f"checking {way.name} of {way.loss}"):
                apart[f"{way.loss} {way.name}"] = disagreement(way, boxes, targets)
    if max(apart.values()) > TOLERANCE:
        raise RuntimeError(f"expected Hessians that agree up to {TOLERANCE}, got {apart}")
    with console.status("timing"):
        times = interleave(compiled, settings)
    wall = {key: float(np.median(of_way.wall)) for key, of_way in times.items()}
    by_loss = ratios(wall)
    by_processor = ratios({key: float(np.median(of_way.processor)) for key, of_way in times.items()})
    result = {
        "benchmark": "hessian",
        **{key: worst(values, max if key.startswith("closed_form") else min) for key, values in by_loss.items()},
        "by_loss": by_loss,
        "by_loss_processor_time": by_processor,
        "median_seconds": {" ".join(key).strip(): round(value, 5) for key, value in wall.items()},
        "disagreement": {key: float(f"{value:.1e}") for key, value in apart.items()},
        "tolerance": TOLERANCE,
        "torch": importlib.metadata.version("torch") if ("ciou", "torch") in times else None,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        **asdict(settings),
    }
    return result, times


def print_table(
    times: Mapping[tuple[str, str], Times], apart: Mapping[str, float], settings: Settings, console: Console
) -> None:
    """Print a table with a row for each loss and way."""
    table = Table(title=f"{settings.count} Hessians, float32")
    for heading in ("way", "median ms", "processor ms", "over copy", "GB/s", "disagreement"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for (loss, name), of_way in times.items():
        median = float(np.median(of_way.wall))
        unit = float(np.median(times["", "copy"].wall))
        table.add_row(
            f"{loss} {name}".strip(),
            f"{median * 1e3:.1f}",
            f"{np.median(of_way.processor) * 1e3:.1f}",
            f"{median / unit:.2f}",
            f"{settings.count * BYTES / median / 1e9:.3g}",
            f"{apart[f'{loss} {name}']:.0e}" if f"{loss} {name}" in apart else "",
        )
    console.print(table)


def _compiled(function: Callable[..., Array], boxes: Array, targets: Array) -> Callable[[], Array]:
    program = jax.jit(function).lower(boxes, targets).compile()
    return lambda: jax.block_until_ready(program(boxes, targets))


def _corners(boxes: np.ndarray) -> np.ndarray:
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1).astype(np.float32)


def main(settings: Settings) -> None:
    """Measure, print the table, and print one line of JSON at the end."""
    console = Console()
    result, times = measure(settings, console)
    print_table(times, result["disagreement"], settings, console)
    if result["torch"] is None:
        console.print("PyTorch is not installed. It is left out, and its ratios are null.")
    print(json.dumps(result))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
