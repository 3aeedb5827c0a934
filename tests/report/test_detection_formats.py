"""Files of detections, read back by the programs that they are meant for, or by hand."""

import csv
import json
from typing import get_args

import pytest
import yaml

from tests.report.found import BOXES, found, frames, results, score, write
from ugs_jax.commands.predict import FormatName
from ugs_jax.report import Frame
from ugs_jax.report.formats import FORMATS


def test_yolo_rows_are_shares_of_the_image(tmp_path):
    write(tmp_path, [found("b/a.jpg", boxes=[[10, 20, 30, 45], [190, 90, 260, 160]])], "yolo")
    rows = (tmp_path / "yolo/labels/b/a.txt").read_text().splitlines()
    # The second box is cut at the border: x 190…200 of 200, y 90…100 of 100.
    assert rows == ["0 0.1 0.325 0.1 0.25 0.9", "1 0.975 0.95 0.05 0.1 0.5"]
    assert yaml.safe_load((tmp_path / "yolo/data.yaml").read_text()) == {"nc": 2, "names": {0: "car", 1: "bus"}}


@pytest.mark.parametrize("name", ['a "b": c', "no", "3", "ä\\n# x", "- y"])
def test_class_names_survive_yaml(tmp_path, name):
    write(tmp_path, [], "yolo", classes=[name], ids=[1])
    assert yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())["names"] == {0: name}


def test_an_image_without_boxes_has_no_label_file_even_after_an_earlier_call(tmp_path):
    write(tmp_path, [found("a.jpg"), found("b.jpg")], "yolo")
    write(tmp_path, [found("a.jpg", boxes=[]), found("b.jpg", boxes=[[300, 20, 310, 30]])], "yolo")
    assert list((tmp_path / "yolo/labels").iterdir()) == []


def test_label_files_of_equal_stems_are_kept_apart(tmp_path):
    names = ["one/x.jpg", "two/x.jpg", "one/x.png", "../one/x.bmp"]
    write(tmp_path, [found(name) for name in names], "yolo", "visdrone")
    labels = tmp_path / "yolo/labels"
    assert {str(path.relative_to(labels)) for path in labels.rglob("*.txt")} == {
        *("one/x.txt", "two/x.txt", "one/x-2.txt", "one/x-3.txt")
    }
    assert len(list((tmp_path / "visdrone").glob("*.txt"))) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"yolo", "visdrone", "visdrone.zip", "summary.json"}


def test_the_table_has_a_row_for_each_box(tmp_path):
    image = found("b/a.jpg", deviation=[[1, 2, 3, 4], [5, 6, 7, 8]])
    frame = found("clip.mp4", boxes=BOXES[:1], frame=Frame(12, 0.48, 25.0))
    write(tmp_path, [image, frame], "csv")
    with (tmp_path / "predictions.csv").open(newline="") as stream:
        first, second, third = csv.DictReader(stream)
    assert first == {
        "file": "b/a.jpg",
        "frame": "",
        "time": "",
        "image_width": "200",
        "image_height": "100",
        "class": "car",
        "category_id": "3",
        "score": "0.900000",
        "x": "10.000",
        "y": "20.000",
        "width": "20.000",
        "height": "25.000",
        "deviation_x1": "1.000",
        "deviation_y1": "2.000",
        "deviation_x2": "3.000",
        "deviation_y2": "4.000",
    }
    assert (second["class"], second["x"], second["width"]) == ("bus", "60.500", "4.500")
    assert (third["file"], third["frame"], third["time"], third["deviation_x1"]) == ("clip.mp4", "12", "0.4800", "")


def test_names_with_commas_and_line_breaks_survive_the_table(tmp_path):
    write(tmp_path, [found('a,"b"\n.jpg', boxes=BOXES[:1])], "csv", classes=("c,d", "e"))
    with (tmp_path / "predictions.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["file"], row["class"]) == ('a,"b"\n.jpg', "c,d")


def test_ugs_score_takes_the_submission_unchanged(tmp_path, capsys):
    annotations = tmp_path / "val" / "annotations"
    annotations.mkdir(parents=True)
    (annotations / "a.txt").write_text("10,20,20,25,1,1,0,0\n60,60,5,6,1,2,0,0\n")
    (annotations / "b.txt").write_text("")
    boxes = [[10, 20, 30, 45], [60, 60, 65, 66]]
    write(tmp_path / "out", [found("a.jpg", boxes=boxes), found("b.jpg", boxes=[])], "visdrone")
    for path in ("visdrone", "visdrone.zip"):
        got = score(capsys, tmp_path / "out" / path, tmp_path / "val")
        assert (got["ap"], got["ar500"]) == pytest.approx((1, 1))
    assert (tmp_path / "out/visdrone/a.txt").read_text().startswith("10.000,20.000,20.000,25.000,0.900000,1,-1,-1\n")


def test_all_formats_can_be_written_at_once_and_have_the_same_boxes(tmp_path):
    written = write(tmp_path, [found(), found("b.jpg")], "coco", "yolo", "csv", "visdrone", "csv")
    assert list(written.files) == ["coco", "yolo", "csv", "visdrone"]
    assert all(path.exists() for path in written.files.values())
    label_rows = sum(len(path.read_text().splitlines()) for path in (tmp_path / "yolo/labels").iterdir())
    table_rows = len((tmp_path / "predictions.csv").read_text().splitlines()) - 1
    submitted = sum(len(path.read_text().splitlines()) for path in (tmp_path / "visdrone").iterdir())
    assert written.boxes == len(results(tmp_path)) == label_rows == table_rows == submitted == 4


def test_boxes_below_the_lowest_score_and_without_area_are_left_out(tmp_path):
    boxes = [[1, 1, 9, 9], [1, 1, 5, 5], [7, 7, 7, 9]]
    image = found(boxes=boxes, scores=(0.5, 0.25, 0.9), classes=(0, 0, 0))
    written = write(tmp_path, [image], "coco", keep=0.25)
    assert written.boxes == 2
    assert [row["score"] for row in results(tmp_path)] == [0.5, 0.25]
    assert write(tmp_path, [image], "coco", keep=0.3).boxes == 1


def test_the_summary_counts_skipped_files_and_gives_the_reasons(tmp_path):
    reasons = []

    def predictions():
        yield found()
        reasons.append(ValueError("b.jpg: expected an image, got 0 bytes"))  # as predict_files finds it on the way
        yield from frames(3)

    write(tmp_path, predictions(), "coco", skipped=reasons, threshold=0.6)
    assert json.loads((tmp_path / "summary.json").read_text()) == {
        "images": 1,
        "videos": 1,
        "frames": 3,
        "boxes": 8,
        "above_threshold": 4,
        "skipped": 1,
        "reasons": ["b.jpg: expected an image, got 0 bytes"],
        "files": {"coco": "predictions.json"},
        "categories": [{"id": 3, "name": "car"}, {"id": 7, "name": "bus"}],
    }


def test_after_an_error_no_unfinished_file_stays(tmp_path):
    write(tmp_path, [found()], "coco", "csv")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken():
        yield from frames(2)
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        write(tmp_path, broken(), "coco", "csv", pictures=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_command_offers_every_format():
    assert set(get_args(FormatName)) == set(FORMATS)


def test_an_unknown_format_and_too_few_ids_are_refused(tmp_path):
    with pytest.raises(ValueError, match="formats: expected coco, yolo, csv, visdrone, got 'voc'"):
        write(tmp_path, [], "voc")
    with pytest.raises(ValueError, match="category_ids: expected an id for each of 2 classes, got 1"):
        write(tmp_path, [], "coco", ids=(1,))
