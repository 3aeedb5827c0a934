"""Variance voting against loops over boxes and sides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.flags import QUICKLY
from tests.reference.merging_by_hand import voted
from ugs_jax.boxes import variance_voting

vote = jax.jit(variance_voting, static_argnames="sigma", compiler_options=QUICKLY)


def crowd(seed, n=30):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 30, (n, 2))
    boxes = np.concatenate([low, low + rng.uniform(4, 20, (n, 2))], 1)
    return boxes, rng.uniform(0.1, 3, (n, 4)), rng.integers(0, 2, n)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sigma", [0.02, 0.5])
def test_voting_equals_that_of_loops(seed, sigma):
    boxes, deviation, labels = crowd(seed)
    kept = np.arange(0, 30, 3)
    voting = labels[kept][:, None] == labels
    found = vote(*map(jnp.float32, (boxes[kept], boxes, deviation)), jnp.asarray(voting), sigma=sigma)
    for box, row, i in zip(found, voting, kept, strict=True):
        want = voted(boxes[i].tolist(), boxes[row].tolist(), deviation[row].tolist(), sigma)
        np.testing.assert_allclose(box, want, rtol=1e-5, atol=1e-4)  # float32
        assert sigma < 0.5 or not np.allclose(box, boxes[i], atol=0.1)


def test_a_box_that_is_alone_or_has_no_voter_stays():
    boxes, deviation, _ = crowd(0, 4)
    apart = jnp.asarray(boxes + 100 * np.arange(4)[:, None], jnp.float32)
    spread = jnp.asarray(deviation, jnp.float32)
    for voting in (jnp.ones((4, 4), bool), jnp.zeros((4, 4), bool)):
        np.testing.assert_array_equal(vote(apart, apart, spread, voting, sigma=0.02), apart)


def test_a_side_with_deviation_zero_determines_the_result_without_overflow():
    boxes = jnp.array([[1e4, 1e4, 1e4 + 10, 1e4 + 10], [1e4 + 1, 1e4, 1e4 + 10, 1e4 + 10]])
    found = vote(boxes[:1], boxes, jnp.array([[2.0] * 4, [0.0] * 4]), jnp.ones((1, 2), bool), sigma=0.02)
    np.testing.assert_allclose(found, boxes[1:], atol=0.01)


def test_a_sigma_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="sigma: expected a number above 0"):
        variance_voting(jnp.zeros((1, 4)), jnp.zeros((1, 4)), jnp.ones((1, 4)), jnp.ones((1, 1), bool), sigma=0)
