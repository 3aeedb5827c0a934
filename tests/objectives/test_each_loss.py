"""The loss of each objective against one that is written down by hand for a single box."""

import functools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tests.flags import QUICKLY
from tests.objectives.cases import (
    OBJECTIVES,
    PACKED,
    REACHABLE,
    UNIFORM,
    anchors,
    by_loops,
    distances_by_hand,
    offsets_by_hand,
    points_of,
    random_case,
)
from tests.reference import localization_by_hand as by_hand
from tests.reference import losses_by_hand
from tests.reference.labels_by_hand import interval_grid
from ugs_jax import losses
from ugs_jax.boxes import Anchors
from ugs_jax.objectives import DFL, UGS, BoxRegression, Grid, GridPoints, SideUGS, Uncertainty, d_fine_grid


def of_kind(kind):
    return pytest.mark.parametrize("name", [name for name, item in OBJECTIVES.items() if isinstance(item, kind)])


@of_kind(BoxRegression)
def test_a_regression_loss_is_that_of_its_name_on_boxes_or_offsets(name):
    objective, target = OBJECTIVES[name], REACHABLE["small"]
    raw, terms, _ = random_case(name, "small")
    box = by_loops(objective, raw)
    if objective.space == "boxes":
        want = getattr(losses_by_hand, name)(box, target)
    else:
        offsets = [offsets_by_hand(b) for b in (box, target)]
        want = getattr(losses_by_hand, name)(*offsets)
    assert float(terms.loss) == pytest.approx(want, rel=1e-4)
    assert list(terms.parts) == ["regression"]
    assert float(terms.uncertainty) == 0


@of_kind(DFL)
def test_distribution_loss_is_dfl_over_the_log_of_the_bins_plus_the_box_loss(name):
    objective, target = OBJECTIVES[name], REACHABLE["large"]
    raw, terms, _ = random_case(name, "large")
    sides = distances_by_hand(target)
    pairs = list(zip(by_hand.rows(raw), (side - objective.start for side in sides), strict=True))
    dfl = np.mean([losses_by_hand.distribution_focal(*pair) for pair in pairs])
    box = getattr(losses_by_hand, objective.box_loss.__name__)(by_loops(objective, raw), target)
    want = objective.box_weight * box + objective.dfl_weight * dfl / math.log(8)
    assert float(terms.parts["dfl"]) == pytest.approx(dfl, rel=1e-5)
    assert float(terms.parts["regression"]) == pytest.approx(box, rel=1e-5)
    assert float(terms.loss) == pytest.approx(want, rel=1e-5)
    entropies = [losses_by_hand.entropy(row) for row, _ in pairs]
    assert float(terms.uncertainty) == pytest.approx(np.mean(entropies) / math.log(8), rel=1e-5)


def test_sides_that_cross_collapse_to_a_point_between_them():
    toward = jnp.full((4, 8), -100.0).at[jnp.arange(4), jnp.array([0, 0, 0, 2])].set(100.0)
    box = DFL(bins=8, start=-1).decode(toward.reshape(1, -1), anchors(1))
    # x: left side at 20 + 8, right side at 20 − 8; y: 12 + 8 to 12 + 8
    np.testing.assert_allclose(box, [[20.0, 20.0, 20.0, 20.0]], atol=1e-4)


def ugs_by_hand(objective, raw, target):
    """Cross entropy, L_UM and box loss."""
    logits = by_hand.rows(raw)
    if isinstance(objective, SideUGS):
        parameters, grids = distances_by_hand(target), [points_of(objective)] * 4
    else:
        parameters = offsets_by_hand(target)
        grids = [interval_grid(g.alpha, g.beta, g.n) for g in (*[objective.center] * 2, *[objective.size] * 2)]
    triples = list(zip(logits, parameters, grids, strict=True))
    um = [losses_by_hand.entropy(row) for row in logits]
    if objective.um is not None and objective.um.mode == "match":
        um = [losses_by_hand.entropy_gap(*triple) for triple in triples]
    cross_entropy = [losses_by_hand.interval_cross_entropy(*triple) for triple in triples]
    box = getattr(losses_by_hand, objective.box_loss.__name__)(by_loops(objective, raw), target)
    return sum(cross_entropy) / 4, sum(um) / 4, box


@of_kind((UGS, SideUGS))
def test_ugs_is_cross_entropy_and_um_over_the_log_of_the_points_plus_the_box_loss(name):
    objective = OBJECTIVES[name]
    raw, terms, um = random_case(name, "large")
    want = dict(
        zip(("cross_entropy", "um", "regression"), ugs_by_hand(objective, raw, REACHABLE["large"]), strict=True)
    )
    assert float(um) == pytest.approx(want["um"], rel=1e-5)
    factor = 0.0 if objective.um is None else objective.um.weight
    total = objective.weight * (want["cross_entropy"] + factor * want["um"]) / math.log(9)
    total += objective.box_weight * want["regression"]
    assert float(terms.loss) == pytest.approx(total, rel=1e-5)
    trained = {"cross_entropy": True, "um": objective.um is not None, "regression": objective.box_weight > 0}
    assert set(terms.parts) == {part for part, on in trained.items() if on}
    for part, value in terms.parts.items():
        assert float(value) == pytest.approx(want[part], rel=1e-5)
    entropies = [losses_by_hand.entropy(row) for row in by_hand.rows(raw)]
    assert float(terms.uncertainty) == pytest.approx(np.mean(entropies) / math.log(9), rel=1e-5)


def test_ugs_as_printed_is_cross_entropy_plus_half_the_entropy_in_nats():
    objective = UGS.as_printed()
    assert (objective.center, objective.size) == (Grid(2.0, 1.0, 10), Grid(2.0, 1.0, 10))
    assert (objective.refinement.radius, objective.refinement.weight) == (0.5, 0.1)
    targets = [*REACHABLE.values()]
    raw = np.random.default_rng(0).normal(size=(len(targets), 44))
    terms = objective.loss(jnp.asarray(raw, jnp.float32), anchors(len(targets)), jnp.array(targets))
    assert set(terms.parts) == {"cross_entropy", "um"}
    for loss, row, target in zip(terms.loss, raw, targets, strict=True):
        cross_entropy, entropy, _ = ugs_by_hand(objective, row.tolist(), target)
        assert float(loss) == pytest.approx(cross_entropy + 0.5 * entropy, rel=1e-5)


POINTS = GridPoints((-0.7, -0.2, 0.0, 0.1, 0.5, 3.0))
UNINFORMED = {
    "uniform": UGS(UNIFORM, UNIFORM, um=None),
    "packed": UGS(PACKED, Grid(1.5, 0.3, 8), um=None),
    "points": UGS(POINTS, POINTS, um=None),
    "two points": UGS(Grid(1.0, n=1), Grid(1.0, n=1), um=None),
    "D-FINE's": UGS(d_fine_grid(9), d_fine_grid(9), um=None),
    "the default": UGS(um=None),
    "UM that matches nothing": UGS(um=Uncertainty(weight=0.0)),
    "sides": SideUGS(um=None),
    "DFL": DFL(),
    "DFL of 2 bins": DFL(bins=2),
    "DFL of 33 bins from −5": DFL(bins=33, start=-5),
}


@pytest.mark.parametrize("name", UNINFORMED)
def test_without_its_box_loss_a_head_that_knows_nothing_has_a_loss_of_its_weight(name):
    """Cross entropy of equal probabilities against labels that sum to 1 is the log of their number."""
    weight = "dfl_weight" if isinstance(UNINFORMED[name], DFL) else "weight"
    objective = replace(UNINFORMED[name], box_weight=0.0, **{weight: 0.75})
    targets = jnp.array([*REACHABLE.values()])
    loss = objective.loss(jnp.full((len(targets), objective.num_outputs), 3.0), anchors(len(targets)), targets).loss
    np.testing.assert_allclose(loss, 0.75, rtol=1e-5)


def test_the_cross_entropy_gradient_is_bounded_whatever_the_size_of_the_box():
    objective = UGS(PACKED, PACKED, um=None, weight=math.log(9), box_weight=0.0)
    rng = np.random.default_rng(0)
    side = 10 ** rng.uniform(-4, 5, (4000, 2))
    low = rng.uniform(-1e4, 1e4, (4000, 2))
    targets = jnp.asarray(np.concatenate([low, low + side], -1), jnp.float32)
    raw = jnp.asarray(rng.normal(size=(4000, 36)) * 10 ** rng.uniform(-1, 3, (4000, 1)), jnp.float32)
    around = Anchors.from_boxes(targets[::-1])

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def gradient(raw):
        return jax.grad(lambda r: jnp.sum(objective.loss(r, around, targets).loss))(raw)

    largest = float(jnp.max(jnp.abs(gradient(raw))))
    assert largest <= 0.25 * (1 + 1e-6)
    assert largest > 0.2  # and comes near the bound


@pytest.mark.parametrize("name", ["packed, match", "sides, match"])
def test_derivatives_of_the_loss_to_second_order_are_those_of_differences(name):
    objective = replace(OBJECTIVES[name], box_loss=losses.giou)  # CIoU holds a factor constant
    with jax.enable_x64(True):
        raw = jnp.asarray(np.random.default_rng(5).normal(size=(1, objective.num_outputs)))
        around, target = anchors(1, jnp.float64), jnp.array([REACHABLE["large"]], jnp.float64)
        function = jax.jit(lambda raw: objective.loss(raw, around, target).loss)
        check_grads(function, (raw,), order=2, modes=["rev"], rtol=1e-5, atol=1e-6)
