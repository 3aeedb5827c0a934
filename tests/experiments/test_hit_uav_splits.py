"""Splits of HIT-UAV by sequence, and its small training set."""

import json

import pytest

from experiments.datasets.hit_uav_splits import by_sequence, few, joined, main, sequence_of


def coco(first, sequences, images=10):
    """Images numbered from `first` on, `images` in each sequence, with as many boxes as their number modulo 3."""
    rows = [(name, i) for name in sequences for i in range(images)]
    numbered = list(enumerate(rows, first))
    return {
        "categories": [{"id": 1, "name": "person"}],
        "images": [{"id": i, "file_name": f"{name}_{number:05}.jpg"} for i, (name, number) in numbered],
        "annotations": [
            {"id": 100 * i + k, "image_id": i, "bbox": [i, k, 5, 5]} for i, (_, n) in numbered for k in range(n % 3)
        ],
    }


DAYS = coco(1, ["0_100_30_0", "1_60_40_0", "1_130_50_0"]), coco(1, ["0_120_30_0", "1_130_40_0"])


def boxes(found):
    names = {image["id"]: image["file_name"] for image in found["images"]}
    return sorted((names[row["image_id"]], *row["bbox"]) for row in found["annotations"])


def test_no_sequence_is_on_both_sides_and_nothing_is_lost():
    whole = joined(*DAYS)
    training, validation = by_sequence(whole)
    sides = [{sequence_of(image["file_name"]) for image in side["images"]} for side in (training, validation)]
    assert not sides[0] & sides[1]
    assert boxes(training) + boxes(validation) != boxes(whole)  # in another order
    assert sorted(boxes(training) + boxes(validation)) == boxes(whole) == sorted(boxes(DAYS[0]) + boxes(DAYS[1]))
    assert 15 <= len(validation["images"]) <= 24  # 30 % of 50, and less than one sequence more


def test_splits_do_not_depend_on_the_order_of_images():
    turned = {**DAYS[0], "images": DAYS[0]["images"][::-1]}
    assert {i["file_name"] for i in few(turned, 7)["images"]} == {i["file_name"] for i in few(DAYS[0], 7)["images"]}
    assert len(few(DAYS[0], 7)["images"]) == 7


def test_splits_that_cannot_be_joined_are_refused():
    with pytest.raises(ValueError, match="got 30 in both"):
        joined(DAYS[0], DAYS[0])
    with pytest.raises(ValueError, match="expected two splits with the same categories"):
        joined(DAYS[0], {**DAYS[1], "categories": []})


def test_the_script_writes_three_files(tmp_path, capsys):
    (tmp_path / "annotations").mkdir()
    for split, day in zip(("train", "val"), (coco(1, [f"s{i}" for i in range(12)]), DAYS[1]), strict=True):
        (tmp_path / "annotations" / f"{split}.json").write_text(json.dumps(day))
    main(tmp_path)
    assert "train_100.json: 100 images" in capsys.readouterr().out
    written = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "annotations").glob("*_*.json")}
    assert set(written) == {"train_by_sequence", "val_by_sequence", "train_100"}
    assert len(written["train_by_sequence"]["images"]) + len(written["val_by_sequence"]["images"]) == 140
