"""Weights of the classes: by the effective number of boxes, or given."""

from dataclasses import replace

import numpy as np
import pytest

from tests.data_pipeline.test_balance import dataset
from tests.training.toy import toy_experiment
from ugs_jax.experiment import LossWeights, balanced_weights, with_class_weights

DATA = dataset([0, 0, 0], [0, 1], [0, 2, 2])  # 5 of class 0, 1 of class 1, 2 of class 2, none of class 3


def weighted(given):
    return with_class_weights(replace(toy_experiment(), loss_weights=LossWeights(class_weights=given)), DATA)


@pytest.mark.parametrize("counts", [[5, 1, 2], [100_000, 3000, 1]])
def test_balanced_weights_are_inverse_to_the_geometric_series_of_the_boxes(counts):
    effective = np.array([sum(0.9999**i for i in range(n)) for n in counts])  # 1 + β + β² + …, n terms
    got = balanced_weights(np.array(counts))
    np.testing.assert_allclose(got * effective, got[0] * effective[0], rtol=1e-6)
    assert np.dot(got, counts) == pytest.approx(sum(counts))  # a mean of 1 over the boxes


def test_a_class_without_boxes_has_no_influence_on_the_others():
    got = balanced_weights(np.array([5, 0, 2]))
    np.testing.assert_allclose(got[[0, 2]], balanced_weights(np.array([5, 2])))
    assert got[1] == 1


def test_a_config_gets_a_number_for_every_class():
    assert weighted("balanced").loss_weights.class_weights == tuple(balanced_weights(np.array([5, 1, 2, 0])))
    assert weighted((1.0, 2.0, 0.0, 1.0)).loss_weights.class_weights == (1.0, 2.0, 0.0, 1.0)
    assert weighted(None).loss_weights == LossWeights()


def test_weights_that_do_not_suit_are_refused():
    with pytest.raises(ValueError, match=r"each of the 4 classes \(common, rare, rarest, nowhere\), got 2"):
        weighted((1.0, 2.0))
    with pytest.raises(ValueError, match=r"expected numbers of at least 0, got \(1.0, -1.0\)"):
        LossWeights(class_weights=(1.0, -1.0))
