"""Small detectors with weights that no layer has twice, for tests of files and of what fits where."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ugs_jax.detectors import COCO_ANCHORS, Architecture, Detector, Regression

P2_ANCHORS = (((4.0, 5.0), (8.0, 10.0), (13.0, 11.0)), *COCO_ANCHORS)


@functools.cache  # it traces its shapes once
def detector(size="p", p2=False, classes=3, localization=None, anchors=None):
    arch = Architecture(size, p2, classes, anchors or (P2_ANCHORS if p2 else COCO_ANCHORS))
    return Detector(arch, localization or Regression())


def drawn(network, seed):
    """Parameters and statistics in the shapes of `init`, every number drawn; variances are positive."""
    rng = np.random.default_rng(seed)
    params, stats = network.shapes()
    draw = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32)  # noqa: E731
    return jax.tree.map(draw, params), jax.tree.map(lambda leaf: jnp.exp(draw(leaf)), stats)


def same(one, other):
    """Whether two trees are equal to the bit."""
    leaves = jax.tree.map(lambda a, b: np.array_equal(a, b), one, other)
    return all(jax.tree.leaves(leaves))
