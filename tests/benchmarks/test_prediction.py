"""The benchmark of whole predictions, with published weights and small images."""

import os
from pathlib import Path

import pytest

from tests.benchmarks.running import result_of

SHARED = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[2] / "../shared"))
PUBLISHED = SHARED / "weights" / "yolov5n_coco.pt"


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.is_file(), reason=f"no published weights at {PUBLISHED}")
def test_all_engines_find_the_same():
    pytest.importorskip("onnxruntime")
    result = result_of("prediction", f"{PUBLISHED} --image-size 320 --batches 2 --repeats 1 --threads 1")
    whole = result["rows"]["whole 2"]
    assert {"jax", "jax_onnx", "onnx"} <= set(whole)
    assert whole["jax"]["found"] == whole["jax_onnx"]["found"] == whole["onnx"]["found"] > 0
    assert max(engine["apart_px"] for engine in whole.values()) < 0.1
    assert all(engine["ms"] > 0 for engine in whole.values())
    assert whole["jax"]["time_over_jax"] == 1
