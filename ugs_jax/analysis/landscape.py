"""The loss of a trained run around its parameters: Hessian spectrum and slices, on the run's own training batches."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from data_pipeline import Batch, TrainLoader, prefetch
from ugs_jax.curvature import spectrum
from ugs_jax.experiment.class_weights import with_class_weights
from ugs_jax.runs.loading import load_for_inference
from ugs_jax.runs.run_folder import read_experiment
from ugs_jax.runs.sharding import batch_sharding, data_share
from ugs_jax.training.accumulation import mean_loss
from ugs_jax.training.objective import assigner_of, objective

_REACH = {"gradient": 0.02, "random": 0.5}
"""Length of slices by direction, as ‖Δθ‖/‖θ‖. The gradient direction is steeper, so its slice is shorter."""


class Slice(NamedTuple):
    """Loss along a line through the parameters.

    Attributes:
      distance: Signed distance from the parameters, ‖Δθ‖/‖θ‖.
      loss: Loss at every distance.
    """

    distance: Float[np.ndarray, "n"]
    loss: Float[np.ndarray, "n"]


class Landscape(NamedTuple):
    """Loss of a run around its parameters.

    Attributes:
      loss: Value of the loss.
      density: Spectral density of the Hessian.
      slices: Slices by the name of their direction: `gradient`, and `random`. In the random direction, every filter has
        the norm of the parameters' filter (Li et al., Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018).
    """

    loss: float
    density: spectrum.Density
    slices: dict[str, Slice]


def measure_landscape(
    folder: Path,
    *,
    which: str = "best",
    batches: int = 1,
    steps: int = 24,
    probes: int = 2,
    points: int = 21,
    cache_dir: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Landscape:
    """Measure the training loss of a run around its parameters.

    The loss is the one that the run was trained with, including batch statistics and refinement.

    Args:
      folder: Run folder.
      which: Checkpoint, `best` or `last`.
      batches: Number of training batches. The first batches of the run, augmented as in training, are used as one
        batch. After multi-scale training they have the size of the evaluation.
      steps: Hessian-vector products for each probe.
      probes: Number of random start vectors, used one after the other.
      points: Points of a slice.
      cache_dir: Folder of built data sets; None for the default folder.
      progress: Function that shows a line before each part of the work; None shows nothing.

    Raises:
      FileNotFoundError: The run or the checkpoint does not exist.
      ValueError: This version cannot read the config, `batches` is below 1, or `points` is below 2.
    """
    if batches < 1 or points < 2:
        raise ValueError(f"expected at least 1 batch and 2 points, got {batches} and {points}")
    experiment = read_experiment(folder)
    detector, state, mesh = load_for_inference(folder, experiment, which=which)
    data = experiment.data.open("train", cache_dir)
    loss_weights = with_class_weights(experiment, data).loss_weights
    loader = TrainLoader(data, replace(experiment.loader, seed=experiment.seed, image_sizes=()), *data_share(mesh))
    joined: Batch = jax.tree.map(lambda *leaves: np.concatenate(leaves), *loader.of_one_shape(batches))
    (batch,) = prefetch([joined], batch_sharding(mesh))

    def loss_of(params: Any, batch: Batch, _: Any) -> Array:
        outputs, _ = detector.apply(params, state.stats, batch.images, train=True)
        return objective(outputs, batch, detector.localization, detector.arch, loss_weights, assigner_of(detector))[0]

    def loss(params: Any, batch: Batch) -> Array:
        return mean_loss(loss_of, params, batch, experiment.accumulate)

    return landscape_of(loss, state.params, batch, steps=steps, probes=probes, points=points, progress=progress)


def landscape_of(
    loss: Callable[[Any, Any], Array],
    params: Any,
    batch: Any,
    *,
    steps: int,
    probes: int,
    points: int,
    progress: Callable[[str], None] | None = None,
) -> Landscape:
    """Measure any loss around parameters; see `measure_landscape`.

    Args:
      loss: Function of parameters and batch that returns a scalar.
      params: Parameters, a pytree.
      batch: Batch that the loss is computed on.
      steps: Hessian-vector products for each probe.
      probes: Number of random start vectors.
      points: Points of a slice.
      progress: Function that shows a line before each part of the work; None shows nothing.
    """
    show = progress or (lambda _: None)
    of_spectrum, of_slice = jax.random.split(jax.random.key(0))
    spectra = jax.jit(
        lambda params, batch: spectrum.spectral_density(
            loss, params, batch, key=of_spectrum, steps=steps, probes=probes
        )
    )
    show("loss and gradient, compiling")
    differentiate = jax.jit(jax.value_and_grad(loss))
    value, gradient = jax.block_until_ready(differentiate(params, batch))
    start = time.perf_counter()
    jax.block_until_ready(differentiate(params, batch))
    show(
        f"a gradient takes {time.perf_counter() - start:.2g} s; {len(_REACH)} × {points} losses along lines, compiling"
    )
    length = optax.tree.norm(params)
    directions = {
        "gradient": optax.tree.scale(length / jnp.maximum(optax.tree.norm(gradient), 1e-30), gradient),
        "random": filter_normalised(params, of_slice),
    }

    @jax.jit
    def moved_loss(params: Any, batch: Any, direction: Any, distance: Array) -> Array:
        return loss(optax.tree.add_scale(params, distance, direction), batch)

    slices = {}
    for name, direction in directions.items():
        distances = np.linspace(-_REACH[name], _REACH[name], points)
        found = [moved_loss(params, batch, direction, distance) for distance in jnp.asarray(distances)]
        slices[name] = Slice(distances, np.asarray(found, np.float64))
    show(f"{probes} × {steps} Hessian-vector products, compiling; on a CPU this is the longest part")
    return Landscape(float(value), jax.device_get(spectra(params, batch)), slices)


def filter_normalised(params: Any, key: Array) -> Any:
    """Return a random direction whose filters (last axis of a kernel) have the norm of the parameters' filters.

    The direction is 0 for vectors, such as biases.
    """

    def direction(leaf: Array, key: Array) -> Array:
        if leaf.ndim < 2:
            return jnp.zeros_like(leaf)
        axes = tuple(range(leaf.ndim - 1))
        norm = lambda value: jnp.sqrt(jnp.sum(jnp.square(value), axis=axes, keepdims=True))  # noqa: E731
        draw = jax.random.normal(key, leaf.shape, leaf.dtype)
        return draw * norm(leaf) / norm(draw)

    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [direction(leaf, k) for leaf, k in zip(leaves, keys, strict=True)])
