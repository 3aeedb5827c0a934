"""Localization in blocks of candidates against the plain computation at all of them, with UR over the dense map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiling import QUICKLY
from ugs_jax import losses
from ugs_jax.detectors import (
    Interval,
    Level,
    Localizer,
    Regression,
    assign,
    candidate_anchors,
    gather,
    localize,
)
from ugs_jax.refinement import perturbation
from ugs_jax.training.objective import localization_terms

B, M, H, W, C = 2, 60, 12, 16, 5  # 180 candidate cells an image: two blocks
SIZES = np.array([[10, 13], [16, 30], [33, 23]], np.float32)


def scene(counts):
    rng = np.random.default_rng(0)
    center, sides = rng.uniform(0, [W * 8, H * 8], (B, M, 2)), rng.uniform(6, 60, (B, M, 2))
    boxes = jnp.asarray(np.concatenate([center - sides / 2, center + sides / 2], axis=-1))
    mask = rng.permuted(np.arange(M) < np.array(counts)[:, None], axis=1)  # boxes to learn lie anywhere among the rows
    found = assign(boxes, mask, SIZES, stride=8, shape=(H, W))
    targets = jnp.broadcast_to(boxes[:, :, None, None], (*found.positive.shape, 4))
    return found, candidate_anchors(found, SIZES, stride=8), targets


def plain_terms(level, localizer, localization, found, anchors, targets):
    terms = localization.loss(localize(localizer, gather(level.features, found.cell)), anchors, targets)
    if localization.refinement is None:
        return terms

    def uncertainty(features):
        raw = localize(jax.lax.stop_gradient(localizer), gather(features, found.cell))
        return losses.masked_sum(localization.uncertainty_loss(raw, anchors, targets), found.positive)

    moved = level.features + perturbation(uncertainty, level.features, radius=localization.refinement.radius)
    there = localization.loss(localize(localizer, gather(moved, found.cell)), anchors, targets)
    parts = {**terms.parts, "refinement": there.loss}
    return terms._replace(loss=terms.loss + localization.refinement.weight * there.loss, parts=parts)


@pytest.mark.parametrize("localization", [Interval(), Regression()], ids=["ugs", "ciou"])
def test_terms_and_gradients_at_positives_are_those_of_the_plain_computation(localization):
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        features = jnp.asarray(rng.normal(size=(B, H, W, C)))
        shape = (3, localization.num_outputs)
        localizer = Localizer(jnp.asarray(rng.normal(size=(C, *shape))), jnp.asarray(rng.normal(size=shape)))
        weights = jnp.asarray(rng.normal(size=(B, M, 3, 3)))

        def jitted(compute):
            def weighted(features, localizer, found, anchors, targets):
                level = Level(features, jnp.zeros((B, H, W, 3)), jnp.zeros((B, H, W, 3, 1)))
                terms = compute(level, localizer, localization, found, anchors, targets)
                box = found.positive[..., None]
                kept = jax.tree.map(lambda x: jnp.where(found.positive if x.ndim == 4 else box, x, 0), terms)
                return jnp.sum(weights * kept.loss) + jnp.sum(weights[..., None] * kept.boxes), kept

            return jax.jit(jax.grad(weighted, argnums=(0, 1), has_aux=True), compiler_options=QUICKLY)

        ours, plain = jitted(localization_terms), jitted(plain_terms)
        for counts in ((0, 0), (4, 0), (25, 60)):  # no block, one block, both blocks
            operands = (features, localizer, *scene(counts))
            # Equal up to the order of sums over a few hundred float64 terms of size 1 to 100.
            pairs = zip(jax.tree.leaves(ours(*operands)), jax.tree.leaves(plain(*operands)), strict=True)
            for one, other in pairs:
                assert one.dtype == jnp.float64
                np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)
