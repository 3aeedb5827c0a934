"""Detections to be written, and the files with them."""

import json

import numpy as np

from ugs_jax.cli import main
from ugs_jax.evaluation import ImageDetections
from ugs_jax.report import Frame, Prediction, write_predictions

CLASSES = ("car", "bus")
IDS = (3, 7)
GREY = np.full((100, 200, 3), 90, np.uint8)
BOXES = [[10, 20, 30, 45], [60.5, 60, 65, 66.25]]


def found(file_name="a.jpg", boxes=BOXES, scores=(0.9, 0.5), classes=(0, 1), image=GREY, deviation=None, **place):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    detections = ImageDetections(
        boxes,
        np.array(scores, np.float32)[: len(boxes)],
        np.array(classes, np.int32)[: len(boxes)],
        None if deviation is None else np.array(deviation, np.float32),
    )
    return Prediction(file_name, image, detections, **place)


def frames(count, file_name="clip.mp4"):
    return [found(file_name, frame=Frame(number, number / 25, 25.0)) for number in range(count)]


def write(folder, predictions, *formats, classes=CLASSES, ids=IDS, **options):
    options = {"pictures": False, **options}
    return write_predictions(folder, predictions, classes, formats=formats, category_ids=ids, **options)


def results(folder):
    return json.loads((folder / "predictions.json").read_text())


def dataset(folder):
    return json.loads((folder / "dataset.json").read_text())


def score(capsys, file, truth):
    capsys.readouterr()
    assert main(["score", str(file), "--truth", str(truth), "--json"]) == 0
    return json.loads(capsys.readouterr().out)
