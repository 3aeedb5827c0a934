"""One training step: donated, compiled once, without hidden transfers; averages; bad steps."""

from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from data_pipeline import TrainLoader, prefetch
from tests.compiling import compiled_quickly
from tests.training.toy import bits, random_batch, toy_detector_with, toy_experiment
from ugs_jax.experiment import Stabilize
from ugs_jax.objectives import UGS
from ugs_jax.runs import create_state, device_mesh
from ugs_jax.stabilize import UncertaintyLimitState
from ugs_jax.training import jit_step, make_step
from ugs_jax.training.step import first_non_finite, make_finite_check

ANCHORS = (((4.0, 5.0), (7.0, 6.0), (9.0, 12.0)), ((12.0, 9.0), (14.0, 20.0), (22.0, 16.0)), ((24.0, 30.0),) * 3)


def build(devices=1, stabilize=None, localization=None):
    """The toy detector's step over the first devices, and how to make its first state."""
    experiment = toy_experiment(localization)
    experiment = replace(experiment, optimizer=replace(experiment.optimizer, stabilize=stabilize))
    detector = toy_detector_with(experiment, ANCHORS, 3)
    rate = experiment.optimizer.schedule.build(3, 6)
    optimizer = experiment.optimizer.build(rate)
    mesh = device_mesh(devices)
    with compiled_quickly():
        step = jit_step(make_step(detector, optimizer, rate, experiment.loss_weights, experiment.ema), mesh)
    state = lambda: jax.device_put(create_state(detector, optimizer, 0), NamedSharding(mesh, P()))  # noqa: E731
    return SimpleNamespace(experiment=experiment, detector=detector, mesh=mesh, step=step, state=state)


@pytest.fixture(scope="module")
def built():
    return build()


def on(mesh, batch):
    return jax.device_put(batch, NamedSharding(mesh, P("data")))


def test_steps_after_the_second_neither_compile_nor_transfer_implicitly(built):
    compilations = []

    def note(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compilations.append(event)

    loader = TrainLoader(built.experiment.data.open("train"), built.experiment.loader)
    batches = prefetch(loader.batches(), NamedSharding(built.mesh, P("data")))
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        with closing(batches):
            state, pending = built.state(), []
            for _ in range(2):
                state, _ = built.step(state, next(batches))
            before, programs = len(compilations), built.step._cache_size()
            with jax.transfer_guard("disallow"):
                for _ in range(4):
                    state, metrics = built.step(state, next(batches))
                    pending.append(metrics)
                rows = jax.device_get(pending)
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert all(isinstance(value, jax.Array) for metrics in pending for value in metrics.values())
    assert len(compilations) == before > 0
    assert built.step._cache_size() == programs == 1
    assert [int(row["bad_step"]) for row in rows] == [-1] * 4


@pytest.mark.slow
def test_a_stabilizer_is_one_line_of_a_config_and_its_work_is_logged(built):
    assert "step_scale" not in built.step(built.state(), on(built.mesh, random_batch(4)))[1]
    stable = build(stabilize=Stabilize(every=1, fraction=0.01))  # so that every step that descends is shortened
    state, plain = stable.state(), built.state()
    _, without = built.step(plain, on(built.mesh, random_batch(4)))
    state, metrics = stable.step(state, on(stable.mesh, random_batch(4)))
    scale = float(metrics["step_scale"])
    assert scale < 1
    assert float(metrics["update_norm"]) == pytest.approx(scale * float(without["update_norm"]), rel=1e-4)
    assert float(metrics["step_curvature"]) > 0
    _, metrics = stable.step(state, on(stable.mesh, random_batch(4)))
    assert int(metrics["steps_limited"]) + int(metrics["steps_uphill"]) == 2
    assert stable.step._cache_size() == 1


def without_boxes(batch):
    return batch._replace(mask=np.zeros_like(batch.mask), boxes=np.zeros_like(batch.boxes))


@pytest.mark.slow
def test_batches_without_positives_do_not_count_in_the_running_mean_of_the_uncertainty():
    """An uncertainty of 0 counted: after an empty first batch the next steps were scaled by 0, 0.01, and so on."""
    stable = build(stabilize=Stabilize(), localization=UGS())
    state, seen, scales = stable.state(), [], []
    for step in range(4):
        batch = random_batch(4)
        state, metrics = stable.step(state, on(stable.mesh, batch if step % 2 else without_boxes(batch)))
        seen.append(float(metrics["uncertainty"]))
        scales.append(float(metrics["step_scale"]))
    assert np.isnan(seen).tolist() == [True, False, True, False]
    np.testing.assert_allclose(scales, 1, rtol=0.05)  # the entropy of a fresh network moves by a few per cent
    (limit,) = (part for part in jax.tree.leaves(state.opt_state, is_leaf=_is_limit) if _is_limit(part))
    assert int(limit.count) == 2
    assert float(limit.uncertainty) == pytest.approx(seen[1], rel=0.05)
    assert int(state.bad_step) == -1


def _is_limit(node):
    return isinstance(node, UncertaintyLimitState)


def test_the_state_is_donated(built):
    before = built.state()
    after, _ = built.step(before, on(built.mesh, random_batch(4)))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((before.params, before.opt_state, before.ema_params)))
    assert int(after.step) == 1


def test_averages_follow_the_ramped_decay(built):
    state = built.state()
    ema = jax.device_get((state.ema_params, state.ema_stats))
    for count in range(1, 4):
        state, _ = built.step(state, on(built.mesh, random_batch(4, seed=count)))
        decay = 0.9 * (1 - np.exp(-count / 2.0))
        now = jax.device_get((state.params, state.stats))
        ema = jax.tree.map(lambda old, new, d=decay: d * old + (1 - d) * new, ema, now)
        for got, want in zip(jax.tree.leaves((state.ema_params, state.ema_stats)), jax.tree.leaves(ema), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_after_a_bad_step_nothing_but_the_count_changes(built):
    state = built.state()
    state, _ = built.step(state, on(built.mesh, random_batch(4)))
    poisoned = state._replace(params=jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), state.params))
    before = bits(jax.tree.map(jnp.copy, poisoned)[2:])
    poisoned, metrics = built.step(poisoned, on(built.mesh, random_batch(4)))
    assert not np.isfinite(metrics["loss"])
    assert int(metrics["bad_step"]) == 1
    poisoned, metrics = built.step(poisoned, on(built.mesh, random_batch(4, seed=5)))
    assert int(metrics["bad_step"]) == 1  # the first
    assert int(poisoned.step) == 3
    assert bits(poisoned[2:]) == before


def with_leaves(params, values, place=""):
    """Parameters of which some arrays, by path, have one value everywhere."""
    if not isinstance(params, dict):
        return jnp.full_like(params, values[place]) if place in values else params
    return {name: with_leaves(leaf, values, f"{place}/{name}".lstrip("/")) for name, leaf in params.items()}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"level1/localizer/kernel": np.nan}, "parameters level1/localizer/kernel"),
        ({"level2/scores/bias": np.inf}, "parameters level2/scores/bias"),
        # Finite, and too large for what comes after.
        ({"level1/features/bias": 100.0, "level1/scores/kernel": 3e38}, "outputs 1/classes"),
    ],
)
def test_the_first_tensor_that_is_not_finite_is_named(built, values, named):
    state = built.state()
    poisoned = state._replace(params=with_leaves(state.params, values))
    with compiled_quickly():
        check = jax.jit(make_finite_check(built.detector, built.experiment.loss_weights))
    assert first_non_finite(check(poisoned, random_batch(4))) == named
    for batch in (random_batch(4), without_boxes(random_batch(4))):
        assert first_non_finite(check(state, batch)) == "the update, by the optimizer"
