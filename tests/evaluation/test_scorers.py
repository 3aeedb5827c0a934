"""Scorers of a run: VisDrone's own annotation files, and other data with the same protocol."""

import types

import cv2
import numpy as np
import pytest

from data_pipeline import VisDrone, dataset_from_examples
from data_pipeline.dataset import Example
from ugs_jax.commands.score import image_names, room_for, scorer_for
from ugs_jax.detectors import Postprocess
from ugs_jax.evaluation import CocoScorer, TruthImage, VisDroneScorer, read_submission, write_submission

SIZE = (40, 60)


@pytest.fixture
def visdrone(tmp_path):
    folder = tmp_path / "VisDrone2019-DET-val"
    for part in ("images", "annotations"):
        (folder / part).mkdir(parents=True)
    rows = {"a": "5,5,10,10,1,4,0,0\n20,20,10,10,0,4,0,0\n", "b": "5,5,10,10,1,4,0,0\n30,0,20,40,0,0,0,0\n"}
    for name, text in rows.items():
        assert cv2.imwrite(str(folder / "images" / f"{name}.jpg"), np.zeros((*SIZE, 3), np.uint8))
        (folder / "annotations" / f"{name}.txt").write_text(text)
    return VisDrone(tmp_path)


def batch(*detections):
    """Detections [(box xyxy, label, score), …] of each image, as a detector gives them on images of their own size."""
    most = max(len(rows) for rows in detections)
    boxes, scores = np.zeros((len(detections), most, 4), np.float32), np.zeros((len(detections), most), np.float32)
    classes, valid = np.zeros(scores.shape, np.int32), np.zeros(scores.shape, bool)
    for i, rows in enumerate(detections):
        for k, (box, label, score) in enumerate(rows):
            boxes[i, k], classes[i, k], scores[i, k], valid[i, k] = box, label, score, True
    count = len(detections)
    geometry = types.SimpleNamespace(
        image_id=np.arange(count),
        letterbox=np.tile([1.0, 0.0, 0.0], (count, 1)),
        original_size=np.tile(SIZE, (count, 1)),
        valid=np.ones(count, bool),
    )
    return types.SimpleNamespace(boxes=boxes, scores=scores, classes=classes, valid=valid), geometry


CAR, ZERO, REGION = [5, 5, 15, 15], [20, 20, 30, 30], [32, 4, 42, 14]
FOUND = [[(CAR, 3, 0.5), (ZERO, 3, 0.9)], [(REGION, 3, 0.95), (CAR, 3, 0.6)]]


def test_a_visdrone_run_is_scored_on_its_original_annotation_files(visdrone):
    data = visdrone.open("val")
    scorer = scorer_for("visdrone", data, visdrone)
    scorer.add_batch(*batch(*FOUND))
    got = scorer.score()
    assert got["ap"] == got["ap/car"] == pytest.approx(2 / 3)  # two of three objects, for score 0 counts
    assert got["coco_ap"] == pytest.approx(1.0)  # not there
    assert got["ap/bus"] is None
    assert "VisDrone-DET official" in scorer.describe()
    assert "COCO AP" in scorer.describe()
    scorer.reset()
    assert scorer.score()["ap"] == 0.0


def test_other_data_is_scored_with_ignore_regions_as_visdrones_ignored_regions():
    boxes, region = np.array([CAR], np.float32), np.array([[30, 0, 50, 40]], np.float32)
    example = Example(b"", boxes, np.zeros(1, np.int32), region, 0, "folder/image.jpg", *SIZE)
    data = dataset_from_examples([example], ["object"])
    scorer = scorer_for("visdrone", data, None)
    scorer.add_batch(*batch([(REGION, 0, 0.9), (CAR, 0, 0.5)]))
    assert scorer.score()["ap"] == pytest.approx(1.0)
    assert image_names(data) == ["folder_image"]


def test_the_submission_of_a_run_scores_as_the_run_does(visdrone, tmp_path):
    data = visdrone.open("val")
    scorer = scorer_for("visdrone", data, visdrone)
    scorer.add_batch(*batch(*FOUND))
    archive = write_submission(tmp_path / "submission", image_names(data), scorer.rows)
    again = VisDroneScorer(data, scorer.truth)
    again.add(read_submission(archive, ["a", "b"], classes=10))
    assert again.score() == scorer.score()


def test_images_whose_names_differ_in_suffix_or_folder_only_are_told_apart():
    image = Example(b"", np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros((0, 4), np.float32), 0, "", 9, 9)
    names = ["x.png", "x.jpg", "s1/x.png", "s1_x.png", "x-2.png", "d/é.jpg"]
    data = dataset_from_examples([image._replace(file_name=name) for name in names], ["a"])
    found = image_names(data)
    assert found == ["x", "x-3", "s1_x", "s1_x-2", "x-2", "d_é"]
    assert len(set(found)) == len(names)


def test_annotations_of_another_split_are_refused(visdrone):
    nothing = TruthImage(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
    with pytest.raises(ValueError, match="expected annotations of 2 images, got 1"):
        VisDroneScorer(visdrone.open("val"), [nothing])


def test_the_other_protocols_score_by_coco(visdrone):
    data = visdrone.open("val")
    scorer = scorer_for("aitod", data, visdrone)
    assert isinstance(scorer, CocoScorer)
    assert scorer.protocol.max_detections == 1500


def test_as_many_detections_are_kept_as_the_protocol_counts():
    few = Postprocess(max_detections=100, pre_nms_topk=300)
    assert room_for("default", few) == few
    assert room_for("visdrone", few) == Postprocess(max_detections=500, pre_nms_topk=500)
    assert room_for("aitod", Postprocess()) == Postprocess(max_detections=1500, pre_nms_topk=1500)
    assert room_for("coco", Postprocess()) == Postprocess()


def test_an_unknown_split_has_no_annotations(visdrone):
    with pytest.raises(ValueError, match="split: expected one of"):
        visdrone.annotation_folder("vall")
