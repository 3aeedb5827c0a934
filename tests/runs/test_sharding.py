"""Training over a mesh equals training on one device, with batches, image rows and the state split."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from data_pipeline import LoaderOptions
from tests.compiling import compiled_quickly
from tests.several_devices import on_devices
from tests.training.toy import ConvDetector, random_batch, toy_experiment
from ugs_jax import losses
from ugs_jax.experiment import SGD, Parallel, Schedule, detector_with
from ugs_jax.objectives import UGS, BoxRegression, Refinement
from ugs_jax.runs import create_state, device_mesh
from ugs_jax.runs.sharding import (
    batch_sharding,
    check_sizes,
    data_share,
    evaluation_shape,
    share_of,
    state_sharding,
)
from ugs_jax.training import jit_step, make_step

ANCHORS = (((4.0, 5.0), (7.0, 6.0), (9.0, 12.0)), ((12.0, 9.0), (14.0, 20.0), (22.0, 16.0)), ((24.0, 30.0),) * 3)
STEPS, IMAGES, HEIGHT, WIDTH, LAYERS = 3, 8, 256, 64, 9  # rows for eight devices at stride 32
WITH_UR, L2 = UGS(refinement=Refinement()), BoxRegression(losses.l2, space="offsets")
LAYOUTS = {
    "float64": {
        "one device": (1, 1, "nothing", WITH_UR),
        "data 8, optimizer in parts": (8, 1, "optimizer", WITH_UR),
        "data 4, spatial 2, state in parts": (8, 2, "state", WITH_UR),
        "spatial 8": (8, 8, "nothing", WITH_UR),
        "one device, batches in two parts": (1, 1, "nothing", L2, 2),
        "data 4, spatial 2, batches in two parts": (8, 2, "nothing", L2, 2),
    },
    "float32": {  # the compiler has been wrong about rows in parts in float32 only
        "one device": (1, 1, "nothing", L2),
        "data 8": (8, 1, "nothing", L2),
        "data 4, spatial 2": (8, 2, "nothing", L2),
        "spatial 8": (8, 8, "nothing", L2),
    },
}
# To rounding; in float32, how far sums in another order can lie apart: of n terms about √n units of rounding, n at most
# the pixels that the first layer's batch statistics run over, in every layer of every step.
TOLERANCE = {
    "float64": 1e-11,
    "float32": STEPS * LAYERS * np.sqrt(IMAGES * HEIGHT / 2 * WIDTH / 2) * np.finfo(np.float32).eps / 2,
}


def train_everywhere(dtype):
    """What a few steps come to in every layout; in a process with 8 devices."""
    with compiled_quickly():
        return {name: steps(*layout) for name, layout in LAYOUTS[dtype].items()}


def precision():
    return jnp.float64 if jax.config.jax_enable_x64 else jnp.float32


@functools.lru_cache
def step_and_state(localization, accumulate):
    """Of one objective, the same for all layouts."""
    experiment = toy_experiment(localization, optimizer=SGD(Schedule(0.05, warmup_epochs=0.0), weight_decay=0.01))
    real = detector_with(experiment, ANCHORS, 3)
    detector = ConvDetector(replace(real.arch, dtype=precision()), real.localization)
    rate = experiment.optimizer.schedule.build(STEPS, 10 * STEPS)
    optimizer = experiment.optimizer.build(rate)
    step = make_step(
        detector, optimizer, rate, experiment.loss_weights, experiment.ema, measure_every=STEPS, accumulate=accumulate
    )
    state = jax.tree.map(
        lambda leaf: leaf.astype(precision()) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
        create_state(detector, optimizer, 0),
    )
    return step, jax.device_get(state)


def steps(devices, spatial, split, localization, accumulate=1):
    mesh = device_mesh(devices, spatial)
    step, state = step_and_state(localization, accumulate)
    shardings = state_sharding(state, mesh, split, least=1)
    run = jit_step(step, mesh, shardings)
    state = jax.device_put(state, shardings)
    rows = []
    for seed in range(STEPS):
        batch = random_batch(IMAGES, side=HEIGHT, width=WIDTH, seed=seed)
        batch.mask[1:7] = False  # shards are unlike: of most images there is nothing to localize
        batch = batch._replace(boxes=batch.boxes.astype(precision()))
        state, metrics = run(state, jax.device_put(batch, batch_sharding(mesh)))
        rows.append({name: float(value) for name, value in metrics.items()})
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    arrays = [np.asarray(leaf, np.float64).ravel().tolist() for leaf in jax.tree.leaves(state)]
    return {"rows": rows, "state": arrays, "bytes": held}


@pytest.fixture(scope="module")
def trained():
    """By precision, which JAX fixes for a process, and layout."""
    return {dtype: on_devices(8, train_everywhere, dtype, double=dtype == "float64") for dtype in LAYOUTS}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "layout"), [(dtype, name) for dtype in LAYOUTS for name in LAYOUTS[dtype] if not name.startswith("one")]
)
def test_every_layout_gives_the_steps_of_one_device(trained, dtype, layout):
    parts = ", batches in two parts" if "batches" in layout else ""
    one, other, tolerance = trained[dtype][f"one device{parts}"], trained[dtype][layout], TOLERANCE[dtype]
    for want, got in zip(one["rows"], other["rows"], strict=True):
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=tolerance, err_msg=name)
    for want, got in zip(one["state"], other["state"], strict=True):
        assert np.linalg.norm(np.subtract(want, got)) <= tolerance * np.linalg.norm(want) + 1e-12


@pytest.mark.slow
def test_the_steps_do_train(trained):
    first, *_, last = trained["float64"]["one device"]["rows"]
    assert first["gradient_norm"] > 0.1
    assert abs(first["loss"] - last["loss"]) > 1e-3
    assert first["positives"] > 0.5


@pytest.mark.slow
def test_parts_along_data_need_less_memory(trained):
    held = {name: layout["bytes"] for name, layout in trained["float64"].items()}
    assert held["spatial 8"] == held["one device"]
    assert held["data 8, optimizer in parts"] < 0.9 * held["one device"]
    assert held["data 4, spatial 2, state in parts"] < 0.6 * held["one device"]


@pytest.mark.parametrize(
    ("batch_size", "height", "shape", "accumulate", "message"),
    [
        (6, 64, (4, 1), 1, r"batch_size: expected a multiple of the 4 devices that split a batch .* got 6; try 8"),
        (8, 64, (4, 1), 4, r"a multiple of the 4 devices .* times accumulate 4, got 8; try 16, a smaller accumulate"),
        (8, 96, (2, 2), 1, r"image_size: expected a height that is a multiple of 64, .* got 96; try 128"),
    ],
)
def test_sizes_that_the_devices_cannot_split_evenly_are_refused(batch_size, height, shape, accumulate, message):
    options = LoaderOptions(image_size=(height, 64), batch_size=batch_size)
    with pytest.raises(ValueError, match=message):
        check_sizes(options, AbstractMesh(shape, ("data", "spatial")), accumulate)


def test_a_mesh_has_as_many_bands_as_the_devices_allow():
    assert dict(device_mesh(1, spatial=8).shape) == {"data": 1, "spatial": 1}
    with pytest.raises(ValueError, match=r"Parallel\.spatial: expected at least 1, got 0"):
        Parallel(spatial=0)


@pytest.mark.parametrize(
    ("batch_size", "height", "spatial", "devices", "shape"),
    [
        (16, 640, 1, 8, (8, 1)),
        (4, 640, 1, 8, (4, 1)),  # four devices have nothing to do
        (1, 1536, 8, 8, (1, 8)),
        (1, 1536, 8, 1, (1, 1)),
        (6, 1536, 4, 8, (2, 4)),
        (8, 96, 2, 8, (8, 1)),  # three rows of cells at the coarsest stride are not halved
        (3, 64, 1, 4, (1, 1)),
    ],
)
def test_a_run_is_scored_on_the_available_devices(batch_size, height, spatial, devices, shape):
    assert evaluation_shape(LoaderOptions((height, 64), batch_size), spatial, devices) == shape


@pytest.mark.parametrize(
    ("owners", "shares"),
    [
        ([[0, 0], [0, 0]], [(0, 1)]),
        ([[0, 0], [1, 1]], [(0, 2), (1, 2)]),  # a band each for the devices of a process
        ([[0], [0], [1], [1]], [(0, 2), (1, 2)]),
        ([[0, 1], [2, 3]], [(0, 2), (0, 2), (1, 2), (1, 2)]),  # images over two processes, which load the same
        ([[0, 0, 1, 1]], [(0, 1), (0, 1)]),
        ([[0], [1], [0], [1]], [(0, 2), (1, 2)]),
    ],
)
def test_processes_load_what_their_devices_hold(owners, shares):
    assert [share_of(process, np.array(owners)) for process in range(len(shares))] == shares


@pytest.mark.parametrize("owners", [[[0, 0, 1], [1, 2, 2]], [[0], [0], [1]]])
def test_processes_with_unequal_parts_are_refused(owners):
    with pytest.raises(ValueError, match="expected processes that hold the same number of images"):
        share_of(0, np.array(owners))


def test_a_single_process_loads_everything():
    assert data_share(device_mesh()) == (0, 1)
