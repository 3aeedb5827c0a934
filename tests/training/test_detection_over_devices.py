"""Devices that split the images of a batch detect without sending each other anything but the detections."""

import math
import re
from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.compiling import compiled_quickly
from tests.runs.test_sharding import ANCHORS
from tests.several_devices import on_devices
from tests.training.toy import ConvDetector, toy_experiment
from ugs_jax.experiment import detector_with
from ugs_jax.objectives import UGS
from ugs_jax.runs import device_mesh
from ugs_jax.runs.sharding import image_sharding
from ugs_jax.training import jit_detect

IMAGES, KEPT = 8, 20


def over_devices():
    """Detections, and kind and size of all that is sent, for meshes of one and of four devices."""
    real = detector_with(toy_experiment(UGS()), ANCHORS, 3)
    detector = ConvDetector(real.arch, real.localization)
    options = replace(toy_experiment().postprocess, max_detections=KEPT, score_threshold=0.0, voting=0.05)
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 128, 64, 3), np.uint8)
    found = []
    for mesh in (device_mesh(1), device_mesh(4), device_mesh(4, spatial=2)):
        given = *detector.init(0), jax.device_put(images, image_sharding(mesh))
        with compiled_quickly():
            compiled = jit_detect(detector, options, mesh).lower(*given).compile()
        sent = re.findall(r"= \w+\[([\d,]*)\]\S* (all-\w+|collective-permute)(?:-start)?\(", compiled.as_text())
        sizes = [[kind, math.prod(map(int, shape.split(",")))] for shape, kind in sent]
        arrays = {name: np.asarray(part).tolist() for name, part in compiled(*given)._asdict().items()}
        found.append({"sent": sizes, "found": arrays})
    return found


@pytest.mark.slow
def test_only_detections_are_sent_and_every_mesh_finds_the_same():
    one, images, rows = on_devices(4, over_devices)
    assert np.sum(one["found"]["valid"]) == IMAGES * KEPT
    for other in (images, rows):
        for name, values in one["found"].items():
            np.testing.assert_allclose(other["found"][name], values, rtol=1e-5, atol=1e-4, err_msg=name)
    assert one["sent"] == []
    assert sorted(images["sent"]) == sorted(["all-gather", np.size(part)] for part in one["found"].values())
    assert len(rows["sent"]) > len(images["sent"])  # neighbouring rows, and the best of all rows
