"""Diagnosis of a form that does not hold: a constant factor, a region, or a kink."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ugs_jax.curvature.smoothness import Derivatives

_ORDERS = ("value", "slope", "second derivative")


def diagnose(
    samples: Mapping[str, np.ndarray],
    form: np.ndarray,
    derivatives: Derivatives,
    holds: np.ndarray,
    variable: str | None,
) -> str:
    """Return in one line why a form does not hold; empty if it holds.

    Args:
      samples: Values by variable, [count, …].
      form: Values of the form.
      derivatives: Derivatives by autodiff, which the form is compared with.
      holds: True where the form is within its tolerance and autodiff is reliable, [count].
      variable: Variable of differentiation.
    """
    wanted, finite, jumps = derivatives
    findings = []
    if not finite.all():
        findings.append(f"the loss is not finite at {_share(~finite)} of the samples{_where(samples, ~finite)}")
    if (kinks := finite & (jumps >= 0)).any():
        first = int(np.argmax(kinks))
        location = f"near {variable} = {_short(samples[variable][first])}" if variable else "somewhere"
        findings.append(
            f"the loss has a kink {location}, where its {_ORDERS[jumps[first]]} jumps and autodiff takes one side or a "
            f"mean: {_share(kinks)} of the samples lie on one"
        )
    sound = finite & (jumps < 0)
    if (wrong := sound & ~holds).any():
        findings.append(_of_form(samples, form, wanted, sound, wrong))
    return "; ".join(findings)


def _of_form(
    samples: Mapping[str, np.ndarray], form: np.ndarray, wanted: np.ndarray, sound: np.ndarray, wrong: np.ndarray
) -> str:
    if (factor := _constant_ratio(form[sound], wanted[sound])) is not None:
        return f"form/autodiff is {factor:.4g} at all samples"
    chosen = {name: values[sound] for name, values in samples.items()}
    share = 1 - wrong.sum() / sound.sum()
    if share == 0:
        return "the form holds at none of the samples, and form/autodiff is not constant"
    text = f"the form holds at {share:.1%} of the samples and fails at the others{_where(chosen, wrong[sound])}"
    if (factor := _constant_ratio(form[wrong], wanted[wrong])) is not None:
        text += f"; there form/autodiff is {factor:.4g}"
    return text


def _constant_ratio(form: np.ndarray, wanted: np.ndarray) -> float | None:
    """Return the factor between a form and autodiff if it is the same for all samples and entries, else None."""
    flat, reference = form.reshape(len(form), -1), wanted.reshape(len(wanted), -1)
    with np.errstate(all="ignore"):
        square = np.sum(reference**2, axis=1)
        ratio = np.sum(flat * reference, axis=1) / square
        rest = np.linalg.norm(flat - ratio[:, None] * reference, axis=1) / np.linalg.norm(flat, axis=1)
    known = square > 0
    ratio, rest = ratio[known], np.where(np.abs(ratio[known]) > 0, rest[known], 0)
    if not len(ratio) or not np.isfinite(ratio).all() or not (rest < 1e-6).all() or np.any(flat[~known]):
        return None
    factor = float(np.median(ratio))
    return factor if np.ptp(ratio) <= 1e-6 * max(abs(factor), 1e-6) else None


def _where(samples: Mapping[str, np.ndarray], marked: np.ndarray) -> str:
    """Return a condition that separates the marked samples with at most 2 % of mistakes; empty if none does."""
    count, total = len(marked), int(marked.sum())
    best, condition = 0.02 * min(total, count - total), ""
    for name, values in _features(samples):
        order = np.argsort(values, kind="stable")
        ranked = values[order]
        left = np.cumsum(marked[order])[:-1]  # marked ones below a threshold after 1, 2, … samples
        mistakes = left + np.arange(count - 1, 0, -1) - (total - left)
        for wrong, relation in ((mistakes, ">"), (count - mistakes, "<")):
            wrong = np.where(ranked[1:] > ranked[:-1], wrong, count)
            if (fewest := wrong.min(initial=count)) < best:
                best, at = float(fewest), int(np.argmin(wrong))
                condition = f", where {_compared(name, relation, _between(ranked[at], ranked[at + 1]))}"
    return condition


def _features(samples: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """Return the numbers by which samples may be separated, simple ones first."""
    single = []
    for name, values in samples.items():
        flat = values.reshape(len(values), -1)
        single += [(name if values.ndim == 1 else f"{name}[{i}]", flat[:, i]) for i in range(flat.shape[1])]
    single = [(name, values) for name, values in single if np.isfinite(values).all()][:12]
    pairs = [(f"{a} − {b}", x - y) for (a, x), (b, y) in itertools.combinations(single, 2)]
    return [*single, *((f"|{name}|", np.abs(values)) for name, values in single), *pairs]


def _compared(name: str, relation: str, threshold: str) -> str:
    left, minus, right = name.partition(" − ")
    return f"{left} {relation} {right}" if minus and threshold == "0" else f"{name} {relation} {threshold}"


def _between(low: float, high: float) -> str:
    """Return the shortest number between two numbers."""
    if low <= 0 <= high:
        return "0"
    middle = (low + high) / 2
    return next((text for digits in range(1, 17) if low <= float(text := f"{middle:.{digits}g}") <= high), f"{middle}")


def _share(marked: np.ndarray) -> str:
    return f"{marked.mean():.1%}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if np.ndim(value) == 0 else np.array2string(value, precision=4, separator=", ")
