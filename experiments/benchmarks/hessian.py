"""Exact 4×4 Hessians of −ln IoU and CIoU for a million boxes, five ways, beside a copy of the same bytes.

    python -m experiments.benchmarks.hessian

takes about three minutes on two cores and 4 GB. The ways, all in float32 on the same boxes:

- closed form: `curvature.closed_forms`, compiled;
- autodiff: `curvature.hessian` of the library's loss, compiled;
- naive: `jax.jit(jax.vmap(jax.hessian(loss)))` of the same loss;
- torch: `torch.func.vmap(torch.func.hessian(loss), chunk_size=…)` of the loss written in PyTorch, on the CPU; left out,
  with null in the result, where PyTorch is not installed;
- bare: as autodiff, of the loss as it is written for PyTorch (that of `curvature.BEYOND`), without the guards for
  degenerate boxes that the library's has: what the two ways of differentiating cost for one and the same function.

The copy is a compiled JAX program that reads both inputs [count, 4] and writes [count, 4, 4], every number of which is
the sum of one of either, so that nothing can be left out. It moves the bytes that any of the ways has to move, and
they are what GB/s is reckoned with. The copy and the closed forms write into the buffer of the call before (a donated
argument). Without that each would wait for the system to clear 64 MB of new pages, or not, depending on what the
allocator has at hand, which takes longer than the copy and would hide what the closed forms cost.

All ways are timed in turns, and the turns alternate their order. Ratios are of median times; each leading key is the
worse of the two losses: the larger of `closed_form_over_copy`, the smaller of the others. `by_loss_processor_time` has
the same ratios of processor time, the fairer figure on a machine that is busy with other work.

`disagreement` is how far a way's Hessians are, at most, from the closed form in float64, relative to the largest entry
of each box's matrix. It must not exceed `TOLERANCE`. The last line is JSON.
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
"""Closed form, loss, and the number of the same loss in `curvature.BEYOND`."""

TOLERANCE = 1e-4
"""Relative. The spacing of float32 at 1000 px is 6e-5 px; that is how exact a centre is, 1e-5 of the shortest diagonal
(about 6 px), and terms of ρ²/c² cancel, for which ten times as much is allowed."""

BYTES = 4 * (4 + 4 + 16)
"""Of a box: two inputs read, a matrix written, float32."""


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
      count: boxes.
      repeats: timed calls of each way.
      warmup: calls before, not timed.
      chunk: boxes that PyTorch maps over at once; more need more memory.
    torch_threads: of PyTorch, by default its own choice. On a machine busy with other work its threads wait for each
      other at every operation, up to a hundred times as long as one thread takes; there, set 1 and compare processor
      time.
      seed: of the boxes.
    """

    count: int = 1_000_000
    repeats: int = 15
    warmup: int = 2
    chunk: int = 1_000_000
    torch_threads: int | None = None
    seed: int = 0


class Times(NamedTuple):
    """Seconds of every timed call: passed, and of this process's processor time."""

    wall: list[float]
    processor: list[float]


class Way(NamedTuple):
    """One way to compute all Hessians of one loss.

    Attributes:
      loss: its name; empty for the copy.
      name: the way's.
      call: without arguments; blocks until the result is there.
    """

    loss: str
    name: str
    call: Callable[[], Any]


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets, xyxy px: sides about 4 to 64 px in a 1000 px image, every pair with an overlap."""
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(6), np.log(48), (count, 1)) + rng.uniform(-0.4, 0.4, (count, 2)))
    targets = np.concatenate([rng.uniform(64, 936, (count, 2)), sides], axis=1)
    boxes = targets + np.tile(sides, 2) * rng.uniform(-0.3, 0.3, (count, 4))
    return _corners(boxes), _corners(targets)


def copy(boxes: Array, targets: Array) -> Array:
    """[..., 4] twice to [..., 4, 4]: reads and writes what a Hessian does, and does nothing else."""
    return boxes[..., :, None] + targets[..., None, :]


class Reused:
    """A compiled function of two arrays that writes its result into the buffer of its previous result."""

    def __init__(self, function: Callable[..., Array], boxes: Array, targets: Array) -> None:
        def into(_: Array, *given: Array) -> Array:
            return function(*given)

        program = jax.jit(into, donate_argnums=0, keep_unused=True)
        self.given = (boxes, targets)
        self.out = jnp.zeros((*boxes.shape, 4), boxes.dtype)
        self.program = program.lower(self.out, *self.given).compile()

    def __call__(self) -> Array:
        """The result; gone with the next call."""
        self.out = jax.block_until_ready(self.program(self.out, *self.given))
        return self.out


def ways(boxes: Array, targets: Array, settings: Settings) -> list[Way]:
    """The copy and every way, compiled."""
    found = [Way("", "copy", Reused(copy, boxes, targets))]
    bare = {equation.number: jax.vmap(equation.loss) for equation in BEYOND}
    for name, (closed, loss, number) in LOSSES.items():
        found += [
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
            found.append(Way(name, "torch", call))
    return found


def interleave(found: Sequence[Way], settings: Settings) -> dict[tuple[str, str], Times]:
    """Seconds of every timed call by loss and way, in turns whose order alternates."""
    times = {(way.loss, way.name): Times([], []) for way in found}
    for turn in range(settings.warmup + settings.repeats):
        for way in found if turn % 2 else reversed(found):
            wall, processor = time.perf_counter(), time.process_time()
            way.call()
            if turn >= settings.warmup:
                times[way.loss, way.name].wall.append(time.perf_counter() - wall)
                times[way.loss, way.name].processor.append(time.process_time() - processor)
    return times


def disagreement(way: Way, boxes: Array, targets: Array) -> float:
    """Largest difference to the closed form in float64 over the largest entry of the matrix, boxes with ties left out.

    Where an edge lies exactly on the target's, the loss has a kink, and each way is free to choose its side.
    """
    wanted = in_double(LOSSES[way.loss][0], boxes, targets)
    found = np.asarray(way.call(), np.float64)
    error = np.max(np.abs(found - wanted), axis=(1, 2)) / np.max(np.abs(wanted), axis=(1, 2))
    return float(np.max(error[np.all(np.asarray(boxes) != np.asarray(targets), axis=1)]))


def ratios(medians: Mapping[tuple[str, str], float]) -> dict[str, dict[str, float | None]]:
    """By key and loss: how many times the time of the second named way the first takes."""
    pairs = {
        "closed_form_over_copy": ("closed_form", "copy"),
        "naive_over_autodiff": ("naive", "autodiff"),
        "torch_over_autodiff": ("torch", "autodiff"),
        "torch_over_bare": ("torch", "bare"),
        "torch_over_closed_form": ("torch", "closed_form"),
        "autodiff_over_closed_form": ("autodiff", "closed_form"),
    }
    found: dict[str, dict[str, float | None]] = {}
    for key, (above, below) in pairs.items():
        found[key] = {}
        for loss in LOSSES:
            divisor = medians["" if below.startswith("copy") else loss, below]
            found[key][loss] = round(medians[loss, above] / divisor, 3) if (loss, above) in medians else None
    return found


def worst(by_loss: Mapping[str, float | None], goal: Callable[..., float]) -> float | None:
    """`goal` (max or min) over the losses; None if a way was left out."""
    values = [value for value in by_loss.values() if value is not None]
    return goal(values) if values else None


def measure(settings: Settings, console: Console) -> tuple[dict[str, Any], dict[tuple[str, str], Times]]:
    """Runs everything; returns the result and the times.

    Raises:
      RuntimeError: two ways disagree by more than `TOLERANCE`.
    """
    with console.status("compiling"):
        boxes, targets = map(jnp.asarray, draw(settings.count, settings.seed))
        found = ways(boxes, targets, settings)
    apart = {}
    for way in found:
        if way.loss:
            with console.status(f"checking {way.name} of {way.loss}"):
                apart[f"{way.loss} {way.name}"] = disagreement(way, boxes, targets)
    if max(apart.values()) > TOLERANCE:
        raise RuntimeError(f"expected Hessians that agree up to {TOLERANCE}, got {apart}")
    with console.status("timing"):
        times = interleave(found, settings)
    wall = {key: float(np.median(one.wall)) for key, one in times.items()}
    by_loss = ratios(wall)
    by_processor = ratios({key: float(np.median(one.processor)) for key, one in times.items()})
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
    """One row a loss and way."""
    table = Table(title=f"{settings.count} Hessians, float32")
    for heading in ("way", "median ms", "processor ms", "over copy", "GB/s", "disagreement"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for (loss, name), one in times.items():
        median = float(np.median(one.wall))
        unit = float(np.median(times["", "copy"].wall))
        table.add_row(
            f"{loss} {name}".strip(),
            f"{median * 1e3:.1f}",
            f"{np.median(one.processor) * 1e3:.1f}",
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
    """Measures, prints the table and, last, one line of JSON."""
    console = Console()
    result, times = measure(settings, console)
    print_table(times, result["disagreement"], settings, console)
    if result["torch"] is None:
        console.print("PyTorch is not installed: left out, its ratios are null.")
    print(json.dumps(result))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
