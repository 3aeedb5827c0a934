"""Cost of training steps compared with each other: time measured in turns, memory reported by the compiler."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from data_pipeline import Batch, Dataset, TrainLoader, prefetch
from ugs_jax.experiment.class_weights import with_class_weights
from ugs_jax.experiment.config import Experiment
from ugs_jax.experiment.fitting import build_detector
from ugs_jax.report import StepCost
from ugs_jax.runs.sharding import batch_sharding, data_share, device_mesh
from ugs_jax.runs.state import create_state
from ugs_jax.training.step import build_program


class CompiledStep(NamedTuple):
    """Compiled training step of an experiment.

    Attributes:
      step: Compiled step. Its state is donated.
      start: Function that creates the initial state.
      bytes: Memory on one device by kind, bytes. `peak` is the sum of arguments, outputs and temporaries minus the
        aliased memory.
    """

    step: Any
    start: Callable[[], Any]
    bytes: dict[str, int]


class Times(NamedTuple):
    """Seconds of every timed step.

    Attributes:
      wall: Elapsed time.
      processor: Processor time of this process.
    """

    wall: list[float]
    processor: list[float]


def step_costs(experiments: Sequence[Experiment], repeats: int = 20, *, warmup: int = 3) -> list[StepCost]:
    """Return the cost of a training step of each experiment, relative to the first one.

    All experiments use the data set, the batches and the mesh of the first. Each is timed in turns with the first, so
    that a drift of the machine's speed affects both. Two states are in memory at a time.
    All batches have room for as many boxes as the fullest of the first four, as a compiled step takes one shape.

    Args:
      experiments: Two or more experiments, the baseline first. The cost of the baseline is 1.
      repeats: Number of timed steps of each experiment.
      warmup: Number of steps before the timed ones.

    Raises:
      ValueError: There are fewer than two experiments, or `repeats` is below 1.
    """
    if len(experiments) < 2 or repeats < 1:
        raise ValueError(
            f"expected at least 2 experiments and at least 1 repeat, got {len(experiments)} and {repeats}; pass more"
        )
    first, *others = experiments
    dataset = first.data.open("train")
    mesh = device_mesh(spatial=first.parallel.spatial)
    loader = TrainLoader(dataset, replace(first.loader, image_sizes=()), *data_share(mesh))
    batches = list(prefetch(loader.of_one_shape(min(4, loader.steps_per_epoch)), batch_sharding(mesh)))
    # The schedule is that of training, so that the compilation cache has the program.
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
    """Build and compile the training step of an experiment.

    Args:
      experiment: Experiment to be trained.
      dataset: Training images, to which anchors are fitted.
      batch: Batch on the devices. The program is compiled for its shapes.
      mesh: Mesh from `device_mesh`.
      steps_per_epoch: Number of steps in an epoch, for the schedule.
    """
    detector = build_detector(experiment, dataset)
    program = build_program(with_class_weights(experiment, dataset), detector, mesh, steps_per_epoch)
    create = partial(create_state, detector, program.optimizer, experiment.seed, experiment.freeze)
    start = lambda: jax.device_put(create(), program.shardings)  # noqa: E731
    compiled = program.step.lower(start(), batch).compile()  # type: ignore[attr-defined]
    analysis = compiled.memory_analysis()
    names = ("argument", "output", "temp", "alias")
    sizes = {name: int(getattr(analysis, f"{name}_size_in_bytes")) for name in names}
    peak = sizes["argument"] + sizes["output"] + sizes["temp"] - sizes["alias"]
    return CompiledStep(compiled, start, {**sizes, "peak": peak})


def interleave(programs: Sequence[CompiledStep], batches: Sequence[Any], repeats: int, warmup: int) -> list[Times]:
    """Time programs in turns, each on its own state. Every other turn runs in reverse order.

    Args:
      programs: Compiled steps.
      batches: Batches, used again from the first when all were used.
      repeats: Number of timed turns.
      warmup: Number of turns before the timed ones.
    """
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
    """Return the median of `above` over the median of `below`, and its 95 % interval over bootstrapped turns."""
    pairs = np.array([above, below])
    rng = np.random.default_rng(0)
    drawn = pairs[:, rng.integers(0, pairs.shape[1], (2000, pairs.shape[1]))]
    medians = np.median(drawn, axis=-1)
    middle = np.median(pairs, axis=-1)
    return float(middle[0] / middle[1]), [float(x) for x in np.quantile(medians[0] / medians[1], [0.025, 0.975])]
