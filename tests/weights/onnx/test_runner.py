"""The example of docs/deploy.md, which knows nothing of this library, finds what `ugs predict` finds."""

import ast
import json
import os
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from tests.commands.test_eval_command import data, run_of  # noqa: F401 - `data` is a fixture
from tests.compiling import compiled_quickly
from tests.weights.onnx.running import assert_same_detections
from ugs_jax.cli import main
from ugs_jax.detectors import Architecture, Detector, Postprocess
from ugs_jax.inference import detect_image
from ugs_jax.objectives import DFL, UGS, BoxRegression
from ugs_jax.weights import export_onnx, load_weights, read_weights

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

DOCS = Path(__file__).parents[3] / "docs"
RUNNER = DOCS / "examples" / "onnx_runner.py"
SHARED = Path(os.environ.get("UGS_SHARED", DOCS.parents[1] / "shared"))
PUBLISHED = SHARED / "weights" / "yolov5n_coco.pt"


def rows(found):
    return [(each["class"], each["score"], each["bbox"]) for each in found]


def exported(run, image, patch, capsys, *words):
    """Detections that the runner prints for an image with the model of a run."""
    with compiled_quickly():
        assert main(["export", str(run), "--format", "onnx", "--output", "model.onnx", *words]) == 0
    capsys.readouterr()
    patch.setattr(sys, "argv", ["onnx_runner.py", "model.onnx", str(image)])
    runpy.run_path(str(RUNNER), run_name="__main__")
    return rows(_with_corners(json.loads(line)) for line in capsys.readouterr().out.splitlines())


def predicted(run, image):
    with compiled_quickly():
        assert main(["predict", str(run), str(image), "--output", "predictions"]) == 0
    return rows(_with_corners(row) for row in json.loads(Path("predictions/predictions.json").read_text()))


def _with_corners(row):
    left, top, width, height = row["bbox"]
    return {**row, "bbox": [left, top, left + width, top + height]}


@pytest.mark.parametrize(
    ("objective", "shape"),
    [
        (UGS(), (96, 130)),
        pytest.param(BoxRegression(), (90, 150), marks=pytest.mark.slow),
        pytest.param(DFL(), (64, 50), marks=pytest.mark.slow),
    ],
    ids=["UGS", "CIoU", "DFL"],
)
def test_the_runner_finds_what_predict_finds(objective, shape, data, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    run = run_of(objective, data, tmp_path / "run", monkeypatch)
    cv2.imwrite("image.png", np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    found = exported(run, "image.png", monkeypatch, capsys)
    assert len(found) > 5
    # Scores are rounded to 5 and sides to 2 digits; float32.
    assert_same_detections(found, predicted(run, "image.png"), px=0.03, score=5e-5)
    few = exported(run, "image.png", monkeypatch, capsys, "--max-detections", "2", "--batch-size", "1")
    assert few == found[:2]


def test_the_runner_has_about_twenty_lines_and_needs_no_library_of_ours():
    text = RUNNER.read_text()
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {alias.name for node in imports for alias in node.names} == {"json", "sys", "cv2", "numpy", "onnxruntime"}
    assert len([line for line in text.splitlines() if line]) <= 24
    assert f"```py\n{text}```" in (DOCS / "deploy.md").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published checkpoint is not here")
@pytest.mark.parametrize("enlarged", [0.5, 1.6])
def test_the_published_network_finds_the_same_people(tmp_path, enlarged):
    """Six portraits side by side: shrunk to 640², and enlarged to it."""
    import matplotlib.cbook
    from PIL import Image

    weights = read_weights(PUBLISHED)
    detector = Detector(Architecture("n", False, 80, weights.arch.anchors), BoxRegression())
    params, stats, _ = load_weights(PUBLISHED, detector, *detector.init(0))
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        portrait = np.asarray(Image.open(file).convert("RGB"))
    picture = np.tile(np.concatenate([portrait, portrait[:, ::-1], portrait // 2], axis=1), (2, 1, 1))
    side = round(640 / enlarged)
    picture = cv2.resize(picture, (side, round(side * 0.7)), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "picture.png"), picture[..., ::-1])
    options = Postprocess(score_threshold=0.05)
    model = export_onnx(detector, params, stats, options, (640, 640), class_names=weights.classes)
    (tmp_path / "yolov5n.onnx").write_bytes(model)
    words = [sys.executable, "-I", str(RUNNER), "yolov5n.onnx", "picture.png"]
    shown = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = rows(_with_corners(json.loads(line)) for line in shown.stdout.splitlines())
    detect = jax.jit(partial(detector.detect, params, stats, options=options))
    want = detect_image(detect, picture, (640, 640))
    assert len([each for each in found if each[0] == "person" and each[1] > 0.25]) >= 4
    names = [weights.classes[label] for label in want.classes]
    want = list(zip(names, want.scores, want.boxes, strict=True))
    if enlarged < 1:
        assert_same_detections(found, want, px=0.05, score=1e-4)
    else:  # OpenCV's two ways to enlarge differ by a grey level
        clear = [[each for each in some if each[1] > 0.5] for some in (found, want)]
        assert_same_detections(*clear, px=0.5, score=0.01)
