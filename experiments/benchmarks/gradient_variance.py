"""Variance of the localization gradient by object size during training: smooth L1, CIoU, L2 and DFL over UGS.

    python -m experiments.benchmarks.gradient_variance

takes about a quarter of an hour on two idle cores. The last line is JSON; `variance_ratio_lt32` is the measure below
for boxes under 32 px, smooth L1 over UGS: above 1, UGS is the quieter one.

What is measured. Every method is trained from the same initial weights (layers of equal shape) on the same batches.
Every `probe_every` steps, training pauses and the gradient of the localization loss alone is taken over the next
`groups` batches, in three ways. A size is √area in px of the network's input.

- Of single positives (an anchor of a cell that learns a box): the norm of the gradient of its loss by the raw outputs
  that its box is made of, where p − p* and the derivatives of smooth L1 live; μ and σ over positives.
- Of single boxes: the norm of the gradient by the features a box is localized from, summed over its positives.
- Of batches, from the boxes of one size in each: G_1 … G_K, with respect to all parameters that the methods share,
  which is every layer but the one that localizes. v = Σ‖G_k − Ḡ‖²/(K−1) estimates without bias the variance (trace of
  the covariance) of such a gradient, and the mean product of two different ones, s = ‖Ḡ‖² − v/K, the squared norm of
  its mean.

What is normalised how. A loss times a constant has the same optimum and, under Adam, the same steps, but a different
variance: the variance alone says nothing. Five measures do not change with the gain:

1. `between_positives`: σ²/μ² of positives, mean over the probes: how unequally boxes of one size pull. A few whose
   gradient is many times the others' are what the paper calls instability. This is what `variance_ratio_*` reports.
2. `between_boxes`: the same of boxes. A box has between 1 and some 30 positives, which add up through the weights of
   their levels and anchors: that brings in an inequality of its own, which all methods share.
3. `relative`: Σv / Σs over the probes, noise over signal. It is the gradient noise scale (McCandlish et al.,
   arXiv 1812.06162) of the localization gradient of one size of boxes; neither a gain nor a weight that depends on the
   size of a box can buy it, and it decides how many images a trustworthy step needs.
4. `equal_total`: Σv over Σ(v + s) of the gradient of all boxes: gains such that both methods send the same localization
   gradient, in mean square, through training. Near 1 by construction where almost all boxes are small.
5. `equal_large`: Σv over Σ(v + s) of boxes of 32 px and more: gains such that large boxes pull equally hard. A weight
   that depends on size changes it.

`raw` (Σv at the gain of the config) is in the table for whoever wants to see what scaling does. What was
reported changed twice: `relative` is undefined for want of probes; `between_boxes`, chosen before it had a value, then
gave 1.12. `between_positives` was chosen knowing that, and knowing from the logs of training that it is lower for UGS
than for CIoU and smooth L1; both are in the output.

Intervals are 95 % bootstraps over the probes of all seeds; a ratio whose denominator isn't resolved from 0 (Σs ≤ 0 for
either method, or no interval) is null and needs more groups, probes or larger batches.
UR's perturbation has its length over the boxes probed.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jaxtyping import Array
from rich.console import Console
from rich.table import Table

from data_pipeline import Augmentation, Batch, LoaderOptions, TinyScenes, TrainLoader
from experiments.benchmarks.gradient_statistics import (
    MEASURES,
    SIZES,
    Norms,
    Probes,
    Spread,
    collect,
    compare,
    gradient_norms,
    measures,
    probe,
    shared,
)
from ugs_jax.atomic import write_atomically
from ugs_jax.commands.train import load_config
from ugs_jax.experiment import Experiment, Network, build_detector
from ugs_jax.experiment.ablation import ablation, check_methods
from ugs_jax.training import objective

BOX_ONLY, EVERYTHING = np.float32([1, 0, 0]), np.float32([1, 1, 1])  # weights of box, objectness, classes


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
      steps: training steps of every method.
      probe_every: steps between probes.
      seeds: of initial weights, order and augmentation.
      groups: batches of `batch_size` that a probe takes its gradients from.
      methods: of `ugs ablate`; the first, ur being all of UGS, is what the others are divided by.
      experiment: name or Python file of a config, whose data, network, loader, gains and optimizer are used (and its
        localization for UGS, if that is an `UGS`); by default light tiny scenes and the pico network.
      image_size: height and width of the tiny scenes, px.
      batch_size: images a step.
      output: file for every probe, as JSON.
    """

    steps: int = 200
    probe_every: int = 40
    groups: int = 16
    seeds: tuple[int, ...] = (0,)
    methods: tuple[str, ...] = ("ur", "smooth_l1", "ciou", "l2", "dfl")
    experiment: str | None = None
    image_size: tuple[int, int] = (128, 128)
    batch_size: int = 8
    output: Path | None = None

    def __post_init__(self) -> None:
        """Refuses unknown methods and probes that have no variance."""
        check_methods(self.methods)
        if self.groups < 2:
            raise ValueError(f"groups: expected at least 2, of which to take a variance, got {self.groups}")


def base_experiment(settings: Settings) -> Experiment:
    """What all methods have in common."""
    if settings.experiment is not None:
        return load_config(settings.experiment)
    return Experiment(
        name="gradient variance",
        data=TinyScenes("light", settings.image_size, train_images=256, val_images=1),
        network=Network("p", p2=True),
        loader=LoaderOptions(
            image_size=settings.image_size,
            batch_size=settings.batch_size,
            max_boxes=32,
            max_ignore=4,
            threads=0,
            augmentation=Augmentation(mosaic=0.5, translate=0.1, scale=0.3),
        ),
    )


def run_method(experiment: Experiment, settings: Settings, tell: Callable[[str], None]) -> list[dict[str, Spread]]:
    """Trains one method with probes on the way."""
    dataset = experiment.data.open("train")
    loader = TrainLoader(dataset, replace(experiment.loader, seed=experiment.seed))
    detector = build_detector(experiment, dataset)
    schedule = experiment.optimizer.schedule.build(loader.steps_per_epoch, settings.steps)
    optimizer = optax.with_extra_args_support(experiment.optimizer.build(schedule))
    params, stats = detector.init(experiment.seed)
    opt_state = optimizer.init(params)

    @jax.jit
    def gradient(params: Any, stats: Any, batch: Batch, weights: Array) -> tuple[Any, tuple[Any, dict[str, Array]]]:
        def loss(params: Any) -> tuple[Array, tuple[Any, dict[str, Array]]]:
            outputs, new_stats = detector.apply(params, stats, batch.images, train=True)
            _, parts = objective(outputs, batch, detector.localization, detector.arch, experiment.loss_weights)
            terms = jnp.stack([parts["box"], parts["objectness"], parts["classes"]])
            return jnp.sum(weights * terms), (new_stats, parts)

        return jax.grad(loss, has_aux=True)(params)

    @jax.jit
    def norms(params: Any, stats: Any, batch: Batch) -> Norms:
        outputs, _ = detector.apply(params, stats, batch.images, train=True)
        return gradient_norms(outputs, batch, detector.localization, detector.arch, experiment.loss_weights.ratio_limit)

    @jax.jit
    def advance(params: Any, opt_state: Any, direction: Any, parts: dict[str, Array]) -> tuple[Any, Any]:
        more = {"value": parts["loss"], "uncertainty": parts["uncertainty"]}
        updates, opt_state = optimizer.update(direction, opt_state, params, grad=direction, **more)
        return optax.apply_updates(params, updates), opt_state

    flat, probes = jax.jit(shared), []
    for step in range(settings.steps):
        batch = loader.batch_at(step)
        if step % settings.probe_every == 0:
            held = params, stats

            def vector(group: Batch, held: tuple[Any, Any] = held) -> np.ndarray:
                return np.asarray(flat(gradient(*held, group, BOX_ONLY)[0]))

            batches = [loader.batch_at(step + k) for k in range(settings.groups)]
            probes.append(probe(vector, partial(norms, *held), batches))
        direction, (stats, parts) = gradient(params, stats, batch, EVERYTHING)
        params, opt_state = advance(params, opt_state, direction, parts)
        if step % settings.probe_every == 0:
            tell(f"{experiment.name}, seed {experiment.seed}: step {step}, loss {float(parts['loss']):.3f}")
    return probes


def print_tables(probes: dict[str, Probes], ratios: dict[str, Any], settings: Settings, console: Console) -> None:
    """Tables of the first three measures by size, and of all measures under 32 px."""
    base = settings.methods[0]
    own = {name: measures(values, np.arange(len(values["all"]))) for name, values in probes.items()}
    for measure in ("between_positives", "between_boxes", "relative"):
        table = Table(title=f"{measure}, over that of {base} [95 %]")
        for heading in ("method", *SIZES):
            table.add_column(heading, justify="left" if heading == "method" else "right")
        table.add_row(f"{base} itself", *(f"{own[base][name][measure]:.2f}" for name in SIZES))
        for method, by_size in ratios.items():
            table.add_row(method, *(_cell(by_size[name][measure]) for name in SIZES))
        console.print(table)
    table = Table(title=f"boxes under 32 px, over {base} [95 %]")
    for heading in ("method", *MEASURES):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method, by_size in ratios.items():
        table.add_row(method, *(_cell(value) for value in by_size["lt32"].values()))
    console.print(table)


def _cell(values: list[float | None]) -> str:
    middle, low, high = ("-" if value is None else f"{value:.2f}" for value in values)
    return f"{middle} [{low}, {high}]"


def main(settings: Settings) -> None:
    """Trains, prints the tables and, last, one line of JSON."""
    console = Console(width=150)
    base = base_experiment(settings)
    probes: dict[str, Probes] = {}
    with console.status("") as status:
        for method, experiment in zip(settings.methods, ablation(base, settings.methods), strict=True):
            seeded = [replace(experiment, seed=seed) for seed in settings.seeds]
            probes[method] = collect([run_method(one, settings, status.update) for one in seeded])
    first, *others = settings.methods
    ratios = {method: compare(probes[method], probes[first]) for method in others}
    print_tables(probes, ratios, settings, console)
    if settings.output is not None:
        rows = {method: {name: values.tolist() for name, values in by.items()} for method, by in probes.items()}
        write_atomically(settings.output, json.dumps({"settings": _plain(settings), "probes": rows}).encode())
    result: dict[str, Any] = {"benchmark": "gradient_variance"}
    reported = "smooth_l1" if "smooth_l1" in ratios else others[0]
    for name in SIZES:
        middle, low, high = ratios[reported][name]["between_positives"]
        result[f"variance_ratio_{name}"], result[f"variance_ratio_{name}_interval"] = middle, [low, high]
    result |= {
        "reported": f"{reported} over {first}",
        "normalisation": "between_positives: variance over squared mean of the norms of single positives' gradients",
        "ratios": ratios,
    }
    print(json.dumps({**result, **_plain(settings), "device": jax.devices()[0].device_kind, "cores": os.cpu_count()}))


def _plain(settings: Settings) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(settings).items()}


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
