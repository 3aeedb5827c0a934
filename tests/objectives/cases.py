"""Objectives, boxes that they may meet, and what they say of raw outputs: shared by the tests of objectives."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from tests.flags import QUICKLY
from tests.reference import localization_by_hand as by_hand
from tests.reference.labels_by_hand import interval_grid, two_hot
from ugs_jax import losses
from ugs_jax.boxes import Anchors
from ugs_jax.objectives import (
    DFL,
    UGS,
    BoxRegression,
    Grid,
    GridPoints,
    GuidesRefinement,
    Localization,
    Refinement,
    SideUGS,
    Uncertainty,
)

UNIFORM, PACKED = Grid(2.0, 0.0, 8), Grid(2.0, 1.0, 8)
SIDES = GridPoints((-1.0, 0.0, 0.3, 0.7, 1.2, 2.0, 3.5, 5.0, 7.0))
OBJECTIVES: dict[str, Localization] = {
    **{name: BoxRegression(getattr(losses, name), space="offsets") for name in ("l1", "smooth_l1", "l2")},
    **{
        name: BoxRegression(getattr(losses, name))
        for name in ("iou_loss", "log_iou", "giou", "diou", "ciou", "nwd", "dotd")
    },
    "distribution from 0": DFL(bins=8, box_weight=2.0, dfl_weight=0.25),
    "distribution from −1": DFL(bins=8, start=-1, box_loss=losses.giou),
    "uniform": UGS(UNIFORM, UNIFORM, um=None, refinement=None, box_weight=0.0),
    "uniform, entropy": UGS(UNIFORM, PACKED, um=Uncertainty("entropy"), refinement=Refinement()),
    "uniform, match": UGS(UNIFORM, UNIFORM, um=Uncertainty("match"), refinement=None, weight=2.0, box_weight=0.25),
    "packed": UGS(PACKED, PACKED, um=None, refinement=Refinement(), box_loss=losses.giou),
    "packed, entropy": UGS(PACKED, Grid(3.0, 0.5, 8)),
    "packed, match": UGS(PACKED, PACKED, um=Uncertainty("match", weight=1.0)),
    "packed, box alone": UGS(PACKED, PACKED, um=None, weight=0.0, box_loss=losses.nwd, box_weight=1.5),
    "sides": SideUGS(grid=SIDES, um=None, box_weight=0.0),
    "sides, match": SideUGS(grid=SIDES, um=Uncertainty("match", weight=1.0)),
    "sides, entropy": SideUGS(grid=Grid(4.0, 0.5, 8), um=Uncertainty("entropy"), box_loss=losses.giou, box_weight=0.25),
}
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
for kind in ("l2", "ciou", "distribution from −1", "packed, entropy", "packed, match", "sides, match"):
    DTYPES[kind] += (jnp.bfloat16,)


def anchors(count, dtype=jnp.float32):
    return Anchors(*(jnp.asarray(np.broadcast_to(part, (count, 2)), dtype) for part in (CENTER, SIZE, UNIT)))


def logit(share):
    return math.log(share / (1 - share))


def log(label):
    return [math.log(p) if p > 0 else -200.0 for p in label]


def points_of(objective):
    """Support points of an objective of distances, in units."""
    if isinstance(objective, DFL):
        return [objective.start + i for i in range(objective.bins)]
    grid = objective.grid
    return list(grid.positions) if isinstance(grid, GridPoints) else interval_grid(grid.alpha, grid.beta, grid.n)


def raw_for(objective, box):
    """The raw outputs that decode to `box`, in Python floats; `None` if the objective cannot express it."""
    center, size, unit = CENTER[0], SIZE[0], UNIT[0]
    x, y, w, h = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]
    shift = [(x - center[0]) / unit[0], (y - center[1]) / unit[1]]
    if isinstance(objective, BoxRegression):
        gates = [1 + t for t in shift] + [math.sqrt(w / size[0]), math.sqrt(h / size[1])]
        return [logit(gate / 2) for gate in gates]
    if isinstance(objective, (DFL, SideUGS)):
        points, distance = points_of(objective), distances_by_hand(box)
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
    if isinstance(objective, (DFL, SideUGS)):
        return by_hand.distribution(raw, center, unit, points_of(objective))
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
    """Terms, gradient of their sum and L_UM, if there is one, for `rows` in each precision; one program."""
    objective = OBJECTIVES[name]
    _, raw, targets = rows(name)

    def evaluate(raw):
        def total(raw):
            terms = objective.loss(raw, anchors(len(raw)), jnp.asarray(targets))
            return jnp.sum(terms.loss), terms

        gradient, terms = jax.grad(total, has_aux=True)(raw)
        um = None
        if isinstance(objective, GuidesRefinement):
            um = objective.uncertainty_loss(raw, anchors(len(raw)), jnp.asarray(targets))
        return terms, gradient, um

    inputs = [jnp.asarray(raw, dtype) for dtype in DTYPES[name]]
    return jax.device_get(jax.jit(lambda inputs: [evaluate(raw) for raw in inputs], compiler_options=QUICKLY)(inputs))


def random_case(name, target):
    """Random raw outputs (a list), what the objective says of them against a target, and its L_UM, if it has one."""
    exact, raw, _ = rows(name)
    index = exact + list(TARGETS).index(target)
    terms, _, um = results(name)[0]
    return raw[index].tolist(), *jax.tree.map(lambda leaf: leaf[index], (terms, um))


def offsets_by_hand(box):
    (cx, cy), (w, h), (ux, uy) = CENTER[0], SIZE[0], UNIT[0]
    x, y = ((box[0] + box[2]) / 2 - cx) / ux, ((box[1] + box[3]) / 2 - cy) / uy
    return [x, y, math.log((box[2] - box[0]) / w), math.log((box[3] - box[1]) / h)]


def distances_by_hand(box):
    (cx, cy), (ux, uy) = CENTER[0], UNIT[0]
    return [(cx - box[0]) / ux, (cy - box[1]) / uy, (box[2] - cx) / ux, (box[3] - cy) / uy]
