"""The real networks, smallest size, on eight devices that split batches and images: a step is that of one device."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiling import compiled_quickly
from tests.several_devices import on_devices
from tests.training.toy import random_batch, toy_experiment
from ugs_jax.detectors import Detector
from ugs_jax.detectors.architecture import published_anchors
from ugs_jax.experiment import SGD, Network, Schedule, detector_with
from ugs_jax.runs import create_state, device_mesh
from ugs_jax.runs.sharding import batch_sharding, state_sharding
from ugs_jax.training import compaction, jit_step, make_step

# Rounding of float64 through some hundred layers; of float32 in the transformers of TPH-YOLOv5.
TOLERANCE = {"yolov5": 1e-9, "tph": 1e-5, "yolov8": 1e-9, "yolo11": 1e-9}


def compare(kind):
    """How far loss, norm of the gradient and parameters after a step lie apart; in a process with 8 devices."""
    # Several chunks, as in batches with hundreds of boxes.
    compaction.candidates, compaction.few = partial(int, 8), partial(int, 0)
    options = SGD(Schedule(0.05, warmup_epochs=0.0), weight_decay=0.01)
    experiment = toy_experiment(network=Network("p", kind=kind), optimizer=options)
    real = detector_with(experiment, published_anchors(experiment.network.network_type, True), 3)
    detector = Detector(replace(real.arch, dtype=jnp.float64), real.localization)
    rate = options.schedule.build(3, 30)
    optimizer = options.build(rate)
    widened = lambda leaf: leaf.astype(float) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf  # noqa: E731
    state = jax.device_get(jax.tree.map(widened, create_state(detector, optimizer, 0)))
    step = make_step(detector, optimizer, rate, experiment.loss_weights, experiment.ema, measure_every=1000)
    batch = random_batch(4, side=128, width=64)
    batch.mask[1:3] = False  # shards are unlike
    batch = batch._replace(boxes=batch.boxes.astype(float))
    found = []
    for mesh in (device_mesh(1), device_mesh(8, spatial=2)):
        shardings = state_sharding(state, mesh)
        with compiled_quickly():
            run = jit_step(step, mesh, shardings)
        after, metrics = run(jax.device_put(state, shardings), jax.device_put(batch, batch_sharding(mesh)))
        leaves = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(after.params)]
        found.append([np.array([metrics["loss"]]), np.array([metrics["gradient_norm"]]), *leaves])
    apart = [float(np.linalg.norm(a - b) / (np.linalg.norm(a) + 1e-9)) for a, b in zip(*found, strict=True)]
    moved = float(distance(state.params, found[0][2:]))
    return {"loss": apart[0], "gradient_norm": apart[1], "parameters": max(apart[2:]), "moved": moved}


def distance(before, after):
    """Norm of the change of all parameters."""
    leaves = jax.tree.leaves(before)
    return np.sqrt(sum(np.sum((np.ravel(a) - b) ** 2) for a, b in zip(leaves, after, strict=True)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(TOLERANCE))
def test_a_step_of_the_network_is_that_of_one_device(kind):
    apart = on_devices(8, compare, kind, double=True)
    assert apart.pop("moved") > 1e-3
    assert max(apart.values()) < TOLERANCE[kind], apart
