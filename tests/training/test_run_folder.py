"""What a run folder says of its data: enough to tell data sets apart, nothing of where they lie."""

import json
from dataclasses import replace

import pytest

from data_pipeline import CocoJson
from tests.training.toy import toy_experiment
from ugs_jax.training import Fitted
from ugs_jax.training.run_folder import RunFolder

ANCHORS = (((4.0, 4.0),) * 3,) * 4


def coco_set(folder, width):
    folder.mkdir()
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 32, "height": 32}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, width, 4]}],
    }
    for name in ("train.json", "val.json"):
        (folder / name).write_text(json.dumps(content))
    return CocoJson(folder, folder / "train.json", folder, folder / "val.json")


def described(folder, data):
    run = RunFolder(folder)
    experiment = replace(toy_experiment(), data=data)
    run.begin(experiment, "ugs train toy", Fitted(ANCHORS, experiment.localization), resume=False)
    return json.loads((folder / "config.json").read_text())["dataset"]


def test_data_sets_of_other_content_have_other_names(tmp_path):
    ours = described(tmp_path / "a", coco_set(tmp_path / "one", width=5))
    assert ours != described(tmp_path / "b", coco_set(tmp_path / "two", width=6))


def test_a_data_set_that_moved_keeps_its_name(tmp_path):
    there, here = coco_set(tmp_path / "there", width=5), tmp_path / "elsewhere" / "there"
    before = described(tmp_path / "a", there)
    here.parent.mkdir()
    (tmp_path / "there").rename(here)
    moved = CocoJson(here, here / "train.json", here, here / "val.json")
    assert described(tmp_path / "b", moved) == before


def test_a_folder_is_begun_once(tmp_path):
    data = coco_set(tmp_path / "data", width=5)
    assert not RunFolder(tmp_path / "a").begun
    described(tmp_path / "a", data)
    assert RunFolder(tmp_path / "a").begun
    with pytest.raises(FileExistsError, match="--resume"):
        described(tmp_path / "a", data)
