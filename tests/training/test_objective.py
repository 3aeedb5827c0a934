"""Training objective: dense target maps built by loops, ignore regions, padding, no positives, UR on the whole map."""

import functools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.flags import QUICKLY
from tests.reference.assignment_by_hand import positives
from tests.reference.localization_by_hand import regression, sigmoid
from tests.training.toy import random_batch
from ugs_jax import losses
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import Level, Localizer, Outputs, assign, candidate_anchors
from ugs_jax.detectors.architecture import Architecture
from ugs_jax.experiment import LossWeights
from ugs_jax.objectives import UGS, BoxRegression, Refinement
from ugs_jax.objectives.refinement import perturbation
from ugs_jax.training import objective
from ugs_jax.training.matching import Match
from ugs_jax.training.objective import localization_terms

ANCHORS = (((4.0, 5.0), (7.0, 6.0), (9.0, 12.0)), ((12.0, 9.0), (14.0, 20.0), (22.0, 16.0)), ((24.0, 30.0),) * 3)
ARCH = Architecture("p", False, 3, ANCHORS)
L1 = BoxRegression(losses.l1)  # of corners, px: its reference is one line
GAINS = LossWeights(box=0.3, objectness=0.7, classes=0.2, quality=0.6)
CHANNELS, SIDE = 5, 64


def random_outputs(localization, size=2, dtype=jnp.float32, seed=1):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
    levels, localizers = [], []
    for stride in ARCH.strides:
        h = w = SIDE // stride
        levels.append(Level(draw(size, h, w, CHANNELS), draw(size, h, w, 3), draw(size, h, w, 3, 3)))
        localizers.append(Localizer(draw(CHANNELS, 3, localization.num_outputs), draw(3, localization.num_outputs)))
    return Outputs(tuple(levels), tuple(localizers))


@functools.lru_cache
def program(localization, gains=GAINS):
    def run(outputs, batch):
        def loss(outputs):
            return objective(outputs, batch, localization, ARCH, gains)

        return jax.value_and_grad(loss, has_aux=True)(outputs)

    shapes = (random_outputs(localization), random_batch()._replace(images=None))
    return jax.jit(run).lower(*shapes).compile(QUICKLY)


def evaluate(outputs, batch, localization=L1):
    (loss, parts), gradient = program(localization)(outputs, batch._replace(images=None))
    return float(loss), {name: float(value) for name, value in parts.items()}, gradient


overlap_loss = jax.jit(losses.ciou, compiler_options=QUICKLY)


def cross_entropy(logit, target):
    p, target = sigmoid(float(logit)), float(target)
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def by_loops(outputs, batch, class_weights=(1.0, 1.0, 1.0)):
    """Box, objectness and class loss from dense maps of targets, cell by cell."""
    cell_loss, weights = 0.0, (4.0, 1.0, 0.4)
    box_losses, class_losses = [], []
    for level, localizer, sizes, stride, weight in zip(
        outputs.levels, outputs.localizers, ANCHORS, ARCH.strides, weights, strict=True
    ):
        features, objectness, classes = (np.asarray(part, np.float64) for part in level)
        b, h, w, a = objectness.shape
        goal = np.zeros((b, h, w, a))
        for i in range(b):
            for j in np.flatnonzero(batch.mask[i]):
                box = batch.boxes[i, j].tolist()
                for row, column, k in positives(box, sizes, stride, h, w):
                    raw = features[i, row, column] @ np.asarray(localizer.kernel)[:, k] + np.asarray(localizer.bias)[k]
                    center = ((column + 0.5) * stride, (row + 0.5) * stride)
                    found = regression(raw.tolist(), center, sizes[k], (stride, stride))
                    box_losses.append(sum(abs(x - y) for x, y in zip(found, box, strict=True)))
                    quality = max(1 - float(overlap_loss(jnp.asarray(found), jnp.asarray(box))), 0)
                    goal[i, row, column, k] = max(goal[i, row, column, k], 0.4 + 0.6 * quality)
                    class_losses += [
                        class_weights[batch.classes[i, j]]
                        * cross_entropy(classes[i, row, column, k, n], n == batch.classes[i, j])
                        for n in range(3)
                    ]
        cells = [cross_entropy(objectness[index], goal[index]) for index in np.ndindex(goal.shape)]
        cell_loss += GAINS.objectness * weight * mean(cells)
    return {
        "box": GAINS.box * mean(box_losses),
        "objectness": cell_loss,
        "classes": GAINS.classes * mean(class_losses),
        "positives": len(box_losses) / b,
    }


def mean(values):
    return sum(values) / max(len(values), 1)


def test_loss_and_parts_are_those_of_dense_target_maps_built_by_loops():
    outputs, batch = random_outputs(L1), random_batch()
    loss, parts, _ = evaluate(outputs, batch)
    want = by_loops(outputs, batch)
    assert want["positives"] > 20
    for name, value in want.items():
        np.testing.assert_allclose(parts[name], value, rtol=2e-5, err_msg=name)  # float32 sums of up to 400 terms
    np.testing.assert_allclose(loss, want["box"] + want["objectness"] + want["classes"], rtol=2e-5)


@pytest.mark.slow
def test_the_class_loss_of_a_box_is_weighted_by_its_class():
    outputs, batch, weights = random_outputs(L1), random_batch(), (0.5, 3.0, 1.25)
    assert len(set(batch.classes[batch.mask].tolist())) == 3
    gains = replace(GAINS, class_weights=weights)
    (_, parts), _ = program(L1, gains)(outputs, batch._replace(images=None))
    want = by_loops(outputs, batch, weights)
    for name, value in want.items():
        np.testing.assert_allclose(parts[name], value, rtol=2e-5, err_msg=name)
    with pytest.raises(ValueError, match="expected numbers, got 'balanced', which needs the training boxes"):
        program(L1, replace(GAINS, class_weights="balanced"))


def test_without_positives_loss_and_gradient_are_finite_and_only_objectness_remains():
    batch = random_batch()
    empty = batch._replace(mask=np.zeros_like(batch.mask), boxes=np.zeros_like(batch.boxes))
    for localization in (L1, UGS()):
        loss, parts, gradient = evaluate(random_outputs(localization), empty, localization)
        assert parts["box"] == parts["classes"] == parts["positives"] == 0
        assert np.isnan(parts["uncertainty"])  # unknown: 0 would be certain
        assert loss == parts["objectness"] > 0
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient.localizers))


def test_the_contents_of_padding_rows_have_no_influence():
    batch, outputs = random_batch(), random_outputs(UGS())
    off = ~batch.mask
    other = batch._replace(
        boxes=np.where(off[..., None], np.float32([5, 6, 20, 21]), batch.boxes),
        classes=np.where(off, 2, batch.classes).astype(np.int32),
        ignore=np.full_like(batch.ignore, 30.0) + np.float32([0, 0, 30, 30]),
    )
    first, second = (evaluate(outputs, each, UGS()) for each in (batch, other))
    assert first[0] == second[0]
    assert first[1] == second[1]
    for one, two in zip(jax.tree.leaves(first[2]), jax.tree.leaves(second[2]), strict=True):
        np.testing.assert_array_equal(one, two)


def test_boxes_in_ignore_regions_are_neither_positives_nor_background():
    """Image 0's first box is covered; its other boxes lie in the other half of the image."""
    batch = random_batch()
    boxes, mask = batch.boxes.copy(), np.zeros_like(batch.mask)
    boxes[:, 0], boxes[:, 1] = [4, 20, 12, 30], [44, 20, 53, 31]
    mask[:, :2] = True
    region, active = batch.ignore.copy(), batch.ignore_mask.copy()
    region[:, 0], active[0, 0] = [0, 0, 32, 64], True
    ignoring = batch._replace(boxes=boxes, mask=mask, ignore=region, ignore_mask=active)
    outputs = random_outputs(L1)
    loss, parts, gradient = evaluate(outputs, ignoring)
    uncovered = mask.copy()
    uncovered[0, 0] = False
    _, alone, _ = evaluate(outputs, ignoring._replace(mask=uncovered))
    assert parts["positives"] == alone["positives"] > 0  # as if the box were not there
    for level in range(3):
        inside = np.s_[0, :, : 32 // ARCH.strides[level]]
        for part in gradient.levels[level]:
            assert not np.any(np.asarray(part)[inside])
        assert np.any(np.asarray(gradient.levels[level].objectness)[1])
    changed = [level._replace(objectness=level.objectness.at[0, :, : 32 // s].add(3.0),
                              classes=level.classes.at[0, :, : 32 // s].add(-2.0))
               for level, s in zip(outputs.levels, ARCH.strides, strict=True)]  # fmt: skip
    assert evaluate(outputs._replace(levels=tuple(changed)), ignoring)[0] == loss


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["entropy", "match"])
def test_refinement_at_gathered_cells_is_that_of_the_whole_map(mode):
    """UR with dense features, logits and perturbation, in float64."""
    objective_ = UGS(refinement=Refinement(radius=0.7, weight=0.3))
    objective_ = replace(objective_, um=replace(objective_.um, mode=mode))
    with jax.enable_x64(True):
        outputs, batch = random_outputs(objective_, dtype=jnp.float64), random_batch()
        level, localizer, sizes = outputs.levels[0], outputs.localizers[0], np.asarray(ANCHORS[0])
        boxes = jnp.asarray(batch.boxes, jnp.float64)
        found = assign(boxes, batch.mask, sizes, stride=8, shape=(8, 8))
        near = candidate_anchors(found, sizes, stride=8)
        targets = jnp.broadcast_to(boxes[:, :, None, None], (*found.positive.shape, 4))
        index = [tuple(int(i) for i in position) for position in np.argwhere(found.positive)]
        assert len({(i, int(found.cell[i, j, c])) for i, j, c, _ in index}) < len(index)  # cells with several copies

        def take(raw):
            """[positives, outputs] of a dense map [b, h, w, a, outputs]."""
            flat = raw.reshape(raw.shape[0], -1, *raw.shape[3:])
            return jnp.stack([flat[i, found.cell[i, j, c], k] for i, j, c, k in index])

        chosen = tuple(np.array(axis) for axis in zip(*index, strict=True))
        at = Anchors(*(part[chosen] for part in near))
        dense_map = lambda features, kernel, bias: jnp.einsum("bhwc,cak->bhwak", features, kernel) + bias  # noqa: E731

        def by_dense(features, localizer):
            frozen = jax.lax.stop_gradient(localizer)

            def um(f):
                return jnp.sum(objective_.uncertainty_loss(take(dense_map(f, *frozen[:2])), at, targets[chosen]))

            moved = features + perturbation(um, features, radius=0.7)
            plain, shifted = (
                objective_.loss(take(dense_map(f, *localizer[:2])), at, targets[chosen]).loss for f in (features, moved)
            )
            return jnp.sum(plain + 0.3 * shifted), shifted

        def by_cells(features, localizer):
            own, weight = jnp.zeros(found.cell.shape, int), found.positive.astype(float)
            one = Match(level._replace(features=features), localizer, 8, found, near, targets, own, weight)
            terms = localization_terms((one,), objective_)
            return jnp.sum(jnp.where(found.positive, terms.loss, 0)), terms.parts["refinement"][chosen]

        both = lambda *args: [jax.value_and_grad(f, (0, 1), has_aux=True)(*args) for f in (by_dense, by_cells)]  # noqa: E731
        arguments = (level.features, localizer)
        want, got = jax.jit(both).lower(*arguments).compile(QUICKLY)(*arguments)
        assert got[0][0].dtype == jnp.float64
        for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-10 * np.abs(w).max())


def test_a_weight_of_zero_turns_refinement_off():
    """Its second pass is not computed, so that it costs nothing."""

    def traced(refinement):
        localization = UGS(refinement=refinement)
        outputs, batch = random_outputs(localization), random_batch()._replace(images=None)
        return str(jax.make_jaxpr(lambda outputs: objective(outputs, batch, localization, ARCH, GAINS))(outputs))

    without = traced(None)
    assert traced(Refinement(weight=0.0)) == without
    assert len(traced(Refinement())) > len(without)
