"""Detections in the classes of a data set, matched by name with those of the detector."""

from types import SimpleNamespace

import numpy as np
import pytest

from data_pipeline import DataError
from ugs_jax.detectors import Detections
from ugs_jax.experiment import Experiment
from ugs_jax.runs import LoadedDetector, with_classes
from ugs_jax.runs.from_weights import NoData

BOXES = np.arange(20, dtype=np.float32).reshape(1, 5, 4)
FOUND = Detections(
    boxes=BOXES,
    scores=np.float32([[0.9, 0.8, 0.7, 0.6, 0.0]]),
    classes=np.int32([[0, 1, 2, 1, 0]]),
    valid=np.array([[True, True, True, True, False]]),
)


@pytest.fixture(autouse=True)
def _in_use(unchecked):
    """The detector here has no more than one method of a real one."""


def model(*classes):
    """A detector that finds one person, two cars and one dog, and padding."""
    detector = SimpleNamespace(detect=lambda *_: FOUND)
    return LoadedDetector("yolo", classes, detector, None, Experiment("a", NoData("yolo.pt")), None)


def detected(loaded):
    found = loaded.detector.detect(None, None, None, None)
    return [loaded.classes[index] for index in found.classes[0][found.valid[0]]], found


def test_detections_get_the_classes_of_the_data_and_others_are_dropped(caplog):
    loaded = with_classes(model("person", "car", "dog"), ("van", "Car", "person"))
    names, found = detected(loaded)
    assert names == ["person", "Car", "Car"]
    np.testing.assert_array_equal(found.boxes, BOXES)
    np.testing.assert_allclose(found.scores, [[0.9, 0.8, 0, 0.6, 0]])
    assert caplog.messages == [
        "yolo knows 2 of 3 classes; not known to it, so their score is 0: van; not in the data, so left out: dog"
    ]


@pytest.mark.parametrize("classes", [("car", "dog", "person"), ("Traffic_Light", "stop-sign", "bus  stop")])
def test_case_spaces_and_hyphens_do_not_matter(classes, caplog):
    loaded = with_classes(model(*(name.lower().replace("_", " ") for name in classes)), classes[::-1])
    assert detected(loaded)[0] == [classes[0], classes[1], classes[2], classes[1]]
    assert not caplog.text


def test_without_class_names_the_order_of_the_data_is_taken(caplog):
    loaded = with_classes(model("class 0", "class 1", "class 2"), ("car", "bus", "van"))
    assert detected(loaded)[0] == ["car", "bus", "van", "bus"]
    assert caplog.messages == ["yolo has no class names; they are taken to be car, bus, van, in this order."]


def test_equal_classes_change_nothing(caplog):
    same = model("car", "bus", "van")
    assert with_classes(same, ["car", "bus", "van"]) is same
    assert not caplog.text


def test_without_a_common_class_the_error_has_the_fix():
    with pytest.raises(
        DataError, match=r"yolo: expected a class of the data \(van, bike\), got none among its 3 \(.*--c"
    ):
        with_classes(model("person", "car", "dog"), ("van", "bike"))


def test_a_file_of_weights_asks_for_data():
    with pytest.raises(DataError, match=r"yolo\.pt: expected a data set for val, got none.* Fix: add --data"):
        model("car").experiment.data.open("val")
