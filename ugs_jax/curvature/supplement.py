"""Numbered equations of the supplement, in the printed form and in the form that agrees with autodiff.

Sun et al., "Uncertainty-Aware Gradient Stabilization for Small Object Detection", ICCV 2025.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ugs_jax.curvature.equations import Domain, Equation, Form, derivative

# Losses of the supplement.


def l2_centre(x: Array, x_hat: Array, w_a: Array) -> Array:
    """Return Eq. 1: the squared difference of the centres, in widths of the anchor."""
    return ((x - x_hat) / w_a) ** 2


def l2_from_anchor(x: Array, x_hat: Array, x_a: Array, w_a: Array) -> Array:
    """Return (T − T̂)² with T = (x − x_a)/w_a, which Eq. 1 equals."""
    return l2_encoded((x - x_a) / w_a, (x_hat - x_a) / w_a)


def l2_encoded(t: Array, t_hat: Array) -> Array:
    """Return Eq. 1 as a function of the encoded centre T = (x − x_a)/w_a."""
    return (t - t_hat) ** 2


def l2_width(w: Array, w_hat: Array) -> Array:
    """Return the squared log ratio of the widths. Eqs. 5 and 6 are its derivatives."""
    return jnp.log(w / w_hat) ** 2


def overlap(x: Array, x_hat: Array, w: Array) -> tuple[Array, Array]:
    """Return I and U of Eq. 7: overlap and union of two equal squares shifted along one axis, divided by their side."""
    intersection = jnp.maximum(0.0, w - jnp.abs(x - x_hat))
    return intersection, 2 * w - intersection


def log_iou(x: Array, x_hat: Array, w: Array) -> Array:
    """Return Eq. 7: −ln(I/U)."""
    intersection, union = overlap(x, x_hat, w)
    return -jnp.log(intersection / union)


def squares_log_iou(x: Array, x_hat: Array, w: Array) -> Array:
    """Return −ln IoU of the two squares, from their areas. Eq. 7 divides both areas by the side."""
    side_by_side = jnp.minimum(x, x_hat) + w / 2 - (jnp.maximum(x, x_hat) - w / 2)
    intersection = jnp.maximum(side_by_side, 0.0) * w
    return jnp.log(2 * w * w - intersection) - jnp.log(intersection)


# Domains: sizes from 0.5 to 2000 px, shifts from a millionth to 0.999 of the side, in both directions.


def _log_uniform(rng: np.random.Generator, low: float, high: float, count: int) -> np.ndarray:
    return np.exp(rng.uniform(np.log(low), np.log(high), count))


def _shifted(low: float, high: float) -> Domain:
    def draw(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        width = _log_uniform(rng, 0.5, 2000.0, count)
        shift = width * _log_uniform(rng, low, high, count) * rng.choice([-1.0, 1.0], count)
        x = rng.uniform(-1.0, 1.0, count) * width
        return {"x": x, "x_hat": x + shift, "w": width}

    return draw


overlapping = _shifted(1e-6, 0.999)
nearly_equal = _shifted(1e-6, 1e-4)


def _anchored(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    drawn = overlapping(rng, count)
    return {"x": drawn["x"], "x_hat": drawn["x_hat"], "w_a": drawn["w"]}


def _with_anchor(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    drawn = _anchored(rng, count)
    return {**drawn, "x_a": drawn["x"] + drawn["w_a"] * rng.uniform(-1.0, 1.0, count)}


def _encoded(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    drawn = overlapping(rng, count)
    return {"t": drawn["x"] / drawn["w"], "t_hat": drawn["x_hat"] / drawn["w"]}


def _widths(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    return {"w": _log_uniform(rng, 0.5, 2000.0, count), "w_hat": _log_uniform(rng, 0.5, 2000.0, count)}


def _sign(x: Array, x_hat: Array) -> Array:
    return jnp.sign(x - x_hat)


def _scale_exponents(x: Array, x_hat: Array, w: Array) -> Array:
    """Return the exponents d log|f| / d log w at a fixed shift, for f the gradient and the Hessian of −ln IoU by x̂."""
    gradient = derivative(log_iou, "x_hat", 1)
    hessian = derivative(log_iou, "x_hat", 2)

    def exponent(form: Form) -> Array:
        return w * jax.grad(lambda side: jnp.log(jnp.abs(form(x=x, x_hat=x_hat, w=side))))(w)

    return jnp.stack([exponent(gradient), exponent(hessian)])


def _exact_exponents(x: Array, x_hat: Array, w: Array) -> Array:
    square, shift = w**2, (x - x_hat) ** 2
    return jnp.stack([-(square + shift), -(3 * square + shift)]) / (square - shift)


def _log_iou_gradient(x: Array, x_hat: Array, w: Array) -> Array:
    return -2 * w / (w**2 - (x - x_hat) ** 2) * _sign(x, x_hat)


def _eq8(x: Array, x_hat: Array, w: Array) -> Array:
    intersection, union = overlap(x, x_hat, w)
    return -(1 / union + intersection / union**2) * _sign(x, x_hat)


def _eq8_exact(x: Array, x_hat: Array, w: Array) -> Array:
    intersection, union = overlap(x, x_hat, w)
    return -(1 / intersection + 1 / union) * _sign(x, x_hat)


def _eq9(x: Array, x_hat: Array, w: Array) -> Array:
    d = jnp.abs(x - x_hat)
    return (1 / (w + d) + (w - d) / (w + d) ** 2) * _sign(x, x_hat)


def _eq10(x: Array, x_hat: Array, w: Array) -> Array:
    return 4 * w / (w**2 - (x - x_hat) ** 2) ** 2


def _eq10_exact(x: Array, x_hat: Array, w: Array) -> Array:
    return 4 * w * jnp.abs(x - x_hat) / (w**2 - (x - x_hat) ** 2) ** 2


SUPPLEMENT: tuple[Equation, ...] = (
    Equation(
        number="1",
        title="L2 of the centre",
        loss=l2_from_anchor,
        order=0,
        exact=lambda x, x_hat, w_a: l2_centre(x, x_hat, w_a),
        printed=lambda x, x_hat, w_a: l2_centre(x, x_hat, w_a),
        domain=_with_anchor,
        remark="agrees: a definition, checked against (T − T̂)² at any anchor",
        latex=r"\left(\frac{x - \hat x}{w_a}\right)^2",
        latex_printed=r"\left(\frac{x - \hat x}{w_a}\right)^2",
    ),
    Equation(
        number="2",
        title="∂L2/∂T̂",
        loss=l2_encoded,
        variable="t_hat",
        order=1,
        exact=lambda t, t_hat: 2 * (t_hat - t),
        printed=lambda t, t_hat: 2 * (t - t_hat),
        domain=_encoded,
        remark="the sign is flipped: descending along it would move away from the target",
        latex=r"2(\hat T_x - T_x)",
        latex_printed=r"2(T_x - \hat T_x)",
    ),
    Equation(
        number="3",
        title="∂²L2/∂T̂²",
        loss=l2_encoded,
        variable="t_hat",
        order=2,
        exact=lambda t_hat: jnp.full_like(t_hat, 2.0),
        printed=lambda t_hat: jnp.full_like(t_hat, 2.0),
        domain=_encoded,
        remark="agrees",
        latex="2",
        latex_printed="2",
    ),
    Equation(
        number="4",
        title="∂²L2/∂x̂²",
        loss=l2_centre,
        variable="x_hat",
        order=2,
        exact=lambda w_a: 2 / w_a**2,
        printed=lambda w_a: 2 / w_a**2,
        domain=_anchored,
        unit="1/px²",
        remark="agrees",
        latex=r"\frac{2}{w_a^2}",
        latex_printed=r"\frac{2}{w_a^2}",
    ),
    Equation(
        number="5",
        title="∂L2/∂ŵ",
        loss=l2_width,
        variable="w_hat",
        order=1,
        exact=lambda w, w_hat: -2 / w_hat * jnp.log(w / w_hat),
        printed=lambda w, w_hat: 2 * jnp.log(w / w_hat) * (-1 / w_hat),
        domain=_widths,
        unit="1/px",
        remark="agrees",
        latex=r"-\frac{2}{\hat w}\log\frac{w}{\hat w}",
        latex_printed=r"2\log\left(\frac{w}{\hat w}\right)\left(-\frac{1}{\hat w}\right)",
    ),
    Equation(
        number="6",
        title="∂²L2/∂ŵ²",
        loss=l2_width,
        variable="w_hat",
        order=2,
        exact=lambda w, w_hat: 2 / w_hat**2 * (1 + jnp.log(w / w_hat)),
        printed=lambda w, w_hat: 2 / w_hat**2 + 2 / w_hat**2 * jnp.log(w / w_hat),
        domain=_widths,
        unit="1/px²",
        remark="agrees; negative for ŵ > e·w: L2 of a log size is not convex in the size",
        latex=r"\frac{2}{\hat w^2}\left(1 + \log\frac{w}{\hat w}\right)",
        latex_printed=r"\frac{2}{\hat w^2} + \frac{2}{\hat w^2}\log\frac{w}{\hat w}",
    ),
    Equation(
        number="7",
        title="−ln IoU of shifted squares",
        loss=squares_log_iou,
        order=0,
        exact=log_iou,
        printed=log_iou,
        domain=overlapping,
        remark="agrees: a definition, checked against the overlap of the squares' areas",
        latex=r"-\ln\frac{w - d}{w + d}",
        latex_printed=r"-\ln\frac{I}{U}",
    ),
    Equation(
        number="8",
        title="∂(−ln IoU)/∂x̂ by I and U",
        loss=log_iou,
        variable="x_hat",
        order=1,
        exact=_eq8_exact,
        printed=_eq8,
        domain=overlapping,
        unit="1/px",
        remark="the gradient of 1 − I/U, not of −ln(I/U): too small by the factor IoU",
        latex=r"-\left(\frac{1}{I} + \frac{1}{U}\right)\operatorname{sign}(x - \hat x)",
        latex_printed=r"-\left(\frac{1}{U} + \frac{I}{U^2}\right)\frac{\partial I}{\partial\hat x}",
    ),
    Equation(
        number="9",
        title="∂(−ln IoU)/∂x̂ by w and d",
        loss=log_iou,
        variable="x_hat",
        order=1,
        exact=_log_iou_gradient,
        printed=_eq9,
        domain=overlapping,
        unit="1/px",
        remark="as in Eq. 8, the magnitude is that of 1 − I/U; the sign is flipped as well",
        latex=r"-\frac{2w}{w^2 - d^2}\operatorname{sign}(x - \hat x)",
        latex_printed=r"\left(\frac{1}{w + d} + \frac{w - d}{(w + d)^2}\right)\operatorname{sign}(x - \hat x)",
    ),
    Equation(
        number="10",
        title="∂²(−ln IoU)/∂x̂²",
        loss=log_iou,
        variable="x_hat",
        order=2,
        exact=_eq10_exact,
        printed=_eq10,
        domain=overlapping,
        unit="1/px²",
        remark="the factor d is missing, so its unit is 1/px³; at d → 0 the Hessian vanishes, the kink (4/w) remains",
        latex=r"\frac{4wd}{(w^2 - d^2)^2}",
        latex_printed=r"\frac{4w}{(w^2 - d^2)^2}",
    ),
    Equation(
        number="11",
        title="growth with 1/w: exponents of gradient and Hessian",
        loss=log_iou,
        reference=_scale_exponents,
        exact=_exact_exponents,
        printed=lambda: jnp.array([-1.0, -3.0]),
        domain=nearly_equal,
        remark="agrees in the limit it is meant for, a fixed d ≪ w (here d ≤ w/10⁴); at a fixed d/w: 1/w and 1/w²",
        latex=r"\left(-\frac{w^2 + d^2}{w^2 - d^2},\; -\frac{3w^2 + d^2}{w^2 - d^2}\right)",
        latex_printed=r"(-1,\; -3)",
        tolerance=1e-7,
    ),
)
"""Every numbered equation of the supplement."""
