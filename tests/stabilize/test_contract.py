"""The contract of an optax transformation, over a table of base optimizers (numbers refer to the contract's lines)."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from tests.flags import with_devices
from ugs_jax.stabilize import (
    limit_by_curvature,
    limit_by_uncertainty,
    limit_by_value,
    stabilize_loss,
    ugs_stabilize,
)

BASES = {
    "sgd": lambda: optax.sgd(0.1),
    "momentum": lambda: optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(0.1),
    "adamw": lambda: optax.adamw(0.1),
    "lion": lambda: optax.lion(0.05),
    "adafactor": lambda: optax.adafactor(0.1, min_dim_size_to_factor=2),
    "muon": lambda: optax.contrib.muon(0.1),
    "schedule_free": lambda: optax.contrib.schedule_free_adamw(0.1),
    "sophia": lambda: optax.contrib.sophia(0.1),
}
MEMBERS = {
    "ugs_stabilize": ugs_stabilize,
    "limit_by_curvature": limit_by_curvature,
    "limit_by_uncertainty": limit_by_uncertainty,
    "limit_by_value": limit_by_value,
}
EXTRAS = {"curvature": 2.0, "uncertainty": 0.4}


def parameters(dtype=jnp.float32):
    return {"kernel": jnp.asarray([[1.0, -2.0], [0.5, 3.0]], dtype), "bias": jnp.asarray([0.3, -0.7], dtype)}


def loss(params):
    return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params))


def chain(base, *members):
    return optax.chain(optax.with_extra_args_support(BASES[base]()), *members)


def one_update(tx, params, state, **extra):
    grads = jax.grad(loss)(params)
    given = {"grad": grads, "value": loss(params), "value_fn": loss, "obj_fn": loss, **extra}
    return tx.update(grads, state, params, **given)


@pytest.mark.parametrize("base", BASES)
def test_it_shortens_and_never_turns_the_step_of_any_base(base):  # 1
    params, plain, tx = parameters(), chain(base), chain(base, ugs_stabilize(0.5))
    wanted, _ = one_update(plain, params, plain.init(params), **EXTRAS)
    found, state = jax.jit(lambda p, s: one_update(tx, p, s, **EXTRAS))(params, tx.init(params))
    scale = float(state[-1].scale)
    assert 0 <= scale <= 1
    for name, leaf in wanted.items():
        np.testing.assert_allclose(found[name], scale * leaf, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("base", BASES)
def test_at_a_tenfold_learning_rate_no_step_that_descends_raises_the_loss(base):
    """The loss after every step is at most that before, or the step is counted as uphill and was not touched."""
    if base == "schedule_free":
        pytest.skip("iterates of its own: the limit belongs inside, see test_iterates.py")
    tx = optax.chain(
        optax.with_extra_args_support(BASES[base]()), optax.scale(10.0), ugs_stabilize(obj_fn=loss, every=1)
    )
    params = parameters()
    state, values, uphill = tx.init(params), [float(loss(params))], [0]
    for _ in range(4):
        updates, state = one_update(tx, params, state)
        params = optax.apply_updates(params, updates)
        values.append(float(loss(params)))
        uphill.append(int(state[-1].uphill))
    descends = np.diff(uphill) == 0
    assert descends[0]
    assert np.all(np.diff(values)[descends] <= 1e-5 * values[0])


@pytest.mark.parametrize("name", MEMBERS)
def test_it_takes_extra_arguments_and_ignores_unknown_ones(name):  # 1
    tx = MEMBERS[name]()
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    params = parameters()
    tx.update(params, tx.init(params), params, mystery=object(), another=3)
    tx.update(params, tx.init(params))


WRAPPERS = {
    "chain": lambda tx: optax.chain(optax.identity(), tx),
    "named_chain": lambda tx: optax.named_chain(("base", optax.sgd(1.0)), ("limit", tx)),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 2),
    "conditionally_transform": lambda tx: optax.conditionally_transform(tx, lambda count: count >= 0),
    "flatten": lambda tx: optax.flatten(tx),
    "masked": lambda tx: optax.masked(tx, {"kernel": True, "bias": True}),
    "partition": lambda tx: optax.partition({"all": tx}, {"kernel": "all", "bias": "all"}),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 1),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_forward_the_extra_arguments(wrapper):  # 3
    params = parameters()
    tx = WRAPPERS[wrapper](limit_by_uncertainty())
    updates = jax.tree.map(lambda leaf: -leaf, params)
    state = tx.init(params)
    _, state = tx.update(updates, state, params, uncertainty=0.1)
    found, state = tx.update(updates, state, params, uncertainty=0.4)
    ratio = float(found["bias"][0] / updates["bias"][0])
    assert abs(ratio) == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("curvature", [4.0, jax.tree.map(lambda leaf: jnp.full_like(leaf, 4.0), parameters())])
def test_a_mask_excludes_parameters_also_with_full_gradients_and_curvatures(curvature):  # 5
    params = parameters()
    tx = optax.masked(limit_by_curvature(), {"kernel": True, "bias": False})
    grads = jax.grad(loss)(params)
    updates = jax.tree.map(lambda g: -g, grads)
    found, _ = tx.update(updates, tx.init(params), params, grad=grads, curvature=curvature)
    np.testing.assert_array_equal(found["bias"], updates["bias"])
    np.testing.assert_allclose(found["kernel"], updates["kernel"] / 4, rtol=1e-6)


@pytest.mark.parametrize("name", ["lookahead", "sam"])
def test_the_wrappers_that_take_no_extra_arguments_are_those_documented(name):  # 3
    params = parameters()
    if name == "lookahead":
        tx = optax.lookahead(ugs_stabilize(), 5, 0.5)
        params = optax.LookaheadParams.init_synced(params)
    else:
        tx = optax.contrib.sam(ugs_stabilize(), optax.sgd(0.1))
    with pytest.raises(TypeError):
        tx.update(params, tx.init(params), params, uncertainty=0.1)


def test_accumulation_outermost_uses_the_extras_of_the_last_micro_batch():  # 4
    params = parameters()
    tx = optax.MultiSteps(optax.chain(optax.sgd(1.0), ugs_stabilize()), 2)
    grads, state = jax.grad(loss)(params), tx.init(params)
    for curvature in (1e9, 2.0):
        updates, state = tx.update(grads, state, params, grad=grads, curvature=curvature)
    np.testing.assert_allclose(updates["bias"], -grads["bias"] / 2, rtol=1e-5)


@pytest.mark.parametrize("name", ["ugs_stabilize", "limit_by_curvature"])
def test_all_numbers_may_be_injected_without_naming_static_ones(name):  # 6
    """optax makes tracers of defaults, too: `every` is one."""
    params = parameters()
    tx = optax.inject_hyperparams(MEMBERS[name])(fraction=0.5)
    assert "every" in tx.init(params).hyperparams
    updates, state = jax.tree.map(jnp.negative, params), tx.init(params)
    step = jax.jit(lambda state: tx.update(updates, state, params, grad=params, value_fn=loss))
    found, state = step(state)
    np.testing.assert_allclose(found["bias"], -0.5 * params["bias"] / 2, rtol=1e-6)  # s* = 1/2: H = 2
    step(state)


def test_injected_hyperparameters_may_be_tracers_and_schedules():  # 6
    params = parameters()
    tx = optax.inject_hyperparams(ugs_stabilize, static_args=("obj_fn", "every"))(
        fraction=0.5, power=optax.constant_schedule(2.0)
    )
    step = jax.jit(lambda state: tx.update(params, state, params, grad=params, uncertainty=0.3, curvature=1.0))
    _, state = step(tx.init(params))
    state.hyperparams["fraction"] = jnp.asarray(0.25)
    found, _ = step(state)
    assert jax.tree.structure(found) == jax.tree.structure(params)


@pytest.mark.parametrize("name", MEMBERS)
def test_the_state_is_flat_counts_in_int32_and_init_reads_no_values(name):  # 8
    tx, params = MEMBERS[name](), parameters()
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    state = tx.init(shapes)
    assert all(isinstance(leaf, jax.Array) and leaf.shape == () for leaf in state)
    assert state.count.dtype == jnp.int32
    assert jax.tree.structure(state) == jax.tree.structure(tx.init(params))
    full = state._replace(count=jnp.asarray(jnp.iinfo(jnp.int32).max))
    _, after = tx.update(params, full, params, grad=params, value=1.0, **EXTRAS)
    assert int(after.count) == jnp.iinfo(jnp.int32).max


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", MEMBERS)
def test_updates_keep_their_dtype_and_the_state_its_own(name, dtype):  # 9
    with jax.enable_x64(dtype == "float64"):
        tx, params = MEMBERS[name](), parameters(jnp.dtype(dtype))
        before = tx.init(params)
        grads = jax.grad(loss)(params)
        updates = jax.tree.map(lambda g: -g, grads)
        found, after = tx.update(updates, before, params, grad=grads, value=loss(params), value_fn=loss, **EXTRAS)
        found, after = tx.update(updates, after, params, grad=grads, value=loss(params), value_fn=loss, **EXTRAS)
    assert all(leaf.dtype == jnp.dtype(dtype) for leaf in jax.tree.leaves(found))
    assert [leaf.dtype for leaf in after] == [leaf.dtype for leaf in before]


def test_steps_do_not_recompile():  # 9
    tx = optax.chain(optax.adam(0.1), ugs_stabilize(every=2))
    traces = []

    @jax.jit
    def step(params, state, uncertainty, curvature):
        traces.append(1)
        updates, state = one_update(tx, params, state, uncertainty=uncertainty, curvature=curvature)
        return optax.apply_updates(params, updates), state

    params, state = parameters(), tx.init(parameters())
    for i in range(4):
        params, state = step(params, state, jnp.float32(0.1 * i + 0.1), jnp.float32(i + 1.0))
    assert len(traces) == 1


@pytest.mark.parametrize("name", MEMBERS)
def test_donated_buffers_are_fine(name):
    tx = optax.chain(optax.adam(0.1), MEMBERS[name]())

    def step(params, state):
        updates, state = one_update(tx, params, state, **EXTRAS)
        return optax.apply_updates(params, updates), state

    kept = jax.jit(step)(parameters(), tx.init(parameters()))
    given = jax.jit(step, donate_argnums=(0, 1))(parameters(), tx.init(parameters()))
    for one, two in zip(jax.tree.leaves(kept), jax.tree.leaves(given), strict=True):
        np.testing.assert_array_equal(one, two)


def test_members_of_a_vmapped_ensemble_are_limited_separately():
    tx = optax.chain(optax.sgd(1.0), ugs_stabilize(obj_fn=loss, every=2))
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, -leaf]), parameters())

    def step(params):
        return one_update(tx, params, tx.init(params), uncertainty=0.5)[0]

    together = jax.vmap(step)(many)
    for i in range(3):
        alone = step(jax.tree.map(lambda leaf, i=i: leaf[i], many))
        for name, leaf in alone.items():
            np.testing.assert_allclose(together[name][i], leaf, rtol=1e-6)


def test_the_per_box_transform_keeps_values_and_limits_gradients():
    widths = jnp.array([4.0, 16.0, 64.0, 256.0])

    def l2(boxes, targets):
        return jnp.sum(jnp.square((boxes - targets) / widths[:, None]), axis=-1)

    boxes, targets = jnp.zeros((4, 2)), jnp.ones((4, 2))
    limited = stabilize_loss(l2, max_curvature=2 / 32**2)
    np.testing.assert_array_equal(limited(boxes, targets), l2(boxes, targets))
    plain, found = (jax.jit(jax.grad(lambda b, f=f: f(b, targets).sum()))(boxes) for f in (l2, limited))
    scale = np.minimum(1, (2 / 32**2) / (2 / np.square(widths)))
    np.testing.assert_allclose(found, scale[:, None] * plain, rtol=1e-6)
    np.testing.assert_array_equal(found[2:], plain[2:])


ON_EIGHT = """
import functools, jax, jax.numpy as jnp, numpy as np, optax
from ugs_jax.stabilize import ugs_stabilize
assert jax.device_count() == 8
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
rng = np.random.default_rng(0)
a, y = rng.normal(size=(64, 3)).astype(np.float32), rng.normal(size=64).astype(np.float32)
tx = optax.chain(optax.sgd(5.0), ugs_stabilize(every=1))

@jax.jit
def step(x, state, a, y):
    loss = lambda p: jnp.mean((a @ p - y) ** 2)
    value, g = jax.value_and_grad(loss)(x)
    updates, state = tx.update(g, state, x, grad=g, value=value, value_fn=loss)
    return optax.apply_updates(x, updates), state

x = jnp.ones(3)
alone, one = step(x, tx.init(x), a, y)
shared, many = step(x, tx.init(x), jax.device_put(a, split), jax.device_put(y, split))
np.testing.assert_allclose(shared, alone, rtol=1e-4, atol=1e-5)  # sums in another order
np.testing.assert_allclose(many[-1].scale, one[-1].scale, rtol=1e-4)
assert float(one[-1].scale) < 1
"""


def test_on_eight_devices_the_limit_is_that_of_the_global_loss():
    flags = {"XLA_FLAGS": with_devices(8), "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", ON_EIGHT], env={**os.environ, **flags}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
