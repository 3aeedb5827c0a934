"""Task-aligned assignment: equal to the public assigner, to loops, and fit for objects smaller than a cell."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.detectors.scenes_of_cells import assign, dense, grid, scene
from tests.reference import losses_by_hand
from ugs_jax.detectors import Cells, TaskAligned

FIXTURES = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[2] / "../shared")) / "fixtures/anchor_free"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no fixtures at {FIXTURES}")
RULES = {"plain": None, "stal0": "finest", "stal": "second"}


def by_loops(cells, truth, classes, mask, *, topk, widen=None):
    """Rules 2 to 6 of TAL in plain loops: the object of each cell (−1 for none) and its target."""
    u, t = np.zeros((len(truth), len(cells.boxes))), np.zeros((len(truth), len(cells.boxes)))
    for g in np.flatnonzero(mask):
        box = truth[g].astype(float).copy()
        for axis in range(2):
            side, middle = box[2 + axis] - box[axis], (box[axis] + box[2 + axis]) / 2
            if widen is not None and side < (cells.strides[0] if widen == "finest" else cells.strides[1]):
                box[axis], box[2 + axis] = middle - cells.strides[1] / 2, middle + cells.strides[1] / 2
        for a, (x, y) in enumerate(cells.center):
            if min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 1e-9:
                u[g, a] = max(1 - float(losses_by_hand.ciou(cells.boxes[a], truth[g])), 0)
                t[g, a] = cells.scores[a, classes[g]] ** 0.5 * u[g, a] ** 6
    chosen = np.zeros_like(t, bool)
    for g in range(len(truth)):
        for a in np.argsort(-t[g], kind="stable")[:topk]:
            chosen[g, a] = t[g, a] > 0
    owner = np.full(len(cells.boxes), -1)
    for a in range(len(owner)):
        if chosen[:, a].sum() == 1:
            owner[a] = np.flatnonzero(chosen[:, a])[0]
        elif chosen[:, a].any():
            owner[a] = np.argmax(u[:, a])
    target = np.zeros(len(owner))
    for g in range(len(truth)):
        mine = np.flatnonzero(owner == g)
        for a in mine:
            target[a] = t[g, a] * u[g, mine].max() / (t[g, mine].max() + 1e-9)
    return owner, target


@pytest.mark.parametrize("objects", [6, 37])  # the latter more than are compared with all cells at the same time
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("widen", [None, "second"])
def test_cells_objects_and_targets_are_those_of_loops(seed, widen, objects):
    cells, truth, classes, mask = scene(seed, objects, objects - 2)
    want = by_loops(cells, truth, classes, mask, topk=4, widen=widen)
    found = assign(TaskAligned(topk=4, widen=widen), cells, truth, classes, mask)
    owner, target, used = dense(found, len(cells.boxes))
    np.testing.assert_array_equal(owner, want[0])
    np.testing.assert_allclose(target, want[1], atol=2e-6)
    assert used.max() == 1


@needs_fixtures
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["tal_p3", "tal_p2"])
def test_the_assignment_is_that_of_the_public_one(name, rule):
    public = np.load(FIXTURES / f"{name}.npz")
    strides = (8, 16, 32) if name == "tal_p3" else (4, 8, 16, 32)
    for i in range(2):
        cells = Cells(
            public["pd_bboxes"][i],
            public["pd_scores"][i],
            public["anchor_points_px"],
            public["stride_of_anchor"].ravel().astype(np.float32),
            strides,
        )
        classes = public["gt_labels"][i, :, 0].astype(np.int32)
        mask = public["mask_gt"][i, :, 0].astype(bool)
        with jax.disable_jit():  # fused operations round otherwise, by 3e-6
            found = assign(TaskAligned(widen=RULES[rule]), cells, public["gt_bboxes"][i], classes, mask)
        owner, target, _ = dense(found, len(cells.boxes))
        positive = public[f"{rule}_fg_mask"][i].astype(bool)
        np.testing.assert_array_equal(owner >= 0, positive)
        np.testing.assert_array_equal(owner[positive], public[f"{rule}_target_gt_idx"][i][positive])
        scores = np.zeros_like(public[f"{rule}_target_scores"][i])
        scores[np.flatnonzero(positive), classes[owner[positive]]] = target[positive]
        np.testing.assert_allclose(scores, public[f"{rule}_target_scores"][i], atol=1e-6)


def test_an_object_between_the_cell_centres_is_learned_only_if_it_is_widened():
    center, stride = grid(32, 32, (8, 16))
    truth = np.array([[14.0, 14.0, 18.0, 18.0]])  # 4 px, in the corner of four cells
    boxes = np.repeat(truth, len(center), 0).astype(np.float32)  # every cell predicts it
    cells = Cells(boxes, np.full((len(center), 1), 0.5, np.float32), center, stride, (8, 16))
    arguments = (cells, truth.astype(np.float32), np.zeros(1, int), np.ones(1, bool))
    assert not assign(TaskAligned(), *arguments).positive.any()
    assert assign(TaskAligned(widen="second"), *arguments).positive.sum() == 4  # the fine cells around it


def test_nwd_ranks_cells_whose_boxes_miss_the_object():
    center, stride = grid(32, 32, (8, 16))
    boxes = np.concatenate([center - 1, center + 1], 1).astype(np.float32)
    cells = Cells(boxes, np.full((len(center), 1), 0.5, np.float32), center, stride, (8, 16))
    truth = np.array([[14.0, 14.0, 17.0, 17.0]])
    arguments = (cells, truth.astype(np.float32), np.zeros(1, int), np.ones(1, bool))
    assert not assign(TaskAligned(widen="second"), *arguments).positive.any()
    near = assign(TaskAligned(widen="second", similarity="nwd"), *arguments)
    best = int(np.asarray(near.cell)[0, np.asarray(near.weight)[0].argmax()])
    assert center[best].tolist() == [12.0, 12.0]


def test_no_objects_and_padding_choose_nothing():
    cells, truth, classes, _ = scene(0)
    found = assign(TaskAligned(), cells, truth, classes, np.zeros(len(truth), bool))
    assert not found.positive.any()
    assert not found.weight.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"topk": 0}, "topk: expected at least 1"),
        ({"widen": "third"}, "widen: expected"),
        ({"similarity": "iou"}, "similarity: expected"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TaskAligned(**settings)
