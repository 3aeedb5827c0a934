"""Norms of the gradients of the loss terms with respect to the features of the heads."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.training.test_step import ANCHORS
from tests.training.toy import random_batch, toy_detector_with, toy_experiment
from ugs_jax.experiment import LossWeights
from ugs_jax.objectives import UGS, BoxRegression
from ugs_jax.training.feature_gradients import FEATURE_GRADIENTS, feature_gradient_norms
from ugs_jax.training.objective import objective


def toy(localization):
    return toy_detector_with(toy_experiment(localization), ANCHORS, 3), random_batch()


@pytest.mark.slow
@pytest.mark.parametrize("localization", [BoxRegression(), UGS()], ids=["regression", "ugs"])
def test_norms_are_those_of_each_part_differentiated_alone(localization):
    (detector, batch), loss_weights = toy(localization), LossWeights(box=0.5, objectness=2.0, classes=3.0)
    params, stats = detector.init(0)
    outputs, _ = detector.apply(params, stats, batch.images, train=True)
    norms = feature_gradient_norms(detector, params, stats, outputs, batch, loss_weights)
    assert tuple(norms) == FEATURE_GRADIENTS
    features = tuple(level.features for level in outputs.levels)
    for part in ("box", "objectness", "classes"):

        def value(features, part=part):
            again = detector.apply_heads(params, stats, features)
            return objective(again, batch, localization, detector.arch, loss_weights)[1][part]

        want = optax.tree.norm(jax.grad(value)(features))
        assert float(want) > 0
        np.testing.assert_allclose(norms[f"feature_gradient_{part}"], want, rtol=1e-5)


@pytest.mark.slow
def test_a_gain_scales_the_norm_of_its_part_alone():
    detector, batch = toy(BoxRegression())
    params, stats = detector.init(0)
    outputs, _ = detector.apply(params, stats, batch.images, train=True)
    once, twice = (
        jnp.stack([*feature_gradient_norms(detector, params, stats, outputs, batch, LossWeights(box=gain)).values()])
        for gain in (1.0, 2.0)
    )
    np.testing.assert_allclose(twice / once, [2, 1, 1], rtol=1e-5)
