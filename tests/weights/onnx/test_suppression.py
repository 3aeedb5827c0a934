"""The suppression that ONNX Runtime computes is the greedy one, by class, of equal scores the first."""

import numpy as np
import pytest

from tests.weights.onnx.running import run_model
from ugs_jax.weights.onnx.file import model_bytes
from ugs_jax.weights.onnx.graph import Graph
from ugs_jax.weights.onnx.suppression import suppress_overlaps
from ugs_jax.weights.onnx.tensors import Tensors

pytest.importorskip("onnx")

CLASSES = 3


def iou(a, b):
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = max(width, 0) * max(height, 0)
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def greedy(boxes, scores, labels, threshold):
    """Positions of the kept boxes, best first, one box after the other."""
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if scores[i] > 0 and all(labels[i] != labels[j] or iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def suppressed(boxes, scores, labels, threshold, max_outputs):
    graph = Graph()
    tensors = Tensors(graph, "boxes")
    inputs = {"boxes": boxes, "scores": scores, "labels": labels}
    given = {name: tensors.tensor(name, array.shape, array.dtype) for name, array in inputs.items()}
    kept = suppress_overlaps(
        tensors, *given.values(), classes=CLASSES, iou_threshold=threshold, max_outputs=max_outputs
    )
    found = run_model(model_bytes(graph, given, {"index": kept.index, "valid": kept.valid}, {}), **inputs)
    return [index[valid].tolist() for index, valid in zip(found["index"], found["valid"], strict=True)]


@pytest.fixture
def crowd():
    """Two images of 40 boxes with many overlaps; scores 0 are padding."""
    rng = np.random.default_rng(0)
    corners, sides = rng.uniform(0, 30, (2, 40, 2)), rng.uniform(5, 20, (2, 40, 2))
    scores = np.round(rng.uniform(0, 1, (2, 40)), 1)  # several equal ones
    return (
        np.concatenate([corners, corners + sides], -1).astype(np.float32),
        scores.astype(np.float32),
        rng.integers(0, CLASSES, (2, 40), dtype=np.int32),
    )


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 1.0])
def test_each_box_is_kept_unless_a_better_one_of_its_class_overlaps_it(crowd, threshold):
    want = [greedy(*image, threshold) for image in zip(*crowd, strict=True)]
    assert suppressed(*crowd, threshold, max_outputs=40) == want


def test_only_the_best_are_kept(crowd):
    want = [greedy(*image, 0.6)[:5] for image in zip(*crowd, strict=True)]
    assert suppressed(*crowd, 0.6, max_outputs=5) == want


@pytest.mark.parametrize("seen", [1, 0])
def test_without_scores_nothing_is_kept(crowd, seen):
    boxes, scores, labels = crowd
    first, second = suppressed(boxes, scores * np.float32([[seen], [0]]), labels, 0.6, max_outputs=50)
    assert bool(first) == bool(seen)
    assert second == []
