"""ONNX Runtime computes from translated functions what JAX computes from the functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from tests.weights.onnx.running import run_model
from ugs_jax.detectors.blocks import folded_convolution, max_pool, norm_silu, upsample
from ugs_jax.weights.onnx.file import model_bytes
from ugs_jax.weights.onnx.fold import fold_channels
from ugs_jax.weights.onnx.graph import Graph
from ugs_jax.weights.onnx.tensors import Tensors
from ugs_jax.weights.onnx.translate import translate

pytest.importorskip("onnx")

RNG = np.random.default_rng(0)
MAP = RNG.normal(size=(2, 6, 8, 4)).astype(np.float32)
ROWS = RNG.normal(size=(2, 5, 3)).astype(np.float32)
WHOLE = RNG.integers(-9, 10, (2, 7), dtype=np.int32)
TABLE = RNG.normal(size=(6, 2)).astype(np.float32)
KERNEL = RNG.normal(size=(3, 3, 4, 5)).astype(np.float32)
TIES = np.float32([[3, 1, 3, 2, 3], [0, 0, 0, 0, 1]])
DIMS = ("NHWC", "HWIO", "NHWC")


def model_of(function, *inputs, free=True):
    """A model of a function of arrays that share their first axis, whose length is free or that of the inputs."""
    (batch,) = export.symbolic_shape("b") if free else (inputs[0].shape[0],)
    shapes = [jax.ShapeDtypeStruct((batch, *each.shape[1:]), each.dtype) for each in inputs]
    graph = Graph()
    tensors = Tensors(graph, "x0")
    given = {f"x{i}": tensors.tensor(f"x{i}", each.shape, each.dtype) for i, each in enumerate(shapes)}
    results = translate(tensors, jax.make_jaxpr(function)(*shapes), list(given.values()))
    outputs = {}
    for i, result in enumerate(results):
        name = graph.add("Identity", tensors.whole(result))
        outputs[f"y{i}"] = tensors.tensor(name, result.shape, result.dtype)
    graph.prune(each.name for each in outputs.values())
    fold_channels(graph, {each.name for each in outputs.values()})
    return graph, model_bytes(graph, given, outputs, {})


def check(function, *inputs, free=True, rtol=1e-5, atol=1e-5):
    graph, data = model_of(function, *inputs, free=free)
    found = run_model(data, **{f"x{i}": each for i, each in enumerate(inputs)})
    for i, want in enumerate(jax.tree.leaves(jax.jit(function)(*inputs))):
        assert found[f"y{i}"].dtype == want.dtype
        np.testing.assert_allclose(found[f"y{i}"], want, rtol=rtol, atol=atol)
    return [node.operator for node in graph.nodes]


def conv(x, kernel, **options):
    options = {"window_strides": (1, 1), "padding": ((0, 0), (0, 0))} | options
    return lax.conv_general_dilated(x, kernel, dimension_numbers=DIMS, **options)


FUNCTIONS = {
    "arithmetic": (lambda x: (x + 1) * x - x / 3 + jnp.exp(-(x**2)) + x**3 + lax.integer_pow(x + 9, -2), ROWS),
    "functions": (
        lambda x: [f(x) for f in (jnp.tanh, jax.nn.sigmoid, jnp.sin, jnp.cos, jnp.abs, jnp.sign, jnp.floor, jnp.ceil)],
        ROWS,
    ),
    "functions above 0": (
        lambda x: [f(jnp.abs(x) + 0.1) for f in (jnp.log, jnp.sqrt, lax.rsqrt, jnp.log1p, jnp.expm1)],
        ROWS,
    ),
    "error functions": (lambda x: [lax.erf(x), lax.erfc(x), jax.nn.gelu(x, approximate=False)], ROWS),
    "comparisons": (lambda x: [x > 0.1, x < 0.1, x >= x, x <= 0, x == x[:, :1], x != x[:, :1]], ROWS),
    "logic": (lambda x: ((x > 0) & (x < 1)) | ~(x > -1) ^ (x > 2), ROWS),
    "selection": (lambda x: jnp.where(x > 0, x, jnp.where(x[:, :, :1] < 0, 7.0, -x)), ROWS),
    "clip": (lambda x: [jnp.clip(x, -0.5, 0.5), lax.clamp(-0.1, x, 0.2)], ROWS),
    "integers": (lambda x: [x // 4, x % 4, x // -3, x % -3, lax.div(x, jnp.int32(4)), lax.rem(x, jnp.int32(4))], WHOLE),
    "types": (lambda x: [x.astype(jnp.float32) / 2, (x > 0).astype(jnp.int32)], WHOLE),
    "finite numbers": (lambda x: [jnp.isfinite(1 / x), jnp.isfinite(jnp.log(x))], TIES),
    "softmax": (lambda x: [jax.nn.softmax(x, axis=1), jax.nn.logsumexp(x, axis=-1)], ROWS),
    "reductions": (lambda x: [x.sum((1, 2)), x.max(1), x.min(-1), x.mean(2), jnp.argmax(x, 1)], ROWS),
    "new axes": (lambda x: x[:, None, :, :, None] + jnp.arange(4.0)[:, None, None, None], ROWS),
    "repeats": (lambda x: jnp.broadcast_to(x[:, :, None], (x.shape[0], 5, 2, 3)).sum(2), ROWS),
    "constants of every row": (lambda x: jnp.concatenate([x, jnp.full_like(x, 2.0), jnp.ones_like(x)], 1), ROWS),
    "positions": (lambda x: lax.broadcasted_iota(jnp.int32, x.shape, 1) + x.astype(jnp.int32), ROWS),
    "shapes": (lambda x: x.reshape(-1, 15).reshape(-1, 3, 5).transpose(0, 2, 1)[:, :, None].squeeze(2), ROWS),
    "joins": (lambda x: [jnp.stack([x, 2 * x], 1), jnp.stack([x[..., 0], x[..., 1]], -1)], ROWS),
    "parts": (lambda x: [x[:, 1:4], x[:, ::2], x[..., -1], x[:, None, 2], jnp.split(x, 3, -1)[1]], ROWS),
    "margins": (lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 0)), constant_values=-jnp.inf), ROWS),
    "negative margins": (lambda x: lax.pad(x, 0.0, [(0, 0, 0), (-1, 2, 0), (0, -1, 0)]), ROWS),
    "roll": (lambda x: jnp.roll(x, (2, -1), (1, 2)), ROWS),
    "the largest, first of equal ones": (lambda x: lax.top_k(x, 3), TIES),
    "rows of a table": (lambda x: jnp.asarray(TABLE)[jnp.clip(x, 0, 5)], WHOLE),
    "rows clipped": (lambda x: jnp.take(jnp.asarray(TABLE), x, axis=0, mode="clip"), WHOLE),
    "rows that may be missing": (lambda x: jnp.take(jnp.asarray(TABLE), x, axis=0, mode="fill"), WHOLE),
    "columns": (lambda x: jnp.take(x, jnp.array([[2, 0], [1, 1]]), axis=2, mode="clip"), ROWS),
    "elements along an axis": (
        lambda x, i: [
            jnp.take_along_axis(x, i[..., None], axis=1, mode=mode) for mode in ("clip", "fill", "promise_in_bounds")
        ],
        ROWS,
        np.int32([[0, 4, 2, 2], [1, 1, 0, 3]]),
    ),
    "elements of one image": (
        lambda x, i: jnp.take_along_axis(x[:1, :, :, None], i[:1, :, None, None], axis=2),
        ROWS,
        np.int32([[0, 2, 1, 1, 0], [0] * 5]),
    ),
    "elements that are missing": (lambda x, i: jnp.take_along_axis(x, i, axis=1), ROWS[..., 0], np.int32([[9], [-1]])),
    "products": (lambda x: x @ TABLE[:3] @ TABLE[:2].T[:2], ROWS),
    "products of pairs": (lambda x: jnp.einsum("bij,bkj->bki", x, x), ROWS),
    "attention": (lambda x: jax.nn.dot_product_attention(x[:, :, None], x[:, :, None], x[:, :, None]), ROWS),
    "convolution": (lambda x: conv(x, KERNEL), MAP),
    "strides and margins": (lambda x: conv(x, KERNEL, window_strides=(2, 1), padding=((1, 0), (2, 1))), MAP),
    "holes": (lambda x: conv(x, KERNEL, rhs_dilation=(2, 2)), MAP),
    "groups": (lambda x: conv(x, KERNEL[:, :, :2, :4], feature_group_count=2), MAP),
    "layers": (lambda x: jax.nn.silu(conv(x, KERNEL) @ np.ones((5, 2), np.float32) + 1).reshape(-1, 24, 2), MAP),
    "a map after a convolution": (
        lambda x: (y := conv(x, KERNEL)) + y.transpose(0, 1, 2, 3)[:, :1] * y.mean((1, 2))[:, None, None],
        MAP,
    ),
    "functions with gradients of their own": (lambda x: jax.nn.relu(jax.nn.silu(x)) + jax.checkpoint(jnp.sin)(x), ROWS),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_gives_the_same_numbers(name):
    function, *inputs = FUNCTIONS[name]
    check(function, *inputs)


@pytest.mark.parametrize("name", ["shapes", "positions", "attention", "layers", "elements of one image"])
def test_a_function_of_a_fixed_batch_gives_the_same_numbers(name):
    function, *inputs = FUNCTIONS[name]
    check(function, *inputs, free=False)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_pooling_is_one_operator(size):
    operators = check(lambda x: max_pool(conv(x, KERNEL), size), MAP)
    assert operators == ["Transpose", "Conv", "MaxPool", "Transpose", "Identity"]


def test_upsampling_is_one_operator_between_convolutions():
    operators = check(lambda x: conv(upsample(conv(x, KERNEL)), np.ones((1, 1, 5, 2), np.float32)), MAP)
    assert [each for each in operators if each not in ("Unsqueeze", "Squeeze")] == [
        *("Transpose", "Conv", "Resize", "Conv", "Transpose", "Identity")
    ]


def test_the_stem_is_one_convolution():
    kernel = RNG.normal(size=(6, 6, 4, 3)).astype(np.float32)
    assert check(lambda x: folded_convolution(x, kernel), MAP, atol=1e-4) == [
        *("Transpose", "Conv", "Transpose", "Identity")
    ]


def test_scales_and_shifts_of_channels_move_into_the_convolution():
    scale, shift = RNG.normal(size=(2, 5)).astype(np.float32)
    operators = check(lambda x: jnp.tanh(scale * (conv(x, KERNEL) - shift) + shift), MAP)
    assert operators == ["Transpose", "Conv", "Tanh", "Transpose", "Identity"]


def test_a_convolution_that_is_used_twice_is_not_changed():
    scale = RNG.normal(size=5).astype(np.float32)
    check(lambda x: [scale * (y := conv(x, KERNEL)), y], MAP)
    check(lambda x: scale - conv(x, KERNEL), MAP)


@pytest.mark.parametrize(
    ("function", "inputs", "message"),
    [
        (lambda x: lax.while_loop(lambda y: y.sum() < 9, lambda y: y + 1, x), [ROWS], "got while of float32"),
        (lambda x: x & 3, [WHOLE], "got and of int32"),
        (lambda x: x.reshape(-1), [ROWS], None),
        (lambda x: jnp.broadcast_to(jnp.sum(x), (2 * x.shape[0],)), [ROWS], "fixed length .* got 2"),
        (lambda x: x.at[:, 0].set(1.0), [ROWS], "got scatter"),
        (lambda x: lax.dynamic_slice(x, (0, jnp.argmax(x), 0), (1, 1, 3)), [ROWS], "got a computed place"),
        (
            lambda x: lax.conv_transpose(x, KERNEL, (2, 2), "SAME", dimension_numbers=DIMS),
            [MAP],
            "plain convolutions",
        ),
    ],
)
def test_what_is_not_translated_is_refused(function, inputs, message):
    if message is None:
        check(function, *inputs)
        return
    with pytest.raises(ValueError, match=message):
        model_of(function, *inputs)


def test_half_precision_becomes_float32():
    check_dtype = model_of(lambda x: (x.astype(jnp.bfloat16) * 3).astype(jnp.float32), ROWS)[1]
    np.testing.assert_allclose(run_model(check_dtype, x0=ROWS)["y0"], ROWS * 3, rtol=1e-6)


def test_double_precision_is_refused():
    with pytest.raises(ValueError, match="got float64; use --format stablehlo"):
        Graph().constant(np.zeros(2))


def test_normalisation_and_activation_leave_two_operators():
    from flax import nnx

    norm = nnx.BatchNorm(5, use_running_average=True, rngs=nnx.Rngs(0))
    norm.mean[...], norm.var[...] = jnp.arange(5.0), jnp.arange(1.0, 6.0)
    operators = check(lambda x: norm_silu(norm, conv(x, KERNEL)), MAP, atol=1e-4)
    assert operators == ["Transpose", "Conv", "Sigmoid", "Mul", "Transpose", "Identity"]
