"""Box voting against loops over boxes and sides, and what holds for any votes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.flags import QUICKLY
from tests.reference.merging_by_hand import voted, voted_by_score
from ugs_jax.boxes import score_voting, variance_voting

by_variance, by_score = (
    jax.jit(vote, static_argnames="sigma", compiler_options=QUICKLY) for vote in (variance_voting, score_voting)
)
seeds = st.integers(0, 2**32 - 1)


def crowd(seed, n=30):
    """Boxes, deviations, classes, scores."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 30, (n, 2))
    boxes = np.concatenate([low, low + rng.uniform(4, 20, (n, 2))], 1)
    return boxes, rng.uniform(0.1, 3, (n, 4)), rng.integers(0, 2, n), rng.uniform(0, 1, n)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sigma", [0.02, 0.5])
@pytest.mark.parametrize("kind", ["variance", "score"])
def test_votes_are_those_of_the_loops(kind, seed, sigma):
    boxes, deviation, labels, scores = crowd(seed)
    vote, loops, said = (by_variance, voted, deviation) if kind == "variance" else (by_score, voted_by_score, scores)
    kept = np.arange(0, 30, 3)
    voting = labels[kept][:, None] == labels
    found = vote(*map(jnp.float32, (boxes[kept], boxes, said)), jnp.asarray(voting), sigma=sigma)
    for box, row, i in zip(found, voting, kept, strict=True):
        want = loops(boxes[i].tolist(), boxes[row].tolist(), said[row].tolist(), sigma)
        np.testing.assert_allclose(box, want, rtol=1e-5, atol=1e-4)  # float32
        assert sigma < 0.5 or not np.allclose(box, boxes[i], atol=0.1)


@pytest.mark.parametrize("kind", ["variance", "score"])
def test_a_box_that_is_alone_or_has_no_voter_stays(kind):
    boxes, deviation, _, scores = crowd(0, 4)
    vote, said = (by_variance, deviation) if kind == "variance" else (by_score, scores)
    apart = jnp.asarray(boxes + 100 * np.arange(4)[:, None], jnp.float32)
    for voting in (jnp.ones((4, 4), bool), jnp.zeros((4, 4), bool)):
        np.testing.assert_array_equal(vote(apart, apart, jnp.float32(said), voting, sigma=0.02), apart)


def test_votes_without_score_do_not_count_and_a_box_with_no_others_stays():
    boxes = jnp.array([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [0.0, 2.0, 10.0, 12.0]])
    every = jnp.ones((1, 3), bool)
    np.testing.assert_array_equal(by_score(boxes[:1], boxes, jnp.array([0.0, 0.5, 0.0]), every, sigma=0.5), boxes[1:2])
    np.testing.assert_array_equal(by_score(boxes[:1], boxes, jnp.zeros(3), every, sigma=0.5), boxes[:1])


def test_a_side_with_deviation_zero_determines_the_result_without_overflow():
    boxes = jnp.array([[1e4, 1e4, 1e4 + 10, 1e4 + 10], [1e4 + 1, 1e4, 1e4 + 10, 1e4 + 10]])
    found = by_variance(boxes[:1], boxes, jnp.array([[2.0] * 4, [0.0] * 4]), jnp.ones((1, 2), bool), sigma=0.02)
    np.testing.assert_allclose(found, boxes[1:], atol=0.01)


@given(seeds, st.sampled_from([0.02, 0.5]))
def test_a_box_that_scores_move_stays_among_its_voters(seed, sigma):
    """A mean with weights of at least 0 lies between the least and the greatest; 1e-5 px is rounding at 50 px."""
    boxes, _, labels, scores = crowd(seed)
    kept = np.arange(0, 30, 6)
    voting = labels[kept][:, None] == labels
    found = np.asarray(by_score(*map(jnp.float32, (boxes[kept], boxes, scores)), jnp.asarray(voting), sigma=sigma))
    for box, row in zip(found, voting, strict=True):
        assert np.all(box >= boxes[row].min(axis=0) - 1e-5)
        assert np.all(box <= boxes[row].max(axis=0) + 1e-5)
        assert np.all(box[2:] > box[:2])


@given(seeds)
def test_the_order_of_voters_and_a_factor_on_their_scores_do_not_matter(seed):
    boxes, _, labels, scores = crowd(seed)
    kept = np.arange(0, 30, 6)
    voting = labels[kept][:, None] == labels
    order = np.random.default_rng(seed).permutation(30)
    first, other = (
        by_score(jnp.float32(boxes[kept]), *map(jnp.float32, (boxes[i], factor * scores[i])), voting[:, i], sigma=0.5)
        for i, factor in ((np.arange(30), 1.0), (order, 3.0))
    )
    np.testing.assert_allclose(other, first, atol=1e-5)  # 30 terms added in another order, in float32


@pytest.mark.parametrize("vote", [variance_voting, score_voting])
def test_a_sigma_that_is_not_positive_is_refused(vote):
    said = jnp.ones((1, 4)) if vote is variance_voting else jnp.ones(1)
    with pytest.raises(ValueError, match="sigma: expected a number above 0"):
        vote(jnp.zeros((1, 4)), jnp.zeros((1, 4)), said, jnp.ones((1, 1), bool), sigma=0)
