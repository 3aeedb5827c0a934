"""ONNX Runtime on the CPU."""

import numpy as np
import pytest


def run_model(data, **inputs):
    """The outputs of a model by name."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def metadata_of(data):
    runtime = pytest.importorskip("onnxruntime")
    return runtime.InferenceSession(data, providers=["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map


def assert_same_detections(found, want, *, px, score):
    """Every detection has a counterpart of its class, with about its score and box; equal scores may change places."""
    assert len(found) == len(want)
    left = list(found)
    for label, value, box in want:
        near = [each for each in left if each[0] == label and abs(each[1] - value) <= score]
        assert near, (label, value, box)
        nearest = min(near, key=lambda each: np.abs(np.subtract(each[2], box)).max())
        np.testing.assert_allclose(nearest[2], box, atol=px)
        left.remove(nearest)
