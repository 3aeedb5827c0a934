"""Networks with published heads in detectors that predict distributions: they begin with nearly the same boxes."""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.flags import QUICKLY
from tests.weights.networks import detector
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import COCO_ANCHORS, localize
from ugs_jax.objectives import DFL, UGS, BoxRegression, Grid, GridPoints, SecondStage, d_fine_grid
from ugs_jax.weights import fit_weights, published_arrays, read_weights, torch_bytes, weights_of
from ugs_jax.weights.head_start import START_WIDTH

SHARED = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[2] / "../shared"))
REAL = SHARED / "weights" / "yolov5n_coco.pt"
STRIDES = {3: (8, 16, 32), 4: (4, 8, 16, 32)}
OTHER_ANCHORS = tuple(tuple((0.7 * w, 1.2 * h) for w, h in level) for level in COCO_ANCHORS)
POINTS = GridPoints((-2.0, -1.2, -0.6, -0.3, -0.1, 0.1, 0.3, 0.6, 1.2, 2.0))
OBJECTIVES = {
    "UGS": UGS(),
    "UGS, uniform": UGS(Grid(1.5, 0.0, 8), Grid(2.0, 0.0, 8)),
    "UGS, D-FINE's grid": UGS(d_fine_grid(17, reach=1.0), d_fine_grid(17, reach=1.0)),
    "UGS, point by point, two stages": UGS(POINTS, POINTS, second_stage=SecondStage(8)),
    "DFL": DFL(start=-3),
}


def picture():
    """Two images of noise with bright and dark rectangles, on which features differ more than on noise alone."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 160, (2, 64, 96, 3))
    for image in images:
        for x, y, w, h in rng.integers((0, 0, 4, 4), (90, 60, 40, 30), (12, 4)):
            image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return images.astype(np.uint8)


def anchors_of(level, sizes, stride):
    b, rows, columns, _ = level.features.shape
    center = np.stack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5), -1)[None, :, :, None] * stride
    shape = (b, rows, columns, len(sizes), 2)
    parts = center, np.asarray(sizes), np.float32(stride)
    return Anchors(*(jnp.asarray(np.broadcast_to(part, shape), jnp.float32) for part in parts))


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICKLY)
def everywhere(network, outputs):
    """Raw outputs and boxes of every anchor, by level."""
    found = []
    for level, localizer, sizes, stride in zip(*outputs, network.arch.anchors, network.arch.strides, strict=True):
        raw = localize(localizer, level.features)
        found.append((raw, network.localization.decode(raw, anchors_of(level, sizes, stride))))
    return found


def run(network, params, stats):
    apply = jax.jit(functools.partial(network.apply, train=False), compiler_options=QUICKLY)
    return apply(params, stats, picture())[0]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Weights of a file that holds a network by its published names, their outputs and boxes."""
    network, rng = detector(), np.random.default_rng(0)
    params, stats = network.init(0)
    for head in params["heads"].values():  # wide outputs, but within the reach that tolerances are stated for
        head["localize"]["bias"] = jnp.asarray(rng.uniform(-0.6, 0.6, head["localize"]["bias"].shape), jnp.float32)
        head["localize"]["kernel"] = 1.5 * head["localize"]["kernel"]
    path = tmp_path_factory.mktemp("weights") / "published.pt"
    path.write_bytes(torch_bytes(published_arrays(weights_of(network, params, stats))))
    outputs = run(network, params, stats)
    return read_weights(path), outputs, jax.device_get(everywhere(network, outputs))


def started(weights, outputs, network):
    """The detector's boxes on the features of the published one, and the report."""
    params, stats, report = fit_weights(weights, network, *network.init(1))
    found = network.apply_heads(params, stats, tuple(level.features for level in outputs.levels))
    for level, want in zip(found.levels, outputs.levels, strict=True):
        np.testing.assert_allclose(level.objectness, want.objectness, rtol=1e-4, atol=1e-4)
    return jax.device_get(everywhere(network, found)), report


def assert_near(want, found, raw, objective, strides, sizes):
    """Boxes of anchors whose regression outputs lie in [−1, 1]; tolerances are those of `layer_from_regression`."""
    seen = 0
    for (_, boxes), (_, made), regression, stride, level in zip(want, found, raw, strides, sizes, strict=True):
        inside = np.abs(regression).max(-1) <= 1
        seen += inside.sum()
        off = np.abs(made - boxes)[inside]
        if isinstance(objective, DFL):
            half = np.broadcast_to(np.tile(np.asarray(level), 2) / 2, boxes.shape)[inside]
            assert np.all(off <= 0.1 * stride + 0.25 * half)
            continue
        centers, sides = (
            [part(box[inside]) for box in (boxes, made)]
            for part in (lambda box: (box[:, :2] + box[:, 2:]) / 2, lambda box: np.log(box[:, 2:] - box[:, :2]))
        )
        np.testing.assert_allclose(centers[1], centers[0], atol=0.1 * stride)
        np.testing.assert_allclose(sides[1], sides[0], atol=0.3)
    assert seen > 100


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("sizes", [COCO_ANCHORS, OTHER_ANCHORS], ids=["same anchors", "other anchors"])
def test_a_detector_starts_with_nearly_the_boxes_of_the_published_regression(name, sizes, published):
    weights, outputs, want = published
    network = detector(localization=OBJECTIVES[name], anchors=sizes)
    found, report = started(weights, outputs, network)
    assert_near(want, found, [raw for raw, _ in want], OBJECTIVES[name], STRIDES[3], COCO_ANCHORS)
    kind = type(OBJECTIVES[name]).__name__
    assert f"localization: layers of {kind} made from regression layers" in report.notes
    paths = {f"heads/{level}/localize/{array}" for level in range(3) for array in ("kernel", "bias")}
    assert paths <= set(report.loaded)
    assert all("/second/" in path for path in report.initialised)


def test_distributions_are_as_wide_as_they_are_asked_to_be(published):
    """At the anchor's centre, where the packed grid is fine enough for the width."""
    weights, outputs, _ = published
    network = detector(localization=UGS(Grid(2.0, 1.0, 40), Grid(2.0, 1.0, 40)))
    for width in ((0.3, 0.3, 0.3, 0.3), (0.3, 0.2, 0.25, 0.5)):
        params, stats, _ = fit_weights(weights, network, *network.init(1), width=width)
        found = network.apply_heads(params, stats, tuple(level.features for level in outputs.levels))
        points = network.localization.center.points()
        p = np.asarray(network.localization.probabilities(localize(found.localizers[0], found.levels[0].features)))
        mean = p @ points
        spread = np.sqrt(p @ points**2 - mean**2)
        near = np.abs(mean) < 0.7
        for parameter in range(4):
            assert near[..., parameter].sum() > 20
            # The mean of a bell moves along the grid, whose range cuts off what lies beyond ±2.
            np.testing.assert_allclose(spread[..., parameter][near[..., parameter]], width[parameter], rtol=0.1)
    assert START_WIDTH == (0.35, 0.35, 0.35, 0.35)


def test_a_level_without_a_published_layer_starts_with_boxes_around_its_anchors(published):
    weights, outputs, _ = published
    network = detector(p2=True, localization=UGS())
    params, stats, report = fit_weights(weights, network, *network.init(1))
    finest = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 24, 16)), jnp.float32)
    features = (finest, *(level.features for level in outputs.levels))
    (_, boxes), *_ = jax.device_get(everywhere(network, network.apply_heads(params, stats, features)))
    sizes = np.asarray(network.arch.anchors[0], np.float32)
    ratio = (boxes[..., 2:] - boxes[..., :2]) / sizes
    # The mean published bias lies in ±0.6, for which (2σ)² is 0.5 to 1.7; features move boxes around that.
    median = np.median(ratio, axis=(0, 1, 2))
    assert np.all((median > 0.4) & (median < 2))
    assert np.std(np.log(ratio), axis=(0, 1, 2)).min() > 0.05  # features count
    assert {"heads/0/localize/kernel", "heads/0/localize/bias"} <= set(report.loaded)


def test_weights_of_another_number_of_anchors_leave_a_fresh_layer(published):
    network = detector(localization=UGS(), anchors=tuple((*level, (50.0, 50.0)) for level in COCO_ANCHORS))
    params, stats = network.init(1)
    new, _, report = fit_weights(published[0], network, params, stats)
    for level in range(3):
        jax.tree.map(np.testing.assert_array_equal, new["heads"][level], params["heads"][level])
    assert not report.loaded or not any(path.startswith("heads") for path in report.loaded)


@pytest.mark.skipif(not REAL.is_file(), reason=f"no published weights at {REAL}")
@pytest.mark.parametrize("objective", [UGS(), DFL(start=-3)])
def test_a_published_checkpoint_starts_it_with_nearly_its_boxes(objective):
    weights = read_weights(REAL)
    plain = detector("n", classes=weights.arch.classes, localization=BoxRegression(), anchors=weights.arch.anchors)
    params, stats, report = fit_weights(weights, plain, *plain.init(0))
    assert not report.initialised
    outputs = run(plain, params, stats)
    want = jax.device_get(everywhere(plain, outputs))
    network = detector("n", classes=weights.arch.classes, localization=objective, anchors=weights.arch.anchors)
    found, report = started(weights, outputs, network)
    assert not report.initialised
    assert_near(want, found, [raw for raw, _ in want], objective, STRIDES[3], weights.arch.anchors)
