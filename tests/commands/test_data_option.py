"""The option `--data PATH` of the commands that train and plan."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from data_pipeline import CocoJson, TinyScenes, YoloFolder
from tests.compiling import compiled_quickly
from tests.data_pipeline.yolo_files import YAML, write_image, write_text, yolo_folder
from ugs_jax.cli import main
from ugs_jax.commands.data_option import ignoring_classes, split_data, with_data
from ugs_jax.commands.evaluated_source import on_data
from ugs_jax.commands.train import load_config
from ugs_jax.experiment import Experiment, from_json, to_json


@pytest.fixture
def trained(monkeypatch):
    """Experiments that would be trained."""
    experiments = []

    def train(experiment, folder, **_):
        experiments.append(experiment)
        raise ValueError("enough")

    monkeypatch.setattr("ugs_jax.training.train", train)
    return experiments


@pytest.fixture
def mine(tmp_path):
    """A config of a user."""
    text = "from data_pipeline import TinyScenes\nfrom ugs_jax.experiment import Experiment\n"
    return str(
        write_text(tmp_path / "mine_with_data.py", f"{text}experiment = Experiment('mine', TinyScenes(), epochs=3)")
    )


@pytest.mark.parametrize(
    ("words", "rest", "data"),
    [
        (["--data", "a.yaml", "mine.py"], ["mine.py"], "a.yaml"),
        (["mine.py", "--epochs", "3", "--data=a=b"], ["mine.py", "--epochs", "3"], "a=b"),
        (["mine.py", "--data.train-json", "x"], ["mine.py", "--data.train-json", "x"], None),
    ],
)
def test_the_path_is_taken_from_the_words(words, rest, data):
    assert split_data(words) == (rest, data)


@pytest.mark.parametrize("words", [["--data"], ["--data", "--resume"], ["--data="], ["--data", "a", "--data=b"]])
def test_a_path_that_is_missing_or_given_twice_is_an_error(words):
    with pytest.raises(ValueError, match=r"--data: expected one path, got .*; write --data data\.yaml"):
        split_data(words)


def test_without_a_path_an_experiment_is_unchanged():
    experiment = Experiment("mine", TinyScenes())
    assert with_data(experiment, None) is experiment


def test_train_on_a_folder_uses_the_config_for_own_data(tmp_path, trained):
    yaml = yolo_folder(tmp_path).yaml
    for given in (yaml, tmp_path):
        assert main(["train", "--data", str(given), "--epochs", "7"]) == 1
    expected = replace(load_config("own_data"), data=YoloFolder(yaml), epochs=7)
    assert trained == [expected, expected]


def test_train_on_a_folder_with_a_config_keeps_everything_else_of_it(tmp_path, mine, trained):
    yaml = yolo_folder(tmp_path).yaml
    assert main(["train", "--data", str(yaml), mine]) == 1
    assert main(["train", mine, "--data", str(yaml)]) == 1
    assert trained == [Experiment("mine", YoloFolder(yaml), epochs=3)] * 2


def test_fields_of_the_data_set_can_be_changed_too(tmp_path, trained):
    for name in ("train.json", "val.json", "other.json"):
        content = {
            "images": [{"id": 1, "file_name": "a.jpg"}],
            "annotations": [],
            "categories": [{"id": 1, "name": "a"}],
        }
        write_text(tmp_path / name, json.dumps(content))
    write_text(tmp_path / "a.jpg", "")
    other = str(tmp_path / "other.json")
    assert main(["train", "--data", str(tmp_path), "--data.val-json", other]) == 1
    assert trained[0].data == CocoJson(tmp_path, tmp_path / "train.json", tmp_path, Path(other))


def test_compare_trains_every_config_on_it(tmp_path, mine, monkeypatch):
    yaml = yolo_folder(tmp_path).yaml
    trained = []
    monkeypatch.setattr("ugs_jax.commands.compare.train_once", lambda one, *_, **__: trained.append(one) or one.name)
    monkeypatch.setattr("ugs_jax.commands.compare.write_comparison", lambda *_: None)
    folder = ["--folder", str(tmp_path / "runs")]
    assert main(["compare", "--data", str(yaml), *folder]) == 0
    assert [(each.name, each.data) for each in trained] == [
        ("own_data_ciou", YoloFolder(yaml)), ("own_data", YoloFolder(yaml))
    ]  # fmt: skip
    assert main(["compare", mine, "--data", str(yaml), *folder, "--", "--epochs", "4"]) == 0
    assert trained[2:] == [Experiment("mine", YoloFolder(yaml), epochs=4)]


def test_ablate_uses_it(tmp_path, monkeypatch):
    yaml = yolo_folder(tmp_path).yaml
    trained = []
    monkeypatch.setattr("ugs_jax.commands.ablate.train_once", lambda one, *_, **__: trained.append(one))
    monkeypatch.setattr("ugs_jax.commands.ablate._write", lambda *_: None)
    assert main(["ablate", "--data", str(yaml), "--methods", "ciou", "um_ur", "--folder", str(tmp_path / "runs")]) == 0
    assert [(each.data, each.loader.image_size) for each in trained] == [(YoloFolder(yaml), (640, 640))] * 2


def test_behind_two_dashes_it_is_refused_with_its_place(capsys):
    assert main(["compare", "--", "--data", "data.yaml"]) == 1
    assert "got --data, which is given once for all runs; write --data before `--`" in capsys.readouterr().err


def test_plan_counts_its_images_and_classes(tmp_path, monkeypatch):
    yaml = yolo_folder(tmp_path, [("a", ""), ("b", "")]).yaml
    planned = []

    def plan_training(experiment, topology, **settings):
        planned.append((experiment.data, settings["classes"], settings["images"]))
        raise ValueError("enough")

    monkeypatch.setattr("ugs_jax.planning.plan_training", plan_training)
    monkeypatch.setattr("ugs_jax.planning.hardware.topology_devices", lambda _: None)
    assert main(["plan", "--data", str(yaml), "--topology", "v5e:2x2"]) == 1
    assert planned == [(YoloFolder(yaml), 2, 2)]


def test_what_is_no_data_set_is_said_before_anything_runs(tmp_path, capsys, trained):
    assert main(["train", "--data", str(tmp_path / "nothing")]) == 1
    assert "nothing: expected a data.yaml (YOLO)" in capsys.readouterr().err
    assert trained == []


def test_a_run_folder_can_hold_it(tmp_path):
    experiment = Experiment("mine", YoloFolder(tmp_path / "data.yaml"))
    value = json.loads(json.dumps(to_json(experiment)))
    assert value["data"] == {
        "type": "YoloFolder",
        "yaml": {"path": str(tmp_path / "data.yaml")},
        "ignore_classes": [],
    }
    assert from_json(value) == experiment


@pytest.mark.slow
def test_a_folder_with_faults_trains_and_is_scored_by_its_test_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for number in range(count):
            write_image(Path(f"images/{split}/{number}.png"), 64, 64)
            centres = rng.uniform(0.2, 0.8, (3, 2))
            rows = [f"{rng.integers(2)} {x:.6f} {y:.6f} 0.15 0.15\n" for x, y in centres]
            write_text(Path(f"labels/{split}/{number}.txt"), "".join(rows) + "5 .5 .5 .1 .1\n" * (number == 1))
    write_text(Path("data.yaml"), f"{YAML}test: images/test\n")
    small = ["--network.size", "p", "--network.no-p2", "--loader.image-size", "64", "64", "--loader.batch-size", "2"]
    small += ["--loader.threads", "0", "--epochs", "1", "--postprocess.pre-nms-topk", "50"]
    with compiled_quickly():
        assert main(["train", "--data", "data.yaml", *small, "--loader.strict", "--folder", "strict"]) == 1
        assert "labels/train/1.txt:4: expected a class from 0 to 1" in capsys.readouterr().err
        assert main(["train", "--data", "data.yaml", *small]) == 0
        assert main(["eval", "runs/own_data-seed0", "--split", "test"]) == 0
    scores = json.loads(Path("runs/own_data-seed0/evaluation_best_test.json").read_text())
    assert scores["ap"] is not None


def test_a_class_to_ignore_is_an_option_of_the_data(trained, tmp_path, monkeypatch):
    yolo_folder(tmp_path, yaml="train: images/train\nval: images/val\nnames: [car, dontcare]\n")
    assert main(["train", "--data", str(tmp_path), "--data.ignore-classes", "dontcare", "--folder", "run"]) == 1
    assert trained[0].data.ignore_classes == ("dontcare",)
    assert trained[0].data.classes == ("car",)


@dataclass
class Model:
    """A detector without anything but its experiment."""

    experiment: Experiment


@pytest.mark.parametrize(
    ("before", "more", "ignored"), [((), (), ()), (("dontcare", "fog"), (), ("dontcare",)), ((), ("bus",), ("bus",))]
)
def test_other_data_ignore_the_classes_of_the_run_that_they_have_and_those_given(tmp_path, before, more, ignored):
    source = yolo_folder(tmp_path, yaml="train: images/train\nval: images/val\nnames: [car, dontcare, bus]\n")
    model = Model(Experiment("mine", replace(source, ignore_classes=before)))
    assert on_data(model, source.yaml, more).experiment.data == replace(source, ignore_classes=ignored)


def test_classes_of_a_data_set_without_such_a_setting_cannot_be_ignored():
    with pytest.raises(ValueError, match="expected a data set of COCO or YOLO, got TinyScenes"):
        ignoring_classes(TinyScenes(), ["car"])
