"""A batch in parts: the gradient is the mean over its parts, and needs the memory of one part."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiling import compiled_quickly
from tests.training.test_step import ANCHORS
from tests.training.toy import ConvDetector, random_batch, toy_detector_with, toy_experiment
from ugs_jax.experiment import SGD, Schedule, Stabilize, detector_with
from ugs_jax.objectives import UGS
from ugs_jax.planning.program import program_of, read_footprint
from ugs_jax.runs import create_state, device_mesh
from ugs_jax.training import jit_step, make_step
from ugs_jax.training.accumulation import micro_batches
from ugs_jax.training.objective import objective
from ugs_jax.training.step import first_non_finite, make_finite_check

RATE = 0.05


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True), compiled_quickly():
        yield


def widened(tree):
    return jax.tree.map(lambda leaf: leaf.astype(float) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)


def build(accumulate, stabilize=None, localization=None):
    """A convolutional detector in float64 under plain gradient descent: detector, step, first state."""
    experiment = toy_experiment(localization)
    real = detector_with(experiment, ANCHORS, 3)
    detector = ConvDetector(replace(real.arch, dtype=jnp.float64), real.localization)
    options = SGD(
        Schedule(RATE, warmup_epochs=0.0, final=1.0), momentum=0.0, weight_decay=0.0, clip_norm=1e9, stabilize=stabilize
    )
    rate = options.schedule.build(100, 100)
    optimizer = options.build(rate)
    step = make_step(detector, optimizer, rate, experiment.loss_weights, experiment.ema, accumulate=accumulate)
    return detector, jit_step(step, device_mesh(1)), widened(create_state(detector, optimizer, 0))


def wide_batch(size, seed=0):
    batch = random_batch(size, seed=seed)
    return batch._replace(boxes=batch.boxes.astype(float), ignore=batch.ignore.astype(float))


def copied(tree):
    return jax.tree.map(jnp.copy, tree)


def test_every_row_is_in_one_part_and_every_part_has_rows_of_every_device():
    batch = random_batch(12)
    parts = micro_batches(batch, 3)
    assert parts.images.shape == (3, 4, 64, 64, 3)
    for k in range(3):
        np.testing.assert_array_equal(parts.image_id[k], [k, k + 3, k + 6, k + 9])
        np.testing.assert_array_equal(parts.boxes[k], batch.boxes[k::3])


@pytest.mark.slow
def test_a_step_goes_along_the_mean_gradient_of_its_parts():
    detector, step, state = build(3)
    batch = wide_batch(6)

    def loss_of(params, stats, rows):
        outputs, after = detector.apply(params, stats, rows.images, train=True)
        loss, _ = objective(outputs, rows, detector.localization, detector.arch, toy_experiment().loss_weights)
        return loss, after

    gradients, stats, values, gradient_of = [], state.stats, [], jax.jit(jax.value_and_grad(loss_of, has_aux=True))
    for k in range(3):
        (value, stats), gradient = gradient_of(state.params, stats, jax.tree.map(lambda a, k=k: a[k::3], batch))
        gradients.append(gradient)
        values.append(value)
    want = jax.tree.map(lambda p, *g: p - RATE * sum(g) / 3, state.params, *gradients)
    after, metrics = step(copied(state), batch)
    np.testing.assert_allclose(metrics["loss"], np.mean(values), rtol=1e-12)
    jax.tree.map(lambda got, expected: np.testing.assert_allclose(got, expected, rtol=1e-9), after.params, want)
    jax.tree.map(lambda got, expected: np.testing.assert_allclose(got, expected, rtol=1e-9), after.stats, stats)
    assert int(after.step) == 1


@pytest.mark.slow
def test_parts_that_are_alike_take_the_step_of_one_and_have_its_curvature():
    once = wide_batch(2)
    batch = jax.tree.map(lambda a: np.repeat(a, 2, axis=0), once)  # row k of either part is row k of `once`
    found = []
    for accumulate, rows in ((1, once), (2, batch)):
        _, step, state = build(accumulate, stabilize=Stabilize(every=1))
        found.append(step(copied(state), rows))
    (one, one_metrics), (two, two_metrics) = found
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), one.params, two.params)
    assert abs(float(one_metrics["step_curvature"])) > 1e-6
    for name, value in one_metrics.items():
        np.testing.assert_allclose(two_metrics[name], value, rtol=1e-9, err_msg=name)


@pytest.mark.slow
def test_parts_without_positives_do_not_count_in_the_uncertainty():
    once = wide_batch(2)
    batch = jax.tree.map(lambda a: np.repeat(a, 2, axis=0), once)
    batch.mask[1::2], batch.boxes[1::2] = False, 0
    _, step, state = build(1, localization=UGS())
    _, in_parts, _ = build(2, localization=UGS())
    _, one = step(copied(state), once)
    _, two = in_parts(copied(state), batch)
    assert float(one["uncertainty"]) > 0.1
    np.testing.assert_allclose(two["uncertainty"], one["uncertainty"], rtol=1e-9)


@pytest.mark.slow
def test_parts_need_less_memory_and_a_plan_counts_all_of_them():
    found = {}
    for accumulate in (1, 4):
        experiment = toy_experiment(accumulate=accumulate)
        experiment = replace(experiment, loader=replace(experiment.loader, batch_size=16, image_size=(128, 128)))
        of = lambda experiment, anchors, classes: ConvDetector(*_parts(experiment, anchors, classes))  # noqa: E731
        lowered, _ = program_of(experiment, device_mesh(1), 3, of)
        found[accumulate] = read_footprint(lowered.compile())
    assert found[4].temporaries < 0.5 * found[1].temporaries
    assert found[4].flops == pytest.approx(found[1].flops / 4, rel=0.05)  # the compiler counts a loop's round once


def _parts(experiment, anchors, classes):
    detector = toy_detector_with(experiment, anchors, classes)
    return detector.arch, detector.localization


@dataclass(frozen=True)
class Overflowing(ConvDetector):
    """Has infinite objectness where an image begins with white."""

    def apply(self, params, stats, images, *, train, key=None):
        outputs, stats = super().apply(params, stats, images, train=train)
        overflow = jnp.where(jnp.any(images[:, 0, 0, 0] == 255), jnp.inf, 0.0)
        first, *others = outputs.levels
        return outputs._replace(levels=(first._replace(objectness=first.objectness + overflow), *others)), stats


@pytest.mark.slow
def test_a_non_finite_tensor_in_any_part_is_named():
    detector, _, state = build(accumulate=2)
    check = make_finite_check(
        Overflowing(detector.arch, detector.localization), toy_experiment().loss_weights, accumulate=2
    )
    check, batch = jax.jit(check), wide_batch(4)
    for image in batch.images:
        image[0, 0, 0] = 0
    assert first_non_finite(check(state, batch)) == "the update, by the optimizer"
    batch.images[3, 0, 0, 0] = 255
    assert first_non_finite(check(state, batch)) == "outputs 0/objectness"


def test_parts_that_do_not_divide_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"accumulate: expected a divisor of loader\.batch_size 4.*got 3"):
        toy_experiment(accumulate=3)
    with pytest.raises(ValueError, match=r"accumulate: expected at least 1, got 0"):
        toy_experiment(accumulate=0)
