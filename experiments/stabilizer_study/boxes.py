"""Single boxes of 4 to 256 px, fitted together by gradient descent under one learning rate.

    python -m experiments.stabilizer_study.boxes --file runs/stabilizer_boxes.json

The command takes about a quarter of an hour on an idle core. The last line is JSON and is also written to the file.

Every size has an anchor, a square of that size, where all methods start. Every size has several targets: half of them
are shifted by up to 0.3 of the size and resized by up to e^±0.3, and half are shifted by exactly 1 px along both axes
and not resized. Parameters:

- `px`: (cx, cy, w, h) in px, as in the supplement, where the curvatures of L2 and −ln IoU grow as boxes shrink;
- `offsets`: (cx/a, cy/a, log w/a, log h/a) from the anchor of side a, as detectors predict them;
- UGS: 4 × 11 logits on the IN grid of ±2 anchor sides, with cross entropy + ½ entropy gap. The start is the same box,
  as the mean of a uniform distribution.

All losses are summed over boxes, and for UGS over the four parameters. A learning rate is *stable* if the loss of every
box stays finite and ends below its start. It *reaches* the target if, in addition, the mean IoU of every size ends at
0.9 or more. The end is the last tenth of the steps. A range is the longest sequence of neighbouring learning rates that
all succeed (`ranges`).
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Float

from experiments.stabilizer_study.descent import Arm, Problem, Trajectories, descend
from experiments.stabilizer_study.ranges import first_to_stay, reached, stable, widest
from ugs_jax import boxes as bx
from ugs_jax import losses
from ugs_jax.labels import expectation, interval_grid, two_hot

SIZES = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)  # px
TARGET = 0.9  # IoU
GRID = interval_grid(2, 1, 10)

Name = Literal["L2 px", "−ln IoU px", "CIoU px", "L2 offsets", "−ln IoU offsets", "CIoU offsets", "UGS logits"]
NAMES: tuple[Name, ...] = (
    "L2 px", "−ln IoU px", "CIoU px", "L2 offsets", "−ln IoU offsets", "CIoU offsets", "UGS logits",
)  # fmt: skip
ARMS = {
    "plain": Arm(),
    "per box": Arm(per_box=1.0),
    "per box, 1/30": Arm(per_box=1 / 30),
    "global": Arm(every=1),
    "global, half": Arm(every=1, fraction=0.5),
    "global, every 10": Arm(every=10),
    "global, every 10, half": Arm(every=10, fraction=0.5),
    "bound": Arm(bound=True),
    "value": Arm(value=1.0),
    "per box, value": Arm(per_box_value=1.0),
}
"""Ways to stabilize, by name.

- `per box`: `stabilize_loss` with κ_max = 1 (or 1/30) over the learning rate;
- `global`: `ugs_stabilize` with an exact Hessian-vector product every step or every ten steps, c = 1 or ½;
- `bound`: `ugs_stabilize` with the largest curvature of any box;
- `value`: the stochastic Polyak step size as a limit, for all boxes together or for every box separately.
"""


@dataclass(frozen=True)
class Settings:
    """Settings of the study.

    Attributes:
      file: File for the result; None writes no file.
      problems: Losses and their parameters.
      optimizers: Optimizers: SGD, momentum or Adam.
      arms: Names from `ARMS`.
      steps: Number of steps of every descent.
      starts: Number of targets of every size, even.
      low: Decimal logarithm of the lowest learning rate.
      high: Decimal logarithm of the highest learning rate.
      per_decade: Number of learning rates in a decade.
      seed: Seed of the targets.
    """

    file: Path | None = None
    problems: tuple[Name, ...] = NAMES
    optimizers: tuple[str, ...] = ("SGD",)
    arms: tuple[str, ...] = tuple(ARMS)
    steps: int = 1000
    starts: int = 4
    low: int = -4
    high: int = 6
    per_decade: int = 3
    seed: int = 0

    @property
    def rates(self) -> Float[np.ndarray, "rates"]:
        """Learning rates."""
        return 10.0 ** np.linspace(self.low, self.high, (self.high - self.low) * self.per_decade + 1)


class Scene(NamedTuple):
    """Anchors and targets, xyxy px, [sizes · starts, 4], float64.

    Attributes:
      anchors: Anchors, where all methods start.
      targets: Targets.
    """

    anchors: np.ndarray
    targets: np.ndarray


def draw_scene(starts: int, seed: int) -> Scene:
    """Draw the targets of every size, with relative shifts and shifts of 1 px in turn.

    Raises:
      ValueError: `starts` is odd.
    """
    if starts % 2:
        raise ValueError(f"starts: expected an even number, half relative and half 1 px, got {starts}")
    rng = np.random.default_rng(seed)
    size = np.repeat(SIZES, starts)[:, None]
    relative = (np.arange(len(size)) % 2 == 0)[:, None]
    shift = np.where(relative, rng.uniform(-0.3, 0.3, (len(size), 2)) * size, rng.choice([-1.0, 1.0], (len(size), 2)))
    half = size * np.exp(np.where(relative, rng.uniform(-0.3, 0.3, (len(size), 2)), 0.0)) / 2
    return Scene(
        np.concatenate([-size, -size, size, size], axis=1) / 2, np.concatenate([shift - half, shift + half], 1)
    )


def make_problem(name: Name, scene: Scene) -> Problem:
    """Return the problem of fitting the boxes of a scene, in the precision of the session. Scores are IoUs by size."""
    corners, targets = jnp.asarray(scene.anchors), jnp.asarray(scene.targets)
    anchors = bx.Anchors.from_boxes(corners)
    goal = bx.encode(targets, anchors)
    if name == "UGS logits":
        return _ugs(anchors, targets, goal)
    kind, space = name.split(" ")[0], name.split(" ")[-1]
    start = bx.xyxy_to_cxcywh(corners) if space == "px" else jnp.zeros_like(corners)
    decode = bx.cxcywh_to_xyxy if space == "px" else lambda p: bx.decode(p, anchors)
    by_kind: dict[str, Callable[[Array], Array]] = {
        "L2": lambda p: losses.l2(bx.encode(decode(p), anchors), goal),
        "−ln": lambda p: losses.log_iou(decode(p), targets),
        "CIoU": lambda p: losses.ciou(decode(p), targets),
    }
    return Problem(start, by_kind[kind], lambda p: _iou_by_size(decode(p), targets))


def _ugs(anchors: bx.Anchors, targets: Array, goal: Array) -> Problem:
    """Return the problem of UGS. Its members are box parameters, four for each box, with their own logits."""
    rows = goal.reshape(-1)

    def loss(logits: Array) -> Array:
        cross_entropy = losses.interval_cross_entropy(logits, rows, GRID)
        return cross_entropy + 0.5 * losses.entropy_gap(logits, rows, GRID)

    def score(logits: Array) -> Array:
        offsets = expectation(jax.nn.softmax(logits), GRID).reshape(goal.shape)
        return _iou_by_size(bx.decode(offsets, anchors), targets)

    label = two_hot(rows, GRID)
    least = jnp.sum(jax.scipy.special.entr(label), axis=-1)
    return Problem(jnp.zeros((len(rows), len(GRID)), goal.dtype), loss, score, least)


def _iou_by_size(boxes: Array, targets: Array) -> Array:
    return jnp.mean(bx.iou(boxes, targets).reshape(len(SIZES), -1), axis=-1)


def box_losses(trajectories: Trajectories, boxes: int) -> Float[np.ndarray, "time rates boxes"]:
    """Return the losses by box. Losses of UGS are summed over the parameters of a box."""
    losses_ = trajectories.losses
    return losses_.reshape(*losses_.shape[:2], boxes, -1).sum(axis=-1)


def judge(trajectories: Trajectories, rates: Float[np.ndarray, "rates"], boxes: int) -> dict[str, Any]:
    """Return the ranges, and results by size at the best learning rate.

    The best learning rate is the one at which the slowest size reaches the target first.
    """
    by_box = box_losses(trajectories, boxes)
    good = trajectories.scores >= TARGET
    done = reached(by_box, good)
    first = first_to_stay(np.all(good, axis=-1))
    best = int(np.argmin(np.where(done, first, len(good)))) if done.any() else int(np.argmax(_worst(trajectories)))
    spread = trajectories.steps[1] - trajectories.steps[0]
    arrival = first_to_stay(good[:, best])
    return {
        "stable": _range(rates, stable(by_box)),
        "reaches": _range(rates, done),
        "best_rate": float(rates[best]),
        "steps_by_size": [int(row * spread) if row >= 0 else None for row in arrival],
        "loss_by_size": _numbers(by_box[-1, best].reshape(len(SIZES), -1).mean(axis=-1)),
        "iou_by_size": _numbers(trajectories.scores[-1, best]),
        "worst_iou": _numbers(_worst(trajectories)),
        "shortened": _numbers(trajectories.shortened),
    }


def _worst(trajectories: Trajectories) -> np.ndarray:
    """Return the lowest mean IoU of any size over the last tenth of the steps, by learning rate; 0 for NaN."""
    tail = trajectories.scores[-(len(trajectories.scores) // 10) :]
    return np.min(np.nan_to_num(np.mean(tail, axis=0)), axis=-1)


def _range(rates: np.ndarray, good: np.ndarray) -> dict[str, Any]:
    best = widest(rates, good)
    return {**best._asdict(), "width": best.width}


def _numbers(values: np.ndarray) -> list[float | None]:
    return [float(f"{x:.4g}") if np.isfinite(x) else None for x in values]


def main(settings: Settings) -> None:
    """Run the study in float64, and print one line of JSON at the end."""
    rows = []
    scene = draw_scene(settings.starts, settings.seed)
    with jax.enable_x64(True):
        for name in settings.problems:
            problem = make_problem(name, scene)
            for optimizer in settings.optimizers:
                for arm in settings.arms:
                    start = time.perf_counter()
                    trajectories = descend(problem, optimizer, ARMS[arm], settings.rates, steps=settings.steps)
                    row = judge(trajectories, settings.rates, len(scene.targets))
                    rows.append({"problem": name, "optimizer": optimizer, "arm": arm, **row})
                    text = " ".join(f"{x['low']}…{x['high']}" for x in (row["stable"], row["reaches"]))
                    print(f"{name:16} {optimizer:9} {arm:24} {text} {time.perf_counter() - start:.1f} s", flush=True)
    rates = _numbers(settings.rates)
    result = {"study": "stabilizer, boxes", **asdict(settings) | {"file": None}, "rates": rates, "rows": rows}
    if settings.file is not None:
        settings.file.parent.mkdir(parents=True, exist_ok=True)
        settings.file.write_text(json.dumps(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
