import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugs_jax import boxes

BOX = jnp.array([[1.0, 2.0, 5.0, 10.0], [-3.0, 0.0, 0.0, 0.5]])


def test_center_and_sides_of_a_known_box():
    np.testing.assert_array_equal(boxes.xyxy_to_cxcywh(BOX), [[3.0, 6.0, 4.0, 8.0], [-1.5, 0.25, 3.0, 0.5]])
    np.testing.assert_array_equal(boxes.xyxy_to_xywh(BOX), [[1.0, 2.0, 4.0, 8.0], [-3.0, 0.0, 3.0, 0.5]])


@pytest.mark.parametrize(
    ("there", "back"),
    [(boxes.xyxy_to_cxcywh, boxes.cxcywh_to_xyxy), (boxes.xyxy_to_xywh, boxes.xywh_to_xyxy)],
)
def test_formats_round_trip_exactly_on_dyadic_numbers(there, back):
    np.testing.assert_array_equal(back(there(BOX)), BOX)


def test_area_counts_reversed_boxes_as_empty():
    got = boxes.area(
        jnp.array([[0.0, 0.0, 2.0, 3.0], [2.0, 0.0, 0.0, 3.0], [2.0, 3.0, 0.0, 0.0], [1.0, 1.0, 1.0, 9.0]])
    )
    np.testing.assert_array_equal(got, [6.0, 0.0, 0.0, 0.0])


def test_area_of_a_large_float16_box_saturates_instead_of_overflowing():
    got = boxes.area(jnp.array([0.0, 0.0, 1e4, 1e4], dtype=jnp.float16))
    assert got.dtype == jnp.float16
    assert float(got) == 65504.0


def test_float16_centers_do_not_overflow_on_the_way():
    got = boxes.xyxy_to_cxcywh(jnp.array([40000.0, 40000.0, 60000.0, 60000.0], dtype=jnp.float16))
    np.testing.assert_array_equal(got, np.array([50000, 50000, 20000, 20000], np.float16))


def test_clipping_moves_only_what_lies_outside():
    got = boxes.clip_to_image(jnp.array([[-5.0, -5.0, 100.0, 100.0], [3.0, 4.0, 5.0, 6.0]]), (50, 70))
    np.testing.assert_array_equal(got, [[0.0, 0.0, 70.0, 50.0], [3.0, 4.0, 5.0, 6.0]])


def test_clipping_takes_one_size_for_each_image():
    sizes = jnp.array([[[50, 70]], [[10, 20]]])
    got = boxes.clip_to_image(jnp.full((2, 3, 4), 1000.0), sizes)
    np.testing.assert_array_equal(got[:, 0], [[70, 50, 70, 50], [20, 10, 20, 10]])


def test_clipping_refuses_a_size_that_is_not_a_pair():
    with pytest.raises(ValueError, match=r"expected \(height, width\) on the last axis, got shape \(3,\)"):
        boxes.clip_to_image(BOX, jnp.array([1, 2, 3]))


def test_float64_stays_float64():
    with jax.enable_x64(True):
        wide = jnp.array([0.1, 0.2, 0.3, 0.4], dtype=jnp.float64)
        for function in (
            boxes.xyxy_to_cxcywh,
            boxes.cxcywh_to_xyxy,
            boxes.xywh_to_xyxy,
            boxes.xyxy_to_xywh,
            boxes.area,
        ):
            assert function(wide).dtype == jnp.float64
