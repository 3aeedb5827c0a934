"""Centre sampling: equal to loops, and levels by the size of the object."""

import numpy as np
import pytest

from tests.detectors.scenes_of_cells import assign, dense, grid, scene
from ugs_jax.detectors import Cells, CenterSampling


def by_loops(cells, truth, mask, *, radius=1.5, reach=8.0, topk=9):
    """Object of every cell, −1 for none."""
    owner = np.full(len(cells.center), -1)
    last = cells.strides[-1]
    for a, (x, y) in enumerate(cells.center.astype(float)):
        stride, area = int(cells.stride[a]), np.inf
        finer = [s for s in cells.strides if s < stride]
        least, most = reach * max(finer, default=0), np.inf if stride == last else reach * stride
        for g in np.flatnonzero(mask):
            x1, y1, x2, y2 = truth[g].astype(float)
            sides = [x - x1, y - y1, x2 - x, y2 - y]
            near = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < radius * stride
            if near and min(sides) > 0 and least < max(sides) <= most and (x2 - x1) * (y2 - y1) < area:
                owner[a], area = g, (x2 - x1) * (y2 - y1)
    for g in np.flatnonzero(mask):
        mine = np.flatnonzero(owner == g)
        middle = (truth[g, :2].astype(float) + truth[g, 2:]) / 2
        order = np.argsort(((cells.center[mine] - middle) ** 2).sum(1), kind="stable")
        owner[mine[order[topk:]]] = -1
    return owner


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("settings", [{}, {"radius": 2.5, "reach": 2.0, "topk": 4}, {"reach": 1.0, "topk": 100}])
def test_cells_and_objects_are_those_of_loops(seed, settings):
    cells, truth, classes, mask = scene(seed, objects=9, real=7)
    want = by_loops(cells, truth, mask, **settings)
    owner, weight, used = dense(assign(CenterSampling(**settings), cells, truth, classes, mask), len(cells.center))
    np.testing.assert_array_equal(owner, want)
    np.testing.assert_array_equal(weight, want >= 0)
    assert used.max() == 1


@pytest.mark.parametrize(("side", "level"), [(30, 8), (100, 8), (180, 16), (500, 32)])
def test_objects_of_the_published_ranges_choose_their_level(side, level):
    center, stride = grid(512, 512, (8, 16, 32))
    cells = Cells(np.zeros((len(center), 4)), np.full((len(center), 1), 0.5), center, stride, (8, 16, 32))
    truth = np.array([[250 - side / 2, 250 - side / 2, 250 + side / 2, 250 + side / 2]], np.float32)
    found = assign(CenterSampling(), cells, truth, np.zeros(1, int), np.ones(1, bool))
    chosen = np.asarray(found.cell)[np.asarray(found.positive)]
    assert set(stride[chosen].tolist()) == {level}
    assert len(chosen) == 9


def test_an_object_between_the_cell_centres_has_no_cell():
    center, stride = grid(32, 32, (8, 16))
    cells = Cells(np.zeros((len(center), 4)), np.full((len(center), 1), 0.5), center, stride, (8, 16))
    truth = np.array([[14.0, 14.0, 18.0, 18.0]], np.float32)
    assert not assign(CenterSampling(), cells, truth, np.zeros(1, int), np.ones(1, bool)).positive.any()


def test_no_objects_and_padding_choose_nothing():
    cells, truth, classes, _ = scene(0)
    found = assign(CenterSampling(), cells, truth, classes, np.zeros(len(truth), bool))
    assert not found.positive.any()
    assert not found.weight.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radius": 0.0}, "radius: expected strides above 0"),
        ({"reach": -1.0}, "reach: expected strides above 0"),
        ({"topk": 0}, "topk: expected at least 1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CenterSampling(**settings)
