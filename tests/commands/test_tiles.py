"""Training on tiles from the command line, and scores of whole images of a run on tiles."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_pipeline import CocoJson, LoaderOptions, Tiles, TinyScenes, VisDrone
from tests.commands.test_eval_command import data as data
from tests.commands.test_eval_command import evaluated, run_of
from tests.training.short_runs import short_runs
from tests.training.toy import bits, rows, toy_experiment
from ugs_jax.cli import main
from ugs_jax.commands.tiled_data import inference_flags, scored_data, whole_image_note
from ugs_jax.commands.train import with_overrides
from ugs_jax.experiment import Experiment, from_json, to_json
from ugs_jax.experiment.identity import describe_data
from ugs_jax.objectives import UGS

COCO = CocoJson(Path("a/images"), Path("a/train.json"), Path("b/images"), Path("b/val.json"))
PLAIN = Experiment("plain", TinyScenes(), loader=LoaderOptions(image_size=(160, 160)))
TILED = Experiment("tiled", Tiles(COCO, (640, 512), overlap=0.3, whole=True, val="whole"))


def test_an_experiment_on_tiles_survives_json():
    written = json.loads(json.dumps(to_json(TILED)))
    assert written["data"]["type"] == "Tiles"
    assert written["data"]["data"]["type"] == "CocoJson"
    assert from_json(written) == TILED


def test_the_description_of_tiles_does_not_depend_on_the_machine():
    elsewhere = replace(COCO, train_images=Path("/mnt/a/images"), val_json=Path("/mnt/b/val.json"))
    assert describe_data(TILED) == describe_data(replace(TILED, data=replace(TILED.data, data=elsewhere)))
    assert describe_data(TILED) != describe_data(replace(TILED, data=replace(TILED.data, tile=640)))


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (["--data.tile", "320"], replace(TILED.data, tile=320)),
        (["--data.tile", "320", "256"], replace(TILED.data, tile=(320, 256))),
        (["--data.empty-share", "0.5", "--data.no-whole"], replace(TILED.data, empty_share=0.5, whole=False)),
        (["--data.data.val-json", "c.json"], replace(TILED.data, data=replace(COCO, val_json=Path("c.json")))),
        (["--tile", "320", "--tile-overlap", "0.25"], replace(TILED.data, tile=(320, 320), overlap=0.25)),
        (["--tile", "320", "--tile-empty-share", "0.1"], replace(TILED.data, tile=(320, 320), empty_share=0.1)),
    ],
)
def test_fields_of_tiles_can_be_changed(words, data):
    assert with_overrides(TILED, words, "ugs").experiment.data == data


def test_tiles_of_the_size_of_the_input_can_be_asked_for_with_any_config():
    changed = with_overrides(PLAIN, ["--tile", "96", "128", "--tile-overlap", "0.3"], "ugs").experiment
    assert changed.data == Tiles(TinyScenes(), (96, 128), overlap=0.3)
    assert changed.loader.image_size == (96, 128)
    fewer = with_overrides(PLAIN, ["--tile", "96", "--tile-empty-share", "0"], "ugs").experiment
    assert fewer.data == Tiles(TinyScenes(), (96, 96), empty_share=0.0)
    words = ["--tile", "96", "--tile-keep-visible", "0.4", "--tile-whole", "--tile-val", "whole"]
    whole = with_overrides(PLAIN, words, "ugs").experiment
    assert whole.data == Tiles(TinyScenes(), (96, 96), keep_visible=0.4, whole=True, val="whole")
    enlarged = with_overrides(PLAIN, ["--tile", "96", "--loader.image-size", "192", "192"], "ugs").experiment
    assert enlarged.data == Tiles(TinyScenes(), (96, 96))
    assert enlarged.loader.image_size == (192, 192)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tile-overlap", "0.3"], r"--tile-overlap: expected it together with --tile, got no --tile; add --tile 640"),
        (["--tile-empty-share", "0"], r"--tile-empty-share: expected it together with --tile, got no --tile"),
        (["--tile-whole"], r"--tile-whole: expected it together with --tile, got no --tile"),
        (
            ["--tile", "100"],
            r"loader\.image_size: expected height and width that are multiples of 32.*try \(128, 128\)",
        ),
        (["--tile", "64", "--tile-overlap", "1.5"], r"Tiles\.overlap: expected a share of the tile in \[0, 1\)"),
    ],
)
def test_tiles_that_cannot_be_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        with_overrides(PLAIN, words, "ugs")


def test_scores_are_of_tiles_or_of_whole_images():
    cut, inner = TILED.data, TILED.data.data
    assert scored_data(inner, "val", "default", tiled=False) is inner
    assert scored_data(cut, "val", "default", tiled=True) is inner
    assert scored_data(cut, "val", "default", tiled=False) is inner  # val="whole"
    assert scored_data(cut, "train", "default", tiled=False) is cut
    on_tiles = replace(cut, val="tiles")
    assert scored_data(on_tiles, "val", "default", tiled=False) is on_tiles
    with pytest.raises(ValueError, match=r"--protocol visdrone: expected whole images.*--tile 640 512 --overlap"):
        scored_data(on_tiles, "val", "visdrone", tiled=False)
    with pytest.raises(ValueError, match="--split challenge: expected whole images, got a run on tiles"):
        scored_data(Tiles(VisDrone(Path("v"))), "challenge", "default", tiled=False)


def test_the_command_for_whole_images_is_told():
    assert inference_flags(TILED.data) == "--tile 640 512 --overlap 0.3"
    assert inference_flags(Tiles(COCO, 320)) == "--tile 320 --overlap 0.2 --no-full-image"
    assert whole_image_note(COCO, "runs/a") is whole_image_note(TILED.data, "runs/a") is None
    note = whole_image_note(Tiles(COCO), "runs/a", "train")
    assert "of tiles of 640 × 640 px" in note
    assert note.endswith("ugs eval runs/a --tile 640 --overlap 0.2 --no-full-image --split train")


@pytest.mark.slow
def test_a_run_on_tiles_is_scored_on_whole_images_as_any_other_run(data, tmp_path, monkeypatch, capsys):
    from ugs_jax.inference import detect_image

    looked = []

    def recorded(detect, image, *size, **options):
        found = detect_image(detect, image, *size, **options)
        looked.append((image.shape, found.boxes.tobytes()))
        return found

    monkeypatch.setattr("ugs_jax.inference.detect_image", recorded)
    words = ("--tile", "64", "--overlap", "0.25", "--min-score", "0.01")
    for folder, source in (("whole", data), ("tiles", Tiles(data, 64, overlap=0.25))):
        evaluated(run_of(UGS(), source, tmp_path / folder, monkeypatch), *words)
    assert [shape for shape, _ in looked] == 4 * [(90, 100, 3)]
    assert looked[:2] == looked[2:]
    assert len({boxes for _, boxes in looked}) == 2
    assert "These scores are" not in capsys.readouterr().out
    looked.clear()
    evaluated(tmp_path / "tiles", "--flip")
    assert [shape for shape, _ in looked] == 8 * [(64, 64, 3)]  # two images of 2 × 2 tiles
    assert f"On whole images: ugs eval {tmp_path / 'tiles'} --tile 64 --overlap 0.25" in capsys.readouterr().out
    assert main(["eval", str(tmp_path / "tiles"), "--protocol", "visdrone"]) == 1
    assert "add --tile 64 --overlap 0.25 --no-full-image" in capsys.readouterr().err


@pytest.mark.slow
def test_a_stopped_run_on_tiles_continues_with_the_same_batches(tmp_path):
    data = Tiles(TinyScenes(train_images=4, val_images=2, image_size=(96, 128)), 64)
    experiment = toy_experiment(data=data)
    steps = len(data.open("train", tmp_path / "data")) // 4
    ap = {steps: 0.1, 2 * steps: 0.2}
    with short_runs(experiment, ap, tmp_path / "cache", tmp_path / "data") as run:
        straight = run(tmp_path / "straight")
        run(tmp_path / "stopped", stop_after=steps + 1)
        resumed = run(tmp_path / "stopped", resume=True)
    assert steps >= 4
    assert bits(resumed.state.params) == bits(straight.state.params)  # the short step makes them of all batches
    assert rows(tmp_path / "stopped", "train") == rows(tmp_path / "straight", "train")
