"""Assignment: the published rule for one box at a time, and ignore regions, which no anchor learns."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, example, given

from tests.reference import assignment_by_hand as by_hand
from tests.reference import boxes_by_hand
from ugs_jax.detectors import assign, background, candidate_anchors, learnable

STRIDE, ROWS, COLUMNS = 8, 3, 5
SIZES = np.array([[6.0, 6.0], [10.0, 24.0], [40.0, 9.0]], np.float32)
HEIGHT, WIDTH = ROWS * STRIDE, COLUMNS * STRIDE
COUNT = 6

MAP = {"stride": STRIDE, "shape": (ROWS, COLUMNS)}

run = jax.jit(functools.partial(assign, sizes=SIZES, **MAP))
run_first_anchor = jax.jit(functools.partial(assign, sizes=SIZES[:1], **MAP))
learnable_rows = jax.jit(learnable)
background_cells = jax.jit(functools.partial(background, **MAP))


def entries(found, row):
    """The positive (row, column, anchor) of one box, a list: the same one twice would count double in a loss."""
    cell, positive = np.asarray(found.cell)[0, row], np.asarray(found.positive)[0, row]
    return [(*divmod(int(cell[k]), COLUMNS), int(a)) for k, a in zip(*np.nonzero(positive), strict=True)]


def coordinates(limit):
    """Quarters of a cell: centres on lines between cells and halfway, and boxes at the edges, are frequent."""
    quarters = st.integers(0, 4 * limit // STRIDE).map(lambda step: step * STRIDE / 4)
    return quarters | st.integers(0, 100 * limit).map(lambda step: step / 100)


@st.composite
def boxes(draw):
    x, y = (sorted(draw(st.tuples(coordinates(limit), coordinates(limit)))) for limit in (WIDTH, HEIGHT))
    return [x[0], y[0], x[1], y[1]]


@given(st.lists(boxes(), min_size=COUNT, max_size=COUNT))
@example([[0, 0, 16, 16], [8, 8, 24, 16], [4, 4, 20, 20], [0, 0, WIDTH, HEIGHT], [WIDTH, HEIGHT] * 2, [0, 0, 0, 0]])
@example(
    [[0, 0, 8, 8], [WIDTH - 8, HEIGHT - 8, WIDTH, HEIGHT], [32, 4, WIDTH, 12], [0, 4, 16, 12], *[[1, 2, 5, 6]] * 2]
)
def test_cells_and_anchors_are_those_of_the_published_rule(rows):
    array = np.array([rows], np.float32)
    found = run(array, np.ones((1, COUNT), bool))
    for index, box in enumerate(array[0].tolist()):
        want = by_hand.positives(box, SIZES.tolist(), STRIDE, ROWS, COLUMNS)
        assert sorted(entries(found, index)) == sorted(want)
        center = np.asarray(found.center)[0, index]
        at = {(int(c[1] // STRIDE), int(c[0] // STRIDE)): c for c in center}
        for (row, column, _), offset in want.items():
            got = ((box[0] + box[2]) / 2 - at[row, column][0], (box[1] + box[3]) / 2 - at[row, column][1])
            np.testing.assert_allclose(np.array(got) / STRIDE, offset, atol=1e-6)
            assert np.all(np.abs(offset) < 1)


def test_a_centre_on_a_line_between_cells_is_learned_once_by_each_cell():
    found = run(np.array([[[13.0, 9.0, 19.0, 15.0]] * COUNT], np.float32), np.ones((1, COUNT), bool))  # centre (16, 12)
    assert sorted(entries(found, 0)) == [(1, 1, 0), (1, 2, 0)]


def test_a_box_in_the_middle_of_its_cell_is_learned_by_this_cell_only():
    found = run(np.array([[[17.0, 9.0, 23.0, 15.0]] * COUNT], np.float32), np.ones((1, COUNT), bool))  # centre (20, 12)
    assert entries(found, 0) == [(1, 2, 0)]


def test_rows_without_a_box_are_never_positive():
    found = run(np.full((1, COUNT, 4), [8.0, 8.0, 16.0, 16.0], np.float32), np.arange(COUNT)[None] % 2 == 0)
    assert np.asarray(found.positive).any((0, 2, 3)).tolist() == [True, False] * (COUNT // 2)
    assert np.all(np.asarray(found.cell)[0, 1::2] == 0)


def test_side_ratios_at_the_limit_are_refused():
    low = np.array([10.0, 10.0])
    sides = np.array([[24.0, 6.0], [23.9, 6.0], [6.0, 1.5], [6.0, 1.51], [6.0, 6.0], [0.0, 6.0]])
    array = np.concatenate([np.broadcast_to(low, (COUNT, 2)), low + sides], -1)[None].astype(np.float32)
    found = run_first_anchor(array, np.ones((1, COUNT), bool))
    assert np.asarray(found.positive).any((0, 2, 3)).tolist() == [False, True, False, True, True, False]


def test_a_centre_outside_the_image_is_learned_by_the_border_cell():
    outside = [[-9.0, -9.0, -3.0, -3.0], [WIDTH + 3, 9.0, WIDTH + 9, 15.0], [WIDTH - 3, 9.0, WIDTH + 3, 15.0]]
    found = run_first_anchor(np.array([outside * 2], np.float32), np.ones((1, COUNT), bool))
    assert [entries(found, i) for i in range(3)] == [[(0, 0, 0)], [(1, 4, 0)], [(1, 4, 0)]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_anchors_of_candidates_have_the_cells_centre_the_levels_sides_and_the_stride_as_unit(dtype):
    with jax.enable_x64(dtype == np.float64):
        array = jnp.array([[[13.0, 9.0, 19.0, 15.0]]], dtype)
        found = run(array, jnp.ones((1, 1), bool))
        anchors = jax.jit(functools.partial(candidate_anchors, sizes=SIZES, stride=STRIDE))(found)
        assert {part.dtype for part in anchors} == {np.dtype(dtype)}
        assert {part.shape for part in anchors} == {(1, 1, 3, 3, 2)}
        np.testing.assert_array_equal(anchors.center[0, 0, :2, 2], [[20.0, 12.0], [12.0, 12.0]])
        np.testing.assert_array_equal(anchors.size[0, 0, 1], SIZES)
        np.testing.assert_array_equal(anchors.unit, np.full((1, 1, 3, 3, 2), 8.0))


region_lists = st.lists(boxes(), min_size=2, max_size=2)


@given(st.lists(boxes(), min_size=COUNT, max_size=COUNT), region_lists, st.booleans())
def test_boxes_covered_by_half_are_not_learned(rows, regions, second):
    array, ignore = np.array([rows], np.float32), np.array([regions], np.float32)
    got = learnable_rows(array, np.ones((1, COUNT), bool), ignore, np.array([[True, second]]))
    active = ignore[0, : 1 + second].tolist()
    covered = [max(boxes_by_hand.coverage(box, region) for region in active) for box in array[0].tolist()]
    settled = np.abs(np.array(covered) - 0.5) > 1e-5  # float32 areas
    want = np.array(covered) < 0.5
    assert np.all((np.asarray(got)[0] == want) | ~settled)


def test_a_box_covered_by_exactly_half_is_not_learned_and_one_without_mask_neither():
    array = np.array([[[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.25, 8.0], [20.0, 0.0, 28.0, 8.0]]], np.float32)
    region = np.array([[[0.0, 0.0, 4.0, 8.0]]], np.float32)
    got = learnable_rows(array, np.array([[True, True, False]]), region, np.ones((1, 1), bool))
    assert np.asarray(got).tolist() == [[False, True, False]]


@given(region_lists, st.booleans())
def test_background_is_every_cell_that_no_ignore_region_reaches_into(regions, second):
    ignore = np.array([regions], np.float32)
    got = np.asarray(background_cells(ignore, np.array([[True, second]]))).reshape(ROWS, COLUMNS)
    for row in range(ROWS):
        for column in range(COLUMNS):
            left, top = column * STRIDE, row * STRIDE
            reached = any(
                left < x2 and x1 < left + STRIDE and top < y2 and y1 < top + STRIDE
                for x1, y1, x2, y2 in ignore[0, : 1 + second].tolist()
            )
            assert got[row, column] == (not reached)


@functools.partial(jax.jit, static_argnames="stride")
def fate(box, region, stride):
    """Whether a box is positive anywhere, and whether the cell of its centre is background."""
    _, columns = shape = HEIGHT // stride + 1, WIDTH // stride + 1
    array, regions, here = box[None, None], region[None, None], jnp.ones((1, 1), bool)
    found = assign(array, learnable(array, here, regions, here), SIZES, stride=stride, shape=shape)
    column, row = jnp.floor((box[:2] + box[2:]) / 2 / stride).astype(int)
    return jnp.any(found.positive), background(regions, here, stride=stride, shape=shape)[0, row * columns + column]


@given(boxes(), st.floats(0, 4), st.floats(0, 4), st.sampled_from([4, 16]))
def test_a_box_inside_an_ignore_region_is_neither_positive_nor_background(box, before, after, stride):
    x1, y1, x2, y2 = box
    assume(min(x2 - x1, y2 - y1) > 1)
    region = np.array([x1 - before, y1 - before, x2 + after, y2 + after], np.float32)
    assert fate(np.array(box, np.float32), region, stride) == (False, False)


def test_without_ignore_regions_every_cell_is_background():
    got = background_cells(np.zeros((2, 0, 4), np.float32), np.zeros((2, 0), bool))
    assert got.shape == (2, ROWS * COLUMNS)
    assert np.all(got)
    assert np.all(background_cells(np.zeros((2, 3, 4), np.float32), np.zeros((2, 3), bool)))
