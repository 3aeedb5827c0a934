"""Assignment by receptive fields: equal to loops, and cells for objects that no cell centre lies in."""

import numpy as np
import pytest

from tests.detectors.scenes_of_cells import assign, dense, grid, scene
from ugs_jax.detectors import Cells, ReceptiveField


def divergence(box, center, side):
    """KL of the Gaussian of a square field from that of a box, from the general formula of two Gaussians."""
    mean, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    truth, field = np.diag((sides / 2.0) ** 2), np.diag([(side / 2.0) ** 2] * 2)
    inverse, shift = np.linalg.inv(truth), mean - center
    logs = np.log(np.linalg.det(truth) / np.linalg.det(field))
    return (np.trace(inverse @ field) + shift @ inverse @ shift - 2 + logs) / 2


def by_loops(cells, truth, mask, sides, *, topk=3, again=1, shrink=0.9):
    """Object of every cell, −1 for none."""
    owner = np.full(len(cells.center), -1)
    fields = [dict(zip(cells.strides, sides, strict=True))[int(stride)] * stride for stride in cells.stride]
    for factor, count in ((1.0, topk), (shrink, again)):
        before = owner.copy()
        for g in np.flatnonzero(mask):
            box = truth[g].astype(float)
            pairs = zip(cells.center, fields, strict=True)
            distance = [divergence(box, center.astype(float), factor * side) for center, side in pairs]
            for cell in np.argsort(distance, kind="stable")[:count]:
                if before[cell] < 0:
                    owner[cell] = g
    return owner


@pytest.mark.parametrize(
    ("seed", "sides"), [(0, 6.0), (1, 6.0), (2, (4.0, 7.0)), (3, (2.0, 1.0))], ids=lambda value: str(value)
)
@pytest.mark.parametrize("more", [{}, {"topk": 2, "again": 6, "shrink": 0.4}])
def test_cells_and_objects_are_those_of_loops(seed, sides, more):
    cells, truth, classes, mask = scene(seed, objects=9, real=7)
    want = by_loops(cells, truth, mask, np.broadcast_to(sides, 2), **more)
    owner, weight, used = dense(assign(ReceptiveField(sides, **more), cells, truth, classes, mask), len(cells.center))
    np.testing.assert_array_equal(owner, want)
    np.testing.assert_array_equal(weight, want >= 0)
    assert used.max() == 1


def test_the_second_choice_adds_cells_and_the_first_conflicts():
    """The scenes above have both, or the comparison would show little."""
    added = shared = 0
    for seed in range(4):
        cells, truth, classes, mask = scene(seed, objects=9, real=7)
        found = assign(ReceptiveField(topk=2, again=6, shrink=0.4), cells, truth, classes, mask)
        positive = np.asarray(found.positive)[mask]
        added, shared = added + positive[:, 2:].sum(), shared + (~positive[:, :2]).sum()
    assert added > 0
    assert shared > 0


def test_an_object_between_the_cell_centres_gets_the_nearest_cells():
    center, stride = grid(32, 32, (8, 16))
    truth = np.array([[14.5, 14.0, 17.5, 17.5]], np.float32)  # 3 px; the nearest centres are (12, 12) … (20, 20)
    cells = Cells(np.zeros((len(center), 4)), np.full((len(center), 1), 0.5), center, stride, (8, 16))
    found = assign(ReceptiveField(), cells, truth, np.zeros(1, int), np.ones(1, bool))
    chosen = center[np.asarray(found.cell)[np.asarray(found.positive)]]
    assert {tuple(point) for point in chosen.tolist()} < {(12.0, 12.0), (12.0, 20.0), (20.0, 12.0), (20.0, 20.0)}
    assert len(chosen) == 3


def test_larger_objects_choose_coarser_levels():
    center, stride = grid(64, 64, (4, 8, 16))
    cells = Cells(np.zeros((len(center), 4)), np.full((len(center), 1), 0.5), center, stride, (4, 8, 16))
    sides = np.array([12.0, 23.0, 50.0, 94.0])
    truth = np.stack([33.3 - sides / 2, 31.1 - sides / 2, 33.3 + sides / 2, 31.1 + sides / 2], 1).astype(np.float32)
    for box, level in zip(truth, (4, 4, 8, 16), strict=True):  # the fields are 24, 48 and 96 px wide
        found = assign(ReceptiveField(topk=1, again=0), cells, box[None], np.zeros(1, int), np.ones(1, bool))
        assert stride[np.asarray(found.cell)].tolist() == [[level]]


def test_no_objects_and_padding_choose_nothing():
    cells, truth, classes, _ = scene(0)
    found = assign(ReceptiveField(), cells, truth * 0, classes, np.zeros(len(truth), bool))
    assert not found.positive.any()
    assert not found.weight.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sides": 0.0}, "sides: expected strides above 0"),
        ({"sides": (6.0, -1.0)}, "sides: expected strides above 0"),
        ({"sides": ()}, "sides: expected strides above 0"),
        ({"topk": 0}, "topk of at least 1"),
        ({"shrink": 1.5}, "shrink: expected a factor in"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ReceptiveField(**settings)


def test_sides_of_another_number_of_levels_are_refused():
    with pytest.raises(ValueError, match="expected one number, or one for each of the 2 levels, got 3 numbers"):
        assign(ReceptiveField((6.0, 6.0, 6.0)), *scene(0))
