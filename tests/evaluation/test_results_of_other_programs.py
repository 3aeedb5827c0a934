"""Results as detectors of other programs write them: ids of any kind, file names, outlines, encodings."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipeline import DataError
from tests.data_pipeline.test_hostile_inputs import VALUES, changed, paths, says
from ugs_jax.cli import main
from ugs_jax.evaluation.coco_files import read_annotations, read_results


def truth(ids=(1, 2, 3), names=("DJI_1.jpg", "DJI_2.jpg", "DJI_3.jpg")):
    return {
        "images": [
            {"id": key, "file_name": name, "width": 96, "height": 64} for key, name in zip(ids, names, strict=True)
        ],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [
            {"id": k, "image_id": key, "category_id": 1, "bbox": [10 + k, 12, 20, 15], "area": 300.0, "iscrowd": 0}
            for k, key in enumerate(ids)
        ],
    }


def results(ids):
    return [
        {"image_id": key, "category_id": 1, "bbox": [10 + k, 12, 20, 15], "score": 0.9} for k, key in enumerate(ids)
    ]


@pytest.fixture
def run(tmp_path, capsys):
    def run(content, rows, *words, encoding="utf-8"):
        """AP and what is said beside it; or the error."""
        (tmp_path / "truth.json").write_bytes(json.dumps(content).encode(encoding))
        (tmp_path / "found.json").write_bytes(json.dumps(rows).encode(encoding))
        place = [str(tmp_path / "found.json"), "--truth", str(tmp_path / "truth.json"), "--json", *words]
        failed = main(["score", *place])
        out, said = capsys.readouterr()
        return None if failed else json.loads(out), said

    return run


@pytest.mark.parametrize("ids", [(1, 2, 3), (1.0, 2.0, 3.0), ("1", "2", "3"), ("1.0", 2, 3.0)])
def test_ids_are_values(run, ids):
    scores, said = run(truth(), results(ids))
    assert scores["ap"] == pytest.approx(1.0)
    assert said == ""


def test_annotations_whose_image_ids_are_floats_count(run):
    content = truth()
    for entry in content["annotations"][1:]:
        entry["image_id"] = float(entry["image_id"])
    scores, _ = run(content, results([1]))
    assert scores["ar100"] == pytest.approx(1 / 3)


def test_category_ids_are_values(run):
    rows = results([1, 2, 3])
    for row, category in zip(rows, (1.0, "1", 1), strict=True):
        row["category_id"] = category
    assert run(truth(), rows)[0]["ap"] == pytest.approx(1.0)


NAMES = "image ids are matched by the names of the images' files"


@pytest.mark.parametrize(
    ("ids", "names", "called"),
    [
        ((1, 2, 3), ("DJI_1.jpg", "DJI_2.jpg", "DJI_3.jpg"), ("DJI_1", "DJI_2", "DJI_3")),
        ((1, 2, 3), ("a/DJI_1.jpg", "a/DJI_2.jpg", "b/DJI_3.jpg"), ("DJI_1.jpg", "a/DJI_2.jpg", "DJI_3")),
        (("000001", "000002", "000010"), ("000001.jpg", "000002.jpg", "000010.jpg"), (1, 2, 10)),
        ((1, 2, 3), ("000000.jpg", "000001.jpg", "000002.jpg"), (0, 1, 2)),
        ((100, 200, 300), ("7.png", "8.png", "9.png"), (7, 8, 9)),
        ((1, 2, 3), ("x.7.png", "x.8.png", "x.9.png"), ("x.7", "x.8", "x.9")),
    ],
)
def test_file_names_and_their_stems_are_matched_and_said_once(run, ids, names, called):
    scores, said = run(truth(ids, names), results(called))
    assert scores["ap"] == pytest.approx(1.0)
    assert said.count(NAMES) == 1


def test_names_count_where_they_contradict_numbers(run):
    """Ultralytics writes the stem as a number, which is the id of another image here, and the name of the file."""
    rows = [
        {**row, "file_name": name} for row, name in zip(results([3, 1, 2]), ("3.jpg", "1.jpg", "2.jpg"), strict=True)
    ]
    content = truth((1, 2, 3), ("3.jpg", "1.jpg", "2.jpg"))
    scores, said = run(content, rows)
    assert scores["ap"] == pytest.approx(1.0)
    assert NAMES in said
    for row in rows:
        del row["file_name"]
    assert NAMES not in run(content, rows)[1]


def test_a_stem_of_two_files_is_no_name(run):
    scores, said = run(truth(names=("a/x.jpg", "b/x.jpg", "c.jpg")), results(["a/x", "x", "c"]))
    assert scores is None
    assert "entry 1: expected an image id of the annotations, got 'x', which is neither" in said


def test_annotations_that_belong_to_no_image_are_counted_and_said(run):
    content = truth()
    content["annotations"].append({**content["annotations"][0], "id": 9, "image_id": 99})
    scores, said = run(content, results([1, 2, 3]))
    assert scores["ap"] == pytest.approx(1.0)
    assert "1 annotation of images that the file does not list (dropped)" in said


def test_annotations_of_which_most_belong_to_no_image_are_an_error(run):
    content = truth()
    for entry in content["annotations"]:
        entry["image_id"] += 1000
    scores, said = run(content, results([1]))
    assert scores is None
    assert "got 3 of 3 that belong to no listed image" in said


def test_where_nothing_is_left_to_score_it_is_said(run):
    content = truth()
    for entry in content["annotations"]:
        entry["iscrowd"] = 1
    scores, said = run(content, results([1]))
    assert scores["ap"] is None
    assert "there is nothing to score" in said


def test_images_with_objects_and_without_detections_are_counted(run):
    assert "no detection in" not in run(truth(), results([1, 2, 3]))[1]
    _, said = run(truth(), results([1]))
    assert "no detection in 2 of 3 images with objects; all their objects count as missed" in said


def test_both_of_two_categories_of_one_name_are_scored(run):
    content = truth()
    content["categories"] = [{"id": 1, "name": "waste"}, {"id": 2, "name": "waste"}]
    content["annotations"][2]["category_id"] = 2
    scores, _ = run(content, results([1, 2]))
    assert (scores["ap/waste (id 1)"], scores["ap/waste (id 2)"]) == (pytest.approx(1.0), 0.0)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_any_encoding_of_json_is_read(run, encoding):
    assert run(truth(), results([1, 2, 3]), encoding=encoding)[0]["ap"] == pytest.approx(1.0)


def test_detections_without_a_box_have_that_of_their_outline(run):
    rows = [
        # pycocotools.mask.encode of a 64 × 96 mask that is set in rows 12 to 26, columns 10 to 29 and 11 to 30.
        {"image_id": 1, "category_id": 1, "score": 0.9, "segmentation": {"size": [64, 96], "counts": RUNS[0]}},
        {"image_id": 2, "category_id": 1, "score": 0.9, "segmentation": {"size": [64, 96], "counts": RUNS[1]}},
        {"image_id": 3, "category_id": 1, "score": 0.9, "segmentation": [[12, 12, 32, 12, 32, 27, 12, 27]]},
    ]
    assert run(truth(), rows)[0]["ap"] == pytest.approx(1.0)
    rows[1]["segmentation"]["counts"] = "P" * 40
    scores, said = run(truth(), rows)
    assert scores is None
    assert "entry 1: expected run lengths in COCO's encoding" in said


RUNS = [
    "\\d0?a10000000000000000000000000000000000000dS4",
    "\\f0?a10000000000000000000000000000000000000dQ4",
]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0.1, 0.2, 0.2, 0.2], [0.5, 0.2, 0.2, 0.2]], "expected 'bbox' in px, got boxes within 0…1"),
        ([[60, 12, 80, 27], [61, 30, 81, 60]], "got boxes such as .*: most leave their image"),
    ],
)
def test_boxes_in_another_unit_are_noticed(run, boxes, message):
    rows = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.5} for box in boxes]
    scores, said = run(truth(), rows)
    assert scores is None
    assert message.partition(" .*")[0] in said


def test_annotations_given_as_results_are_called_so(run):
    scores, said = run(truth(), truth())
    assert scores is None
    assert (
        "expected a JSON list of detections, got dict, which has 'annotations'. Fix: pass the results as the first"
        in said
    )


ROWS = [
    {**row, "segmentation": {"size": [64, 96], "counts": RUNS[0]}, "file_name": "DJI_1.jpg"} for row in results([1, 2])
]
PLACES = list(paths(ROWS))


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.sampled_from(PLACES), value=VALUES | st.just(...))
def test_results_of_any_content_are_read_or_refused_by_name(tmp_path, place, value):
    (tmp_path / "truth.json").write_text(json.dumps(truth()))
    content = read_annotations(tmp_path / "truth.json")
    path = tmp_path / "found.json"
    try:
        path.write_text(json.dumps(changed(copy.deepcopy(ROWS), place, value) if place or value is not ... else None))
    except ValueError:  # more digits than Python writes
        return
    try:
        rows = read_results(path, content)
    except DataError as error:
        says(error, "found.json", "Fix: ")
    else:
        assert all(0 <= row["image_id"] < 3 for row in rows)
