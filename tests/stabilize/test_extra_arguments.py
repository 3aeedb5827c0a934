"""Extra arguments that are missing, misspelt, of another shape, flattened, masked or complex."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from ugs_jax.stabilize import limit_by_curvature, limit_by_uncertainty, limit_by_value, ugs_stabilize

PARAMS = {"w": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}


def bowl(params):
    return 50 * jnp.sum(params["w"] ** 2) + params["b"] ** 2


GRADS = jax.grad(bowl)(PARAMS)


@pytest.mark.parametrize("tx", [ugs_stabilize(), limit_by_uncertainty()])
def test_an_uncertainty_with_axes_is_refused_before_it_changes_shapes(tx):
    with pytest.raises(ValueError, match=r"uncertainty: expected a scalar, got shape \(3,\); pass its mean"):
        tx.update(GRADS, tx.init(PARAMS), PARAMS, uncertainty=jnp.array([0.2, 0.3, 0.1]))


def test_a_value_with_axes_is_refused():
    tx = limit_by_value()
    with pytest.raises(ValueError, match=r"value: expected a scalar, got shape \(2,\)"):
        tx.update(GRADS, tx.init(PARAMS), PARAMS, grad=GRADS, value=jnp.ones(2))


@pytest.mark.parametrize("name", ["grad", "curvature"])
def test_trees_of_other_shapes_are_refused(name):
    tx = ugs_stabilize()
    extra = {"grad": GRADS, "curvature": 1.0}
    wrong = {**GRADS, "b": jnp.ones(3)}
    with pytest.raises(ValueError, match=rf"{name}: expected the shapes of the updates, \(\) at \['b'\], got \(3,\)"):
        tx.update(GRADS, tx.init(PARAMS), PARAMS, **(extra | {name: wrong}))
    with pytest.raises(ValueError, match=rf"{name}: expected a tree like the updates"):
        tx.update(GRADS, tx.init(PARAMS), PARAMS, **(extra | {name: {"w": GRADS["w"]}}))


def test_missing_or_misspelt_arguments_are_nan_in_the_state():
    tx = ugs_stabilize()
    updates = jax.tree.map(lambda g: -g, GRADS)
    state = tx.init(PARAMS)
    assert np.isnan(state.curvature)
    assert np.isnan(state.uncertainty)
    _, state = tx.update(updates, state, PARAMS, grad=GRADS, curvature=4.0, uncertainty=0.2)
    assert float(state.curvature) == 4.0
    assert float(state.uncertainty) == pytest.approx(0.2)
    _, state = tx.update(updates, state, PARAMS, grad=GRADS, curvatur=4.0, uncertanty=0.2)
    assert np.isnan(state.curvature)
    assert np.isnan(state.uncertainty)
    found, state = tx.update(updates, state, PARAMS, uncertainty=0.9)  # the mean starts again
    jax.tree.map(np.testing.assert_array_equal, found, updates)
    assert float(state.uncertainty) == pytest.approx(0.9)


def test_a_missing_required_argument_is_an_error():
    tx = ugs_stabilize(require=("grad", "uncertainty"))
    state = tx.init(PARAMS)
    tx.update(GRADS, state, PARAMS, grad=GRADS, uncertainty=0.1)
    with pytest.raises(ValueError, match="required extra arguments grad, uncertainty, got grad, uncertanty; pass unc"):
        tx.update(GRADS, state, PARAMS, grad=GRADS, uncertanty=0.1)
    with pytest.raises(ValueError, match=r"require: expected names among .* got 'uncertanty'"):
        ugs_stabilize(require=("uncertanty",))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ugs_stabilize(-0.5), r"fraction: expected a number in \(0, 2\), got -0.5"),
        (lambda: ugs_stabilize(2.0), "fraction: expected"),
        (lambda: ugs_stabilize(power=-1.0), r"power: expected a number in \[0, inf\), got -1.0"),
        (lambda: limit_by_uncertainty(decay=1.0), r"decay: expected a number in \[0, 1\)"),
        (lambda: limit_by_value(fraction=0.0), "fraction: expected"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("extra", [{"curvature": 200.0}, {"curvature": jax.tree.map(jnp.ones_like, PARAMS)}, {}])
def test_flattened_updates_are_limited_as_trees_are(extra):
    """`optax.flatten` hands on one vector, and the extra arguments as they are."""
    updates = jax.tree.map(lambda g: -10 * g, GRADS)
    extra = {"grad": GRADS, **(extra or {"value_fn": bowl})}
    plain, flat = ugs_stabilize(), optax.flatten(ugs_stabilize())
    wanted, state = plain.update(updates, plain.init(PARAMS), PARAMS, **extra)
    found, _ = flat.update(updates, flat.init(PARAMS), PARAMS, **extra)
    assert float(state.scale) < 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, wanted)


LABELS = {"w": "train", "b": "frozen"}


def test_frozen_parameters_take_no_part_with_the_limit_outside():
    tx = optax.chain(
        optax.partition({"train": optax.sgd(3.0), "frozen": optax.set_to_zero()}, LABELS), ugs_stabilize(every=1)
    )
    updates, state = tx.update(GRADS, tx.init(PARAMS), PARAMS, grad=GRADS, value_fn=bowl)
    assert float(updates["b"]) == 0
    assert float(optax.tree.get(state, "curvature")) == pytest.approx(100, rel=1e-6)
    np.testing.assert_allclose(optax.apply_updates(PARAMS, updates)["w"], 0, atol=1e-6)


@pytest.mark.parametrize("wrapper", ["partition", "masked"])
def test_inside_a_mask_a_function_of_whole_parameters_is_named_with_the_fix(wrapper):
    member = optax.chain(optax.sgd(3.0), ugs_stabilize(every=1))
    if wrapper == "partition":
        tx = optax.partition({"train": member, "frozen": optax.set_to_zero()}, LABELS)
    else:
        tx = optax.masked(member, {"w": True, "b": False})
    with pytest.raises(ValueError, match=r"value_fn: .*MaskedNode.* put the limit outside"):
        tx.update(GRADS, tx.init(PARAMS), PARAMS, grad=GRADS, value_fn=bowl)
    trained_only = lambda params: bowl({**PARAMS, "w": params["w"]})  # noqa: E731
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS, grad=GRADS, value_fn=trained_only)
    np.testing.assert_allclose(optax.apply_updates(PARAMS, updates)["w"], 0, atol=1e-6)


def test_an_error_of_the_function_itself_is_unchanged():
    def broken(params):
        raise TypeError("mine")

    tx = limit_by_curvature()
    with pytest.raises(TypeError, match="mine"):
        tx.update(GRADS, tx.init(PARAMS), PARAMS, grad=GRADS, value_fn=broken)


@pytest.mark.parametrize("source", ["curvature", "value_fn"])
def test_complex_parameters_descend_to_the_minimum_of_their_parabola(source):
    """With optax's convention, the conjugate of `jax.grad`'s; the curvature of Σ 4|z|² is 8 in every direction."""
    loss = lambda z: 4 * jnp.sum(jnp.abs(z - (1 + 2j)) ** 2)  # noqa: E731
    z = jnp.array([3.0 - 1.0j, 0.5j])
    tx = optax.chain(optax.sgd(1.0), ugs_stabilize())
    grads = jnp.conj(jax.grad(loss)(z))
    updates, state = tx.update(grads, tx.init(z), z, grad=grads, **{source: 8.0 if source == "curvature" else loss})
    np.testing.assert_allclose(optax.apply_updates(z, updates), [1 + 2j, 1 + 2j], rtol=1e-5)
    assert updates.dtype == jnp.complex64
    assert float(optax.tree.get(state, "curvature")) == pytest.approx(8, rel=1e-5)


def test_the_curvature_of_a_complex_step_is_the_second_derivative_along_it():
    """A loss whose Hessian is not a multiple of one: Re(z²) counts the sign of the conjugate."""
    loss = lambda z: jnp.sum(jnp.real(z**2) + 3 * jnp.abs(z) ** 2 + jnp.imag(z) ** 4)  # noqa: E731
    z, u = jnp.array([1.0 + 2.0j, -0.3j]), jnp.array([-0.2 - 0.7j, 0.4 + 0.1j])
    along = lambda t: loss(z + t * u)  # noqa: E731
    wanted = jax.grad(jax.grad(along))(0.0) / jnp.sum(jnp.abs(u) ** 2)
    _, state = ugs_stabilize().update(u, ugs_stabilize().init(z), z, grad=jnp.conj(jax.grad(loss)(z)), value_fn=loss)
    assert float(state.curvature) == pytest.approx(float(wanted), rel=1e-5)


def test_a_product_that_is_not_finite_is_measured_again_at_the_next_update():
    """It used to switch the limit off for the rest of the window of `every` updates."""
    x = jnp.array([1.0])
    broken = lambda p: jnp.sum(p**2) * jnp.nan  # noqa: E731
    sound = lambda p: jnp.sum(p**2)  # noqa: E731
    tx = limit_by_curvature(every=100)
    found, state = tx.update(-9 * x, tx.init(x), x, grad=2 * x, value_fn=broken)
    np.testing.assert_array_equal(found, -9 * x)
    assert np.isnan(state.curvature)
    found, state = tx.update(-9 * x, state, x, grad=2 * x, value_fn=sound)
    np.testing.assert_allclose(found, -x, rtol=1e-6)
    assert float(state.curvature) == pytest.approx(2)


def test_batches_without_positives_do_not_count_in_the_running_mean():
    """They come as NaN. As 0 they made the scale 0, .01, .02 … after one empty first batch."""
    u, tx = jnp.array([1.0]), limit_by_uncertainty()
    state, scales = tx.init(u), []
    for step in range(50):
        _, state = tx.update(u, state, uncertainty=jnp.nan if step % 5 == 0 else 0.4)
        scales.append(float(state.scale))
    assert scales == [1.0] * 50
    assert float(state.uncertainty) == pytest.approx(0.4)
    assert int(state.count) == 40


def test_under_nnx_optimizer_the_function_takes_the_parameters_and_merges_the_model():
    """A function of the model fails, for the optimizer hands on an `nnx.State`; docs/stabilize.md has this pattern."""
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)), jnp.float32)
    optimizer = nnx.Optimizer(model, optax.chain(optax.sgd(50.0), ugs_stabilize()), wrt=nnx.Param)
    loss_of_model = lambda model: jnp.mean((model(x) - x.sum(1, keepdims=True)) ** 2)  # noqa: E731

    @nnx.jit
    def step(model, optimizer):
        value, grads = nnx.value_and_grad(loss_of_model)(model)
        graph, _, rest = nnx.split(model, nnx.Param, ...)
        loss_of_params = lambda given: loss_of_model(nnx.merge(graph, given, rest))  # noqa: E731
        optimizer.update(model, grads, grad=grads, value=value, value_fn=loss_of_params)
        return value

    values = [float(step(model, optimizer)) for _ in range(5)]
    assert np.all(np.diff(values) < 0)
    assert values[-1] < 0.01 * values[0]
