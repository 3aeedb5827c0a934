"""Time of the exact Hessians of every loss with one value for each box, computed in three ways.

    python -m experiments.benchmarks.hessian

The command takes about three minutes on two cores. All ways use float32 and the same boxes (xyxy px, 4×4 Hessians),
offsets (4×4) or logits of 11 bins (11×11):

- hessian: `curvature.hessian`, compiled, which takes the closed form of the loss;
- autodiff: `curvature.hessian_by_autodiff` of the same loss, compiled;
- torch: `torch.func.vmap(torch.func.hessian(loss))` of the loss written in PyTorch, on a GPU if PyTorch has one.
  Without PyTorch it is left out, and its results are null.

The ways run in turns, in alternating order, one loss after the other. `copy` is a compiled program that reads the first
argument and writes as many bytes as the Hessians. Ratios are ratios of median times; each leading key is the worst one
of all losses. `by_loss_processor_time` has the ratios of processor times, which are more reliable on a busy machine.

`disagreement` is the largest difference between the Hessians of a way and autodiff in float64, relative to the largest
entry of each matrix. It must not exceed `TOLERANCE`. The last line is JSON.
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
from ugs_jax.curvature import hessian, hessian_by_autodiff, in_double
from ugs_jax.labels import interval_grid, two_hot

GRID = interval_grid(2, 1, 10)

LOSSES: Mapping[str, Callable[..., Array]] = {
    **{name: getattr(losses, name) for name in ("iou_loss", "log_iou", "giou", "diou", "ciou", "nwd", "dotd")},
    **{name: getattr(losses, name) for name in ("l1", "l2", "smooth_l1", "distribution_focal")},
    "interval_cross_entropy": functools.partial(losses.interval_cross_entropy, grid=GRID),
    "entropy_gap": functools.partial(losses.entropy_gap, grid=GRID),
    **{name: getattr(losses, name) for name in ("entropy", "normalised_entropy")},
}
"""Losses by name. The name tells its arguments (`arguments`)."""

TOLERANCE = 1e-3
"""Largest relative disagreement. The spacing of float32 at 1000 px is 6e-5 px, which is 1e-5 of a box's side (6 px and
more). A hundred times as much is allowed, because terms cancel."""


@dataclass(frozen=True)
class Settings:
    """Settings of the measurement.

    Attributes:
      count: Number of boxes.
      repeats: Number of timed calls of each way.
      warmup: Number of calls before the timed ones.
      torch_threads: Number of threads of PyTorch, by default its own choice. On a busy machine, its threads wait for
        each other at every operation, up to a hundred times as long as a single thread takes. Then set 1 and compare
        processor times.
      seed: Seed of the boxes.
    """

    count: int = 100_000
    repeats: int = 9
    warmup: int = 2
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


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw predictions and targets, xyxy px, with sides of about 4 to 64 px in a 1000 px image. Every pair overlaps."""
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(6), np.log(48), (count, 1)) + rng.uniform(-0.4, 0.4, (count, 2)))
    targets = np.concatenate([rng.uniform(64, 936, (count, 2)), sides], axis=1)
    boxes = targets + np.tile(sides, 2) * rng.uniform(-0.3, 0.3, (count, 4))
    return _corners(boxes), _corners(targets)


def arguments(name: str, count: int, seed: int) -> list[np.ndarray]:
    """Return the arguments of a loss, float32: boxes and targets, offsets and targets, or logits and their labels."""
    rng = np.random.default_rng(seed)
    if name in ("l1", "l2", "smooth_l1"):
        return [rng.normal(size=(count, 4)).astype(np.float32) for _ in range(2)]
    logits = rng.normal(size=(count, len(GRID))).astype(np.float32)
    if name in ("entropy", "normalised_entropy"):
        return [logits]
    if name in ("interval_cross_entropy", "entropy_gap"):
        return [logits, rng.uniform(-2, 2, count).astype(np.float32)]
    if name == "distribution_focal":
        return [logits, rng.uniform(0, len(GRID) - 1, count).astype(np.float32)]
    return [*draw(count, seed)]


def ways(name: str, given: Sequence[Array], settings: Settings) -> dict[str, Callable[[], Any]]:
    """Return the copy and every way for one loss, compiled."""
    loss, size = LOSSES[name], given[0].shape[-1]
    calls = {
        "copy": _compiled(lambda *all_: jnp.broadcast_to(all_[0][..., None], (*all_[0].shape, size)) + 1, given),
        "hessian": _compiled(functools.partial(hessian, loss), given),
        "autodiff": _compiled(functools.partial(hessian_by_autodiff, loss), given),
    }
    if importlib.util.find_spec("torch") is not None:
        from experiments.benchmarks import torch_hessian

        further = list(given[1:])
        if size == len(GRID) and further:  # labels, so that PyTorch need not compute them
            further = [two_hot(further[0], np.arange(size) if name == "distribution_focal" else GRID)]
        arrays = [np.asarray(values) for values in (given[0], *further)]
        calls["torch"] = torch_hessian.compute(name, arrays, settings.torch_threads)
    return calls


def interleave(calls: Mapping[str, Callable[[], Any]], settings: Settings) -> dict[str, Times]:
    """Time all ways in turns, in alternating order."""
    times = {way: Times([], []) for way in calls}
    for turn in range(settings.warmup + settings.repeats):
        for way in calls if turn % 2 else reversed(calls):
            wall, processor = time.perf_counter(), time.process_time()
            calls[way]()
            if turn >= settings.warmup:
                times[way].wall.append(time.perf_counter() - wall)
                times[way].processor.append(time.process_time() - processor)
    return times


def disagreement(found: Any, wanted: np.ndarray) -> float:
    """Return the largest difference from autodiff in float64, over the largest entry of the matrix, or 1 if it is 0."""
    size = np.max(np.abs(wanted), axis=(1, 2))
    return float(np.max(np.max(np.abs(found - wanted), axis=(1, 2)) / np.where(size > 0, size, 1)))


PAIRS = {
    "torch_over_hessian": ("torch", "hessian"),
    "torch_over_autodiff": ("torch", "autodiff"),
    "autodiff_over_hessian": ("autodiff", "hessian"),
    "hessian_over_copy": ("hessian", "copy"),
}
"""Ratios of times: the way named first over the second."""


def ratios(medians: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Return ratios of times by key and loss; None for a way that was left out."""
    return {
        key: {loss: round(of[above] / of[below], 3) if above in of else None for loss, of in medians.items()}
        for key, (above, below) in PAIRS.items()
    }


def worst(by_loss: Mapping[str, float | None], goal: Callable[..., float]) -> float | None:
    """Return `goal` (max or min) over the losses; None if a way was left out."""
    values = [value for value in by_loss.values() if value is not None]
    return goal(values) if values else None


def measure(settings: Settings, console: Console) -> tuple[dict[str, Any], dict[str, dict[str, Times]]]:
    """Run the measurement. Return the result and the times by loss and way.

    Raises:
      RuntimeError: Two ways disagree by more than `TOLERANCE`.
    """
    times, apart = {}, {}
    for name in LOSSES:
        with console.status(name):
            given = [jnp.asarray(values) for values in arguments(name, settings.count, settings.seed)]
            calls = ways(name, given, settings)
            wanted = in_double(
                jax.jit(functools.partial(hessian_by_autodiff, LOSSES[name])), *(values[:1000] for values in given)
            )
            found = {way: call() for way, call in calls.items() if way != "copy"}
            if "torch" in found:  # Hessians that are 0 are no array yet
                found["torch"] = found["torch"].numpy(force=True)
            apart[name] = {way: disagreement(hessians[:1000], wanted) for way, hessians in found.items()}
            if max(apart[name].values()) > TOLERANCE:
                raise RuntimeError(f"{name}: expected Hessians that agree up to {TOLERANCE}, got {apart[name]}")
            times[name] = interleave(calls, settings)
        console.print(name, {way: f"{1e3 * np.median(spent.processor):.1f} ms" for way, spent in times[name].items()})
    medians, by_processor = (
        {name: {way: float(np.median(getattr(t, kind))) for way, t in of.items()} for name, of in times.items()}
        for kind in Times._fields
    )
    by_loss = ratios(medians)
    result = {
        "benchmark": "hessian",
        **{key: worst(values, max if key.endswith("copy") else min) for key, values in by_loss.items()},
        "by_loss": by_loss,
        "by_loss_processor_time": ratios(by_processor),
        "median_seconds": {name: {way: round(value, 5) for way, value in of.items()} for name, of in medians.items()},
        "disagreement": {name: {way: float(f"{x:.1e}") for way, x in of.items()} for name, of in apart.items()},
        "tolerance": TOLERANCE,
        "torch": importlib.metadata.version("torch") if "torch" in apart["ciou"] else None,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        **asdict(settings),
    }
    return result, times


def print_table(result: Mapping[str, Any], console: Console) -> None:
    """Print a table with a row for each loss."""
    ways_ = list(result["median_seconds"]["ciou"])
    table = Table(title=f"{result['count']} Hessians, float32, median ms")
    for heading in ("loss", *ways_, *PAIRS):
        table.add_column(heading, justify="left" if heading == "loss" else "right")
    for name, medians in result["median_seconds"].items():
        of_loss = [result["by_loss"][key][name] for key in PAIRS]
        table.add_row(name, *(f"{medians[way] * 1e3:.1f}" for way in ways_), *map(str, of_loss))
    console.print(table)


def _compiled(function: Callable[..., Array], given: Sequence[Array]) -> Callable[[], Array]:
    program = jax.jit(function, keep_unused=True).lower(*given).compile()
    return lambda: jax.block_until_ready(program(*given))


def _corners(boxes: np.ndarray) -> np.ndarray:
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1).astype(np.float32)


def main(settings: Settings) -> None:
    """Measure, print the table, and print one line of JSON at the end."""
    console = Console(width=200)
    result, _ = measure(settings, console)
    print_table(result, console)
    if result["torch"] is None:
        console.print("PyTorch is not installed. It is left out, and its ratios are null.")
    print(json.dumps(result))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
