import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from tests.reference import boxes_by_hand as reference
from ugs_jax import boxes

# Eighths of a pixel: sums, differences and products of a few of them are exact in float32, touching boxes are common,
# and some boxes are reversed.
eighths = hnp.arrays(np.int32, (6, 4), elements=st.integers(-400, 400)).map(lambda a: (a / 8).astype(np.float32))

# float32 division rounds once (6e-8); XLA may fuse a product into a sum, which moves the last bit of the union.
ROUNDING = 3e-7


@given(eighths, eighths)
def test_iou_equals_that_of_a_plain_loop(a, b):
    want = [reference.iou(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    np.testing.assert_allclose(boxes.iou(jnp.array(a), jnp.array(b)), want, atol=ROUNDING)


@given(eighths, eighths)
def test_iou_is_symmetric_and_bounded(a, b):
    one, other = boxes.iou(jnp.array(a), jnp.array(b)), boxes.iou(jnp.array(b), jnp.array(a))
    np.testing.assert_allclose(one, other, atol=ROUNDING)
    assert np.all(one >= 0)
    assert np.all(one <= 1 + ROUNDING)


@given(eighths, eighths, st.integers(-1000, 1000), st.integers(-8, 8))
def test_iou_is_unchanged_by_shifting_and_by_scaling_both_boxes(a, b, shift, power):
    want = boxes.iou(jnp.array(a), jnp.array(b))
    np.testing.assert_allclose(boxes.iou(jnp.array(a + shift), jnp.array(b + shift)), want, atol=ROUNDING)
    scale = np.float32(2.0**power)
    np.testing.assert_allclose(boxes.iou(jnp.array(a * scale), jnp.array(b * scale)), want, atol=ROUNDING)


@given(eighths)
def test_a_box_covers_itself_wholly_or_has_no_area(a):
    got = np.asarray(boxes.iou(jnp.array(a), jnp.array(a)))
    has_area = np.array([reference.area(x) > 0 for x in a.tolist()])
    np.testing.assert_allclose(got, has_area.astype(float), atol=ROUNDING)


@given(eighths, eighths)
def test_enclosing_box_holds_both_and_is_no_larger_than_needed(a, b):
    want = [reference.enclosing_box(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    np.testing.assert_array_equal(boxes.enclosing_box(jnp.array(a), jnp.array(b)), np.array(want, np.float32))


@given(eighths, eighths)
def test_intersection_and_union_are_exact_on_eighths(a, b):
    pairs = list(zip(a.tolist(), b.tolist(), strict=True))
    np.testing.assert_array_equal(
        boxes.intersection(jnp.array(a), jnp.array(b)), [reference.intersection(*p) for p in pairs]
    )
    np.testing.assert_array_equal(boxes.union(jnp.array(a), jnp.array(b)), [reference.union(*p) for p in pairs])


@given(eighths, eighths)
def test_pairwise_measures_are_the_elementwise_ones_of_all_pairs(a, b):
    b = b[:4]
    iou = [[reference.iou(x, y) for y in b.tolist()] for x in a.tolist()]
    coverage = [[reference.coverage(x, y) for y in b.tolist()] for x in a.tolist()]
    np.testing.assert_allclose(boxes.pairwise_iou(jnp.array(a), jnp.array(b)), iou, atol=ROUNDING)
    np.testing.assert_allclose(boxes.pairwise_coverage(jnp.array(a), jnp.array(b)), coverage, atol=ROUNDING)


def test_a_small_box_inside_a_large_region_is_covered_although_its_iou_is_near_0():
    small, region = jnp.array([[10.0, 10.0, 14.0, 14.0]]), jnp.array([[0.0, 0.0, 400.0, 400.0]])
    assert float(boxes.pairwise_coverage(small, region)[0, 0]) == 1.0
    assert float(boxes.pairwise_iou(small, region)[0, 0]) == pytest.approx(1e-4)
    assert float(boxes.pairwise_coverage(region, small)[0, 0]) == pytest.approx(1e-4)


def test_pairwise_iou_takes_batch_axes():
    rng = np.random.default_rng(0)
    a, b = (
        jnp.array(rng.uniform(0, 9, (2, 3, 5, 4)), jnp.float32),
        jnp.array(rng.uniform(0, 9, (2, 3, 7, 4)), jnp.float32),
    )
    got = boxes.pairwise_iou(a, b)
    assert got.shape == (2, 3, 5, 7)
    np.testing.assert_array_equal(got[1, 2], boxes.pairwise_iou(a[1, 2], b[1, 2]))


def test_pairwise_iou_makes_no_array_of_pairs_of_boxes():
    shape = jax.ShapeDtypeStruct((1000, 4), jnp.float32)
    memory = jax.jit(boxes.pairwise_iou).lower(shape, shape).compile().memory_analysis()
    assert memory.output_size_in_bytes == 4 * 1000 * 1000
    assert memory.temp_size_in_bytes < 1000 * 1000  # a [1000, 1000, 4] array would be 16 MB


def test_thousand_pixel_boxes_in_float16_keep_their_iou():
    a = jnp.array([0.0, 0.0, 8192.0, 8192.0], dtype=jnp.float16)
    got = boxes.iou(a, jnp.array([0.0, 0.0, 8192.0, 4096.0], dtype=jnp.float16))
    assert got.dtype == jnp.float16
    assert float(got) == 0.5
