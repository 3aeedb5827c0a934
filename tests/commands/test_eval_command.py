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
from ugs_jax.commands.source_options import SourceOptions
from ugs_jax.detectors import Architecture, Postprocess
from ugs_jax.experiment import fit_to
from ugs_jax.inference import Merge, TestTimeAugmentation, Tiling
from ugs_jax.objectives import UGS, BoxRegression
from ugs_jax.runs import LoadedDetector, RunFolder, create_state, device_mesh
from ugs_jax.runs.from_weights import NoData

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
    assert "--split test: expected a split of the data set, TinyScenes, got: " in capsys.readouterr().err


@pytest.mark.slow
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


@pytest.mark.slow
def test_plots_of_tiles_are_written_under_their_own_name_with_a_page(run, capsys):
    (run / "metrics.jsonl").write_text("")
    evaluated(run, "--plots", "--tile", "64", "--min-score", "0.01", "--protocol", "visdrone")
    name = "best_visdrone_tile64_0.2_nmm_ios_0.5_above0.01"
    said, scores = capsys.readouterr().out, json.loads((run / f"evaluation_{name}.json").read_text())
    assert f"page: {run}/report_{name}.html" in said
    page = (run / f"report_{name}.html").read_text()
    assert f"Evaluation {name}: AP {100 * scores['ap']:.1f}." in page
    assert "Scores: VisDrone-DET official" in page
    diagnosis = json.loads((run / f"diagnosis_{name}.json").read_text())
    assert diagnosis["images"] == 2
    assert sum(map(sum, diagnosis["confusion"][:-1])) == sum(part["objects"] for part in diagnosis["classes"])
    assert {path.name for path in (run / f"plots_{name}").iterdir()} >= {"f1.png", "confusion.png", "reliability.png"}
    assert not (run / "report.html").exists()


@pytest.mark.slow
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


@pytest.fixture
def weights(monkeypatch):
    """A toy in the place of a file of weights, with the classes `name 0` to `name 9`."""
    experiment = toy_experiment(UGS(), data=NoData("toy.pt"), postprocess=Postprocess(max_detections=500))
    detector = ToyDetector(Architecture("p", False, 10, ANCHORS), UGS())
    state = create_state(detector, experiment.optimizer.build(lambda _: 0.0), 0)
    model = LoadedDetector("toy", tuple(f"name {k}" for k in range(10)), detector, state, experiment, device_mesh())
    real = SourceOptions.load
    monkeypatch.setattr(SourceOptions, "load", lambda *call: model if call[1] == "toy.pt" else real(*call))
    return model


@pytest.fixture
def coco(tmp_path, weights, monkeypatch):
    """Two images with an object of each class: the best detection of the toy, and an `other` that it does not know."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (90, 100, 3), np.uint8) for _ in range(2)]
    with compiled_quickly():
        found = weights(pictures, threshold=0)
    boxes = [{"image_id": 0, "category_id": 1, "bbox": [5, 8, 12, 10]}]
    for category, index in ((2, 4), (3, 2)):
        best = [float(each.scores[each.classes == index].max(initial=0)) for each in found]
        picture = int(np.argmax(best))
        x0, y0, x1, y1 = found[picture].boxes[found[picture].scores == best[picture]][0].tolist()
        boxes.append({"image_id": picture, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    (tmp_path / "images").mkdir()
    for name, picture in zip("ab", pictures, strict=True):
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), picture[..., ::-1])
    content = {
        "images": [{"id": k, "file_name": f"{name}.png", "height": 90, "width": 100} for k, name in enumerate("ab")],
        "annotations": [{"id": k, **box} for k, box in enumerate(boxes)],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(("other", "NAME-4", "name 2"))],
    }
    for split in ("train", "val"):
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    images = tmp_path / "images"
    data = CocoJson(images, tmp_path / "train.json", images, tmp_path / "val.json")
    monkeypatch.setattr("data_pipeline.sources.recognise.data_source_at", lambda _: data)
    return data


@pytest.mark.slow
def test_a_file_of_weights_is_scored_on_data_by_the_names_of_classes(coco, tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    evaluated("toy.pt", "--data", "photos/data.yaml")
    assert "toy knows 2 of 3 classes; not known to it, so their score is 0: other; not in the data" in caplog.text
    assert "scores: evaluation/evaluation_toy_photos.json" in capsys.readouterr().out
    found = json.loads((tmp_path / "evaluation" / "evaluation_toy_photos.json").read_text())
    # The only object of a known class is its best detection, so that it is found before any false positive.
    assert found["ap/NAME-4"] == pytest.approx(1, abs=1e-6)
    assert found["ap/name 2"] == pytest.approx(1, abs=1e-6)
    assert found["ap/other"] == 0
    assert found["ap"] == pytest.approx(2 / 3, abs=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["toy.pt"],
            "toy.pt: expected a data set for val, got none, as a file of weights names no data. Fix: add --data",
        ),
        (["toy.pt", "--calibration"], "--calibration: expected a run on its own images, got a file of weights"),
    ],
)
def test_a_file_of_weights_needs_data(weights, words, message, capsys):
    assert main(["eval", *words]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_is_scored_on_other_data_under_another_name(run, coco, tmp_path, capsys):
    assert main(["eval", str(run), "--data", "boats.yaml"]) == 1
    assert "got none among its 10 (pedestrian, people, bicycle" in capsys.readouterr().err
    names = ["other", "NAME-4", "name 2", *"abcdefg"]
    evaluated(run, "--data", "boats.yaml", "--output", str(tmp_path / "out"), "--classes", *names, "--image-size", "96")
    assert (tmp_path / "out" / "evaluation_best_boats_size96.json").is_file()
