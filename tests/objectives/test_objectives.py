"""Properties of every localization objective, and independence from our detector."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.flags import QUICKLY
from tests.reference import localization_by_hand as by_hand
from tests.reference import losses_by_hand
from tests.reference.labels_by_hand import interval_grid, two_hot
from ugs_jax import losses
from ugs_jax.boxes import Anchors, encode
from ugs_jax.objectives import DFL, UGS, BoxRegression, Grid, Localization, Refinement, Uncertainty

UNIFORM, PACKED = Grid(2.0, 0.0, 8), Grid(2.0, 1.0, 8)
OBJECTIVES: dict[str, Localization] = {
    **{name: BoxRegression(getattr(losses, name), space="offsets") for name in ("l1", "smooth_l1", "l2")},
    **{
        name: BoxRegression(getattr(losses, name))
        for name in ("iou_loss", "log_iou", "giou", "diou", "ciou", "nwd", "dotd")
    },
    "distribution from 0": DFL(bins=8, box_weight=2.0, dfl_weight=0.25),
    "distribution from −1": DFL(bins=8, start=-1, box_loss=losses.giou),
    "uniform": UGS(UNIFORM, UNIFORM, um=None, refinement=None),
    "uniform, entropy": UGS(UNIFORM, PACKED, um=Uncertainty("entropy"), refinement=Refinement()),
    "uniform, match": UGS(UNIFORM, UNIFORM, um=Uncertainty("match"), refinement=None),
    "packed": UGS(PACKED, PACKED, um=None, refinement=Refinement()),
    "packed, entropy": UGS(PACKED, Grid(3.0, 0.5, 8)),
    "packed, match": UGS(PACKED, PACKED, um=Uncertainty("match", weight=1.0)),
}
INTERVALS = {name: item for name, item in OBJECTIVES.items() if isinstance(item, UGS)}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)

CENTER, SIZE, UNIT = np.array([[20.0, 12.0]]), np.array([[6.0, 9.0]]), np.array([[8.0, 8.0]])

# A cell at (20, 12), stride 8, anchor 6×9, and targets that it may meet.
REACHABLE = {
    "the anchor itself": [17.0, 7.5, 23.0, 16.5],
    "small": [21.0, 12.0, 23.0, 15.0],
    "large": [10.0, 2.0, 31.0, 30.0],
    "up and left": [12.0, 4.0, 18.0, 11.0],
    "integer corners": [18.0, 9.0, 24.0, 18.0],
}
SINGULAR = {
    "no width": [20.0, 8.0, 20.0, 16.0],
    "a point": [20.0, 12.0, 20.0, 12.0],
    "a point elsewhere": [3.0, 3.0, 3.0, 3.0],
    "padding": [0.0, 0.0, 0.0, 0.0],
    "far outside the grid": [900.0, 900.0, 904.0, 904.0],
    "1e4 px": [0.0, 0.0, 1e4, 1e4],
    "reversed": [24.0, 18.0, 18.0, 9.0],
}

TARGETS = {**REACHABLE, **SINGULAR}
DTYPES = dict.fromkeys(OBJECTIVES, (jnp.float32, jnp.float16))  # and bfloat16, once for each kind of objective
for kind in ("l2", "ciou", "distribution from −1", "packed, entropy", "packed, match"):
    DTYPES[kind] += (jnp.bfloat16,)


def anchors(count, dtype=jnp.float32):
    return Anchors(*(jnp.asarray(np.broadcast_to(part, (count, 2)), dtype) for part in (CENTER, SIZE, UNIT)))


def logit(share):
    return math.log(share / (1 - share))


def log(label):
    return [math.log(p) if p > 0 else -200.0 for p in label]


def raw_for(objective, box):
    """The raw outputs that decode to `box`, in Python floats; `None` if the objective cannot express it."""
    center, size, unit = CENTER[0], SIZE[0], UNIT[0]
    x, y, w, h = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]
    shift = [(x - center[0]) / unit[0], (y - center[1]) / unit[1]]
    if isinstance(objective, BoxRegression):
        gates = [1 + t for t in shift] + [math.sqrt(w / size[0]), math.sqrt(h / size[1])]
        return [logit(gate / 2) for gate in gates]
    if isinstance(objective, DFL):
        sides = [center[0] - box[0], center[1] - box[1], box[2] - center[0], box[3] - center[1]]
        points = [objective.start + i for i in range(objective.bins)]
        distance = [side / u for side, u in zip(sides, [*unit, *unit], strict=True)]
        if min(distance) < points[0] or max(distance) > points[-1]:
            return None
        return [z for d in distance for z in log(two_hot(d, points))]
    grids = [interval_grid(g.alpha, g.beta, g.n) for g in (*[objective.center] * 2, *[objective.size] * 2)]
    offsets = [*shift, math.log(w / size[0]), math.log(h / size[1])]
    return [z for t, grid in zip(offsets, grids, strict=True) for z in log(two_hot(t, grid))]


def by_loops(objective, raw):
    center, size, unit = CENTER[0].tolist(), SIZE[0].tolist(), UNIT[0].tolist()
    if isinstance(objective, BoxRegression):
        return by_hand.regression(raw, center, size, unit)
    if isinstance(objective, DFL):
        return by_hand.distribution(raw, center, unit, objective.start)
    grids = [interval_grid(g.alpha, g.beta, g.n) for g in (objective.center, objective.size)]
    return by_hand.interval(raw, center, size, unit, *grids)


@functools.cache
def rows(name):
    """Raw outputs × targets: those that decode to a target exactly, then random, zero and saturated ones."""
    objective = OBJECTIVES[name]
    exact = [(raw, box) for box in REACHABLE.values() if (raw := raw_for(objective, box)) is not None]
    rng = np.random.default_rng(0)
    others = [rng.normal(size=objective.num_outputs), np.zeros(objective.num_outputs)]
    others += [rng.choice([-3e4, 3e4], objective.num_outputs), np.full(objective.num_outputs, -3e4)]
    pairs = [*exact, *((raw, box) for raw in others for box in TARGETS.values())]
    return len(exact), *(np.array(side, np.float32) for side in zip(*pairs, strict=True))


@functools.cache
def results(name):
    """Terms, gradient of their sum and L_UM for `rows`, with raw outputs in each precision; one program."""
    objective = OBJECTIVES[name]
    _, raw, targets = rows(name)

    def evaluate(raw):
        def total(raw):
            terms = objective.loss(raw, anchors(len(raw)), jnp.asarray(targets))
            return jnp.sum(terms.loss), terms

        gradient, terms = jax.grad(total, has_aux=True)(raw)
        return terms, gradient, objective.uncertainty_loss(raw, anchors(len(raw)), jnp.asarray(targets))

    inputs = [jnp.asarray(raw, dtype) for dtype in DTYPES[name]]
    return jax.device_get(jax.jit(lambda inputs: [evaluate(raw) for raw in inputs], compiler_options=QUICKLY)(inputs))


def random_case(name, target):
    """Random raw outputs (a list), what the objective says of them against a target, and its L_UM."""
    exact, raw, _ = rows(name)
    index = exact + list(TARGETS).index(target)
    terms, _, um = results(name)[0]
    return raw[index].tolist(), jax.tree.map(lambda leaf: leaf[index], terms), um[index]


@every_objective
def test_raw_outputs_that_encode_a_target_decode_to_it(name):
    exact, _, targets = rows(name)
    beyond = (
        2 if name == "distribution from 0" else 0
    )  # "small" and "up and left" have both sides on one side of the cell
    assert exact == len(REACHABLE) - beyond
    terms, gradient, _ = results(name)[0]
    # float32 logits of size 1 to 6, through exponentials, on boxes of up to 30 px.
    np.testing.assert_allclose(terms.boxes[:exact], targets[:exact], atol=1e-4)
    if isinstance(OBJECTIVES[name], BoxRegression) and name != "dotd":
        np.testing.assert_allclose(terms.loss[:exact], 0, atol=1e-4)
    if isinstance(OBJECTIVES[name], UGS) and OBJECTIVES[name].um is None:
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


@pytest.mark.parametrize("name", [name for name, item in OBJECTIVES.items() if isinstance(item, BoxRegression)])
def test_a_regression_loss_is_that_of_its_name_on_boxes_or_offsets(name):
    objective, target = OBJECTIVES[name], REACHABLE["small"]
    raw, terms, um = random_case(name, "small")
    box = by_loops(objective, raw)
    if objective.space == "boxes":
        want = getattr(losses_by_hand, name)(box, target)
    else:
        offsets = [offsets_by_hand(b) for b in (box, target)]
        want = getattr(losses_by_hand, name)(*offsets)
    assert float(terms.loss) == pytest.approx(want, rel=1e-4)
    assert list(terms.parts) == ["regression"]
    assert (float(terms.uncertainty), float(um)) == (0, 0)
    assert objective.refinement is None


def offsets_by_hand(box):
    (cx, cy), (w, h), (ux, uy) = CENTER[0], SIZE[0], UNIT[0]
    x, y = ((box[0] + box[2]) / 2 - cx) / ux, ((box[1] + box[3]) / 2 - cy) / uy
    return [x, y, math.log((box[2] - box[0]) / w), math.log((box[3] - box[1]) / h)]


@pytest.mark.parametrize("name", ["distribution from 0", "distribution from −1"])
def test_distribution_loss_is_dfl_over_the_sides_plus_the_box_loss(name):
    objective, target = OBJECTIVES[name], REACHABLE["large"]
    raw, terms, um = random_case(name, "large")
    sides = [(20 - target[0]) / 8, (12 - target[1]) / 8, (target[2] - 20) / 8, (target[3] - 12) / 8]
    pairs = list(zip(by_hand.rows(raw), (side - objective.start for side in sides), strict=True))
    dfl = np.mean([losses_by_hand.distribution_focal(*pair) for pair in pairs])
    box = getattr(losses_by_hand, objective.box_loss.__name__)(by_loops(objective, raw), target)
    assert float(terms.parts["dfl"]) == pytest.approx(dfl, rel=1e-5)
    assert float(terms.loss) == pytest.approx(objective.box_weight * box + objective.dfl_weight * dfl, rel=1e-5)
    entropies = [losses_by_hand.entropy(row) for row, _ in pairs]
    assert float(terms.uncertainty) == pytest.approx(np.mean(entropies) / math.log(objective.bins), rel=1e-5)
    assert float(um) == 0
    assert objective.refinement is None


def first(tree):
    return jax.tree.map(lambda leaf: leaf[0], tree)


def test_a_side_beyond_the_cells_centre_is_reached_only_from_a_negative_start():
    """A box smaller than a cell and off its centre has two sides on the same side of it."""
    target = [21.0, 12.0, 23.0, 15.0]
    assert raw_for(DFL(start=0), target) is None
    assert raw_for(DFL(start=-1), target) is not None


def test_sides_that_cross_collapse_to_a_point_between_them():
    toward = jnp.full((4, 8), -100.0).at[jnp.arange(4), jnp.array([0, 0, 0, 2])].set(100.0)
    box = DFL(bins=8, start=-1).decode(toward.reshape(1, -1), anchors(1))
    # x: left side at 20 + 8, right side at 20 − 8; y: 12 + 8 to 12 + 8
    np.testing.assert_allclose(box, [[20.0, 20.0, 20.0, 20.0]], atol=1e-4)


@pytest.mark.parametrize("name", INTERVALS)
def test_interval_loss_is_cross_entropy_plus_weighted_um_over_the_four_parameters(name):
    objective = INTERVALS[name]
    raw, terms, got = random_case(name, "large")
    target = REACHABLE["large"]
    logits, offsets = by_hand.rows(raw), offsets_by_hand(target)
    grids = [interval_grid(g.alpha, g.beta, g.n) for g in (*[objective.center] * 2, *[objective.size] * 2)]
    triples = list(zip(logits, offsets, grids, strict=True))
    cross_entropy = np.mean([losses_by_hand.interval_cross_entropy(*triple) for triple in triples])
    entropies = [losses_by_hand.entropy(row) for row in logits]
    um = np.mean(entropies)
    if objective.um is not None and objective.um.mode == "match":
        um = np.mean([losses_by_hand.entropy_gap(*triple) for triple in triples])
    weight = 0.0 if objective.um is None else objective.um.weight
    assert float(terms.parts["cross_entropy"]) == pytest.approx(cross_entropy, rel=1e-5)
    assert float(terms.loss) == pytest.approx(cross_entropy + weight * um, rel=1e-5)
    assert list(terms.parts) == (["cross_entropy"] if objective.um is None else ["cross_entropy", "um"])
    assert float(terms.uncertainty) == pytest.approx(np.mean(entropies) / math.log(9), rel=1e-5)
    assert float(got) == pytest.approx(um, rel=1e-5)


def test_the_cross_entropy_gradient_is_bounded_whatever_the_size_of_the_box():
    objective = UGS(PACKED, PACKED, um=None)
    rng = np.random.default_rng(0)
    side = 10 ** rng.uniform(-4, 5, (4000, 2))
    low = rng.uniform(-1e4, 1e4, (4000, 2))
    targets = jnp.asarray(np.concatenate([low, low + side], -1), jnp.float32)
    raw = jnp.asarray(rng.normal(size=(4000, 36)) * 10 ** rng.uniform(-1, 3, (4000, 1)), jnp.float32)
    around = Anchors.from_boxes(targets[::-1])
    gradient = jax.jit(jax.grad(lambda r: jnp.sum(objective.loss(r, around, targets).loss)), compiler_options=QUICKLY)(
        raw
    )
    assert float(jnp.max(jnp.abs(gradient))) <= 0.25 * (1 + 1e-6)
    assert float(jnp.max(jnp.abs(gradient))) > 0.2  # and comes near the bound


@pytest.mark.parametrize("name", ["smooth_l1", "packed, entropy"])
def test_objectives_work_in_a_detector_that_refines_proposals(name):
    """R-CNN style: anchors are boxes, offsets count in their sides, any leading axes, no feature map in sight."""
    objective = OBJECTIVES[name]
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


@every_objective
def test_every_objective_is_a_hashable_value_that_fulfils_the_protocol(name):
    objective = OBJECTIVES[name]
    assert isinstance(objective, Localization)
    assert len({objective, objective}) == 1
    assert objective.num_outputs % 4 == 0


def test_targets_are_encoded_as_the_codec_does():
    """The offsets that `offsets_by_hand` and `raw_for` are written with are those of `boxes.encode`."""
    for box in REACHABLE.values():
        np.testing.assert_allclose(encode(jnp.array(box), first(anchors(1))), offsets_by_hand(box), atol=1e-6)
