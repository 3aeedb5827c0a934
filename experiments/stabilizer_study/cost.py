"""Time that the stabilizer adds to a training step.

    python -m experiments.stabilizer_study.cost

The command takes about ten minutes on an idle core, mostly for compilation. Three programs are the step of `ugs train`
with UGS and AdamW. They differ in `stabilize` only: None, `Stabilize()` (uncertainty limit) and `Stabilize(every=…)`
(with a Hessian-vector product every `every` steps). They run in turns on the same batches, in alternating order.

The last line is JSON:

- `without_product`: time of `Stabilize()` over that of None;
- `between_products`: time of `Stabilize(every=…)` at the steps between two products, over that of None;
- `product`: time that a product adds to its step, in steps without stabilizer;
- `optimizer`: the optimizer compiled alone, which takes seconds to measure: processor time with the uncertainty limit
  minus that without, and its 95 % interval, s. `--optimizer-only` measures this only.

The first three are ratios of medians with 95 % bootstrap intervals, of wall time and of processor time. Processor time
is more reliable on a busy machine. With a product every k steps, the stabilizer costs about
(between_products − 1) + product/k.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from data_pipeline import Batch, Dataset, LoaderOptions, TinyScenes
from experiments.benchmarks.step_cost import Settings, make_batches
from ugs_jax.analysis.step_cost import CompiledStep, Times, compile_step, interleave, ratio_of_medians
from ugs_jax.detectors.network_options import Size
from ugs_jax.experiment import AdamW, Experiment, Network, Schedule, Stabilize, build_detector
from ugs_jax.runs import device_mesh


@dataclass(frozen=True)
class Cost(Settings):
    """Settings of the measurement. The default is the step of `first_light_ugs`.

    Attributes:
      every: Number of steps between two Hessian-vector products.
      optimizer_only: Measure the optimizer alone, without the step.
    """

    size: Size = "p"
    image_size: tuple[int, int] | None = (160, 160)
    batch_size: int | None = 8
    max_boxes: int = 48
    repeats: int = 100
    warmup: int = 5
    every: int = 5
    optimizer_only: bool = False

    def __post_init__(self) -> None:
        if self.warmup % self.every or self.repeats % self.every:
            raise ValueError(
                f"warmup and repeats: expected multiples of every={self.every}, got "
                f"{self.warmup} and {self.repeats}; products then fall on the first of every {self.every} timed steps"
            )


def compile_with(stabilize: Stabilize | None, experiment: Experiment, dataset: Dataset, batch: Batch) -> CompiledStep:
    """Compile the training step with or without a stabilizer."""
    program = compile_step(replace(experiment, optimizer=AdamW(stabilize=stabilize)), dataset, batch, device_mesh(1))
    return program._replace(bytes={"flops": int(program.step.cost_analysis().get("flops", 0))})


def ratios(plain: Times, limited: Times, curved: Times, every: int) -> dict[str, Any]:
    """Return ratios of medians with intervals. Products fall on the first of every `every` timed steps."""
    with_product = np.arange(len(plain.wall)) % every == 0
    result: dict[str, Any] = {}
    for kind in Times._fields:
        a, b, c = (np.array(getattr(times, kind)) for times in (plain, limited, curved))
        product, interval = ratio_of_medians(c[with_product], a[with_product])
        between, between_interval = ratio_of_medians(c[~with_product], a[~with_product])
        without, without_interval = ratio_of_medians(b, a)
        result[kind] = {
            "without_product": _rounded(without, *without_interval),
            "between_products": _rounded(between, *between_interval),
            "product": _rounded(product - between, interval[0] - between, interval[1] - between),
            "median_seconds": round(float(np.median(a)), 5),
        }
    return result


def optimizer_times(kinds: Sequence[Stabilize | None], params: Any, settings: Settings) -> list[Times]:
    """Time the optimizer alone: from gradients to new parameters and their moving averages."""

    def program(stabilize: Stabilize | None) -> CompiledStep:
        chain = AdamW(stabilize=stabilize).build(Schedule().build(100, 10000))

        def step(state: Any, uncertainty: Any) -> tuple[Any, dict[str, Any]]:
            params, opt_state, averages = state
            updates, opt_state = chain.update(params, opt_state, params, grad=params, uncertainty=uncertainty)
            params = optax.apply_updates(params, updates)
            return (params, opt_state, optax.incremental_update(params, averages, 0.01)), {}

        start = (params, chain.init(params), params)
        return CompiledStep(jax.jit(step, donate_argnums=0), lambda: jax.tree.map(jnp.copy, start), {})

    return interleave([program(kind) for kind in kinds], [0.3, 0.4], settings.repeats, settings.warmup)


def added(times: Sequence[Times]) -> dict[str, float | list[float]]:
    """Return the median processor time without a transform, the time it adds, and the 95 % interval of that."""
    pairs = np.array([each.processor for each in times])
    drawn = pairs[:, np.random.default_rng(0).integers(0, pairs.shape[1], (2000, pairs.shape[1]))]
    without, extra = float(np.median(pairs[0])), np.diff(np.median(drawn, axis=-1), axis=0)[0]
    middle = float(np.median(pairs[1])) - without
    return {"without": without, "added": middle, "interval": [float(x) for x in np.quantile(extra, [0.025, 0.975])]}


def _rounded(*values: float) -> list[float]:
    return [round(value, 4) for value in values]


def main(cost: Cost) -> None:
    """Measure, and print one line of JSON."""
    dataset, batches = make_batches(cost)
    loader = LoaderOptions(image_size=cost.image_size or (160, 160), max_boxes=cost.max_boxes)
    experiment = Experiment("cost", TinyScenes(), network=Network(cost.size, cost.p2), loader=loader, seed=cost.seed)
    kinds = (None, Stabilize(), Stabilize(every=cost.every))
    params, _ = build_detector(experiment, dataset).init(cost.seed)
    result: dict[str, Any] = {"study": "stabilizer, cost", "optimizer": added(optimizer_times(kinds[:2], params, cost))}
    if not cost.optimizer_only:
        programs = [compile_with(kind, experiment, dataset, batches[0]) for kind in kinds]
        result |= ratios(*interleave(programs, batches, cost.repeats, cost.warmup), cost.every)
        result["flops"] = [program.bytes["flops"] for program in programs]
    result |= {
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        **dataclasses.asdict(cost),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(tyro.cli(Cost, description=__doc__))
