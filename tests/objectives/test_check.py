"""Objectives that cannot compute their loss are refused before a run begins."""

from functools import partial

import jax.numpy as jnp
import pytest

from ugs_jax import losses
from ugs_jax.objectives import DFL, UGS, BoxRegression, FittedGrid, SideRegression, SideUGS, check_objective


@pytest.mark.parametrize(
    "objective", [BoxRegression(), BoxRegression(losses.l2, space="offsets"), DFL(), UGS(), SideUGS(), SideRegression()]
)
def test_the_objectives_of_the_library_pass(objective):
    check_objective(objective)


def test_an_objective_that_is_yet_to_be_fitted_is_not_checked():
    check_objective(UGS(FittedGrid(), FittedGrid(), box_loss=partial(losses.nwd, constant="wide")))


def test_a_hyperparameter_of_a_wrong_kind_is_named_with_the_objective():
    with pytest.raises(ValueError, match=r"(?s)BoxRegression: its loss cannot be computed: .*constant='wide'"):
        check_objective(BoxRegression(partial(losses.nwd, constant="wide")))


def test_a_hyperparameter_that_the_loss_does_not_have_is_named():
    with pytest.raises(ValueError, match=r"its loss cannot be computed: TypeError: .*'beta'.*Fix: check the loss"):
        check_objective(DFL(box_loss=partial(losses.giou, beta=1.0)))


def test_a_loss_that_is_averaged_already_is_refused():
    with pytest.raises(ValueError, match=r"one loss for each box, .* got shape \(\).*leave the mean to the trainer"):
        check_objective(BoxRegression(lambda boxes, targets: jnp.mean(losses.ciou(boxes, targets))))
