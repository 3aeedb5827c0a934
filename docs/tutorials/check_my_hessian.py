"""Check my Hessian: compare a derivative worked out on paper with automatic differentiation over a wide domain.

    python docs/tutorials/check_my_hessian.py

`ugs verify FILE` checks the same list in a file of yours. It exits 0 only if every form holds.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from ugs_jax import curvature, losses
from ugs_jax.curvature import Equation, closed_forms, table, verify

# 1. The loss is the squared log of the ratio of areas. Its derivative by the predicted width ŵ is, on paper,
#    ∂/∂ŵ = 2 log(ŵĥ/(wh)) / ŵ. The second one was worked out in haste: ∂²/∂ŵ² = 2/ŵ².


def log_area(predicted_w, h, w):
    """Return (log ŵ·h − log w·h)², dimensionless."""
    return (jnp.log(predicted_w * h) - jnp.log(w * h)) ** 2


def draw(rng, count):
    """Draw sides from 0.5 to 2000 px, and predictions up to e times too small or too large."""
    w, h = np.exp(rng.uniform(np.log(0.5), np.log(2000), (2, count)))
    return {"predicted_w": w * np.exp(rng.uniform(-1, 1, count)), "w": w, "h": h}


hasty = Equation(
    number="mine",
    title="∂²/∂ŵ² of the squared log ratio of areas",
    loss=log_area,
    variable="predicted_w",
    order=2,
    exact=lambda predicted_w: 2 / predicted_w**2,
    domain=draw,
    unit="1/px²",
)
(verdict,) = verify([hasty])
print(table([verdict]), "\nworst at", verdict.worst, "\n")
assert not verdict.exact_holds

# 2. The product rule was forgotten: the numerator depends on ŵ, too.
right = replace(
    hasty,
    exact=lambda predicted_w, w: 2 * (1 - jnp.log(predicted_w / w)) / predicted_w**2,
    printed=hasty.exact,  # checked as well, like the supplement's printed forms
    bound=lambda predicted_w: 4 / predicted_w**2,  # because no prediction is smaller than w/e
    remark="lacks the derivative of the logarithm",
)
(verdict,) = verify([right])
print(table([verdict]), "\n")
assert verdict.exact_holds
assert verdict.bound_holds
assert not verdict.printed_holds

# 3. Hessians of whole boxes, for any loss of boxes, in float64, while the session stays in float32.
rng = np.random.default_rng(0)
corner, sides = rng.uniform(0, 600, (1000, 2)), np.exp(rng.uniform(np.log(4), np.log(64), (1000, 2)))
targets = np.concatenate([corner, corner + sides], axis=1)
boxes = targets + rng.uniform(-0.1, 0.1, targets.shape) * np.tile(sides, 2)
exact = curvature.in_double(lambda b, t: curvature.hessian_by_autodiff(losses.log_iou, b, t), boxes, targets)
formula = curvature.in_double(closed_forms.log_iou, boxes, targets)
print("−ln IoU of 1000 boxes, autodiff against closed form:", np.abs(exact - formula).max())
np.testing.assert_allclose(exact, formula, rtol=1e-9, atol=1e-12)
assert exact.dtype == np.float64
assert not jax.config.jax_enable_x64

# 4. The largest curvature stays below the bound 22/s², with s the short side, which `ugs verify` prints in row A2.
steepest = np.linalg.eigvalsh(exact)[:, -1]
short = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
for low, high in ((4, 8), (8, 16), (16, 32), (32, 80)):
    of_size = (short >= low) & (short < high)
    print(f"short side {low:2d}–{high:2d} px: largest curvature {steepest[of_size].max():.3f} / px²")
assert (steepest <= 22 / short**2).all()
