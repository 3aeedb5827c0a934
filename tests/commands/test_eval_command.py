"""`ugs eval` beyond the scores of training: other splits, images without annotations, tiles, calibration."""

import json
import zipfile
from functools import partial

import cv2
import numpy as np
import pytest

from data_pipeline import CocoJson, VisDrone
from tests.compiling import compiled_quickly
from tests.training.toy import ToyDetector, toy_experiment
from ugs_jax.analysis import measure_calibration
from ugs_jax.cli import main
from ugs_jax.commands.inference_options import InferenceOptions
from ugs_jax.detectors import Architecture, Postprocess
from ugs_jax.experiment import fit_to
from ugs_jax.inference import Merge, TestTimeAugmentation, Tiling
from ugs_jax.objectives import UGS, BoxRegression
from ugs_jax.runs import RunFolder, create_state, device_mesh

ROWS = "8,9,10,8,1,4,0,0\n40,30,12,20,1,1,0,0\n"
FOLDERS = (
    "VisDrone2019-DET-train",
    "VisDrone2019-DET-val",
    "VisDrone2019-DET-test-dev",
    "VisDrone2019-DET-test-challenge",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two images of 100 × 90 px in each split, annotated but in test-challenge."""
    root, rng = tmp_path_factory.mktemp("visdrone"), np.random.default_rng(0)
    for name in FOLDERS:
        for i in range(2):
            for kind in ("images", *(() if name.endswith("challenge") else ("annotations",))):
                (root / name / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / name / "images" / f"{i}.png"), rng.integers(0, 256, (90, 100, 3), np.uint8))
            if not name.endswith("challenge"):
                (root / name / "annotations" / f"{i}.txt").write_text(ROWS)
    return VisDrone(root)


def run_of(localization, data, folder, patch, **changes):
    """A run folder with a toy of its objective, not trained, as its checkpoint."""
    experiment = toy_experiment(localization, data=data, epochs=1, **changes)
    detector = ToyDetector(Architecture("p", False, 10, ANCHORS), localization)
    state = create_state(detector, experiment.optimizer.build(lambda _: 0.0), 0)
    for place in ("ugs_jax.runs.loaded", "ugs_jax.analysis.calibration"):
        patch.setattr(f"{place}.load_for_inference", lambda *_, **__: (detector, state, device_mesh()))
    run = RunFolder(folder)
    folder.mkdir()
    run.begin(experiment, "", fit_to(experiment, data.open("train")), data.classes, resume=False)
    return folder


ANCHORS = tuple(tuple((s * w, s * h) for w, h in ((0.8, 1.0), (1.2, 0.9), (1.0, 1.6))) for s in (5.0, 8.0, 16.0))


@pytest.fixture
def run(data, tmp_path, monkeypatch):
    return run_of(UGS(), data, tmp_path / "run", monkeypatch)


def evaluated(run, *words):
    with compiled_quickly():
        assert main(["eval", str(run), *words]) == 0


def test_test_dev_is_scored_as_a_split_of_its_own(run, capsys):
    evaluated(run, "--split", "test", "--protocol", "visdrone")
    assert json.loads((run / "evaluation_best_test_visdrone.json").read_text())["ap"] is not None
    assert (run / "submission_best_test_visdrone.zip").exists()
    assert "(best, test)" in capsys.readouterr().out


def test_without_annotations_only_the_submission_is_written(run, capsys):
    before = set(run.iterdir())
    evaluated(run, "--split", "challenge")
    assert {path.name for path in set(run.iterdir()) - before} == {
        "submission_best_challenge_visdrone",
        "submission_best_challenge_visdrone.zip",
    }
    with zipfile.ZipFile(run / "submission_best_challenge_visdrone.zip") as archive:
        assert sorted(archive.namelist()) == ["0.txt", "1.txt"]
        assert archive.read("0.txt").count(b"\n") > 10  # what the toy finds, which is much
    said = capsys.readouterr().out
    assert "no scores, because the images have no annotations" in said
    assert f"submission: {run}/submission_best_challenge_visdrone.zip" in said


def test_of_other_images_without_annotations_coco_results_are_written(tmp_path, monkeypatch, capsys):
    """They used to get a submission in VisDrone's format."""
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.random.default_rng(0).integers(0, 256, (90, 100, 3), np.uint8))
    image = {"id": 7, "file_name": "a.png", "height": 90, "width": 100}
    box = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [8, 9, 10, 8]}
    for split, annotations in (("train", [box]), ("val", [])):
        categories = [{"id": k + 1, "name": f"class {k}"} for k in range(10)]
        content = {"images": [image], "annotations": annotations, "categories": categories}
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    images = tmp_path / "images"
    data = CocoJson(images, tmp_path / "train.json", images, tmp_path / "val.json")
    run = run_of(UGS(), data, tmp_path / "run", monkeypatch)
    before = set(run.iterdir())
    evaluated(run)
    assert [path.name for path in set(run.iterdir()) - before] == ["results_best.json"]
    found = json.loads((run / "results_best.json").read_text())
    assert len(found) > 10
    assert {"file_name", "image_id", "category_id", "bbox", "score"} == set(found[0])
    assert found[0]["file_name"] == "a.png"
    assert "results: " in capsys.readouterr().out


def test_a_split_that_the_data_set_does_not_have_is_named(tmp_path, monkeypatch, capsys):
    run = run_of(UGS(), toy_experiment().data, tmp_path / "run", monkeypatch)
    assert main(["eval", str(run), "--split", "test"]) == 1
    assert (
        "--split test: expected a split of the data set, TinyScenes, got: "
        in capsys.readouterr().err
    )


def test_tiles_and_flipped_images_are_scored_under_their_own_name(run, monkeypatch):
    from ugs_jax.inference import detect_image

    looked = []
    monkeypatch.setattr(
        "ugs_jax.inference.detect_image", lambda *images, **how: looked.append(how) or detect_image(*images, **how)
    )
    words = ("--tile", "64", "--overlap", "0.25", "--flip", "--min-score", "0.01", "--protocol", "visdrone")
    evaluated(run, *words)
    name = "best_visdrone_tile64_0.25_nmm_ios_0.5_above0.01_flip"
    assert json.loads((run / f"evaluation_{name}.json").read_text())["ap"] is not None
    assert (run / f"submission_{name}.zip").exists()
    tiling = Tiling((64, 64), 0.25, min_score=0.01)
    assert looked == 2 * [{"tiling": tiling, "augmented": TestTimeAugmentation(flip=True)}]


def test_the_deviations_of_a_run_are_compared_with_its_errors(data, tmp_path, monkeypatch, capsys):
    # The toy is not trained: detections match objects only if there are many of them and the thresholds are low.
    many = Postprocess(pre_nms_topk=2000, max_detections=500)
    run = run_of(UGS(), data, tmp_path / "run", monkeypatch, postprocess=many)
    loosely = partial(measure_calibration, min_score=0.0, iou=0.02)
    monkeypatch.setattr("ugs_jax.analysis.measure_calibration", loosely)
    found = {}
    for split, name in (("val", "calibration_best"), ("train", "calibration_best_train")):
        evaluated(run, "--calibration", "--split", split)
        assert f"calibration: {run}/{name}.json" in capsys.readouterr().out
        assert (run / f"{name}.png").stat().st_size > 0
        found[split] = json.loads((run / f"{name}.json").read_text())
        with compiled_quickly():
            measured = loosely(run, which="best", split=split)
        values = {name: np.asarray(value).tolist() for name, value in measured._asdict().items()}
        assert found[split] == {"unit": found[split]["unit"], **values}
        assert sum(found[split]["count"]) % 4 == 0
        assert found[split]["predicted"] == sorted(found[split]["predicted"])
        assert min(found[split]["error"]) > 0
    assert found["val"]["error"] != found["train"]["error"]


@pytest.mark.parametrize(
    ("localization", "words", "message"),
    [
        (BoxRegression(), [], "objective predicts a distribution, such as UGS or DFL, got BoxRegression"),
        (UGS(), ["--split", "test"], "--calibration: expected --split val or train, got test"),
    ],
)
def test_without_deviations_or_objects_there_is_no_calibration(
    data, tmp_path, monkeypatch, capsys, localization, words, message
):
    run = run_of(localization, data, tmp_path / "run", monkeypatch)
    assert main(["eval", str(run), "--calibration", *words]) == 1
    assert message in capsys.readouterr().err


def test_file_names_show_tiling_and_test_time_augmentation():
    assert InferenceOptions().describe() == ""
    assert InferenceOptions(voting=0.02).describe() == "voting0.02"
    assert InferenceOptions(voting=0.02).one_look
    looks = InferenceOptions(tile=(64, 96), merge="nms", metric="iou", full_image=False, scales=(1.0, 0.5))
    assert looks.describe() == "tile64x96_0.2_nms_iou_0.5_above0.05_tiles_only_scales1-0.5"
    assert looks.tiling == Tiling((64, 96), full_image=False, merge=Merge("nms", "iou"))
    assert looks.augmented == TestTimeAugmentation(scales=(1.0, 0.5))
    assert not looks.one_look
