"""The quality predictor: what it sees and says, against sorted lists; and what its gradient does not reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import second_stage_by_hand as by_hand
from ugs_jax.objectives.quality import EVIDENCE, QualityLayer, evidence, quality_logit

N, HIDDEN, STRIDE = 6, 5, 8


def problem(bins, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(-20, 60, (N, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.5, 90, (N, 2))], axis=-1)
    probabilities = rng.dirichlet(np.full(bins, 0.7), (N, 4))
    shapes = ((EVIDENCE, HIDDEN), (HIDDEN,), (HIDDEN,), ())
    layer = QualityLayer(*(rng.normal(size=shape) for shape in shapes))
    single = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)  # noqa: E731
    return (layer, probabilities, boxes), single((layer, probabilities, boxes))


@pytest.mark.parametrize("bins", [2, 4, 11])
def test_evidence_and_logit_are_those_of_sorted_lists(bins):
    (layer, probabilities, boxes), (layer32, probabilities32, boxes32) = problem(bins)
    seen = evidence(probabilities32, boxes32, stride=STRIDE)
    found = quality_logit(layer32, probabilities32, boxes32, stride=STRIDE)
    assert seen.shape == (N, EVIDENCE)
    for i in range(N):
        want = by_hand.quality_evidence(probabilities[i].tolist(), boxes[i], STRIDE)
        np.testing.assert_allclose(seen[i], want, rtol=1e-4, atol=1e-6)
        want = by_hand.quality(layer, probabilities[i].tolist(), boxes[i], STRIDE)
        np.testing.assert_allclose(found[i], want, rtol=1e-4, atol=1e-5)


def test_the_order_of_probabilities_does_not_matter():
    _, (layer, probabilities, boxes) = problem(9)
    found = quality_logit(layer, probabilities, boxes, stride=STRIDE)
    np.testing.assert_array_equal(quality_logit(layer, probabilities[..., ::-1], boxes, stride=STRIDE), found)


def test_a_gradient_reaches_the_layer_and_neither_distributions_nor_boxes():
    _, arguments = problem(9)
    total = lambda *each: jnp.sum(jnp.sin(quality_logit(*each, stride=STRIDE)))  # noqa: E731
    layer, probabilities, boxes = jax.grad(total, (0, 1, 2))(*arguments)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(layer))
    assert not np.any(probabilities)
    assert not np.any(boxes)


@pytest.mark.parametrize(
    "box", [[5.0, 5.0, 5.0, 9.0], [5.0, 5.0, 5.0, 5.0], [9.0, 9.0, 5.0, 5.0], [0.0, 0.0, 1e5, 1e5]]
)
def test_boxes_without_a_side_have_a_finite_logit(box):
    _, (layer, probabilities, _) = problem(9)
    boxes = jnp.broadcast_to(jnp.array(box), (N, 4))
    assert np.all(np.isfinite(quality_logit(layer, probabilities, boxes, stride=STRIDE)))
