"""Objective of detectors without objectness: equal to the public loss, its gradient, and a run that learns."""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import Batch
from tests.flags import QUICKLY
from ugs_jax.detectors import CenterSampling, Level, Localizer, Outputs, Pyramid, ReceptiveField, TaskAligned
from ugs_jax.experiment import LossWeights
from ugs_jax.objectives import DFL, UGS, BoxRegression
from ugs_jax.training import objective

FIXTURES = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[2] / "../shared")) / "fixtures/anchor_free"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no fixtures at {FIXTURES}")
STRIDES = (8, 16, 32)
PYRAMID = Pyramid(tuple(((2.0 * stride, 2.0 * stride),) for stride in STRIDES), STRIDES)
RULES = {"plain": None, "stal0": "finest", "stal": "second"}
AS_PUBLISHED = DFL(box_weight=1.0, dfl_weight=1.5 * np.log(16) / 7.5)
"""Gains 7.5, 0.5 and 1.5, over 7.5."""


def batch_of(boxes, classes, mask, ignore=None):
    ignore = np.zeros((len(boxes), 1, 4), np.float32) if ignore is None else ignore
    rest = dict.fromkeys(set(Batch._fields) - {"boxes", "classes", "mask", "ignore", "ignore_mask"})
    return Batch(
        boxes=boxes, classes=classes, mask=mask, ignore=ignore, ignore_mask=np.any(ignore > 0, axis=-1), **rest
    )


def outputs_of(raws, outputs):
    """Outputs of a network whose features are the raw localization outputs themselves."""
    levels = [Level(raw[..., :outputs], None, raw[..., None, outputs:]) for raw in raws]
    localizer = Localizer(jnp.eye(outputs)[:, None, :], jnp.zeros((1, outputs)))
    return Outputs(tuple(levels), (localizer,) * len(levels))


quickly = functools.partial(jax.jit, compiler_options=QUICKLY)


@functools.lru_cache
def public_parts(rule):
    """Parts of the loss as a function of raw outputs and a batch, which may be empty: compiled once for a rule."""
    assigner = TaskAligned(widen=RULES[rule])
    return quickly(
        lambda raws, batch: objective(outputs_of(raws, 64), batch, AS_PUBLISHED, PYRAMID, LossWeights(), assigner)[1]
    )


@pytest.fixture(scope="module")
def public():
    with np.load(FIXTURES / "loss_yolov8.npz") as file:
        loss = dict(file)
    height, width = loss["image_hw"]
    boxes, classes, mask = np.zeros((2, 20, 4), np.float32), np.zeros((2, 20), np.int32), np.zeros((2, 20), bool)
    for i, label, (x, y, w, h) in zip(
        loss["batch_idx"].astype(int),
        loss["cls"][:, 0],
        loss["bboxes_xywhn"] * [width, height, width, height],
        strict=True,
    ):
        row = mask[i].sum()
        boxes[i, row], classes[i, row], mask[i, row] = [x - w / 2, y - h / 2, x + w / 2, y + h / 2], label, True
    raws = [jnp.asarray(loss[f"raw_p{i}"].transpose(0, 2, 3, 1)) for i in range(3)]
    return loss, raws, (boxes, classes, mask)


@needs_fixtures
@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("left", ["", "_image0_empty", "_no_objects"])
def test_parts_are_those_of_the_public_loss(public, rule, left):
    loss, raws, (boxes, classes, mask) = public
    mask = mask & {"": True, "_image0_empty": np.array([[False], [True]]), "_no_objects": False}[left]
    parts = public_parts(rule)(raws, batch_of(boxes, classes, mask))
    found = [7.5 * parts["regression"], 7.5 * parts["classes"], 1.5 * parts["dfl"]]
    np.testing.assert_allclose(found, loss[f"{rule}_parts{left}"], rtol=2e-6)


@needs_fixtures
@pytest.mark.slow
@pytest.mark.parametrize("rule", ["plain", "stal"])
def test_the_gradient_is_that_of_the_public_loss(public, rule):
    loss, raws, objects = public

    def total(raws):
        outputs, assigner = outputs_of(raws, 64), TaskAligned(widen=RULES[rule])
        return objective(outputs, batch_of(*objects), AS_PUBLISHED, PYRAMID, LossWeights(), assigner)[0]

    for i, found in enumerate(quickly(jax.grad(total))(raws)):
        want = loss[f"{rule}_grad_p{i}"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(7.5 * 2 * found, want, atol=1e-5 * np.abs(want).max())


def scene(outputs, seed=0):
    rng = np.random.default_rng(seed)
    raws = [jnp.asarray(rng.normal(size=(2, 64 // s, 64 // s, outputs + 3)), jnp.float32) for s in STRIDES]
    low = rng.uniform(0, 40, (2, 5, 2))
    boxes = np.concatenate([low, low + rng.uniform(4, 24, (2, 5, 2))], -1).astype(np.float32)
    return raws, boxes, rng.integers(0, 3, (2, 5)).astype(np.int32), np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]], bool)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("localization", "assigner"),
    [
        (BoxRegression(), TaskAligned(widen="second", similarity="nwd")),
        (DFL(), TaskAligned(widen="second", similarity="nwd")),
        (UGS(refinement=None), TaskAligned(widen="second", similarity="nwd")),
        (BoxRegression(), ReceptiveField()),
        (DFL(), ReceptiveField()),
        (UGS(), ReceptiveField()),
        (DFL(), CenterSampling()),
    ],
    ids=lambda each: type(each).__name__,
)
def test_each_objective_has_a_finite_loss_and_gradient_at_every_level(localization, assigner):
    raws, *objects = scene(localization.num_outputs)

    def total(raws):
        outputs = outputs_of(raws, localization.num_outputs)
        return objective(outputs, batch_of(*objects), localization, PYRAMID, LossWeights(), assigner)

    (loss, parts), gradient = quickly(jax.value_and_grad(total, has_aux=True))(raws)
    assert np.isfinite(loss)
    assert parts["objectness"] == 0
    assert parts["positives"] > 0
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in gradient)


@pytest.mark.slow
def test_dfl_learns_the_nearest_distance_where_a_box_lies_beside_its_cell():
    """A receptive field may lie beside the box. Its distances to the far sides are negative and count as 0."""
    raws, *_ = scene(64)
    boxes, mask = np.zeros((2, 1, 4), np.float32), np.ones((2, 1), bool)
    boxes[:] = [12.5, 13.2, 15.5, 16.5]  # 3 px, nearest to the centre at (12, 12) of stride 8; its upper left is 12.5
    assigner = ReceptiveField(topk=1, again=0)

    def dfl(raws):
        batch = batch_of(boxes, np.zeros((2, 1), np.int32), mask)
        loss, parts = objective(outputs_of(raws, 64), batch, AS_PUBLISHED, PYRAMID, LossWeights(), assigner)
        return loss, parts["dfl"]

    (_, found), gradient = quickly(jax.value_and_grad(dfl, has_aux=True))(raws)
    distances = [0.0, 0.0, 3.5 / 8, 4.5 / 8]
    want = 0.0
    for image in range(2):
        logits = np.asarray(raws[0][image, 1, 1, :64], float).reshape(4, 16)
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        for row, distance in zip(logs, distances, strict=True):
            want -= ((1 - distance) * row[0] + distance * row[1]) / 4 / 2
    np.testing.assert_allclose(found, want, rtol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in gradient)


def test_cells_in_ignore_regions_are_no_background():
    raws, boxes, classes, mask = scene(4)
    region = np.zeros((2, 1, 4), np.float32)
    region[:, 0] = [0, 0, 64, 64]

    @quickly
    def background(batch):
        return objective(outputs_of(raws, 4), batch, BoxRegression(), PYRAMID, LossWeights())[1]["classes"]

    assert background(batch_of(boxes, classes, mask & False, region)) == 0
    logits = np.concatenate([np.asarray(raw[..., 4:]).ravel() for raw in raws])
    want = np.log1p(np.exp(logits)).sum() * 0.5 / 7.5
    np.testing.assert_allclose(background(batch_of(boxes, classes, mask & False)), want, rtol=1e-5)


def test_the_assignment_carries_no_gradient():
    """The box loss alone does not move the class scores, which decide about the assignment."""
    raws, *objects = scene(4)
    weights = LossWeights(classes=0.0)
    loss = lambda raws: objective(outputs_of(raws, 4), batch_of(*objects), BoxRegression(), PYRAMID, weights)[0]  # noqa: E731
    assert all(not np.asarray(leaf[..., 4:]).any() for leaf in quickly(jax.grad(loss))(raws))
