"""Largest batch that this device can train on, beside the answer of `ugs plan`.

    ugs plan first_light_ugs --network.size n --topology h200:1 --json > plan.json
    python -m experiments.benchmarks.largest_batch first_light_ugs --network.size n --plan plan.json

The config and its options are those of `ugs plan` and `ugs train`. For each batch, the step of `ugs train` is compiled
for this device and run twice, on a state and images of zeros. A batch is too large if the device runs out of memory.
The two batches that the plan names are tried first: the largest that fits, and the smallest that does not. Then the
search of `ugs plan` continues with what the device did. JAX keeps the share of the memory that it reserves by default.

Every line is JSON, and has the batches so far. `planned_over_trained` is the largest batch of the plan over the
largest that was trained; above 1 the plan promised too much. `peaks` has the bytes of every tried batch by its
compiler.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import tyro

from ugs_jax.commands.overrides import mirror, restore
from ugs_jax.commands.train import load_config
from ugs_jax.experiment import Experiment, detector_with
from ugs_jax.planning.batch_search import Search, largest_batch
from ugs_jax.planning.program import Footprint, program_of, read_footprint
from ugs_jax.runs import device_mesh


@dataclass(frozen=True)
class Settings:
    """Settings of the measurement.

    Attributes:
      plan: JSON of `ugs plan` for one topology of one chip. Without it, the search starts at the batch of the config.
      trials: Largest number of batches to try.
      classes: Number of classes.
      memory: Memory that a step may take, bytes, judged by the compiler; by default what the device really allows.
        A CPU needs it.
    """

    plan: Path | None = None
    trials: int = 4
    classes: int = 10
    memory: int | None = None


def parse(words: Sequence[str]) -> tuple[Settings, Experiment]:
    """Return the settings and the experiment of a command line. The first word is the config, as for `ugs plan`."""
    named = bool(words) and not words[0].startswith("-")
    default = load_config(words[0] if named else "first_light_ugs")
    fields = mirror(default)
    kind: Any = type(fields)

    def both(
        settings: Annotated[Settings, tyro.conf.arg(name="")] = Settings(),
        experiment: Annotated[kind, tyro.conf.arg(name="")] = fields,
    ) -> tuple[Settings, Experiment]:
        return settings, restore(default, experiment)

    return tyro.cli(
        both,
        args=words[1:] if named else words,
        prog="largest_batch",
        description=__doc__,
        config=(tyro.conf.AvoidSubcommands,),
    )


def train(experiment: Experiment, settings: Settings, batch: int) -> Footprint:
    """Compile the step for a batch and take two steps.

    Returns:
      Footprint by the compiler of this device. `fits` is False if the device ran out of memory.
    """
    print(f"batch {batch} …", file=sys.stderr, flush=True)
    footprint = Footprint(fits=False, peak=None)
    sized = replace(experiment, loader=replace(experiment.loader, batch_size=batch))
    lowered, _ = program_of(sized, device_mesh(1), settings.classes, detector_with)
    try:
        step: Any = lowered.compile()
        footprint = read_footprint(step)
        if settings.memory is not None and (footprint.peak or 0) > settings.memory:
            return replace(footprint, fits=False)
        (state, images), _ = jax.tree.map(
            lambda leaf, sharding: jnp.zeros(leaf.shape, leaf.dtype, device=sharding),
            lowered.in_avals,
            step.input_shardings,
        )
        for _ in range(2):
            state, metrics = step(state, images)
        jax.block_until_ready((state, metrics))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return replace(footprint, fits=False)
    return footprint


def search(train_on: Callable[[int], Footprint], planned: Sequence[int], start: int, limit: int, trials: int) -> Search:
    """Return the largest batch that can be trained on. The planned batches are tried first, without them `start`."""
    known: dict[int, Footprint] = {}
    for batch in list(planned)[:trials] or [start]:
        known[batch] = train_on(batch)
    return largest_batch(train_on, known, 1, limit, trials - len(known))


def planned_batches(file: Path) -> dict[str, int | None]:
    """Return the largest batch of a plan, and the smallest that is too large for it.

    Raises:
      ValueError: The file has several topologies, or a topology of several chips.
    """
    plans = json.loads(file.read_text())
    if len(plans) != 1 or (plan := next(iter(plans.values())))["chips"] != 1:
        raise ValueError(f"{file}: expected a plan for one chip, got {', '.join(plans)}")
    return {"planned_largest": plan["largest_batch"], "planned_too_large": plan["batch_too_large"]}


def main(words: Sequence[str]) -> None:
    """Measure, and print a line of JSON after every batch."""
    settings, experiment = parse(words)
    stats = jax.local_devices()[0].memory_stats() or {}
    limit = settings.memory or stats.get("bytes_limit")
    if limit is None:
        raise ValueError("expected a device that reports its memory; give the bytes that a step may take: --memory N")
    planned: dict[str, int | None] = {} if settings.plan is None else planned_batches(settings.plan)
    started, tried = time.perf_counter(), dict[int, Footprint]()

    def train_on(batch: int) -> Footprint:
        tried[batch] = train(experiment, settings, batch)
        largest = max((size for size, footprint in tried.items() if footprint.fits), default=None)
        most = planned.get("planned_largest")
        result = {
            "benchmark": "largest_batch",
            "trained_largest": largest,
            "trained_too_large": min((size for size, footprint in tried.items() if not footprint.fits), default=None),
            "planned_over_trained": round(most / largest, 3) if most and largest else None,
            **planned,
            "bytes_limit": limit,
            "peaks": {size: footprint.peak for size, footprint in sorted(tried.items())},
            "seconds": round(time.perf_counter() - started, 1),
            "network": str(experiment.network),
            "image_size": experiment.loader.image_size,
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
        }
        print(json.dumps(result), flush=True)
        return tried[batch]

    search(
        train_on,
        [batch for batch in planned.values() if batch],
        experiment.loader.batch_size,
        limit,
        settings.trials,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
