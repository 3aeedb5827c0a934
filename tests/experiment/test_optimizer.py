"""Optimizers: weight decay, learning-rate schedule and gradient clipping."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ugs_jax.detectors import TPH, TPHCBAM, Architecture, YOLOv5
from ugs_jax.experiment import SGD, AdamW, Schedule, Stabilize
from ugs_jax.experiment.optimizer import decayed
from ugs_jax.objectives import UGS

PARAMS = {
    "conv": {"kernel": jnp.full((3, 3, 2, 4), 2.0)},
    "linear": {"kernel": jnp.full((4, 5), 2.0), "bias": jnp.full(5, 2.0)},
    "norm": {"scale": jnp.full(4, 2.0), "bias": jnp.full(4, 2.0)},
}
ZERO = {name: {k: jnp.zeros_like(v) for k, v in layer.items()} for name, layer in PARAMS.items()}


def update(optimizer, gradient, rate=0.1):
    chain = optimizer.build(lambda _: rate)
    updates, _ = chain.update(gradient, chain.init(PARAMS), PARAMS)
    return updates


@pytest.mark.parametrize("optimizer", [AdamW(weight_decay=0.5), SGD(weight_decay=0.5)])
def test_without_a_gradient_only_kernels_move_towards_zero(optimizer):
    updates = update(optimizer, ZERO)
    for layer in updates.values():
        for name, value in layer.items():
            assert np.all(np.asarray(value) < 0) if name == "kernel" else np.all(np.asarray(value) == 0)
    # AdamW decays by rate · decay · weight; Nesterov's first step adds a share of momentum to it.
    factor = 1 if isinstance(optimizer, AdamW) else 1 + optimizer.momentum
    np.testing.assert_allclose(updates["linear"]["kernel"], -0.1 * 0.5 * 2 * factor, rtol=1e-6)


@pytest.mark.parametrize("network", [YOLOv5, TPH, TPHCBAM])
def test_the_network_has_decayed_kernels_and_nothing_else(network):
    from flax import nnx

    from ugs_jax.detectors import Detector

    levels = 3 if network is YOLOv5 else 4
    arch = Architecture("p", levels == 4, 3, (((4.0, 4.0),) * 3,) * levels, network=network)
    shape = Detector(arch, UGS())._shape
    masks = jax.tree_util.tree_leaves_with_path(decayed(nnx.to_pure_dict(nnx.as_pure(nnx.state(shape, nnx.Param)))))
    assert len(masks) > 100
    for path, decays in masks:
        assert decays == (path[-1].key == "kernel"), path


@pytest.mark.parametrize("optimizer", [AdamW(), SGD()])
def test_a_warm_up_climbs_to_the_peak_and_the_cosine_ends_at_its_final_share(optimizer):
    schedule = optimizer.schedule
    rate = schedule.build(steps_per_epoch=10, total_steps=100)
    warmup = round(schedule.warmup_epochs * 10)
    rates = np.array([float(rate(step)) for step in range(101)])
    np.testing.assert_allclose(rates[0], schedule.learning_rate / warmup, rtol=1e-6)
    np.testing.assert_allclose(rates[warmup], schedule.learning_rate, rtol=1e-6)
    np.testing.assert_allclose(np.diff(rates[: warmup + 1], 2), 0, atol=1e-8)  # linear, in float32
    assert np.all(np.diff(rates[warmup:]) < 0)
    middle = (warmup + 100) // 2
    np.testing.assert_allclose(rates[middle], schedule.learning_rate * (1 + schedule.final) / 2, rtol=0.02)
    np.testing.assert_allclose(rates[-1], schedule.learning_rate * schedule.final, rtol=1e-6)


@pytest.mark.parametrize(("epochs", "steps"), [(0.0, 10), (3.0, 2), (1.0, 1), (0.0, 1)])
def test_a_schedule_is_finite_and_positive_however_short_the_run(epochs, steps):
    rate = Schedule(0.1, warmup_epochs=epochs).build(steps_per_epoch=2, total_steps=steps)
    rates = np.array([float(rate(step)) for step in range(steps)])
    assert np.all((rates > 0) & (rates <= 0.1 * (1 + 1e-6)))
    if not epochs:
        np.testing.assert_allclose(rates[0], 0.1, rtol=1e-6)


def test_gradients_are_clipped_by_their_global_norm():
    gradient = {name: {k: jnp.ones_like(v) for k, v in layer.items()} for name, layer in PARAMS.items()}
    size = float(optax.tree.norm(gradient))
    plain = SGD(momentum=0.0, weight_decay=0.0, clip_norm=2.0)
    np.testing.assert_allclose(optax.tree.norm(update(plain, gradient, rate=1.0)), 2.0, rtol=1e-6)
    loose = SGD(momentum=0.0, weight_decay=0.0, clip_norm=2 * size)
    np.testing.assert_allclose(optax.tree.norm(update(loose, gradient, rate=1.0)), size, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every": 0}, "Stabilize.every"),
        ({"fraction": 2.0}, "Stabilize.fraction"),
        ({"power": -1.0}, "Stabilize.power"),
    ],
)
def test_stabilizer_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Stabilize(**changes)


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_the_stabilizer_acts_on_the_step_itself(kind):
    params, gradient = {"kernel": jnp.ones((2, 2))}, {"kernel": jnp.full((2, 2), 0.5)}
    plain, stable = (kind(stabilize=each).build(lambda _: 0.1) for each in (None, Stabilize()))
    step, _ = plain.update(gradient, plain.init(params), params)
    state = stable.init(params)
    _, state = stable.update(gradient, state, params, uncertainty=0.1)
    first, _ = stable.update(gradient, stable.init(params), params, uncertainty=0.1)
    np.testing.assert_array_equal(first["kernel"], step["kernel"])
    quiet, _ = plain.update(gradient, plain.update(gradient, plain.init(params), params)[1], params)
    spiked, _ = stable.update(gradient, state, params, uncertainty=0.4)
    np.testing.assert_allclose(spiked["kernel"], quiet["kernel"] / 4, rtol=1e-5)
