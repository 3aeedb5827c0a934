"""Random predictions and objects for assigners, and their assignment as one value for each cell."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.flags import QUICKLY
from ugs_jax.detectors import Cells


def grid(height, width, strides):
    """Centres and strides of all cells, finest level first."""
    centers, units = [], []
    for stride in strides:
        for row in range(height // stride):
            for column in range(width // stride):
                centers.append(((column + 0.5) * stride, (row + 0.5) * stride))
                units.append(stride)
    return np.array(centers, np.float32), np.array(units, np.float32)


def scene(seed, objects=6, real=4, classes=3, strides=(8, 16), size=64):
    """Random predictions near random objects. The last rows are padding."""
    rng = np.random.default_rng(seed)
    center, stride = grid(size, size, strides)
    truth = rng.uniform(4, size - 24, (objects, 2)).repeat(2, 0).reshape(objects, 4).astype(np.float32)
    truth[:, :2] = rng.uniform(0, size - 24, (objects, 2))
    truth[:, 2:] = truth[:, :2] + rng.uniform(3, 24, (objects, 2))
    half = rng.uniform(2, 12, (len(center), 2))
    boxes = np.concatenate([center - half, center + half], 1).astype(np.float32)
    scores = rng.uniform(0.05, 0.95, (len(center), classes)).astype(np.float32)
    return (
        Cells(boxes, scores, center, stride, strides),
        truth,
        rng.integers(0, classes, objects),
        np.arange(objects) < real,
    )


def assign(rule, cells, truth, classes, mask):
    arrays = [jnp.asarray(part) for part in cells[:4]]
    return _assign(rule, cells.strides, arrays, *map(jnp.asarray, (truth, classes, mask)))


@functools.partial(jax.jit, static_argnums=(0, 1), compiler_options=QUICKLY)
def _assign(rule, strides, arrays, truth, classes, mask):
    return rule.assign(Cells(*arrays, strides), truth, classes, mask)


def dense(assignment, count):
    """Object and weight of every cell, and how often the cell is in a slot."""
    owner, target, used = np.full(count, -1), np.zeros(count), np.zeros(count, int)
    for cell, index, positive, weight in zip(*(np.asarray(part).ravel() for part in assignment), strict=True):
        if positive:
            owner[cell], target[cell] = index, weight
            used[cell] += 1
    return owner, target, used
