"""Fitting to a data set: targets of the assignment, and grids that a run saves."""

import json
from dataclasses import replace

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import CocoJson, DataError, LoaderOptions
from tests.reference.assignment_by_hand import positives
from tests.training.toy import toy_experiment, toy_runs
from ugs_jax.boxes import encode
from ugs_jax.experiment import LossWeights, Network, fit_to
from ugs_jax.experiment.fitting import sample_targets
from ugs_jax.objectives import UGS, FittedGrid, Grid, GridPoints
from ugs_jax.runs import load_for_inference, read_experiment
from ugs_jax.runs.setup import open_splits
from ugs_jax.training import train

FITTED = UGS(FittedGrid(4), FittedGrid(4, rule="interval"), um=None, refinement=None)


@pytest.fixture(scope="module", autouse=True)
def toy():
    with toy_runs():
        yield


@pytest.fixture(scope="module")
def experiment():
    # Images of 64² enlarged to fit 96 × 128, with grey on both sides.
    return toy_experiment(FITTED, loader=LoaderOptions((96, 128), 4, max_boxes=8, max_ignore=3, threads=0))


@pytest.fixture(scope="module")
def dataset(experiment):
    return experiment.data.open("train")


def test_targets_are_those_of_the_assignment_by_hand(experiment, dataset):
    limited = replace(experiment, loss_weights=LossWeights(anchor_ratio_threshold=2.0))
    anchors = fit_to(limited, dataset).anchors
    wanted = []
    for i in range(len(dataset)):
        for box in dataset.annotations(i).boxes * np.float32(1.5) + np.float32([16, 0, 16, 0]):
            for level, stride in zip(anchors, (8, 16, 32), strict=True):
                found = positives(box, level, stride, 96 // stride, 128 // stride, limit=2.0)
                sides = [np.log((box[2:] - box[:2]) / level[anchor]) for _, _, anchor in found]
                wanted += [[*center, *side] for center, side in zip(found.values(), sides, strict=True)]
    around, boxes = sample_targets(limited, anchors, dataset)
    got = np.asarray(encode(jnp.asarray(boxes), around))
    assert got.shape == (len(wanted), 4)
    np.testing.assert_allclose(np.sort(got, axis=0), np.sort(wanted, axis=0), atol=2e-5)


def test_every_interval_holds_about_as_many_targets(experiment, dataset):
    fitted = fit_to(replace(experiment, localization=UGS(FittedGrid(4, coverage=1.0), FittedGrid(4))), dataset)
    around, boxes = sample_targets(experiment, fitted.anchors, dataset)
    targets = encode(jnp.asarray(boxes), around)[:, :2]
    counts, _ = np.histogram(targets, fitted.localization.center.points())
    assert counts.sum() == targets.size
    assert counts.min() / counts.max() > 0.5


def test_given_anchors_and_grids_are_kept(experiment, dataset):
    anchors = (((8.0, 8.0),) * 3,) * 3
    given = replace(experiment, localization=UGS(), network=Network("p", p2=False, anchors=anchors))
    assert fit_to(given, dataset) == (anchors, UGS())


def test_grids_cannot_be_fitted_if_no_anchor_learns_a_box(experiment, dataset):
    far = replace(experiment, network=Network("p", p2=False, anchors=(((900.0, 900.0),) * 3,) * 3))
    with pytest.raises(
        ValueError, match=r"expected boxes that match an anchor, got \d+ boxes and no match; use larger images"
    ):
        fit_to(far, dataset)


def test_a_data_set_without_objects_says_what_was_left_out(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((24, 32, 3), np.uint8))
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 0, 5]}],
    }
    (tmp_path / "all.json").write_text(json.dumps(content))
    data = CocoJson(tmp_path, tmp_path / "all.json", tmp_path, tmp_path / "all.json")
    with pytest.raises(DataError, match=r"expected objects to learn, got none in 1 image; left out: 1 box with a side"):
        open_splits(data, tmp_path / "cache")


@pytest.mark.slow
def test_a_run_keeps_its_grids(experiment, dataset, tmp_path):
    train(experiment, tmp_path / "run", stop_after=3)
    detector, _, _ = load_for_inference(tmp_path / "run")
    assert detector.localization == fit_to(experiment, dataset).localization
    assert isinstance(detector.localization.center, GridPoints)
    assert isinstance(detector.localization.size, Grid)
    assert read_experiment(tmp_path / "run") == experiment

    file = tmp_path / "run" / "config.json"
    config = json.loads(file.read_text())
    config["fitted_localization"]["center"]["positions"] = [-0.9, -0.4, 0.1, 0.3, 0.8]
    file.write_text(json.dumps(config))
    train(experiment, tmp_path / "run", resume=True, stop_after=4)  # not fitted again
    detector, _, _ = load_for_inference(tmp_path / "run")
    assert detector.localization.center == GridPoints((-0.9, -0.4, 0.1, 0.3, 0.8))


@pytest.mark.slow
def test_a_run_without_its_fitted_objective_is_refused(experiment, tmp_path):
    given = replace(experiment, localization=replace(FITTED, center=Grid(2.0, 1.0, 4), size=Grid(2.0, 1.0, 4)))
    train(given, tmp_path / "run", stop_after=3)
    file = tmp_path / "run" / "config.json"
    config = json.loads(file.read_text())
    del config["fitted_localization"]
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r'expected "fitted_localization".*got none; restore the file'):
        load_for_inference(tmp_path / "run")
