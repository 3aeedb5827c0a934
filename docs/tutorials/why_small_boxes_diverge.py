"""Why small boxes diverge: train boxes of 4 to 64 px at one learning rate, as 2/curvature predicts.

    python docs/tutorials/why_small_boxes_diverge.py [PICTURE]

With PICTURE, the script also draws the figure of `ugs curvature` into that file.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ugs_jax import boxes, curvature, losses
from ugs_jax.labels import expectation, interval_grid
from ugs_jax.stabilize import stabilize_loss

WIDTHS = np.array([4.0, 8.0, 16.0, 32.0, 64.0], np.float32)
STEPS = 400

# The targets are squares at the origin. Predictions are a quarter of a width too far right and 20 % too large.
sides = np.stack([WIDTHS, WIDTHS], axis=1)
targets = jnp.asarray(np.concatenate([-sides / 2, sides / 2], axis=1))
start = targets * 1.2 + jnp.asarray(WIDTHS)[:, None] / 4 * jnp.array([1.0, 0.0, 1.0, 0.0])


def l2(predicted: jax.Array, target: jax.Array) -> jax.Array:
    """Return L2 in anchor encoding with the target as anchor: Σ (Δcentre/w)² + Σ log²(ŵ/w), [..., 4] px → [...]."""
    return losses.l2(boxes.encode(predicted, boxes.Anchors.from_boxes(target)), jnp.zeros(4))


def descend(loss, rate: float) -> np.ndarray:
    """Return the IoU of every box with its target after STEPS of gradient descent in px; NaN counts as 0."""
    gradient = jax.grad(lambda b: loss(b, targets).sum())
    final = jax.jit(lambda b: jax.lax.fori_loop(0, STEPS, lambda _, b: b - rate * gradient(b), b))(start)
    return np.nan_to_num(np.asarray(boxes.iou(final, targets)))


# 1. Before the first step, 2/curvature is the highest learning rate that a box tolerates. It grows by 4 with each size.
steepest = curvature.eigenvalues(l2, start, targets)[:, -1]
limits = 2 / np.asarray(steepest)
print("width, px        ", *(f"{w:8.0f}" for w in WIDTHS))
print("2/curvature, px² ", *(f"{limit:8.1f}" for limit in limits))
np.testing.assert_allclose(limits[1:] / limits[:-1], 4, rtol=1e-4)

# 2. A rate that is safe for the smallest box hardly moves the largest. A rate that trains the largest makes the small
#    ones diverge.
safe, fast = 0.2 * float(limits[0]), 0.2 * float(limits[-1])
slow, wild = descend(l2, safe), descend(l2, fast)
print(f"IoU, rate {safe:6.2f} ", *(f"{iou:8.2f}" for iou in slow))
print(f"IoU, rate {fast:6.2f} ", *(f"{iou:8.2f}" for iou in wild))
assert slow[0] > 0.95 > slow[-1]
assert wild[-1] > 0.95
assert wild[0] < 0.5

# 3. The same rate works for all boxes if the gradient of each is limited by its own exact Hessian.
limited = descend(stabilize_loss(l2, max_curvature=1 / fast), fast)
print("  … each limited ", *(f"{iou:8.2f}" for iou in limited))
assert (limited > 0.95).all()

# 4. UGS trains logits over a grid of offsets. The gradient is p − p* and the curvature at most ½, for any width.
#    (The grid is the paper's, and its unit is the anchor's side.)
grid = interval_grid(alpha=2.0, beta=1.0, n=10)
anchors = boxes.Anchors.from_boxes(start)
offsets = boxes.encode(targets, anchors)
ugs = jax.grad(lambda z: losses.interval_cross_entropy(z, offsets, grid).sum())
logits = jax.jit(lambda z: jax.lax.fori_loop(0, STEPS, lambda _, z: z - 1.0 * ugs(z), z))(jnp.zeros((5, 4, grid.size)))
final = boxes.decode(expectation(jax.nn.softmax(logits), grid), anchors)
found = np.asarray(boxes.iou(final, targets))
print("IoU, UGS, rate 1 ", *(f"{iou:8.2f}" for iou in found))
np.testing.assert_allclose(found, found[0], rtol=1e-3)  # the same for every width
assert found.min() > 0.9

if len(sys.argv) > 1:
    from ugs_jax.report import plot_wells

    print("picture:", plot_wells(Path(sys.argv[1])))
