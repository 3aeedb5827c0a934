import importlib.util
import inspect

import numpy as np
import pytest

from experiments.benchmarks.hessian import LOSSES, PAIRS, TOLERANCE, arguments, disagreement, draw, ratios, worst
from tests.benchmarks.running import result_of
from ugs_jax.curvature.registry import HESSIANS, closed_form

pytestmark = pytest.mark.slow


def test_pairs_overlap_and_coordinates_are_within_the_range_of_the_tolerance():
    boxes, targets = draw(2000, 1)
    inner = np.minimum(boxes[:, 2:], targets[:, 2:]) - np.maximum(boxes[:, :2], targets[:, :2])
    assert inner.min() > 1
    assert min(boxes.min(), targets.min()) > 0
    assert max(boxes.max(), targets.max()) < 1000
    assert np.linalg.norm(targets[:, 2:] - targets[:, :2], axis=1).min() > 5.5


def test_every_registered_loss_of_ours_is_measured_with_arguments_that_it_takes():
    ours = {loss for loss in HESSIANS if getattr(loss, "__module__", "").startswith("ugs_jax.losses")}
    assert {getattr(loss, "func", loss) for loss in LOSSES.values()} == ours
    for name, loss in LOSSES.items():
        assert closed_form(loss) is not None
        required = [p for p in inspect.signature(loss).parameters.values() if p.default is p.empty]
        given = arguments(name, 3, 0)
        assert len(given) == len(required)
        assert {len(values) for values in given} == {3}


def test_ratios_are_per_loss_and_null_without_pytorch():
    medians = {
        loss: {way: factor * unit for factor, way in enumerate(("copy", "hessian", "autodiff"), start=1)}
        for loss, unit in (("log_iou", 3.0), ("ciou", 5.0))
    }
    medians["ciou"]["hessian"] *= 2
    found = ratios(medians)
    assert found["hessian_over_copy"] == {"log_iou": 2.0, "ciou": 4.0}
    assert found["autodiff_over_hessian"] == {"log_iou": 1.5, "ciou": 0.75}
    assert found["torch_over_hessian"] == {"log_iou": None, "ciou": None}
    assert worst(found["hessian_over_copy"], max) == 4.0
    assert worst(found["torch_over_hessian"], min) is None


def test_disagreement_is_relative_to_the_largest_entry():
    wanted = np.array([[[0.0, 0.0], [0.0, 0.0]], [[0.0, 4.0], [0.0, 2.0]]])
    assert disagreement(wanted + np.array([[0.0, 0.0], [0.0, 0.5]]), wanted) == 0.5
    assert disagreement(wanted[1:] + 1.0, wanted[1:]) == 0.25


def test_the_last_line_of_the_benchmark_is_json_with_ratios_of_ways_that_agree():
    result = result_of("hessian", "--count 300 --repeats 2 --warmup 1 --torch-threads 1")
    for loss in LOSSES:
        assert all(0 <= result["disagreement"][loss][way] < TOLERANCE for way in ("hessian", "autodiff"))
        assert all(result["median_seconds"][loss][way] > 0 for way in ("copy", "hessian", "autodiff"))
    present = importlib.util.find_spec("torch") is not None
    for key in PAIRS:
        assert (result[key] is not None) == (present or not key.startswith("torch"))
    assert ("torch" in result["disagreement"]["ciou"]) == present
