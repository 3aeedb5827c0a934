"""Recall of boxes by anchors and of targets by grids, against the assignment by hand."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipeline import Example, LoaderOptions, TinyScenes, dataset_from_examples
from tests.reference.assignment_by_hand import positives
from ugs_jax.detectors import CenterSampling
from ugs_jax.experiment import Experiment, LossWeights, Network, target_recall
from ugs_jax.experiment.fitting import sample_targets
from ugs_jax.objectives import DFL, UGS, BoxRegression, FittedGrid, Grid, LimitsTargets

ANCHORS = (((8.0, 8.0), (12.0, 6.0), (6.0, 12.0)), ((20.0, 20.0),) * 3, ((50.0, 50.0),) * 3)
STRIDES = (8, 16, 32)
BOXES = [
    [[10, 10, 18, 19], [11, 10, 18.5, 18], [40, 40, 43, 43]],
    [[10, 10, 18, 19], [60, 20, 90, 60], [3, 70, 4, 71]],
]


def data_set():
    none, labels = np.zeros((0, 4), np.float32), np.zeros(3, np.int32)
    rows = [Example(b"", np.array(each, np.float32), labels, none, i, f"{i}", 96, 96) for i, each in enumerate(BOXES)]
    return dataset_from_examples(rows, ["car"])


def experiment(localization):
    return Experiment(
        "recall",
        TinyScenes(),
        localization,
        Network("p", p2=False, anchors=ANCHORS),
        LoaderOptions((96, 96), 4),
        LossWeights(anchor_ratio_threshold=3.0),
    )


@pytest.fixture(scope="module")
def by_hand():
    """(image, box index, level, row, column, anchor) → offsets of every position that learns a box."""
    found = {}
    for image, boxes in enumerate(BOXES):
        for index, box in enumerate(boxes):
            for level, stride in enumerate(STRIDES):
                places = positives(box, ANCHORS[level], stride, 96 // stride, 96 // stride, limit=3.0)
                for (row, column, anchor), center in places.items():
                    sides = np.log((np.array(box[2:]) - box[:2]) / ANCHORS[level][anchor])
                    found[image, index, level, row, column, anchor] = (*center, *sides)
    return found


def test_recall_positions_and_crowding_are_those_by_hand(by_hand):
    found = target_recall(experiment(UGS(Grid(0.6, 1.0, 4), Grid(0.5, 0.0, 4))), data_set())
    learned = {key[:2] for key in by_hand}
    places = [(key[0], *key[2:]) for key in by_hand]
    crowded = [box for box in learned if all(places.count((k[0], *k[2:])) > 1 for k in by_hand if k[:2] == box)]
    assert found.recall == pytest.approx(len(learned) / 6)
    assert found.recall < 1
    assert found.positives == pytest.approx(len(by_hand) / len(learned))
    assert found.crowded_out == pytest.approx(len(crowded) / len(learned))
    assert found.crowded_out > 0
    offsets = np.array(list(by_hand.values()))
    wanted = (np.abs(offsets) <= [0.6, 0.6, 0.5, 0.5]).mean(axis=0)
    assert list(found.inside) == ["x", "y", "log w", "log h"]
    np.testing.assert_allclose(list(found.inside.values()), wanted, atol=1e-6)
    assert 0 < wanted.min() < 1


def test_the_range_of_dfl_is_that_of_its_distances(by_hand):
    found = target_recall(experiment(DFL(bins=2)), data_set())
    inside = []
    for image, index, level, row, column, _ in by_hand:
        box, stride = BOXES[image][index], STRIDES[level]
        x, y = (column + 0.5) * stride, (row + 0.5) * stride
        distance = np.array([x - box[0], y - box[1], box[2] - x, box[3] - y]) / stride
        inside.append((distance >= 0) & (distance <= 1))
    assert list(found.inside) == ["left", "top", "right", "bottom"]
    np.testing.assert_allclose(list(found.inside.values()), np.mean(inside, axis=0), atol=1e-6)


def test_an_objective_without_grids_has_no_range():
    assert not isinstance(BoxRegression(), LimitsTargets)
    assert target_recall(experiment(BoxRegression()), data_set()).inside is None


def test_without_anchors_the_recall_is_that_of_boxes_that_choose_a_cell():
    """Of the six boxes two lie between all centres; two choose cell (12, 12) of an image; one chooses 2 by 3 cells."""
    plain = experiment(UGS(Grid(0.6, 1.0, 4), Grid(0.5, 0.0, 4)))
    anchors = (((8.0, 8.0),), ((20.0, 20.0),), ((50.0, 50.0),))
    network = Network("p", p2=False, kind="yolov8", anchors=anchors, assigner=CenterSampling())
    found = target_recall(replace(plain, network=network), data_set())
    assert found.recall == pytest.approx(4 / 6)
    assert found.positives == pytest.approx((1 + 1 + 1 + 6) / 4)
    assert found.crowded_out == pytest.approx(2 / 4)
    assert found.published_recall is None
    assert (found.assigner, found.boxes) == (str(CenterSampling()), 6)
    # The centres are 2, 2.5, 2.75 and 2.5, 2, 2.5 px from (12, 12), or from −9 to 7 and −4 to 4 px from six others.
    assert found.inside["x"] == pytest.approx((3 + 2) / 9)
    assert found.inside["y"] == pytest.approx((3 + 6) / 9)


def test_grids_of_a_network_without_anchors_are_fitted_to_the_cells_that_boxes_choose():
    plain = experiment(UGS(FittedGrid(4), FittedGrid(4)))
    network = Network("p", p2=False, kind="yolov8", anchors=(((8.0, 8.0),),) * 3, assigner=CenterSampling())
    anchors, targets = sample_targets(replace(plain, network=network), network.anchors, data_set())
    assert len(targets) == 9
    x = ((targets[:, 0] + targets[:, 2]) / 2 - np.asarray(anchors.center)[:, 0]) / np.asarray(anchors.unit)[:, 0]
    assert x.max() == pytest.approx(7 / 8)  # from a cell at 68 px to a box at 75 px
    assert x.min() == pytest.approx(-9 / 8)
