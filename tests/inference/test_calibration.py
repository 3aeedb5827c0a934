"""Errors of matched sides, computed by hand and by simulation."""

import numpy as np
import pytest

from ugs_jax.evaluation import ImageDetections
from ugs_jax.inference import SideErrors, calibration, side_errors
from ugs_jax.report import plot_calibration

BOXES, LABELS = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]]), np.array([0, 1, 0])


def found(boxes, scores, classes):
    boxes = np.array(boxes, float)
    deviation = np.arange(boxes.size, dtype=float).reshape(boxes.shape)
    return ImageDetections(boxes, np.array(scores), np.array(classes), deviation)


def test_every_object_is_matched_once_by_the_best_detection_of_its_class():
    detections = found(
        [[1, 0, 11, 10], [0, 1, 10, 10], [20, 0, 30, 9], [50, 50, 60, 53], [51, 50, 60, 60]],
        [0.5, 0.9, 0.8, 0.99, 0.3],
        [0, 0, 0, 0, 0],
    )
    errors = side_errors(detections, BOXES, LABELS)
    # The second takes the first object, of the third the class is wrong, the fourth overlaps too little.
    assert errors.error.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    assert errors.deviation.tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]


def test_without_objects_or_detections_there_are_no_errors():
    none = found(np.zeros((0, 4)), [], np.zeros(0, int))
    assert side_errors(none, BOXES, LABELS).error.shape == (0, 4)
    assert side_errors(found(BOXES, [0.5] * 3, LABELS), BOXES[:0], LABELS[:0]).error.shape == (0, 4)


def test_detections_without_deviations_are_refused():
    with pytest.raises(ValueError, match="expected some with deviations, got none"):
        side_errors(found(BOXES, [0.5] * 3, LABELS)._replace(deviation=None), BOXES, LABELS)


@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_the_calibration_of_a_simulation_is_recovered(factor, tmp_path):
    rng = np.random.default_rng(0)
    deviation = rng.uniform(0.5, 4, (5000, 4))
    drawn = SideErrors(rng.normal(scale=factor * deviation), deviation)
    result = calibration([SideErrors(drawn.error[:10], deviation[:10]), SideErrors(drawn.error[10:], deviation[10:])])
    # 2000 sides a bin: the RMS is off by 1/√4000 = 1.6 % in one standard deviation.
    np.testing.assert_allclose(result.error, factor * result.predicted, rtol=0.07)
    assert result.factor == pytest.approx(factor, rel=0.03)
    assert result.count.tolist() == [2000] * 10
    assert np.all(np.diff(result.predicted) > 0)
    assert plot_calibration(result, tmp_path / "calibration.png").stat().st_size > 0


def test_without_a_match_it_is_an_error():
    with pytest.raises(ValueError, match="expected a detection that matches an object, got none"):
        calibration([SideErrors(np.zeros((0, 4)), np.zeros((0, 4)))])
    with pytest.raises(ValueError, match="bins: expected at least 1"):
        calibration([], bins=0)
