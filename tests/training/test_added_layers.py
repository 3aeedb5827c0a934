"""Second stage and quality in training: losses of single positives by hand, and what learns from what."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.flags import QUICKLY
from tests.reference import second_stage_by_hand as by_hand
from tests.reference.boxes_by_hand import iou
from tests.reference.losses_by_hand import sigmoid_cross_entropy
from tests.several_devices import on_devices
from tests.training.test_objective import ARCH, GAINS, random_outputs
from tests.training.toy import random_batch
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import Level, Outputs, Pyramid, ReceptiveField
from ugs_jax.objectives import DFL, UGS, Quality, Refinement, SecondStage, SideUGS
from ugs_jax.objectives.quality import EVIDENCE, QualityLayer
from ugs_jax.objectives.second_stage import POINTS, SecondStageLayer
from ugs_jax.runs import device_mesh
from ugs_jax.training import objective
from ugs_jax.training.matching import match, match_cells
from ugs_jax.training.objective import localization_terms

CHANNELS, HIDDEN = 5, 4
TWO_STAGES, QUALITY = SecondStage(HIDDEN, share=0.75), Quality(HIDDEN, weight=0.2)
OBJECTIVES = {
    "two stages": UGS(second_stage=TWO_STAGES, refinement=None),
    "two stages, the second alone": UGS(second_stage=replace(TWO_STAGES, share=1.0), refinement=None),
    "quality": UGS(quality=QUALITY, refinement=None),
    "all": UGS(second_stage=TWO_STAGES, quality=QUALITY, refinement=Refinement(weight=0.3)),
    "all of DFL": DFL(bins=6, start=-1, second_stage=TWO_STAGES, quality=QUALITY),
}

SIDES = SideUGS(second_stage=TWO_STAGES, quality=QUALITY, refinement=Refinement(weight=0.3))


def outputs_with_layers(localization, dtype=jnp.float32):
    rng = np.random.default_rng(7)
    draw = lambda *shape: jnp.asarray(0.5 * rng.normal(size=shape), dtype)  # noqa: E731
    outputs, k = random_outputs(localization, dtype=dtype), localization.num_outputs
    added = []
    for localizer in outputs.localizers:
        second = SecondStageLayer(draw(POINTS * CHANNELS, HIDDEN), draw(k, HIDDEN), draw(HIDDEN), draw(HIDDEN, k))
        quality = QualityLayer(draw(EVIDENCE, HIDDEN), draw(HIDDEN), draw(HIDDEN), draw())
        localizer = localizer._replace(second=second if localization.second_stage else None)
        added.append(localizer._replace(quality=quality if localization.quality else None))
    return outputs._replace(localizers=tuple(added))


def check_terms(localization, outputs, match_all, strides):
    """Terms of positives are those of their stages, one by one.

    Loss and box of an objective are taken as they are; which logits they are of is what is by hand.
    """
    one_stage = replace(localization, second_stage=None, quality=None)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def run(outputs):
        matches = match_all(outputs)
        return [(one.candidates, one.anchors, one.targets) for one in matches], localization_terms(
            matches, localization
        )

    per_level, terms = jax.device_get(run(outputs))
    plain = jax.device_get(outputs)
    check = jax.jit(lambda raw, at, target: (one_stage.loss(raw, at, target), one_stage.probabilities(raw)))
    seen, first_anchor = 0, 0
    for level, localizer, stride, (found, anchors, targets) in zip(*plain, strides, per_level, strict=True):
        for i, j, c, k in np.argwhere(found.positive)[::7]:  # every seventh
            row, column = divmod(int(found.cell[i, j, c]), level.features.shape[2])
            raw = level.features[i, row, column] @ localizer.kernel[:, k] + localizer.bias[k]
            at, target = Anchors(*(part[i, j, c, k] for part in anchors)), targets[i, j, c, k]
            last, probabilities = check(raw, at, target)
            want, parts = float(last.loss), {}
            if localization.second_stage:
                box = np.asarray(last.boxes, np.float64)
                raw = raw + by_hand.residual(localizer.second, level.features[i], box, probabilities, stride)
                parts["first_stage"] = want
                last, probabilities = check(raw.astype(np.float32), at, target)
                share = localization.second_stage.share
                want = share * float(last.loss) + (1 - share) * want
            if localization.quality:
                box, p = np.asarray(last.boxes, np.float64), np.asarray(probabilities).tolist()
                logit = by_hand.quality(localizer.quality, p, box, stride)
                parts["quality"] = sigmoid_cross_entropy(logit, iou(box.tolist(), target.tolist()))
                want += 0.2 * parts["quality"]
            index = (i, j, c, first_anchor + k)
            if "refinement" in terms.parts:
                want += 0.3 * terms.parts["refinement"][index]
            np.testing.assert_allclose(terms.loss[index], want, rtol=2e-4)
            np.testing.assert_allclose(terms.boxes[index], last.boxes, rtol=1e-3, atol=1e-3)
            for part, value in parts.items():
                np.testing.assert_allclose(terms.parts[part][index], value, rtol=1e-3, err_msg=part)
            seen += 1
        first_anchor += found.positive.shape[-1]
    assert seen > 5


@pytest.mark.parametrize("name", OBJECTIVES)
def test_terms_of_every_positive_are_those_of_its_stages_one_by_one(name):
    outputs, batch = outputs_with_layers(OBJECTIVES[name]), random_batch()
    check_terms(OBJECTIVES[name], outputs, lambda outputs: match(outputs, batch, ARCH, 4.0), ARCH.strides)


@pytest.mark.parametrize(
    "localization", [OBJECTIVES["all"], SIDES, OBJECTIVES["all of DFL"]], ids=["UGS", "SideUGS", "DFL"]
)
def test_terms_of_cells_of_a_detector_without_anchors_are_those_too(localization):
    """The first anchor of each level, with the second stage, the quality predictor and UR of the same config lines."""
    pyramid = Pyramid(tuple(sizes[:1] for sizes in ARCH.anchors), ARCH.strides)
    outputs, batch, rule = outputs_with_layers(localization), random_batch(), ReceptiveField(topk=9)
    levels = tuple(Level(each.features, None, each.classes[:, :, :, :1]) for each in outputs.levels)
    first = tuple(one._replace(kernel=one.kernel[:, :1], bias=one.bias[:1]) for one in outputs.localizers)
    match_all = lambda outputs: match_cells(outputs, batch, pyramid, localization, rule)  # noqa: E731
    check_terms(localization, Outputs(levels, first), match_all, ARCH.strides)


@functools.lru_cache
def program(localization):
    loss = lambda outputs, batch: objective(outputs, batch, localization, ARCH, GAINS)  # noqa: E731
    return jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=QUICKLY)


def gradient(localization, batch):
    """The whole loss with its parts, and its gradient by all outputs."""
    return jax.device_get(program(localization)(outputs_with_layers(localization), batch._replace(images=None)))


@pytest.mark.slow
def test_quality_learns_and_nothing_else_learns_from_it():
    without, with_it = (
        gradient(UGS(quality=replace(QUALITY, weight=weight), refinement=None), random_batch())
        for weight in (0.0, 50.0)
    )
    assert with_it[0][0] > without[0][0]
    learned = False
    for localizer, other in zip(without[1].localizers, with_it[1].localizers, strict=True):
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(localizer.quality))
        learned |= any(np.any(leaf) for leaf in jax.tree.leaves(other.quality))
    assert learned
    bare = [
        [(level, layer.kernel, layer.bias) for level, layer in zip(*each[1], strict=True)]
        for each in (without, with_it)
    ]
    for want, found in zip(*map(jax.tree.leaves, bare), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6 * np.abs(want).max())  # two programs, one rounding


@pytest.mark.slow
def test_layers_of_a_level_without_positives_do_not_learn():
    """5 px are more than a fourth of no side of the coarsest anchors, 24 × 30 px, and of that of 22 × 16 px."""
    batch = random_batch()
    small = batch._replace(boxes=np.concatenate([batch.boxes[..., :2], batch.boxes[..., :2] + 5], axis=-1))
    (_, parts), found = gradient(OBJECTIVES["all"], small)
    assert parts["positives"] > 0
    learn = [any(np.any(leaf) for leaf in jax.tree.leaves(localizer)) for localizer in found.localizers]
    assert learn == [True, True, False]
    for part in jax.tree.leaves((found.localizers[0].second, found.localizers[0].quality)):
        assert np.any(part)


def test_layers_say_nothing_of_a_batch_without_positives():
    batch = random_batch()
    empty = batch._replace(mask=np.zeros_like(batch.mask), boxes=np.zeros_like(batch.boxes))
    (value, parts), slopes = gradient(OBJECTIVES["all"], empty)
    assert value == parts["objectness"] > 0
    assert parts["first_stage"] == parts["quality"] == 0
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slopes.localizers))


def over_devices():
    """Print the loss on one device, that on four that split images and rows, and how far apart gradients are."""
    localization = UGS(second_stage=TWO_STAGES, quality=QUALITY, refinement=None)
    mesh, outputs = device_mesh(4, 2), outputs_with_layers(localization)
    batch = random_batch()._replace(images=None)
    rows = jax.NamedSharding(mesh, jax.P("data", "spatial"))
    apart = outputs._replace(levels=jax.device_put(outputs.levels, rows))
    halves = jax.device_put(batch, jax.NamedSharding(mesh, jax.P("data")))
    (one, _), want = program(localization)(outputs, batch)
    (other, _), found = program(localization)(apart, halves)
    gaps = jax.tree.map(
        lambda a, b: float(np.abs(a - b).max() / (np.abs(a).max() + 1e-12)), want, jax.device_get(found)
    )
    return float(one), float(other), max(jax.tree.leaves(gaps))


@pytest.mark.slow
def test_devices_that_split_images_and_rows_compute_the_same():
    one, other, gap = on_devices(4, over_devices)
    assert other == pytest.approx(one, rel=1e-5)
    assert gap < 1e-4  # float32 sums over candidates in another order
