"""Small detectors with different weights in every layer, to test files and the matching of weights."""

import functools

import jax
import numpy as np

from ugs_jax.detectors import COCO_ANCHORS, Architecture, Detector, YOLOv5
from ugs_jax.objectives import BoxRegression

P2_ANCHORS = (((4.0, 5.0), (8.0, 10.0), (13.0, 11.0)), *COCO_ANCHORS)


@functools.cache  # it traces its shapes once
def detector(size="p", p2=False, classes=3, localization=None, anchors=None, network=YOLOv5, p2_joins=True):
    anchors = anchors or (P2_ANCHORS if p2 else COCO_ANCHORS)
    arch = Architecture(size, p2, classes, anchors, network=network, p2_joins=p2_joins)
    return Detector(arch, localization or BoxRegression())


def drawn(network, seed):
    """Parameters and statistics in the shapes of `init`, every number drawn; variances are positive."""
    rng, arch = np.random.default_rng(seed), network.full_arch
    outputs = {"score": arch.network.has_objectness + arch.classes, "localize": arch.num_outputs}

    def draw(path, leaf):
        shape, words = leaf.shape, [key.key for key in path]
        if words[0] == "heads" and words[2] in outputs:
            shape = (*shape[:-1], len(arch.anchors[words[1]]) * outputs[words[2]])
        return rng.normal(size=shape).astype(np.float32)

    # Traced once for all that differ in the width of their heads.
    shared = {"network": arch.network, "p2_joins": arch.p2_joins}
    traced = network if arch.second_stage or arch.quality else detector(arch.size, arch.p2, **shared)
    params, stats = traced.shapes()
    params, stats = (jax.tree_util.tree_map_with_path(draw, tree) for tree in (params, stats))
    return params, jax.tree.map(np.exp, stats)


def same(one, other):
    """Whether two trees are equal to the bit."""
    leaves = jax.tree.map(lambda a, b: np.array_equal(a, b), one, other)
    return all(jax.tree.leaves(leaves))
