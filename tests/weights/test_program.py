"""Exported programs give the detections of the detector in a process that has JAX only."""

import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest

from tests.flags import QUICK_FLAGS, QUICKLY
from tests.weights.networks import detector
from ugs_jax.detectors import Postprocess
from ugs_jax.objectives import UGS, Quality, SecondStage
from ugs_jax.weights import export_program, predict_everywhere

OPTIONS = Postprocess(pre_nms_topk=60, max_detections=20, voting=0.1, spread_penalty=1.0, quality_power=0.5)
SIZE = (64, 96)
RUN = """
import sys
import numpy as np
import jax
from jax import export
program = export.deserialize(bytearray(open("program", "rb").read()))
images = np.load("images.npy")
found = jax.jit(program.call)(images)
np.savez("found.npz", **found)
foreign = [name for name in ("ugs_jax", "data_pipeline", "flax", "torch") if name in sys.modules]
assert not foreign, foreign
print(program.platforms, len(program.in_avals))
"""


@pytest.fixture(scope="module")
def network():
    return detector(localization=UGS(second_stage=SecondStage(hidden=8), quality=Quality(hidden=6)))


@pytest.fixture(scope="module")
def state(network):
    """Parameters that react to images, and a second stage that does something: fresh ones make all outputs small."""
    params, stats = network.init(0)
    spread = lambda path, leaf: leaf * 4 if "kernel" in jax.tree_util.keystr(path) else leaf  # noqa: E731
    for head in params["heads"].values():
        head["second"]["out"]["kernel"] += np.random.default_rng(0).normal(size=(8, 44), scale=0.3).astype(np.float32)
    return jax.tree_util.tree_map_with_path(spread, params), stats


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)


@pytest.mark.slow
def test_a_process_with_jax_only_runs_the_program(network, state, images, tmp_path, monkeypatch):
    (tmp_path / "program").write_bytes(export_program(network, *state, OPTIONS, SIZE))
    np.save(tmp_path / "images.npy", images)
    monkeypatch.setenv("XLA_FLAGS", QUICK_FLAGS)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("('cpu', 'cuda', 'tpu') 1")
    detect = jax.jit(partial(network.detect, options=OPTIONS), compiler_options=QUICKLY)
    want = jax.device_get(detect(*state, images))
    with np.load(tmp_path / "found.npz") as found:
        assert want.valid.any()
        np.testing.assert_array_equal(found["valid"], want.valid)
        np.testing.assert_array_equal(found["classes"], want.classes)
        # float32, compiled otherwise; px of 96
        np.testing.assert_allclose(found["boxes"], want.boxes, atol=1e-3)
        np.testing.assert_allclose(found["scores"], want.scores, rtol=1e-4)


def test_boxes_and_scores_of_all_anchors_are_those_that_the_best_candidates_are_taken_from(network, state, images):
    @partial(jax.jit, compiler_options=QUICKLY)
    def both(images):
        return predict_everywhere(network, *state, images), network.candidates(*state, images, 30)

    every, best = jax.device_get(both(images))
    for image in range(len(images)):
        order = np.argsort(-every.scores[image], axis=None, kind="stable")[:30]
        anchor, label = np.unravel_index(order, every.scores[image].shape)
        np.testing.assert_allclose(best.scores[image], every.scores[image][anchor, label], rtol=1e-5)
        np.testing.assert_array_equal(best.classes[image], label)
        np.testing.assert_allclose(best.boxes[image], every.boxes[image][anchor], atol=1e-3)  # px of 96, float32


def test_an_image_size_that_does_not_fit_is_refused(network, state):
    with pytest.raises(ValueError, match="multiples of 32, got 60×96"):
        export_program(network, *state, OPTIONS, (60, 96), batch_size=1)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_without_images_is_refused(network, state, batch_size):
    with pytest.raises(ValueError, match=f"batch_size: expected at least 1 image, got {batch_size}"):
        export_program(network, *state, OPTIONS, SIZE, batch_size=batch_size)
