"""A data set of three small images with hostile names, and detections in it whose outcomes are known."""

import io
import json

import numpy as np
from PIL import Image

from data_pipeline import Example, TinyScenes, dataset_from_examples
from ugs_jax.evaluation import ImageDetections
from ugs_jax.experiment import Experiment, Network
from ugs_jax.experiment.serialize import to_json

SCRIPT = '"><script>alert(1)</script>'
CLASSES = ("car <img src=x onerror=alert(1)>", "$\\frac{1}$ | person\n\u202e", "boat ' \" ]]> &amp;")
FILES = (f"{SCRIPT}.png", "../b|c.png", "plain.png")


def png(seed):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 90, (60, 80, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def example(index, boxes, labels, ignore=()):
    array = lambda values: np.array(values, np.float32).reshape(-1, 4)  # noqa: E731
    return Example(
        png(index), array(boxes), np.array(labels, np.int32), array(ignore), index, FILES[index], height=60, width=80
    )


def dataset(classes=CLASSES):
    return dataset_from_examples(
        [
            example(0, [[0, 0, 6, 6], [20, 0, 32, 12]], [0, 1], ignore=[[40, 30, 80, 60]]),
            example(1, [[0, 0, 20, 20], [40, 0, 46, 6], [60, 0, 70, 10]], [0, 0, 1]),
            example(2, [[10, 10, 20, 20]], [1]),
        ],
        classes,
        split="val",
    )


def found(deviation=True):
    """Image 0: both right. Image 1: one right, one as another class, one missed, one false. Image 2: right, low."""
    boxes = {
        0: ([[0, 0, 6, 7], [20, 0, 32, 11], [50, 40, 60, 50]], [0.9, 0.8, 0.95], [0, 1, 0]),
        1: ([[0, 0, 20, 18], [60, 0, 70, 10], [0, 40, 10, 50]], [0.7, 0.6, 0.85], [0, 0, 1]),
        2: ([[10, 10, 20, 20]], [0.55], [1]),
    }
    return [
        (
            index,
            ImageDetections(
                np.array(xyxy, np.float32),
                np.array(scores, np.float32),
                np.array(labels, np.int32),
                np.full((len(scores), 4), 0.5, np.float32) if deviation else None,
            ),
        )
        for index, (xyxy, scores, labels) in boxes.items()
    ]


def write_run(folder, **config):
    """A run folder with a log of two evaluations."""
    folder.mkdir(parents=True)
    experiment = to_json(Experiment(SCRIPT, TinyScenes(), network=Network("s"), epochs=2))
    values = {
        "name": SCRIPT, "seed": 3, "classes": CLASSES, "command": f"ugs train 'x{SCRIPT}'", "protocol": SCRIPT,
        "versions": {"jax": SCRIPT}, "experiment": experiment, "epochs": 9,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(values | config))
    rows = [{"kind": "train", "step": 5 * i, "epoch": i / 2, "loss": 2.0 / i} for i in range(1, 5)]
    scores = {"ap50": 0.4, "ap_tiny": 0.25, "ap_small": None, f"ap/{CLASSES[0]}": 0.1, f"ap/{CLASSES[1]}": 0.3}
    rows += [{"kind": "eval", "step": 10 * i, "epoch": float(i), "ap": 0.1 * i, **scores} for i in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    timing = [{"kind": "timing", "step": 5 * i, "epoch": i / 2, "images_per_second": 10.0 * i} for i in range(1, 5)]
    (folder / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in timing))
    return folder
