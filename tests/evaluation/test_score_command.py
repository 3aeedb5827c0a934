"""`ugs score` as users run it: COCO files and VisDrone folders, valid and invalid."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data_pipeline.yolo_files import yolo_folder
from ugs_jax.cli import main

SHARED = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[2].parent / "shared"))
FIXTURE = SHARED / "fixtures" / "visdrone_protocol"


def annotation(number, image_id, category, bbox, **fields):
    return {"id": number, "image_id": image_id, "category_id": category, "bbox": bbox, **fields}


def result(image_id, category, bbox, score):
    return {"image_id": image_id, "category_id": category, "bbox": bbox, "score": score}


RESULTS = [
    result("two", 7, [0, 0, 20, 20], 0.9),
    result("two", 7, [55, 55, 10, 10], 0.95),  # inside the crowd of its class
    result(1, 3, [5, 5, 10, 10], 0.8),
    result(1, 3, [50, 5, 10, 10], 0.7),  # wrong
]


@pytest.fixture
def truth(tmp_path):
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 80} for number in (1, "two")],
        "categories": [{"id": 3, "name": "car"}, {"id": 7, "name": "bus"}],
        "annotations": [
            annotation(0, 1, 3, [5, 5, 10, 10], area=2000.0),  # of a segment: medium, though its box is small
            annotation(1, "two", 7, [0, 0, 20, 20]),
            annotation(2, "two", 7, [50, 50, 30, 30], iscrowd=1),
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    return tmp_path / "truth.json"


def scored(capsys, *words):
    assert main(["score", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_ignored_class_is_a_crowd_of_the_others(truth, tmp_path, capsys):
    content = json.loads(truth.read_text())
    crowds = [{**each, "id": 10 + number, "iscrowd": 1} for number, each in enumerate(content["annotations"][2:])]
    crowds += [{**each, "id": 20 + number, "category_id": 3} for number, each in enumerate(crowds)]
    (tmp_path / "crowds.json").write_text(json.dumps(content | {"annotations": content["annotations"][:2] + crowds}))
    region = annotation(2, "two", 5, [50, 50, 30, 30])
    classes = [*content["categories"], {"id": 5, "name": "ignored regions"}]
    changed = {"annotations": [*content["annotations"][:2], region], "categories": classes}
    truth.write_text(json.dumps(content | changed))
    found = tmp_path / "found.json"
    found.write_text(json.dumps(RESULTS))
    wanted = scored(capsys, found, "--truth", tmp_path / "crowds.json")
    found.write_text(json.dumps([*RESULTS, result("two", 5, [50, 50, 30, 30], 0.5)]))
    with_class = scored(capsys, found, "--truth", truth)
    assert with_class["ap/ignored regions"] == pytest.approx(1.0)
    assert scored(capsys, found, "--truth", truth, "--ignore-classes", "ignored regions") == wanted != with_class
    main(["score", str(found), "--truth", str(truth), "--ignore-classes", "ignored regions"])
    assert f"{found}: 1 detection of ignored classes left out" in capsys.readouterr().err
    main(["score", str(found), "--truth", str(truth)])
    assert 'add --ignore-classes "ignored regions"' in capsys.readouterr().err


def test_a_yolo_folder_is_a_truth_as_its_annotations_in_coco_format_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UGS_CACHE", str(tmp_path / "cache"))
    labels = (("a/7", "1 .5 .5 .5 .5\n"), ("b/7", "0 .25 .5 .25 .5\n1 .75 .5 .25 .5\n"))
    yolo_folder(tmp_path / "own", val=labels)  # of 32 × 24 px
    rows = [  # as `ugs predict own/images/val` names images and classes
        result("a/7", 1, [8, 6, 16, 12], 0.9),
        result("b/7", 0, [4, 6, 8, 12], 0.8),
        result("b/7", 0, [20, 6, 8, 12], 0.7),  # of the other class
    ]
    write_results(tmp_path, rows)
    scores = scored(capsys, tmp_path / "results.json", "--truth", tmp_path / "own" / "data.yaml")
    assert scores["ap/car"] == pytest.approx(1.0)
    assert scores["ap/person"] == pytest.approx(51 / 101)  # one of two objects: 51 of 101 points of recall
    wrong = failed(capsys, tmp_path / "results.json", "--truth", tmp_path / "own" / "data.yaml", "--split", "train")
    assert "expected an image id of the annotations, got 'a/7'" in wrong


def failed(capsys, *words):
    assert main(["score", *map(str, words)]) == 1
    return capsys.readouterr().err


def write_results(folder, entries, **options):
    (folder / "results.json").write_text(json.dumps(entries, **options))
    return folder / "results.json"


def test_coco_results_are_scored_by_coco_with_areas_and_crowds_of_the_file(truth, tmp_path, capsys):
    got = scored(capsys, write_results(tmp_path, RESULTS), "--truth", truth)
    assert got["protocol"].startswith("COCO AP")
    assert got["ap/car"] == pytest.approx(1.0)  # the wrong one comes after the last object
    assert got["ap/bus"] == pytest.approx(1.0)
    assert got["ar1"] == pytest.approx(0.5)  # of the bus, the best detection is the ignored one
    assert got["ap_medium"] == pytest.approx(1.0)
    assert got["ap_small"] == pytest.approx(1.0)


def test_a_crowd_excuses_detections_of_its_own_class_only(truth, tmp_path, capsys):
    entries = [*RESULTS, result("two", 3, [55, 55, 10, 10], 0.99)]
    got = scored(capsys, write_results(tmp_path, entries), "--truth", truth)
    assert got["ap/car"] == pytest.approx(0.5)
    assert got["ap/bus"] == pytest.approx(1.0)


def test_coco_results_are_scored_by_visdrone_with_crowds_as_ignored_regions(truth, tmp_path, capsys):
    entries = [*RESULTS, result("two", 3, [55, 55, 10, 10], 0.99)]
    got = scored(capsys, write_results(tmp_path, entries), "--truth", truth, "--protocol", "visdrone")
    assert got["protocol"].startswith("VisDrone-DET official")
    assert got["ap"] == got["macro_ap"] == got["ap/car"] == pytest.approx(1.0)
    assert got["ar1"] == pytest.approx(1.0)  # what lies in the region takes no place


@pytest.mark.parametrize("protocol", ["default", "aitod", "tinyperson"])
def test_every_protocol_scores_coco_results(truth, tmp_path, capsys, protocol):
    got = scored(capsys, write_results(tmp_path, RESULTS), "--truth", truth, "--protocol", protocol)
    assert got["ap50"] == pytest.approx(1.0)


def test_without_json_a_table_names_the_scores_and_what_they_count(truth, tmp_path, capsys):
    assert main(["score", str(write_results(tmp_path, RESULTS)), "--truth", str(truth)]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("ap50", "ar100", "car", "bus", "100.00", "101 recall points"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (result(5, 3, [0, 0, 1, 1], 0.5), "entry 4: expected an image id of the annotations, got 5"),
        (result(1, 4, [0, 0, 1, 1], 0.5), "entry 4: expected a category id of the annotations, one of [3, 7], got 4"),
        (result(1, 3, [0, 0, 1], 0.5), "entry 4: expected 'bbox' to be four finite numbers"),
        (result(1, 3, [0, 0, float("nan"), 1], 0.5), "entry 4: expected 'bbox' to be four finite numbers"),
        (result(1, 3, [9, 9, -1, 1], 0.5), "entry 4: expected width and height of at least 0"),
        (result(1, 3, [0, 0, 1, 1], float("nan")), "entry 4: expected 'score' to be a finite number, got nan"),
        (result(1, 3, [0, 0, 1, 1], "0.5"), "entry 4: expected 'score' to be a finite number, got '0.5'"),
        ({"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]}, "entry 4: expected the keys image_id, category_id"),
        ("nothing", "entry 4: expected the keys"),
        (RESULTS[2], "entry 4: expected every detection once, got entry 2 again"),
    ],
)
def test_a_wrong_entry_is_an_error_with_file_and_line(truth, tmp_path, capsys, entry, message):
    results = write_results(tmp_path, [*RESULTS, entry], indent=None, separators=(",\n", ": "))
    lines = results.read_text().splitlines()
    expected = [number for number, line in enumerate(lines, start=1) if line.startswith(("{", "[{"))]
    error = failed(capsys, results, "--truth", truth)
    line = len(lines) if entry == "nothing" else expected[4]
    assert f"{results}:{line}: {message}" in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[\n{]", ":2:2: expected JSON"),
        ('{"annotations": []}', "expected a JSON list of detections, got dict"),
        ("\x00", ":1:1: expected JSON"),
    ],
)
def test_a_file_that_is_no_results_file_is_an_error(truth, tmp_path, capsys, text, message):
    (tmp_path / "results.json").write_text(text)
    assert message in failed(capsys, tmp_path / "results.json", "--truth", truth)


def test_a_missing_file_is_an_error_that_names_it(truth, tmp_path, capsys):
    assert "nowhere.json: expected a COCO results file" in failed(capsys, tmp_path / "nowhere.json", "--truth", truth)
    assert "nowhere.json: expected a COCO annotation file" in failed(
        capsys, write_results(tmp_path, RESULTS), "--truth", tmp_path / "nowhere.json"
    )


def test_a_box_of_the_truth_that_is_not_finite_is_an_error(truth, tmp_path, capsys):
    truth.write_text(truth.read_text().replace("[0, 0, 20, 20]", "[0, null, 20, 20]"))
    error = failed(capsys, write_results(tmp_path, RESULTS), "--truth", truth)
    assert "image id 'two': expected finite boxes" in error


@pytest.fixture
def split(tmp_path):
    """A split of two images of 60 × 40 px, and results for them."""
    for folder in ("images", "annotations", "results"):
        (tmp_path / folder).mkdir()
    for name in "ab":
        assert cv2.imwrite(str(tmp_path / "images" / f"{name}.jpg"), np.zeros((40, 60, 3), np.uint8))
    (tmp_path / "annotations" / "a.txt").write_text("5,5,10,10,1,4,0,0\n30,20,8,8,1,11,0,0\n")
    (tmp_path / "annotations" / "b.txt").write_text("5,5,10,10,1,4,0,0\n50,0,10,40,0,0,0,0\n20,5,20,20,0,1,0,0\n")
    (tmp_path / "results" / "a.txt").write_text("5,5,10,10,0.9,4,-1,-1\n30,20,8,8,0.8,4,-1,-1\n")
    (tmp_path / "results" / "b.txt").write_text("5,5,10,10,0.7,4,-1,-1\n22,7,5,5,0.6,1,-1,-1\n")
    return tmp_path


def test_a_folder_and_an_archive_of_results_score_the_same(split, capsys):
    got = scored(capsys, split / "results", "--truth", split)
    assert got["ap/car"] == pytest.approx(0.5 + 0.5 * 2 / 3)  # what is found on `others` comes between the two
    assert got["ap/pedestrian"] == 0.0  # a box of score 0 is an object that cannot be found
    assert got["ap"] == pytest.approx(got["ap/car"] * 2 / 3)
    assert got["macro_ap"] == pytest.approx(got["ap/car"] / 2)
    assert got["coco_ap"] == pytest.approx(1.0)  # `others` and score 0 are ignored there
    archive = shutil.make_archive(str(split / "packed"), "zip", split / "results")
    assert scored(capsys, archive, "--truth", split / "annotations") == got


def test_the_edge_of_the_image_is_read_from_the_images_if_they_are_there(split, capsys):
    # Of its 21 columns 51…60 lie in the region if the image ends there, less than half, and 51…61 if it does not.
    (split / "annotations" / "b.txt").write_text("5,5,10,10,1,4,0,0\n51,0,10,40,0,0,0,0\n")
    (split / "results" / "b.txt").write_text("50,5,21,10,0.95,4,-1,-1\n5,5,10,10,0.7,4,-1,-1\n")
    inside = scored(capsys, split / "results", "--truth", split)
    given = scored(capsys, split / "results", "--truth", split / "annotations", "--images", split / "images")
    shutil.rmtree(split / "images")
    unknown = scored(capsys, split / "results", "--truth", split)
    assert inside == given
    assert inside["ap/car"] < unknown["ap/car"]


def test_a_submission_is_scored_by_coco_protocols_too(split, capsys):
    got = scored(capsys, split / "results", "--truth", split, "--protocol", "aitod")
    assert got["ap/car"] == pytest.approx(1.0)
    assert got["ap_tiny"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("results/b.txt", None, "results/b.txt: expected a result file for each of 2 images"),
        ("results/c.txt", "", "results/c.txt: expected result files with the names of the annotation files"),
        ("results/b.txt", "1,2,3\n", "results/b.txt:1: expected 8 columns"),
        ("annotations/b.txt", "1,2,3,4,1,12,0,0\n", "annotations/b.txt:1: expected a category from 0"),
        ("images/b.jpg", None, "images/b.jpg: expected the image of"),
        ("images/b.jpg", "no image", "images/b.jpg: expected an image, got"),
    ],
)
def test_a_wrong_file_of_a_split_is_an_error_that_names_it(split, capsys, file, text, message):
    if text is None:
        (split / file).unlink()
    else:
        (split / file).write_text(text)
    assert message in failed(capsys, split / "results", "--truth", split)


def test_a_folder_of_images_that_is_not_there_is_an_error(split, capsys):
    error = failed(capsys, split / "results", "--truth", split, "--images", split / "nowhere")
    assert "nowhere: expected the folder of the images, found none" in error


def test_a_folder_without_annotations_is_an_error(tmp_path, capsys):
    assert "expected annotation files, NAME.txt, found none" in failed(capsys, tmp_path, "--truth", tmp_path)


@pytest.mark.skipif(not FIXTURE.is_dir(), reason="the shared fixtures are not here")
def test_the_fixture_is_scored_from_the_command_line(capsys):
    got = scored(capsys, FIXTURE / "results", "--truth", FIXTURE / "annotations")
    for key, percent in json.loads((FIXTURE / "expected.json").read_text())["expected"].items():
        assert got[key.lower()] == pytest.approx(percent / 100, abs=1e-3), key
