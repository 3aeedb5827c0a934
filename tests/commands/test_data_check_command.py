"""`ugs data check`: exit statuses, the report, its JSON and the contact sheet, on folders with planted faults."""

import json

import cv2
import numpy as np
import pytest

from tests.data_pipeline.yolo_files import write_text
from ugs_jax.cli import main
from ugs_jax.commands import data_check

TARGETS = data_check._targets
YAML = "train: images/train\nval: images/val\nnames: [car, person]\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A clean YOLO folder: four images in train and two in val, 96 × 128 px, each with objects of both classes."""
    monkeypatch.setenv("UGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data_check, "_targets", lambda *_: "not asked for")
    write_text(tmp_path / "own" / "data.yaml", YAML)
    for seed, name in enumerate(("train/a", "train/b", "train/c", "train/d", "val/e", "val/f")):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
        (tmp_path / "own" / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        write_picture(tmp_path, name, cv2.resize(coarse, (128, 96), interpolation=cv2.INTER_CUBIC))
        write_text(tmp_path / "own" / "labels" / f"{name}.txt", "0 .3 .3 .1 .2\n1 .7 .7 .2 .2\n")
    return tmp_path


def write_picture(folder, name, pixels):
    assert cv2.imwrite(str(folder / "own" / "images" / f"{name}.png"), pixels)


def picture(folder, name):
    return cv2.imread(str(folder / "own" / "images" / f"{name}.png"))


def check(folder, *words):
    return main(["data", "check", str(folder / "own" / "data.yaml"), *words])


def read(folder):
    return json.loads((folder / "data_check" / "check.json").read_text())


def test_a_clean_folder_has_status_0(folder, capsys):
    assert check(folder) == 0
    assert "No faults, and no image in two splits." in capsys.readouterr().out
    found = read(folder)
    assert (found["clean"], found["leaks"]) == (True, [])
    assert [(split["split"], split["images"], split["objects"]) for split in found["splits"]] == [
        ("train", 4, 8),
        ("val", 2, 4),
    ]
    assert found["image_size"] == [640, 640]


def test_planted_faults_are_listed_with_their_images_and_have_status_1(folder, capsys):
    labels = folder / "own" / "labels"
    write_text(labels / "train" / "a.txt", "0 .3 .3 .1 .2\n5 .7 .7 .2 .2\n")
    write_picture(folder, "train/c", picture(folder, "train/b"))
    write_picture(folder, "val/e", cv2.convertScaleAbs(picture(folder, "train/d"), alpha=1, beta=9))
    (labels / "val" / "f.txt").unlink()
    assert check(folder, "--image-size", "96", "128") == 1
    said = capsys.readouterr().out
    assert "**2 faults and 1 image in two splits.**" in said
    assert f"images/train/a.png: {labels}/train/a.txt:2: expected a class from 0 to 1" in said
    assert "images/train/c.png: same as images/train/b.png (id b), equal annotations" in said
    assert "- 1 image of val in train, too: 0 with equal pixels, 1 nearly equal" in said
    assert "images/val/e.png and images/train/d.png, correlation " in said
    assert "- val: 1 image without a label file (background)" in said
    found = read(folder)
    assert found["splits"][1]["unlabelled"] == ["images/val/f.png"]
    assert [fault["image"] for fault in found["splits"][0]["faults"]] == ["images/train/a.png", "images/train/c.png"]
    assert found["leaks"][0]["other_image"] == "images/train/d.png"
    assert found["image_size"] == [96, 128]
    assert said.startswith((folder / "data_check" / "check.md").read_text()[:500])
    sheet = cv2.imread(str(folder / "data_check" / "contact.png"))
    assert sheet.shape[1] == 3 * 560 + 2 * 8


def test_long_lists_are_cut_in_the_report_and_whole_in_the_json(folder, capsys):
    rows = "".join(f"0 .{i} .5 .05 .1\n0 .{i} .5 .05\n" for i in range(1, 9)) + "1 .5 .8 .1 .1\n"
    write_text(folder / "own" / "labels" / "train" / "a.txt", rows)
    assert check(folder, "--json", "--output", "other") == 1
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["splits"][0]["faults"]) == 8
    text = (folder / "other" / "check.md").read_text()
    assert text.count("a.txt:") == 5
    assert "    - … 3 more in check.json" in text


@pytest.mark.slow
def test_a_config_gives_image_size_and_network(folder, capsys, monkeypatch):
    monkeypatch.setattr(data_check, "_targets", TARGETS)
    write_text(
        folder / "config.py",
        "from pathlib import Path\nfrom data_pipeline import LoaderOptions, YoloFolder\n"
        "from ugs_jax.experiment import Experiment, Network\n"
        "experiment = Experiment('mine', YoloFolder(Path('own/data.yaml')), network=Network('p', p2=False),\n"
        "    loader=LoaderOptions((96, 128), max_boxes=1))\n",
    )
    assert main(["data", "check", "config.py"]) == 0
    assert "train: 4 images have more objects than loader.max_boxes = 1; the most is 2." in capsys.readouterr().out
    assert read(folder)["image_size"] == [96, 128]
    assert len(read(folder)["targets"]["anchors"]) == 3
    assert read(folder)["targets"]["recall"] == 1.0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda own: (own / "data.yaml").unlink(), r"data\.yaml"),
        (lambda own: write_text(own / "labels/train/a.txt", "x\n" * 99), "expected label rows"),
    ],
)
def test_a_data_set_that_cannot_be_read_has_status_2(folder, capsys, damage, message):
    damage(folder / "own")
    assert check(folder) == 2
    assert message.replace("\\", "") in capsys.readouterr().err
    assert not (folder / "data_check").exists()
