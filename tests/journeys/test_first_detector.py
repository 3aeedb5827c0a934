"""From a YOLO folder with faults to a deployed model, with the commands of the documentation only.

Every test is a step of a new user, in order. The words of the commands are those a user types; flags that only keep the
steps short on two cores are in `SHORT`.
"""

import contextlib
import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from tests.compiling import compiled_quickly
from tests.journeys.harbour import (
    BACKGROUND,
    CLASSES,
    COPIED,
    COPY,
    FAULTY_ROWS,
    FRAMES,
    OBJECTS,
    TRAIN,
    VAL,
    WITH_OBJECTS,
    write_harbour,
    write_video,
)
from tests.weights.networks import detector
from tests.weights.onnx.running import assert_same_detections
from ugs_jax.cli import main
from ugs_jax.weights import published_arrays, torch_bytes, weights_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RUNNER = ROOT / "docs" / "examples" / "onnx_runner.py"
PUBLISHED = Path(os.environ.get("UGS_SHARED", ROOT.parent / "shared")) / "weights" / "yolov5n_coco.pt"
SIZE = "n" if PUBLISHED.exists() else "p"
LEARNS_LITTLE = "--postprocess.score-threshold 0"  # from random weights
SHORT = (
    f"--network.size {SIZE} --network.no-p2 --tile-empty-share 0.005 --optimizer.schedule.warmup-epochs 1 "
    f"--loader.threads 0 --loader.batch-size 4 {'--freeze backbone' if PUBLISHED.exists() else LEARNS_LITTLE}"
)
RUN = "runs/own_data-seed0"
TILES = "--tile 160 --no-full-image"


class Shown(NamedTuple):
    status: int
    out: str
    err: str


def ugs(line):
    """Run a command line as a user types it."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), compiled_quickly():
        status = main(shlex.split(line, comments=True))
    sys.stdout.write(f"\n$ ugs {line}\n{err.getvalue()}{out.getvalue()}")  # shown if the test fails, or by -s
    return Shown(status, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The working directory: photos, a video and weights in the form of the published ones."""
    folder = tmp_path_factory.mktemp("journey")
    write_harbour(folder / "harbour")
    write_video(folder / "flight.mp4")
    if PUBLISHED.exists():
        shutil.copy(PUBLISHED, folder / "yolov5.pt")
    else:
        network = detector(SIZE, classes=80)
        weights = weights_of(network, *network.init(0), origin="made here")
        (folder / "yolov5.pt").write_bytes(torch_bytes(published_arrays(weights)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def checked(home):
    """The check of the data. Then the user removes the copied image; rows with faults are dropped anyway."""
    shown = ugs("data check harbour/data.yaml")
    for name in (COPY, COPY.replace("images", "labels").replace(".jpg", ".txt")):
        (home / "harbour" / name).unlink()
    return shown


@pytest.fixture(scope="module")
def trained(checked):
    assert checked.status == 1
    return ugs(
        f"train --data harbour/data.yaml --tile 160 --network.weights yolov5.pt --epochs 40 --patience 1 {SHORT}"
    )


@pytest.fixture(scope="module")
def predicted(trained):
    assert trained.status == 0
    formats = "--format coco --format yolo --format csv --format visdrone"
    return ugs(f"predict {RUN} harbour/images/val {TILES} {formats} --output found")


def scores_of(text):
    return {name: float(value) for name, value in re.findall(r"(ap\d*) +│ +(\d+\.\d+)", text)}


def test_the_check_names_every_planted_fault(checked, home):
    assert checked.status == 1
    assert f"**{len(FAULTY_ROWS)} faults and 1 image in two splits.**" in checked.out
    for name, (_, message) in FAULTY_ROWS.items():
        labels = home / "harbour" / "labels" / "train" / f"{name}.txt"
        assert f"images/train/{name}.jpg: {labels}:2: {message}" in checked.out
    assert f"{COPY} and {COPIED}" in checked.out
    assert "1 image without a label file (background)" in checked.out
    check = json.loads(Path("data_check/check.json").read_text())
    assert BACKGROUND in check["splits"][0]["unlabelled"]
    assert [(each["images"], each["objects"]) for each in check["splits"]] == [
        (TRAIN, WITH_OBJECTS * OBJECTS),
        (VAL, VAL * OBJECTS),
    ]
    assert Path("data_check/contact.png").stat().st_size > 10_000
    assert "tiles of " in checked.out  # advice


def test_training_starts_from_the_weights_and_ends_early(trained):
    assert trained.status == 0
    said = trained.out + trained.err
    assert re.search(r"yolov5\.pt.*: \d+ of \d+ arrays loaded", said)
    epoch, best = map(int, re.search(r"ended at epoch (\d+) of 40: AP was not better .* at epoch (\d+)", said).groups())
    assert best == epoch - 1 < 39
    assert "report.html" in trained.out


@pytest.mark.skipif(not PUBLISHED.exists(), reason="made weights know nothing, and the run is short")
def test_it_has_learned_something(trained):
    assert scores_of(trained.out)["ap50"] > 10


def test_the_report_tells_how_the_run_ended(trained):
    for name in ("report.md", "report.html"):
        (Path(RUN) / name).unlink()
    assert ugs(f"report {RUN}").status == 0
    for name in ("report.md", "report.html"):
        assert re.search(r"Ended early, at epoch \d+ of 40: AP was not better", (Path(RUN) / name).read_text()), name


def test_whole_images_are_scored_in_tiles(trained):
    (advised,) = re.findall(r"On whole images: ugs (eval .*)", trained.out)
    assert advised == f"eval {RUN} --tile 160 --overlap 0.2 --no-full-image"
    assert ugs(f"{advised} --plots").status == 0
    assert len(list(Path(RUN).glob("evaluation_best_tile160_*.json"))) == 1


def test_detections_have_every_format(predicted):
    assert predicted.status == 0
    found = json.loads(Path("found/predictions.json").read_text())
    assert len(found) > 0 or not PUBLISHED.exists()
    assert {row["class"] for row in found} <= set(CLASSES)
    assert {row["image_id"] for row in found} <= {100, 101}
    summary = json.loads(Path("found/summary.json").read_text())
    assert (summary["images"], summary["boxes"], summary["skipped"]) == (2, len(found), 0)
    with Path("found/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["class"]) for row in rows] == [(row["file_name"], row["class"]) for row in found]
    yolo = [row for path in Path("found/yolo/labels").glob("*.txt") for row in path.read_text().splitlines()]
    assert len(yolo) == len(found)
    with zipfile.ZipFile("found/visdrone.zip") as archive:
        assert sorted(archive.namelist()) == ["100.txt", "101.txt"]


def test_detections_are_scored_unchanged(predicted):
    assert predicted.status == 0
    shown = ugs("score found/predictions.json --truth harbour/data.yaml")
    assert shown.status == 0
    assert scores_of(shown.out)["ap50"] > (10 if PUBLISHED.exists() else -1)


def test_a_video_gets_its_boxes(trained):
    assert trained.status == 0
    assert ugs(f"predict {RUN} flight.mp4 {TILES} --output flight").status == 0
    summary = json.loads(Path("flight/summary.json").read_text())
    assert (summary["videos"], summary["frames"], summary["skipped"]) == (1, FRAMES, 0)
    rows = json.loads(Path("flight/predictions.json").read_text())
    assert {row["image_id"] for row in rows} <= {f"flight/{number:06d}" for number in range(FRAMES)}
    assert cv2.VideoCapture("flight/flight.mp4").get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES


def test_the_exported_model_finds_the_boxes_of_predict(trained):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    photo = cv2.imread("harbour/images/val/100.jpg")
    _, x, y, *_ = map(float, Path("harbour/labels/val/100.txt").read_text().split()[:5])
    left, top = np.clip(np.int32([x * 1280, y * 720]) - 80, 0, [1280 - 160, 720 - 160])
    cv2.imwrite("part.png", photo[top : top + 160, left : left + 160])
    assert ugs(f"export {RUN} --format onnx --batch-size 1").status == 0  # the tests' check of shapes wants numbers
    words = [sys.executable, "-I", str(RUNNER), "own_data-seed0-best.onnx", "part.png"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True)
    assert ugs(f"predict {RUN} part.png --output part").status == 0
    want = detections(json.loads(Path("part/predictions.json").read_text()))
    found = detections(map(json.loads, shown.stdout.splitlines()))
    assert len(want) > 0
    if PUBLISHED.exists():
        assert_same_detections(found, want, px=0.03, score=5e-5)  # the tolerance of docs/deploy.md
    else:  # hundreds of scores are equal, so chance decides which of these boxes are suppressed
        np.testing.assert_allclose([row[1] for row in found[:10]], [row[1] for row in want[:10]], atol=5e-5)


def detections(rows):
    """Class, score and corners of each box with an area; `ugs predict` writes no others."""
    found = []
    for row in rows:
        x, y, width, height = row["bbox"]
        if width > 0 and height > 0:
            found.append((row["class"], row["score"], [x, y, x + width, y + height]))
    return found
