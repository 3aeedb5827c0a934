"""Properties of every localization objective, and independence from our detector."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.flags import QUICKLY
from tests.objectives.cases import (
    DTYPES,
    OBJECTIVES,
    REACHABLE,
    anchors,
    by_loops,
    offsets_by_hand,
    random_case,
    raw_for,
    results,
    rows,
)
from ugs_jax.boxes import Anchors, encode
from ugs_jax.objectives import (
    DFL,
    UGS,
    BoxRegression,
    DescribesDecoding,
    FitsToTargets,
    GuidesRefinement,
    LimitsTargets,
    Localization,
    PredictsDeviation,
    PredictsDistribution,
    SideRegression,
    SideUGS,
    StartsFromDistribution,
    StartsFromRegression,
    Terms,
)

every_objective = pytest.mark.parametrize("name", OBJECTIVES)
ABILITIES = (
    PredictsDeviation,
    GuidesRefinement,
    FitsToTargets,
    StartsFromRegression,
    StartsFromDistribution,
    PredictsDistribution,
    LimitsTargets,
    DescribesDecoding,
)


@every_objective
def test_raw_outputs_that_encode_a_target_decode_to_it(name):
    exact, _, targets = rows(name)
    # From 0, "small" and "up and left" are out of reach: both their sides are on one side of the cell.
    assert exact == len(REACHABLE) - (2 if name == "distribution from 0" else 0)
    terms, gradient, _ = results(name)[0]
    # float32 logits of size 1 to 6, through exponentials, on boxes of up to 30 px.
    np.testing.assert_allclose(terms.boxes[:exact], targets[:exact], atol=1e-4)
    objective = OBJECTIVES[name]
    if isinstance(objective, BoxRegression) and name != "dotd":
        np.testing.assert_allclose(terms.loss[:exact], 0, atol=1e-4)
    if isinstance(objective, (UGS, SideUGS)) and objective.um is None and not objective.box_weight:
        np.testing.assert_allclose(gradient[:exact], 0, atol=1e-6)  # cross entropy is least at its label


@every_objective
def test_boxes_equal_those_of_a_plain_loop(name):
    raw, terms, _ = random_case(name, "small")
    np.testing.assert_allclose(terms.boxes, by_loops(OBJECTIVES[name], raw), rtol=1e-5, atol=1e-5)


@every_objective
def test_values_and_gradients_are_finite_everywhere(name):
    for dtype, (terms, gradient, um) in zip(DTYPES[name], results(name), strict=True):
        assert gradient.dtype == dtype
        assert {leaf.dtype for leaf in jax.tree.leaves((terms, um))} == {np.dtype(np.float32)}
        for leaf in jax.tree.leaves((terms, gradient, um)):
            assert np.all(np.isfinite(leaf.astype(np.float32)))
        assert np.all(terms.loss >= -1e-6)
        assert np.all((terms.uncertainty >= 0) & (terms.uncertainty <= 1))
        assert np.all(terms.boxes[:, 2:] - terms.boxes[:, :2] >= 0)


@every_objective
def test_equal_settings_are_one_program_and_other_settings_another(name):
    objective = OBJECTIVES[name]
    traced = []

    @functools.partial(jax.jit, static_argnums=0)
    def decode(objective, raw):
        traced.append(objective)
        return objective.decode(raw, anchors(1))

    raw = jnp.zeros((1, objective.num_outputs))
    other = replace(objective, box_loss=lambda boxes, targets: boxes[..., 0] - targets[..., 0])
    for each in (objective, replace(objective), other):
        decode(each, raw)
    assert traced == [objective, other]


class Corner:
    """An objective of a user's own with the three members that it has to have, and no others."""

    num_outputs = 2

    def decode(self, raw, anchors):
        return jnp.concatenate([anchors.center + raw, anchors.center + raw + anchors.size], axis=-1)

    def loss(self, raw, anchors, targets):
        boxes = self.decode(raw, anchors)
        loss = jnp.sum(jnp.abs(boxes - targets), axis=-1)
        return Terms(loss, {}, jnp.zeros_like(loss), boxes)


@pytest.mark.parametrize(
    ("objective", "abilities"),
    [
        (SideUGS(), set(ABILITIES)),
        (UGS(), set(ABILITIES) - {StartsFromDistribution}),
        (DFL(), set(ABILITIES) - {GuidesRefinement, FitsToTargets}),
        (BoxRegression(), {DescribesDecoding}),
        (SideRegression(), {DescribesDecoding}),
        (Corner(), set()),
    ],
)
def test_an_objective_has_the_abilities_whose_members_it_has(objective, abilities):
    assert isinstance(objective, Localization)
    assert {ability for ability in ABILITIES if isinstance(objective, ability)} == abilities


@pytest.mark.parametrize("objective", [OBJECTIVES["smooth_l1"], OBJECTIVES["packed, entropy"], Corner()])
def test_objectives_serve_a_detector_that_refines_proposals(objective):
    """R-CNN style: anchors are boxes, offsets count in their sides, any leading axes, no feature map in sight."""
    proposals = jnp.array([[[10.0, 10.0, 30.0, 40.0], [50.0, 5.0, 58.0, 9.0]], [[0.0, 0.0, 4.0, 4.0]] * 2])
    targets = proposals + jnp.array([1.0, -1.0, 1.0, 0.5])
    around = Anchors.from_boxes(proposals)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def descend(raw):
        loss, gradient = jax.value_and_grad(lambda r: jnp.sum(objective.loss(r, around, targets).loss))(raw)
        return loss, raw - 0.1 * gradient

    raw = jnp.zeros((2, 2, objective.num_outputs))
    assert objective.decode(raw, around).shape == (2, 2, 4)
    before, raw = descend(raw)
    for _ in range(20):
        after, raw = descend(raw)
    assert after < before


def test_a_side_beyond_the_cells_centre_is_reached_only_from_a_negative_start():
    """A box smaller than a cell and off its centre has two sides on the same side of it."""
    target = REACHABLE["small"]  # its left side is 1 px to the right of the centre
    reached, beyond = DFL(bins=8, start=-1), DFL(bins=8, start=0)
    raw = jnp.array([raw_for(reached, target)])
    np.testing.assert_allclose(reached.decode(raw, anchors(1))[0], target, atol=1e-4)
    assert raw_for(beyond, target) is None
    nearest = beyond.decode(1e3 * jnp.eye(8)[jnp.array([[0, 0, 1, 1]])].reshape(1, -1), anchors(1))
    assert nearest[0, 0] == 20.0
    others = jnp.asarray(np.random.default_rng(0).normal(size=(50, 32)) * 30, jnp.float32)
    assert np.all(beyond.decode(others, anchors(50))[:, 0] <= 20.0)


def test_targets_are_encoded_as_the_codec_does():
    """The offsets that `offsets_by_hand` and `raw_for` are written with are those of `boxes.encode`."""
    first = jax.tree.map(lambda leaf: leaf[0], anchors(1))
    for box in REACHABLE.values():
        np.testing.assert_allclose(encode(jnp.array(box), first), offsets_by_hand(box), atol=1e-6)


def test_regressed_sides_are_distances_in_strides_and_may_be_negative():
    around = Anchors(jnp.array([20.0, 12.0]), jnp.ones(2), jnp.array([8.0, 8.0]))
    box = SideRegression().decode(jnp.array([1.0, -0.5, 2.0, 0.75]), around)
    np.testing.assert_allclose(box, [12, 16, 36, 18])
    crossed = SideRegression().decode(jnp.array([-1.0, 0.0, 0.5, 0.0]), around)
    np.testing.assert_allclose(crossed, [26, 12, 26, 12])  # between 28 and 24
    terms = SideRegression().loss(jnp.array([1.0, -0.5, 2.0, 0.75]), around, jnp.array([12.0, 16.0, 36.0, 18.0]))
    assert terms.loss == pytest.approx(0, abs=1e-5)
