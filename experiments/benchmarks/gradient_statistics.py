"""Statistics of localization gradients: spread between batches and between boxes, and their ratios with intervals."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_pipeline import Batch
from ugs_jax import losses
from ugs_jax.detectors import Outputs, localize
from ugs_jax.detectors.architecture import Architecture
from ugs_jax.objectives import Localization
from ugs_jax.training.matching import Match, match

SIZES = {"lt32": (0.0, 32.0), "ge32": (32.0, np.inf), "all": (0.0, np.inf)}
MEASURES = ("between_positives", "between_boxes", "relative", "equal_total", "equal_large", "raw")


class Spread(NamedTuple):
    """Result of one probe for boxes of one size.

    Attributes:
      noise: Variance v of the gradient between batches.
      signal: Squared norm s of its mean.
      of_positives: (σ/μ)² of the norms of the gradients of single positives.
      of_boxes: (σ/μ)² of the norms of the gradients of boxes, each summed over its positives.
    """

    noise: float
    signal: float
    of_positives: float
    of_boxes: float


class Norms(NamedTuple):
    """Norms of gradients of the localization loss without UR; 0 without a positive.

    Attributes:
      positives: Norm of the gradient with respect to the raw outputs of a box, for the q candidates of every box on all
        levels.
      boxes: Norm of the gradient with respect to the features that a box is localized from, summed over its positives.
    """

    positives: Float[Array, "b m q"]
    boxes: Float[Array, "b m"]


Probes = dict[str, np.ndarray]  # by size: [probes, 4], rows are Spread


def sizes_of(batch: Batch) -> np.ndarray:
    """Return √area of every box, px."""
    sides = np.asarray(batch.boxes[..., 2:] - batch.boxes[..., :2], np.float64)
    return np.sqrt(np.maximum(sides, 0).prod(-1))


def restricted(batch: Batch, low: float, high: float) -> Batch:
    """Return a batch with the boxes of one size only."""
    size = sizes_of(batch)
    return batch._replace(mask=np.asarray(batch.mask) & (size >= low) & (size < high))


def shared(gradient: Any) -> Array:
    """Return a gradient without the localization layers as one vector. It has the same length for every method."""
    leaves = jax.tree_util.tree_leaves_with_path(gradient)
    kept = [leaf.ravel() for path, leaf in leaves if "localize" not in jax.tree_util.keystr(path)]
    return jnp.concatenate(kept)


def gradient_norms(
    outputs: Outputs, batch: Batch, localization: Localization, arch: Architecture, anchor_ratio_threshold: float
) -> Norms:
    """Return the norms of the gradients of every positive and every box."""
    squares, positives = jnp.zeros(batch.boxes.shape[:2]), []
    for level in match(outputs, batch, arch, anchor_ratio_threshold):
        b, m, k, a = level.positive.shape
        raw, back = jax.vjp(lambda features, level=level: localize(level.localizer, features), level.features())
        by_raw = jax.grad(_summed_loss)(raw, level, localization)  # [b, m, 3, a, outputs]
        (by_features,) = back(by_raw)  # [b, m, 3, c]
        squares += jnp.sum(jnp.square(by_features), axis=(-2, -1))
        positives.append(jnp.linalg.norm(by_raw, axis=-1).reshape(b, m, k * a))
    return Norms(jnp.concatenate(positives, axis=-1), jnp.sqrt(squares))


def _summed_loss(raw: Array, level: Match, localization: Localization) -> Array:
    return losses.masked_sum(localization.loss(raw, level.anchors, level.targets).loss, level.positive)


def probe(
    vector: Callable[[Batch], np.ndarray], norms: Callable[[Batch], Norms], batches: list[Batch]
) -> dict[str, Spread]:
    """Return the spread by size, over the batches that have boxes of the size.

    Sizes in fewer than two batches are left out.

    Args:
      vector: Function from a batch to the gradient of its localization loss.
      norms: Function from a batch to the norms of its gradients.
      batches: Batches of the probe.
    """
    spreads = {}
    norms_of_batches = [norms(batch) for batch in batches]
    sizes = [sizes_of(batch) for batch in batches]
    for name, (low, high) in SIZES.items():
        groups = [group for group in (restricted(batch, low, high) for batch in batches) if group.mask.any()]
        chosen = [(size >= low) & (size < high) for size in sizes]
        positives, boxes = (
            np.concatenate([_nonzero(own[kind], mask) for own, mask in zip(norms_of_batches, chosen, strict=True)])
            for kind in (0, 1)
        )
        if len(groups) > 1 and len(boxes) > 1:
            gradients = np.stack([np.asarray(vector(group), np.float64) for group in groups])
            mean = gradients.mean(axis=0)
            noise = float(np.sum((gradients - mean) ** 2)) / (len(groups) - 1)
            signal = float(mean @ mean) - noise / len(groups)
            spreads[name] = Spread(noise, signal, _inequality(positives), _inequality(boxes))
    return spreads


def _nonzero(norms: Array, mask: np.ndarray) -> np.ndarray:
    """Return the norms of the chosen boxes [b, m] that are not 0."""
    of_size = np.asarray(norms, np.float64)[mask]
    return of_size[of_size > 0]


def _inequality(norms: np.ndarray) -> float:
    return float(norms.var(ddof=1) / norms.mean() ** 2)


def collect(runs: list[list[dict[str, Spread]]]) -> Probes:
    """Return the probes of all seeds by size; NaN for probes without boxes of the size."""
    rows = [row for probes in runs for row in probes]
    nothing = Spread(np.nan, np.nan, np.nan, np.nan)
    return {name: np.array([row.get(name, nothing) for row in rows]) for name in SIZES}


def measures(probes: Probes, rows: np.ndarray) -> dict[str, dict[str, float]]:
    """Return all measures by size, computed from some of the probes."""
    total = {
        name: Spread(*np.nansum(values[rows, :2], axis=0), *np.nanmean(values[rows, 2:], axis=0))
        for name, values in probes.items()
    }
    power = {name: spread.noise + spread.signal for name, spread in total.items()}
    result: dict[str, dict[str, float]] = {}
    for name, spread in total.items():
        result[name] = {
            "between_positives": spread.of_positives,
            "between_boxes": spread.of_boxes,
            "relative": spread.noise / spread.signal if spread.signal > 0 else np.nan,
            "equal_total": _over(spread.noise, power["all"]),
            "equal_large": _over(spread.noise, power["ge32"]),
            "raw": spread.noise,
        }
    return result


def compare(numerator: Probes, denominator: Probes, draws: int = 1000) -> dict[str, dict[str, list[float | None]]]:
    """Return the ratios of all measures by size, as [ratio, low, high].

    Probes are resampled in pairs, because both methods use the same batches.
    """
    count = len(numerator["all"])
    rng = np.random.default_rng(0)
    samples = [np.arange(count), *rng.integers(0, count, (draws, count))]
    pairs = [(measures(numerator, rows), measures(denominator, rows)) for rows in samples]
    result: dict[str, dict[str, list[float | None]]] = {}
    for name in SIZES:
        result[name] = {}
        for measure in MEASURES:
            ratios = np.array([_over(above[name][measure], below[name][measure]) for above, below in pairs])
            finite = ratios[1:][np.isfinite(ratios[1:])]
            low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) > 0.95 * draws else (np.nan, np.nan)
            result[name][measure] = [_number(ratios[0]), _number(low), _number(high)]
    return result


def _over(above: float, below: float) -> float:
    return float(above / below) if below > 0 else float("nan")


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
