import importlib.util

import numpy as np
import pytest

from experiments.benchmarks.hessian import TOLERANCE, copy, draw, ratios, worst
from tests.benchmarks.running import result_of

pytestmark = pytest.mark.slow

WAYS = ("closed_form", "autodiff", "naive", "bare")


def test_pairs_overlap_and_coordinates_are_within_the_range_of_the_tolerance():
    boxes, targets = draw(2000, 1)
    inner = np.minimum(boxes[:, 2:], targets[:, 2:]) - np.maximum(boxes[:, :2], targets[:, :2])
    assert inner.min() > 1
    assert min(boxes.min(), targets.min()) > 0
    assert max(boxes.max(), targets.max()) < 1000
    assert np.linalg.norm(targets[:, 2:] - targets[:, :2], axis=1).min() > 5.5


def test_a_copy_depends_on_every_number_and_is_as_large_as_the_hessians():
    boxes, targets = np.arange(8.0).reshape(2, 4), 100 * np.arange(8.0).reshape(2, 4)
    copied = copy(boxes, targets)
    assert copied.shape == (2, 4, 4)
    np.testing.assert_array_equal(copied[1], boxes[1][:, None] + targets[1])


def test_ratios_are_per_loss_and_null_without_pytorch():
    medians = {("", "copy"): 2.0}
    for loss, unit in (("log_iou", 3.0), ("ciou", 5.0)):
        for factor, way in enumerate(WAYS, start=1):
            medians[loss, way] = factor * unit
    found = ratios(medians)
    assert found["closed_form_over_copy"] == {"log_iou": 1.5, "ciou": 2.5}
    assert found["naive_over_autodiff"] == {"log_iou": 1.5, "ciou": 1.5}
    assert found["torch_over_autodiff"] == {"log_iou": None, "ciou": None}
    assert worst(found["closed_form_over_copy"], max) == 2.5
    assert worst(found["torch_over_autodiff"], min) is None


@pytest.mark.slow
def test_the_last_line_of_the_benchmark_is_json_with_ratios_of_ways_that_agree():
    result = result_of("hessian", "--count 300 --repeats 2 --warmup 1 --chunk 100 --torch-threads 1")
    for key in ("closed_form_over_copy", "naive_over_autodiff"):
        per_loss = result["by_loss"][key]
        assert result[key] == (max if key.startswith("closed_form") else min)(per_loss.values()) > 0
    for loss in ("log_iou", "ciou"):
        assert all(0 <= result["disagreement"][f"{loss} {way}"] < TOLERANCE for way in WAYS)
        assert all(result["median_seconds"][f"{loss} {way}"] > 0 for way in WAYS)
    present = importlib.util.find_spec("torch") is not None
    assert (result["torch_over_autodiff"] is not None) == present
    assert ("ciou torch" in result["disagreement"]) == present
