"""YOLO26: sizes of the published family, outputs of the public network, its blocks, and training from its files."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.detectors.test_yolov8 import (
    architecture,
    computed,
    needs_fixtures,
    plain,
    published,
)
from ugs_jax.detectors import YOLO26
from ugs_jax.detectors.yolo26 import AttentiveBottleneck, ResidualPool
from ugs_jax.objectives import SideRegression
from ugs_jax.weights import published_arrays, read_weights
from ugs_jax.weights.published_yolov8 import published_shapes

# Parameters of the public networks, with both heads, with 80 and with 10 classes: ANCHOR_FREE_FACTS, section C.
PUBLISHED = {"n": (2_572_280, 2_507_700), "s": (10_009_784, 9_955_604)}


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("size", PUBLISHED)
@pytest.mark.parametrize("which", [0, 1])
def test_parameters_with_the_heads_counted_twice_are_the_published_ones(size, which):
    shapes = published_shapes(architecture(YOLO26, size, False, (80, 10)[which]))
    learned = {name: int(np.prod(shape)) for name, shape in shapes.items() if "running" not in name}
    heads = sum(count for name, count in learned.items() if name.startswith("model.23."))
    assert sum(learned.values()) + heads == PUBLISHED[size][which]


def test_the_pool_adds_its_input():
    block = ResidualPool(8, 8, act=False, rngs=nnx.Rngs(0))
    block.eval()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 8)), jnp.float32)
    np.testing.assert_allclose(block(x), x + super(ResidualPool, block).__call__(x), atol=1e-6)


def test_an_attentive_bottleneck_is_a_bottleneck_and_then_attention():
    block = AttentiveBottleneck(64, rngs=nnx.Rngs(0))
    block.eval()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 2, 64)), jnp.float32)
    first, attention = block.parts
    y = x + first.second(first.first(x))
    y = y + attention.attention(y)
    np.testing.assert_allclose(block(x), y + attention.reduce(attention.expand(y)), atol=1e-5)


@needs_fixtures
@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_the_imported_network_has_the_outputs_of_the_public_one(tmp_path):
    path, expected = published("yolo26n_nc10")
    weights = read_weights(plain(path, tmp_path))
    assert "second head" in " ".join(weights.notes)
    levels, decoded = computed(weights, SideRegression(), expected)
    for i, raw in enumerate(levels):
        # The fixtures are float32. Without rounding of ours, 8.4e-4 is left, of magnitudes from 6 to 12.
        np.testing.assert_allclose(raw, expected[f"one2many_raw_p{i}"].transpose(0, 2, 3, 1), rtol=0, atol=1e-3)
    want = expected["decoded"].transpose(0, 2, 1)
    uncrossed = (want[..., 2:4] > 0).all(-1)  # sides of random weights may cross; ours then meet between them
    assert uncrossed.mean() > 0.3
    np.testing.assert_allclose(decoded[uncrossed][:, :4], want[uncrossed][:, :4], atol=5e-2)
    np.testing.assert_allclose(decoded[..., 4:], want[..., 4:], atol=1e-3)


@needs_fixtures
@pytest.mark.slow
def test_the_exported_file_has_the_tensors_of_the_public_one_and_a_copy_of_the_head(tmp_path):
    path, expected = published("yolo26n_nc10")
    arrays = published_arrays(read_weights(plain(path, tmp_path)))
    counted = sum(a.size for n, a in arrays.items() if "running" not in n and "tracked" not in n)
    assert counted == int(expected["param_count"])
    heads = [name for name in arrays if ".one2one_" in name]
    assert len(heads) == len([name for name in arrays if name.startswith("model.23.cv")])
    assert all(np.array_equal(arrays[name], arrays[name.replace("one2one_", "")]) for name in heads)
