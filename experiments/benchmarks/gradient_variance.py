"""Variance of the localization gradient by object size during training: smooth L1, CIoU, L2 and DFL over UGS.

    python -m experiments.benchmarks.gradient_variance

The command takes about a quarter of an hour on two idle cores. The last line is JSON. `variance_ratio_lt32` is the
first measure below for boxes under 32 px, smooth L1 over UGS. Above 1, UGS has the lower variance.

Measurement. Every method is trained from the same initial weights (for layers of equal shape) on the same batches.
Every `probe_every` steps, training pauses, and the gradient of the localization loss alone is computed over the next
`groups` batches, in three ways. A size is √area in px of the network's input.

- Single positives (an anchor of a cell that learns a box): the norm of the gradient of its loss with respect to the raw
  outputs of its box, where p − p* and the derivatives of smooth L1 appear; μ and σ are taken over positives.
- Single boxes: the norm of the gradient with respect to the features that a box is localized from, summed over its
  positives.
- Batches, with the boxes of one size in each: gradients G_1 … G_K with respect to all parameters that the methods
  share, which are those of all layers except the localization layers. v = Σ‖G_k − Ḡ‖²/(K−1) is an unbiased estimate of
  the variance (trace of the covariance) of such a gradient. s = ‖Ḡ‖² − v/K, the mean product of two different ones, is
  an unbiased estimate of the squared norm of its mean.

Normalisation. A loss times a constant has the same optimum and, with Adam, the same steps, but a different variance.
The variance alone is therefore meaningless. Five measures do not change with the gain, the constant factor on the loss:

1. `between_positives`: σ²/μ² of positives, mean over the probes. It measures how unequal the gradients of boxes of one
   size are. What the paper calls instability are a few gradients many times larger than the others. `variance_ratio_*`
   reports this measure.
2. `between_boxes`: the same for boxes. A box has between 1 and about 30 positives, which are summed with the weights of
   their levels and anchors. This adds an inequality of its own, which is the same for all methods.
3. `relative`: Σv / Σs over the probes, noise over signal. It is the gradient noise scale (McCandlish et al.,
   arXiv 1812.06162) of the localization gradient of boxes of one size. It determines how many images a reliable step
   needs. Neither a gain nor a weight that depends on the size of a box changes it.
4. `equal_total`: Σv over Σ(v + s) of the gradient of all boxes. It compares methods at gains for which both have the
   same mean squared localization gradient over training. It is near 1 by construction if almost all boxes are small.
5. `equal_large`: Σv over Σ(v + s) of boxes of 32 px and more. It compares methods at gains for which large boxes have
   equal gradients. A weight that depends on size changes it.

The table also has `raw` (Σv at the gain of the config), to show the effect of scaling. The reported measure was changed
twice. `relative` is undefined, because there are too few probes. `between_boxes`, chosen before it had a value, then
gave 1.12. `between_positives` was chosen knowing this, and knowing from training logs that it is lower for UGS than for
CIoU and smooth L1. Both are in the output.

Intervals are 95 % bootstrap intervals over the probes of all seeds. A ratio is null if its denominator cannot be
distinguished from 0 (Σs ≤ 0 for one of the methods, or no interval). It then needs more groups, more probes or larger
batches. The length of UR's perturbation is normalised over the boxes of the probe.
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
    """Settings of the measurement.

    Attributes:
      steps: Number of training steps of every method.
      probe_every: Number of steps between probes.
      seeds: Seeds of initial weights, data order and augmentation.
      groups: Number of batches of `batch_size` images for the gradients of a probe.
      methods: Methods of `ugs ablate`. The others are divided by the first; `ur` is the full UGS objective.
      experiment: Name or Python file of a config. Its data, network, loader, loss weights and optimizer are used, and
        its localization objective for UGS if it is a `UGS`. By default, light tiny scenes and the network of size p.
      image_size: Height and width of the tiny scenes, px.
      batch_size: Number of images in a step.
      output: JSON file for all probes.
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
        """Check the methods, and that a probe has enough batches for a variance."""
        check_methods(self.methods)
        if self.groups < 2:
            raise ValueError(f"groups: expected at least 2 to compute a variance, got {self.groups}")


def base_experiment(settings: Settings) -> Experiment:
    """Return the experiment whose settings all methods share."""
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
    """Train one method and return its probes."""
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
        return gradient_norms(
            outputs, batch, detector.localization, detector.arch, experiment.loss_weights.anchor_ratio_threshold
        )

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
    """Print tables of the first three measures by size, and of all measures under 32 px."""
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
    """Train, print the tables, and print one line of JSON at the end."""
    console = Console(width=150)
    base = base_experiment(settings)
    probes: dict[str, Probes] = {}
    with console.status("") as status:
        for method, experiment in zip(settings.methods, ablation(base, settings.methods), strict=True):
            seeded = [replace(experiment, seed=seed) for seed in settings.seeds]
            probes[method] = collect([run_method(each, settings, status.update) for each in seeded])
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
