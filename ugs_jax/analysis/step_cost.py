"""What training steps cost beside one another: time in turns, memory by the compiler."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from data_pipeline import Batch, Dataset, TrainLoader, prefetch
from ugs_jax.experiment.config import Experiment
from ugs_jax.experiment.fitting import build_detector
from ugs_jax.report import StepCost
from ugs_jax.runs.sharding import batch_sharding, data_share, device_mesh
from ugs_jax.runs.state import create_state
from ugs_jax.training.step import build_program


class CompiledStep(NamedTuple):
    """An experiment's training step, ready to run.

    Attributes:
      step: compiled; its state is donated.
      start: makes a fresh state.
      bytes: of memory on one device by kind, and `peak`, their sum less what is aliased.
    """

    step: Any
    start: Callable[[], Any]
    bytes: dict[str, int]


class Times(NamedTuple):
    """Seconds of every timed step: passed, and of this process's processor time."""

    wall: list[float]
    processor: list[float]


def step_costs(experiments: Sequence[Experiment], repeats: int = 20, *, warmup: int = 3) -> list[StepCost]:
    """Cost of the steps of experiments that have data and batches in common, over the first of them.

    All batches have room for as many boxes as the fullest of the first four: a compiled step takes one shape. Each is
    timed in turns with the first, so that drift of the machine hits both; two states are in memory at a time.

    Args:
      experiments: two or more, the baseline first; its own cost is 1.
      repeats: timed steps of each.
      warmup: steps before.

    Raises:
      ValueError: fewer than two experiments, or no repeats.
    """
    if len(experiments) < 2 or repeats < 1:
        raise ValueError(f"expected two or more experiments and repeats, got {len(experiments)} and {repeats}")
    first, *others = experiments
    dataset = first.data.open("train")
    mesh = device_mesh(spatial=first.parallel.spatial)
    loader = TrainLoader(dataset, first.loader, *data_share(mesh))
    batches = list(prefetch(loader.of_one_shape(min(4, loader.steps_per_epoch)), batch_sharding(mesh)))
    # With the schedule of training, so that its program is found in the cache of compiled ones.
    build = partial(compile_step, dataset=dataset, batch=batches[0], mesh=mesh, steps_per_epoch=loader.steps_per_epoch)
    baseline = build(first)
    costs: list[StepCost] = []
    base: list[float] = []
    for other in others:
        program = build(other)
        times, own = interleave([program, baseline], batches, repeats, warmup)
        base += own.wall
        ratio, (low, high) = ratio_of_medians(times.wall, own.wall)
        memory = program.bytes["peak"] / baseline.bytes["peak"]
        costs.append(StepCost(float(np.median(times.wall)), ratio, (low, high), memory))
    return [StepCost(float(np.median(base)), 1.0, (1.0, 1.0), 1.0), *costs]


def compile_step(
    experiment: Experiment, dataset: Dataset, batch: Batch, mesh: Mesh, steps_per_epoch: int = 100
) -> CompiledStep:
    """Builds and compiles the step that `train` runs.

    Args:
      experiment: what is trained.
      dataset: its training images, to which anchors are fitted.
      batch: on the devices; the program is for its shapes.
      mesh: from `device_mesh`.
      steps_per_epoch: for the schedule.
    """
    detector = build_detector(experiment, dataset)
    program = build_program(experiment, detector, mesh, steps_per_epoch)
    start = lambda: jax.device_put(create_state(detector, program.optimizer, experiment.seed), program.shardings)  # noqa: E731
    compiled = program.step.lower(start(), batch).compile()  # type: ignore[attr-defined]
    analysis = compiled.memory_analysis()
    names = ("argument", "output", "temp", "alias")
    sizes = {name: int(getattr(analysis, f"{name}_size_in_bytes")) for name in names}
    peak = sizes["argument"] + sizes["output"] + sizes["temp"] - sizes["alias"]
    return CompiledStep(compiled, start, {**sizes, "peak": peak})


def interleave(programs: Sequence[CompiledStep], batches: Sequence[Any], repeats: int, warmup: int) -> list[Times]:
    """Times the programs in turns, in every other turn in reverse order, each on its own state."""
    states = [program.start() for program in programs]
    times = [Times([], []) for _ in programs]
    for turn in range(warmup + repeats):
        batch = batches[turn % len(batches)]
        order = range(len(programs)) if turn % 2 else reversed(range(len(programs)))
        for i in order:
            wall, processor = time.perf_counter(), time.process_time()
            states[i], _ = jax.block_until_ready(programs[i].step(states[i], batch))
            if turn >= warmup:
                times[i].wall.append(time.perf_counter() - wall)
                times[i].processor.append(time.process_time() - processor)
    return times


def ratio_of_medians(
    above: Sequence[float] | np.ndarray, below: Sequence[float] | np.ndarray
) -> tuple[float, list[float]]:
    """Median of `above` over that of `below`, and its 95 % interval over bootstrapped turns."""
    pairs = np.array([above, below])
    rng = np.random.default_rng(0)
    drawn = pairs[:, rng.integers(0, pairs.shape[1], (2000, pairs.shape[1]))]
    medians = np.median(drawn, axis=-1)
    middle = np.median(pairs, axis=-1)
    return float(middle[0] / middle[1]), [float(x) for x in np.quantile(medians[0] / medians[1], [0.025, 0.975])]
