import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from jax.test_util import check_grads

from tests.reference import boxes_by_hand as reference
from ugs_jax.boxes import Anchors, cxcywh_to_xyxy, decode, encode
from ugs_jax.boxes.codec import LOG_SIZE_LIMIT
from ugs_jax.numerics import SIDE_FLOOR

CELL = Anchors(center=jnp.array([20.0, 36.0]), size=jnp.array([10.0, 13.0]), unit=jnp.array([8.0, 8.0]))

centers = hnp.arrays(np.float32, (5, 2), elements=st.floats(0, 1024, width=32))
sides = hnp.arrays(np.float32, (5, 2), elements=st.floats(1, 512, width=32))


@given(centers, sides, centers, sides)
def test_decoding_undoes_encoding(center, size, anchor_center, anchor_size):
    box = cxcywh_to_xyxy(jnp.concatenate([jnp.array(center), jnp.array(size)], -1))
    anchors = Anchors(jnp.array(anchor_center), jnp.array(anchor_size), jnp.full((5, 2), 8.0))
    # Coordinates of 1e3 px carry 6e-5 px; a log ratio up to 6.2 carries 5e-7, which is 2e-4 px of a 512-px side.
    np.testing.assert_allclose(decode(encode(box, anchors), anchors), box, atol=2e-3)


@given(centers, sides)
def test_offsets_equal_those_of_a_plain_loop(center, size):
    box = cxcywh_to_xyxy(jnp.concatenate([jnp.array(center), jnp.array(size)], -1))
    want = [reference.encode(b, [20.0, 36.0], [10.0, 13.0], [8.0, 8.0], SIDE_FLOOR) for b in np.asarray(box).tolist()]
    np.testing.assert_allclose(encode(box, CELL), want, rtol=1e-5, atol=1e-4)  # a side of 1 px at 1024 carries 6e-5


def test_unit_and_size_are_used_where_they_belong():
    wide = Anchors(center=jnp.array([0.0, 0.0]), size=jnp.array([4.0, 8.0]), unit=jnp.array([16.0, 32.0]))
    np.testing.assert_allclose(decode(jnp.array([1.0, 1.0, 0.0, 0.0]), wide), [14.0, 28.0, 18.0, 36.0])


def test_anchors_from_boxes_measure_in_their_own_sides():
    anchors = Anchors.from_boxes(jnp.array([[10.0, 20.0, 14.0, 30.0]]))
    np.testing.assert_array_equal(anchors.center, [[12.0, 25.0]])
    np.testing.assert_array_equal(anchors.size, [[4.0, 10.0]])
    np.testing.assert_array_equal(anchors.unit, anchors.size)


@pytest.mark.parametrize("box", [[5.0, 5.0, 5.0, 5.0], [9.0, 9.0, 1.0, 1.0], [0.0, 0.0, 1e30, 1e30]])
def test_degenerate_boxes_have_finite_offsets_and_gradients(box):
    value, pullback = jax.vjp(lambda b: encode(b, CELL), jnp.array(box))
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(pullback(jnp.ones(4))[0]))


def test_anchors_without_sides_give_finite_offsets():
    anchors = Anchors.from_boxes(jnp.array([7.0, 7.0, 7.0, 7.0]))
    assert np.all(np.isfinite(encode(jnp.array([0.0, 0.0, 100.0, 100.0]), anchors)))


@pytest.mark.parametrize("log_size", [1e4, -1e4, 88.0])
def test_extreme_log_sizes_decode_to_finite_boxes_with_finite_gradients(log_size):
    offsets = jnp.array([0.0, 0.0, log_size, log_size])
    value, pullback = jax.vjp(lambda o: decode(o, CELL), offsets)
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(pullback(jnp.ones(4))[0]))
    assert float(value[2] - value[0]) <= 10.0 * np.exp(LOG_SIZE_LIMIT) * (1 + 1e-5)


def test_float16_offsets_saturate():
    anchors = Anchors(*(part.astype(jnp.float16) for part in CELL))
    got = decode(jnp.array([0.0, 0.0, 15.0, 15.0], dtype=jnp.float16), anchors)
    assert got.dtype == jnp.float16
    assert np.all(np.isfinite(got))


def test_gradients_are_right_to_second_order():
    with jax.enable_x64(True):
        anchors = Anchors(*(jnp.asarray(np.asarray(part, np.float64)) for part in CELL))
        check_grads(jax.jit(lambda b: encode(b, anchors)), (jnp.array([3.0, 4.0, 9.5, 17.25]),), order=2, modes=["rev"])
        check_grads(jax.jit(lambda o: decode(o, anchors)), (jnp.array([0.3, -0.2, 0.7, -1.1]),), order=2, modes=["rev"])


def test_one_anchor_broadcasts_to_many_boxes():
    box = jnp.array([[16.0, 32.0, 24.0, 40.0]] * 3)
    assert encode(box, CELL).shape == (3, 4)
    assert decode(jnp.zeros((2, 3, 4)), CELL).shape == (2, 3, 4)
