"""Networks with the published heads of YOLOv8 and YOLO11 in detectors that predict distances on other grids."""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.detectors.test_yolov8 import architecture
from tests.flags import QUICKLY
from tests.reference.localization_by_hand import distribution
from tests.training.toy import random_batch
from tests.weights.test_published_yolov8 import arch_of
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import YOLO11, YOLO26, CenterSampling, Detector, Level, Localizer, Outputs, YOLOv8
from ugs_jax.experiment import LossWeights
from ugs_jax.objectives import DFL, UGS, SideRegression, SideUGS
from ugs_jax.training import objective
from ugs_jax.weights import fit_weights, read_weights, weights_of

FIXTURES = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[2] / "../shared")) / "fixtures/anchor_free"


def peaked(weights, seed):
    """Replace the localization layers by those of a head with one peak in each distribution, as trained heads have.

    The logits −(y − m)²/2s² are linear in the mean m, up to a constant: y·m/s² − y²/2s². Feature k of the first four
    is the mean of parameter k.
    """
    points, rng = np.arange(16.0), np.random.default_rng(seed)
    for level in range(3 + int(weights.arch.p2)):
        kernel = np.zeros_like(weights.arrays[f"heads/{level}/localize/kernel"])
        for side in range(4):
            kernel[side, 16 * side : 16 * side + 16] = points / 0.5**2
        weights.arrays[f"heads/{level}/localize/kernel"] = kernel
        weights.arrays[f"heads/{level}/localize/bias"] = np.tile(-(points**2) / (2 * 0.5**2), 4).astype(np.float32)
    return rng.uniform(0.3, 12, (50, 4))


@pytest.fixture(scope="module", params=[YOLOv8, pytest.param(YOLO11, marks=pytest.mark.slow)])
def weights(request):
    network = Detector(arch_of(request.param), DFL())
    return weights_of(network, *network.init(0), origin="a test")


@pytest.mark.parametrize("objective", [SideUGS(), DFL(17, start=-1)], ids=["SideUGS", "DFL from −1"])
def test_a_detector_starts_with_nearly_the_boxes_of_the_published_distributions(weights, objective):
    means = peaked(weights, 0)
    network = Detector(arch_of(weights.arch.network), objective)
    params, _, report = fit_weights(weights, network, *network.init(1))
    assert not report.initialised
    assert (
        f"localization: layers of {type(objective).__name__} made from those of DFL(bins=16, start=0)" in report.notes
    )
    center, unit = (20.0, 12.0), (8.0, 8.0)
    around = Anchors(*(jnp.broadcast_to(jnp.array(part), (50, 2)) for part in (center, unit, unit)))
    for level in range(3):
        layer = params["heads"][level]["localize"]
        features = np.zeros((50, layer["kernel"].shape[0]))
        features[:, :4] = means
        published = features @ weights.arrays[f"heads/{level}/localize/kernel"]
        published = published + weights.arrays[f"heads/{level}/localize/bias"]
        want = [distribution(row.tolist(), center, unit, range(16)) for row in published]
        found = objective.decode(jnp.asarray(features @ layer["kernel"] + layer["bias"], jnp.float32), around)
        np.testing.assert_allclose(found, want, atol=8 * 0.02)  # a fiftieth of a stride


@pytest.mark.parametrize("objective", [SideUGS(), DFL(19, start=-2)], ids=["SideUGS", "DFL from −2"])
def test_a_detector_starts_with_nearly_the_boxes_of_the_published_distances(objective):
    published = Detector(architecture(YOLO26, "p", classes=3), SideRegression())
    weights = weights_of(published, *published.init(0), origin="a test")
    network = Detector(architecture(YOLO26, "p", classes=3, num_outputs=objective.num_outputs), objective)
    params, _, report = fit_weights(weights, network, *network.init(1))
    assert f"localization: layers of {type(objective).__name__} made from those of SideRegression()" in report.notes
    rng = np.random.default_rng(0)
    around = Anchors(*(jnp.broadcast_to(jnp.array(part), (50, 2)) for part in ((20.0, 12.0), (8.0, 8.0), (8.0, 8.0))))
    for level in range(3):
        layer, (kernel, bias) = (
            params["heads"][level]["localize"],
            (weights.arrays[f"heads/{level}/localize/{part}"] for part in ("kernel", "bias")),
        )
        sides = rng.uniform(0.5, 12, (50, 4))
        features = (sides - bias) @ np.linalg.pinv(kernel)
        found = objective.decode(jnp.asarray(features @ layer["kernel"] + layer["bias"], jnp.float32), around)
        want = np.concatenate([(20.0, 12.0) - 8 * sides[:, :2], (20.0, 12.0) + 8 * sides[:, 2:]], axis=1)
        np.testing.assert_allclose(found, want, atol=8 * 0.03)  # strides: 0.004 of the bells, and the other grid


def test_a_level_without_a_published_layer_starts_with_the_mean_distributions_of_the_finest(weights):
    network = Detector(arch_of(weights.arch.network, p2=True), SideUGS())
    params, _, report = fit_weights(weights, network, *network.init(1))
    assert {"heads/0/localize/kernel", "heads/0/localize/bias"} <= set(report.loaded)
    np.testing.assert_allclose(
        params["heads"][0]["localize"]["bias"], params["heads"][1]["localize"]["bias"], rtol=1e-6
    )
    assert np.std(params["heads"][0]["localize"]["kernel"]) > 0
    assert not np.array_equal(params["heads"][0]["localize"]["kernel"], params["heads"][1]["localize"]["kernel"])


def test_an_objective_that_does_not_predict_distances_keeps_its_own_layer(weights):
    network = Detector(arch_of(weights.arch.network), UGS())
    _, _, report = fit_weights(weights, network, *network.init(1))
    assert not any("made from" in note for note in report.notes)
    assert {path.split("/")[2] for path in report.initialised} == {"localize"}


@pytest.mark.slow
def test_training_goes_on_from_the_published_boxes(weights):
    """The features of every cell are its distances to the box, which the published head has learned to read."""
    peaked(weights, 0)
    network = Detector(arch_of(weights.arch.network), SideUGS(refinement=None))
    fresh, stats = network.init(1)
    made, _, _ = fit_weights(weights, network, fresh, stats)
    box, levels = np.float32([12, 18, 36, 42]), []
    for stride in network.arch.strides:
        y, x = (np.mgrid[: 64 // stride, : 64 // stride] + 0.5) * stride
        distance = np.stack([x - box[0], y - box[1], box[2] - x, box[3] - y], axis=-1) / stride
        features = np.zeros((2, *x.shape, fresh["heads"][0]["localize"]["kernel"].shape[0]), np.float32)
        features[..., :4] = distance
        levels.append(Level(jnp.asarray(features), None, jnp.zeros((2, *x.shape, 1, 3))))
    batch = random_batch(boxes=1)._replace(boxes=np.tile(box, (2, 1, 1)), mask=np.ones((2, 1), bool), images=None)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    @jax.value_and_grad
    def loss(layers):
        localizers = tuple(Localizer(each["kernel"][:, None], each["bias"][None]) for each in layers)
        outputs = Outputs(tuple(levels), localizers)
        rule = CenterSampling(radius=1.0)
        return objective(outputs, batch, network.localization, network.arch, LossWeights(classes=0.0), rule)[0]

    before, _ = loss([head["localize"] for head in fresh["heads"].values()])
    layers = [head["localize"] for head in made["heads"].values()]
    start, slope = loss(layers)
    assert start < before / 4
    trained, _ = loss(jax.tree.map(lambda leaf, by: leaf - 0.1 * by, layers, slope))
    assert trained < start


@pytest.mark.slow
@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no parity fixtures at {FIXTURES}")
def test_the_layers_of_an_imported_file_are_made_within_the_stated_tolerance():
    weights, objective = read_weights(FIXTURES / "yolov8n_nc10.pt"), SideUGS()
    rng = np.random.default_rng(0)
    for level in range(3):
        kernel, bias = (weights.arrays[f"heads/{level}/localize/{part}"] for part in ("kernel", "bias"))
        features = rng.normal(size=(200, kernel.shape[0]))
        made, constant = objective.layer_from_distribution(kernel[:, None], bias[None], np.arange(16.0))
        around = Anchors(*(jnp.ones((200, 2)) for _ in range(3)))
        want = DFL().decode(jnp.asarray(features @ kernel + bias, jnp.float32), around)
        found = objective.decode(jnp.asarray(features @ made[:, 0] + constant[0], jnp.float32), around)
        np.testing.assert_allclose(found, want, atol=0.2)  # its weights are random, and so are the logits
        assert np.std(want) > 1
