"""Detection on image files: whole, in tiles and flipped, with deviations in the JSON file."""

import json
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from data_pipeline import DataError
from data_pipeline.letterbox import letterbox
from tests.compiling import compiled_quickly
from tests.data_pipeline.decoding.test_videos import write_video
from tests.training.toy import ToyDetector, toy_experiment
from tests.weights.onnx.running import assert_same_detections
from ugs_jax.detectors import Architecture
from ugs_jax.evaluation import to_original
from ugs_jax.inference import TestTimeAugmentation, Tiling
from ugs_jax.objectives import UGS
from ugs_jax.report import write_predictions
from ugs_jax.runs import create_state, device_mesh, predict_files

EXPERIMENT = toy_experiment(UGS())
ANCHORS = tuple(tuple((s * w, s * h) for w, h in ((0.8, 1.0), (1.2, 0.9), (1.0, 1.6))) for s in (3.0, 5.0, 8.0))
CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def detector():
    return ToyDetector(Architecture("p", False, 3, ANCHORS), UGS())


@pytest.fixture(scope="module")
def state(detector):
    return create_state(detector, EXPERIMENT.optimizer.build(lambda _: 0.0), 0)


@pytest.fixture
def file(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), image[..., ::-1])
    return tmp_path / "image.png"


def predicted(detector, state, file, **options):
    with compiled_quickly():
        (prediction,) = predict_files(detector, state, EXPERIMENT, [file], **options)
    return prediction


def test_without_options_detections_are_those_on_the_letterboxed_image(detector, state, file):
    prediction = predicted(detector, state, file)
    found = prediction.detections
    canvas, box = letterbox(prediction.image, (64, 64))
    detect = jax.jit(lambda *state: detector.detect(*state, canvas[None], EXPERIMENT.postprocess))
    want = detect(state.ema_params, state.ema_stats)
    seen = np.asarray(want.valid[0])
    boxes = to_original(np.asarray(want.boxes), np.float32([box]), np.int32([[90, 150]]))[0][seen]
    assert len(found.boxes) == seen.sum() > 0
    np.testing.assert_allclose(found.scores, want.scores[0][seen], rtol=1e-5)
    np.testing.assert_allclose(found.boxes, boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.deviation, want.deviation[0][seen] / box.scale, rtol=1e-4)


def test_tiles_flips_and_scales_are_used_for_the_json(detector, state, file, tmp_path):
    options = {
        "tiling": Tiling((64, 64), 0.25, batch=2, min_score=0.01),
        "augmented": TestTimeAugmentation(flip=True, scales=(1.0, 0.5)),
    }
    found = predicted(detector, state, file, **options)
    written = write_predictions(tmp_path / "found", [found], CLASSES)
    rows = json.loads(written.files["coco"].read_text())
    left, top, right, bottom = found.detections.boxes.T
    assert len(rows) == np.sum((right > left) & (bottom > top)) > 0  # boxes in the letterbox's padding have no area
    for detection in rows:
        x, y, width, height = detection["bbox"]
        assert 0 <= x <= x + width <= 150.001
        assert 0 <= y <= y + height <= 90.001
        assert len(detection["deviation"]) == 4
        assert min(detection["deviation"]) > 0


@pytest.mark.usefixtures("unchecked")  # shapes of any batch are not numbers
def test_onnx_runtime_finds_what_jax_finds(detector, state, file):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    options = {"tiling": Tiling((64, 64), 0.25, batch=2, min_score=0.01)}
    want, found = (predicted(detector, state, file, **options, engine=each).detections for each in ("jax", "onnx"))
    rows = [list(zip(each.classes, each.scores, each.boxes, strict=True)) for each in (found, want)]
    assert len(rows[0]) > 1
    assert_same_detections(*rows, px=1e-2, score=1e-4)
    np.testing.assert_allclose(found.deviation.sum(), want.deviation.sum(), rtol=1e-3)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_its_packages_the_engine_says_how_to_get_them(detector, state, file, monkeypatch, package):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else name)
    with pytest.raises(ValueError, match=rf"found no {package}; .* pip install \"\.\[onnx\]\""):
        predicted(detector, state, file, engine="onnx")


@pytest.fixture
def photos(tmp_path, file):
    """A folder as people have it: good pictures among others, and what macOS and Windows leave behind."""
    folder = tmp_path / "photos"
    (folder / "sub.png").mkdir(parents=True)
    good = file.read_bytes()
    for name in ("a.png", "b.PNG", "ü y.png"):
        (folder / name).write_bytes(good)
    (folder / "cut.png").write_bytes(good[: len(good) // 2])
    (folder / "zero.jpg").write_bytes(b"")
    for name in ("._a.png", ".hidden.png", "Thumbs.db", "notes.txt"):
        (folder / name).write_bytes(b"x")
    return folder


def test_of_a_folder_the_good_images_are_taken_and_the_others_named(detector, state, photos, tmp_path):
    errors = []
    with compiled_quickly():
        found = predict_files(detector, state, EXPERIMENT, [photos], on_error=errors.append)
        write_predictions(tmp_path / "found", found, CLASSES, skipped=errors)
    images = json.loads((tmp_path / "found" / "dataset.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["a.png", "b.PNG", "ü y.png"]
    assert all((tmp_path / "found" / image["picture"]).is_file() for image in images)
    assert [str(error).partition(":")[0].rpartition("/")[2] for error in errors] == ["cut.png", "zero.jpg"]
    summary = json.loads((tmp_path / "found" / "summary.json").read_text())
    assert (summary["images"], summary["skipped"]) == (3, 2)
    assert summary["reasons"] == [str(error) for error in errors]


@pytest.mark.slow
def test_a_video_is_predicted_frame_by_frame_and_a_damaged_one_is_skipped(detector, state, file, tmp_path):
    data = write_video(tmp_path / "whole.avi", "MJPG", count=12, noise=True).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    (tmp_path / "clip.mov").write_bytes(b"")
    write_video(tmp_path / "fine.mp4", count=3, noise=True).rename(tmp_path / "fine.dat")
    errors = []
    with compiled_quickly():
        paths = [tmp_path, tmp_path / "fine.dat"]
        found = list(predict_files(detector, state, EXPERIMENT, paths, on_error=errors.append))
    names = [prediction.name for prediction in found]
    assert names[:2] == ["cut/000000", "cut/000001"]
    assert [name for name in names if not name.startswith("cut")] == [
        "image",
        *(f"whole/{number:06d}" for number in range(12)),
        *(f"fine/{number:06d}" for number in range(3)),
    ]
    assert [str(error).partition(":")[0].rpartition("/")[2] for error in errors] == ["clip.mov", "cut.avi"]
    frame = found[names.index("whole/000007")]
    assert (frame.file_name, frame.frame.number, frame.frame.rate) == ("whole.avi", 7, 10.0)
    assert frame.frame.seconds == pytest.approx(0.7, abs=1e-3)
    alone = tmp_path / "frame.png"
    cv2.imwrite(str(alone), frame.image[..., ::-1])
    np.testing.assert_array_equal(predicted(detector, state, alone).detections.boxes, frame.detections.boxes)
    assert len(frame.detections.boxes) > 0


def test_a_folder_without_a_readable_image_is_an_error(detector, state, photos):
    for name in ("a.png", "b.PNG", "ü y.png"):
        (photos / name).unlink()
    with pytest.raises(DataError, match="none of 2 files can be read"):
        list(predict_files(detector, state, EXPERIMENT, [photos], on_error=lambda _: None))


def test_one_bad_image_stops_where_nothing_is_skipped(detector, state, photos):
    with compiled_quickly(), pytest.raises(DataError, match=r"cut\.png: expected a whole image"):
        list(predict_files(detector, state, EXPERIMENT, [photos]))


def test_images_are_looked_at_upright(detector, state, file, tmp_path):
    tags = Image.Exif()
    tags[274] = 6
    with Image.open(file) as image:
        image.rotate(90, expand=True).save(tmp_path / "phone.png", exif=tags)
    turned, upright = (predicted(detector, state, path) for path in (tmp_path / "phone.png", file))
    np.testing.assert_array_equal(turned.image, upright.image)
    np.testing.assert_array_equal(turned.detections.boxes, upright.detections.boxes)


def test_calibration_of_a_run_is_measured_on_its_images(detector, state, monkeypatch):
    from ugs_jax.analysis import calibration as calibrate

    monkeypatch.setattr(calibrate, "read_experiment", lambda _: EXPERIMENT)
    monkeypatch.setattr(calibrate, "load_for_inference", lambda *_, **__: (detector, state, device_mesh()))
    with compiled_quickly():
        found = calibrate.measure_calibration(Path("run"), min_score=0.0, iou=0.02, bins=4)
    assert found.count.sum() % 4 == 0
    assert np.all(found.error > 0)
    assert np.all(np.diff(found.predicted) > 0)
    assert found.factor > 0
