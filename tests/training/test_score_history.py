"""The history of scores: the best, the last, and the end of patience, worked out by hand."""

from dataclasses import replace

from tests.training.toy import toy_experiment
from ugs_jax.training.score_history import ScoreHistory


def history(patience, *scores):
    found = ScoreHistory(replace(toy_experiment(), patience=patience, epochs=9))
    return found, [found.note(2 * (i + 1), {"ap": ap}) for i, ap in enumerate(scores)]


def test_an_equal_or_missing_score_is_not_better_than_the_best():
    found, improved = history(None, 0.1, None, 0.1, 0.3, 0.2)
    assert improved == [True, False, False, True, False]
    assert (found.best, found.best_step, found.last) == ({"ap": 0.3}, 8, {"ap": 0.2})
    assert not found.out_of_patience


def test_patience_ends_after_so_many_evaluations_without_a_better_score():
    assert not history(2, 0.3, 0.2)[0].out_of_patience
    found, _ = history(2, 0.3, 0.2, 0.1)
    assert found.out_of_patience
    sentence = found.early_end(step=6, steps_per_epoch=2)
    assert "ended at epoch 3 of 9" in sentence
    assert "not better for 2 evaluations (patience 2). The best was at epoch 1." in sentence


def test_without_evaluations_nothing_ends():
    found, _ = history(1)
    assert not found.out_of_patience
    assert (found.best, found.last) == ({}, {})
