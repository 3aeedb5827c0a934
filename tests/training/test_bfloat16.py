"""Training in bfloat16: places of rounding, and agreement with float32 up to rounding."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from data_pipeline import LoaderOptions
from tests.compiling import compiled_quickly
from tests.training.toy import ConvDetector, random_batch, toy_experiment
from ugs_jax.experiment import SGD, Network, Schedule, detector_with
from ugs_jax.objectives import UGS, Refinement
from ugs_jax.planning.program import batch_shapes
from ugs_jax.runs import create_state, device_mesh
from ugs_jax.training.step import build_program

pytestmark = pytest.mark.slow

ANCHORS = (((4.0, 5.0), (7.0, 6.0), (9.0, 12.0)), ((12.0, 9.0), (14.0, 20.0), (22.0, 16.0)), ((24.0, 30.0),) * 3)
STEPS, LAYERS = 12, 9
UNIT = 2.0**-9  # of 8 significant bits: the largest relative error of one rounding
HALF = jnp.dtype("bfloat16")
# What the network is made of: products, activations (SiLU is x · logistic(x), its slope has 1 − logistic), pooling,
# and moving numbers about. No exp, log, root or power, and no sum but those in `summands`.
NETWORK = {"dot_general", "conv_general_dilated", "mul", "add", "add_any", "sub", "div", "logistic", "gt"}
MOVING = {"convert_element_type", "reshape", "broadcast_in_dim", "transpose", "pad", "slice", "split", "concatenate"}
MOVING |= {"rev", "select_n", "gather", "stop_gradient", "squeeze", "copy", "optimization_barrier"}


def experiment(dtype):
    return toy_experiment(
        UGS(refinement=Refinement()),
        network=Network("p", p2=False, dtype=dtype),
        loader=LoaderOptions(image_size=(64, 64), batch_size=4, max_boxes=6, max_ignore=2, threads=0),
        optimizer=SGD(Schedule(0.02, warmup_epochs=0.0)),
    )


def equations(jaxpr):
    """All that are computed, those of inner programs instead of their calls."""
    programs = lambda tree: [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, ClosedJaxpr | Jaxpr)]  # noqa: E731
    for equation in jaxpr.eqns:
        inner = programs(list(equation.params.values()))
        for program in inner:
            yield from equations(getattr(program, "jaxpr", program))
        if not inner:
            yield equation


def touches(equation, dtype):
    return any(getattr(value.aval, "dtype", None) == dtype for value in (*equation.invars, *equation.outvars))


def summands(equation):
    shape = equation.invars[0].aval.shape
    return math.prod(shape[axis] for axis in equation.params["axes"])


@pytest.fixture(scope="module")
def traced():
    """The step of the real network: its equations, and shapes and types of state and metrics."""
    half = experiment("bfloat16")
    program = build_program(half, detector_with(half, ANCHORS, 3), device_mesh(1), steps_per_epoch=3)
    jaxpr, shapes = jax.make_jaxpr(program.step, return_shape=True)(program.shapes, batch_shapes(half.loader))
    return list(equations(jaxpr.jaxpr)), shapes


def test_the_network_does_compute_in_bfloat16(traced):
    products = [each for each in traced[0] if each.primitive.name == "conv_general_dilated"]
    assert len(products) > 30
    assert all(touches(each, HALF) for each in products)


def test_only_products_activations_and_pooling_are_in_bfloat16(traced):
    """Not the softmax or any loss, no mean or variance of a batch, not the optimizer nor the averages."""
    names = {each.primitive.name for each in traced[0] if touches(each, HALF)}
    assert names - NETWORK - MOVING == {"reduce_sum"}
    sums = [summands(each) for each in traced[0] if touches(each, HALF) and each.primitive.name == "reduce_sum"]
    assert max(sums) == 4  # the gradient of doubling both sides of a map


def test_statistics_scales_and_biases_are_not_rounded_in_training_or_use(traced):
    """All of them, and nothing else, are vectors."""
    detector = detector_with(experiment("bfloat16"), ANCHORS, 3)
    use = lambda *arguments: detector.apply(*arguments, train=False)[0]  # noqa: E731
    state, images = traced[1][0], jnp.zeros((1, 64, 64, 3), jnp.uint8)
    in_use = list(equations(jax.make_jaxpr(use)(state.params, state.stats, images).jaxpr))
    assert any(touches(each, HALF) for each in in_use)
    for each in (*traced[0], *in_use):
        assert not [v for v in each.outvars if v.aval.ndim == 1 and v.aval.dtype == HALF], each


def test_the_program_has_exponentials_logarithms_roots_and_sums_in_float32(traced):
    names = {each.primitive.name for each in traced[0] if touches(each, jnp.dtype("float32"))}
    assert {"exp", "log", "log1p", "rsqrt", "sqrt", "reduce_sum", "reduce_max"} <= names


def test_state_and_metrics_are_float32(traced):
    state, metrics = traced[1]
    for tree in (state.params, state.stats, state.opt_state, state.ema_params, state.ema_stats, metrics):
        kinds = {leaf.dtype for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)}
        assert kinds == {jnp.dtype("float32")}


def run(dtype):
    """Loss and positives of every step."""
    chosen = experiment(dtype)
    real = detector_with(chosen, ANCHORS, 3)
    detector = ConvDetector(real.arch, UGS(refinement=None))  # UR has a program of its own, as long to compile
    with compiled_quickly():
        program = build_program(chosen, detector, device_mesh(1), steps_per_epoch=STEPS)
    state, losses = create_state(detector, program.optimizer, 0), []
    for step in range(STEPS):
        state, metrics = program.step(state, random_batch(4, seed=step % 3))
        losses.append([float(metrics["loss"]), 4 * float(metrics["positives"])])
    return np.array(losses).T


@pytest.fixture(scope="module")
def runs():
    return run("float32"), run("bfloat16")


def test_losses_equal_those_of_float32_up_to_rounding(runs):
    """Independent roundings of the kernel, the inputs and the output of every layer; the loss is a mean over positives.

    So features are off by √(3 · layers) roundings of themselves, and the mean of n losses by 1/√n of that. Gradients
    are off by as much of themselves, and a step by less of the loss, because it changes less than all of it. The errors
    of k steps are independent as well, and their sum is √k times one of them.
    """
    (exact, positives), (half, _) = runs
    tolerance = math.sqrt(3 * LAYERS) * UNIT / np.sqrt(positives) * np.sqrt(np.arange(1, STEPS + 1))
    assert exact[-3:].mean() < 0.8 * exact[:3].mean()
    assert np.all(np.abs(half / exact - 1) < tolerance)
    assert np.any(half != exact)  # or both ran in float32
