"""Training of the default detector on synthetic scenes at 1 to 30 times its tuned learning rate, plain and stabilized.

    python -m experiments.stabilizer_study.detector --file runs/stabilizer_detector.jsonl

The runs are those of `first_light_ugs` and `first_light_ciou` with fewer epochs, scored once at the end. Every finished
run is a line of the file. Finished runs are not repeated, so the same command continues an interrupted study. Runs with
the same seed have the same initial parameters and batches. The last line of the output is JSON: AP by cell, mean over
seeds.

The step is that of the trainer. Learning rate, c and the power of the uncertainty limit are its arguments, so that one
compilation, which takes as long as a few runs, is used for all of them.
"""

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from data_pipeline import Batch, Dataset, TrainLoader
from experiments.configs.first_light_ciou import experiment as ciou
from experiments.configs.first_light_ugs import experiment as ugs
from ugs_jax.evaluation import CocoScorer
from ugs_jax.experiment import SGD, AdamW, Experiment, Schedule, build_detector
from ugs_jax.runs import TrainState, create_state, device_mesh
from ugs_jax.runs.state import NO_BAD_STEP
from ugs_jax.stabilize import limit_by_uncertainty, limit_by_value, ugs_stabilize
from ugs_jax.training import evaluate, jit_detect, make_step

Method = Literal["ugs", "ciou"]
Optimizer = Literal["AdamW", "SGD"]
Member = Literal["plain", "uncertainty", "value", "every 10", "every 10, half", "every 1, half"]


class Limits(NamedTuple):
    """Parameters of the transforms at the end of the optimizer chain.

    Attributes:
      every: Number of steps between two Hessian-vector products for the curvature limit; None turns it off.
      fraction: Constant c of the curvature limit.
      power: Power p of the uncertainty limit; 0 turns it off.
      value: Factor c of `limit_by_value`; infinity turns it off.
    """

    every: int | None = None
    fraction: float = 1.0
    power: float = 0.0
    value: float = math.inf


EXPERIMENTS: dict[str, Experiment] = {"ugs": ugs, "ciou": ciou}
MEMBERS: dict[str, Limits] = {
    "plain": Limits(),
    "uncertainty": Limits(power=1.0),
    "value": Limits(value=1.0),
    "every 10": Limits(every=10),
    "every 10, half": Limits(every=10, fraction=0.5),
    "every 1, half": Limits(every=1, fraction=0.5),
}
SCORES = ("ap", "ap50", "ap_very_tiny", "ap_tiny", "ap_small", "ap_medium")


@dataclass(frozen=True)
class Settings:
    """Runs of the study and their length.

    Attributes:
      file: File of finished runs, one on each line.
      methods: Localization objectives.
      optimizers: Optimizers, with weight decay, clipping and momentum as in the library.
      members: Names from `MEMBERS`: the transforms at the end of the optimizer chain.
      factors: Multiples of the tuned learning rate.
      seeds: Seeds of parameters, data order and augmentation.
      adamw: Tuned learning rate of AdamW, as in the configs.
      sgd: Tuned learning rate of SGD.
      epochs: Number of passes over the training images.
      warmup_epochs: Length of the linear warm-up of the learning rate, epochs.
      train_images: Number of training images.
      val_images: Number of validation images.
    """

    file: Path
    methods: tuple[Method, ...] = ("ugs", "ciou")
    optimizers: tuple[Optimizer, ...] = ("AdamW", "SGD")
    members: tuple[Member, ...] = ("plain", "uncertainty", "value", "every 10", "every 10, half")
    factors: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    adamw: float = 1e-2
    sgd: float = 1e-2
    epochs: int = 4
    warmup_epochs: float = 1.0
    train_images: int = 512
    val_images: int = 128


class Cell(NamedTuple):
    """Identity of one run.

    Attributes:
      method: Localization objective.
      optimizer: Optimizer.
      member: Name from `MEMBERS`.
      factor: Multiple of the tuned learning rate.
      seed: Seed.
    """

    method: str
    optimizer: str
    member: str
    factor: float
    seed: int


class Program(NamedTuple):
    """Functions that are compiled once for all learning rates and seeds.

    Attributes:
      create: Function from a seed to the initial state.
      step: Function from state, batch, peak learning rate and limits to the new state and metrics.
      score: Function from a state to AP and other scores.
    """

    create: Callable[[int], TrainState]
    step: Callable[[TrainState, Batch, float, Limits], tuple[TrainState, dict[str, Any]]]
    score: Callable[[TrainState], dict[str, float | None]]


def cells(settings: Settings) -> Iterator[Cell]:
    """Yield all runs, those of the first seed first.

    Runs of CIoU with the uncertainty limit are left out. CIoU has no uncertainty, so the limit would have no effect.
    """
    for seed, optimizer, method, member, factor in itertools.product(
        settings.seeds, settings.optimizers, settings.methods, settings.members, settings.factors
    ):
        if not (method == "ciou" and MEMBERS[member].power > 0):
            yield Cell(method, optimizer, member, factor, seed)


def experiment_of(cell: Cell, settings: Settings) -> Experiment:
    """Return the experiment of a run. Its peak learning rate is 1, because the step takes the rate as an argument."""
    base = EXPERIMENTS[cell.method]
    schedule = Schedule(learning_rate=1.0, warmup_epochs=settings.warmup_epochs)
    optimizer: AdamW | SGD = AdamW(schedule) if cell.optimizer == "AdamW" else SGD(schedule)
    data = replace(base.data, train_images=settings.train_images, val_images=settings.val_images)
    return replace(
        base,
        data=data,
        loader=replace(base.loader, seed=cell.seed, threads=1),
        optimizer=optimizer,
        epochs=settings.epochs,
        seed=cell.seed,
    )


def build(experiment: Experiment, every: int | None, train: Dataset, val: Dataset, total: int) -> Program:
    """Return the functions of an experiment. They are compiled at their first call."""
    detector, mesh = build_detector(experiment, train), device_mesh(1)
    shape = experiment.optimizer.schedule.build(total // experiment.epochs, total)
    detect, scorer = jit_detect(detector, experiment.postprocess, mesh), CocoScorer(val)

    def chain(peak: Any, limits: Limits) -> optax.GradientTransformationExtraArgs:
        own = limit_by_uncertainty(limits.power)
        if every is not None:
            own = ugs_stabilize(limits.fraction, limits.power, every=every)
        optimizer = experiment.optimizer.build(lambda count: peak * shape(count))
        return optax.chain(optimizer, own, limit_by_value(fraction=jnp.asarray(limits.value)))

    def step(state: TrainState, batch: Batch, peak: Any, limits: Limits) -> tuple[TrainState, dict[str, Any]]:
        optimizer = chain(peak, limits)
        own = make_step(detector, optimizer, lambda count: peak * shape(count), experiment.loss_weights, experiment.ema)
        state, metrics = own(state, batch)
        return state, metrics | {"by_value": optax.tree.get(state.opt_state, "ValueLimitState").limited}

    def score(state: TrainState) -> dict[str, float | None]:
        return evaluate(detect, state.ema_params, state.ema_stats, val, experiment.loader, mesh, scorer)

    create = lambda seed: create_state(detector, chain(1.0, Limits()), seed)  # noqa: E731
    return Program(create, jax.jit(step, donate_argnums=0), score)


def run(cell: Cell, program: Program, batches: list[Batch], peak: float) -> dict[str, Any]:
    """Train and score one run. A run that becomes non-finite has no AP."""
    start = time.perf_counter()
    state, rows, limits = program.create(cell.seed), [], MEMBERS[cell.member]
    for i, batch in enumerate(batches):
        state, metrics = program.step(state, batch, peak, limits._replace(every=0))
        if i % 20 == 19 or i == len(batches) - 1:
            rows.append(jax.device_get(metrics))
            if rows[-1]["bad_step"] != NO_BAD_STEP:
                break
    trained = time.perf_counter() - start
    bad = int(rows[-1]["bad_step"])
    scores = program.score(state) if bad == NO_BAD_STEP else {}
    return {
        **cell._asdict(),
        "learning_rate": peak,
        "steps": len(batches),
        "bad_step": bad,
        **{name: scores.get(name) for name in SCORES},
        "loss": float(rows[-1]["loss"]),
        "shortened": (int(rows[-1]["steps_limited"]) + int(rows[-1]["by_value"])) / len(batches),
        "scales": [round(float(row["step_scale"]), 4) for row in rows if "step_scale" in row],
        "seconds": round(trained, 1),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean, sample standard deviation and number of runs of AP by cell.

    Runs that became non-finite count with an AP of 0; their number is given too.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault("{method} {optimizer} {member} {factor:g}".format(**row), []).append(row)
    result = {}
    for name, group in groups.items():
        values = np.array([row["ap"] or 0.0 for row in group])
        spread = float(values.std(ddof=1)) if len(values) > 1 else None
        broken = sum(row["bad_step"] != NO_BAD_STEP for row in group)
        result[name] = {"ap": float(values.mean()), "spread": spread, "runs": len(group), "broken": broken}
    return result


def read(file: Path) -> list[dict[str, Any]]:
    """Return the finished runs."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def main(settings: Settings) -> None:
    """Run all missing runs, and print one line of JSON at the end."""
    settings.file.parent.mkdir(parents=True, exist_ok=True)
    finished = {tuple(row[name] for name in Cell._fields) for row in read(settings.file)}
    programs: dict[tuple[str, str, int | None], Program] = {}
    batches: dict[int, list[Batch]] = {}
    for cell in cells(settings):
        if tuple(cell) in finished:
            continue
        experiment = experiment_of(cell, settings)
        train, val = (experiment.data.open(split) for split in ("train", "val"))
        loader = TrainLoader(train, experiment.loader)
        total = settings.epochs * loader.steps_per_epoch
        if cell.seed not in batches:
            batches = {cell.seed: [loader.batch_at(i) for i in range(total)]}
        every = MEMBERS[cell.member].every
        key = (cell.method, cell.optimizer, every)
        if key not in programs:
            programs[key] = build(experiment, every, train, val, total)
        peak = cell.factor * (settings.adamw if cell.optimizer == "AdamW" else settings.sgd)
        row = run(cell, programs[key], batches[cell.seed], peak) | {"settings": {**asdict(settings), "file": None}}
        with settings.file.open("a") as out:
            out.write(json.dumps(row) + "\n")
        print(*cell, f"AP {row['ap']} loss {row['loss']:.3f} {row['seconds']} s", flush=True)
    print(json.dumps({"study": "stabilizer, detector", **summary(read(settings.file))}))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
