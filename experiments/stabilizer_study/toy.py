"""Quadratics of condition 1, 100 and 10⁴, and Rosenbrock's function, under many learning rates.

    python -m experiments.stabilizer_study.toy --file runs/stabilizer_toy.json

The command takes about two minutes on an idle core. The last line is JSON and is also written to the file.

A learning rate is *stable* if the loss stays finite and ends below its start. It *reaches* the target if the loss also
ends at 1/1000 of its start or less. The end is the last tenth of the steps.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Float

from experiments.stabilizer_study.descent import Arm, Problem, Trajectories, descend
from experiments.stabilizer_study.ranges import first_to_stay, reached, stable, widest

TARGET = 1e-3  # of the loss at the start
ARMS = {
    "plain": Arm(),
    "per box": Arm(per_box=1.0),
    "global": Arm(every=1),
    "global, half": Arm(every=1, fraction=0.5),
    "global, every 10": Arm(every=10),
    "global, every 10, half": Arm(every=10, fraction=0.5),
    "bound": Arm(bound=True),
    "value": Arm(value=1.0),
}
"""Ways to stabilize, as in `boxes`. `per box` takes the whole function as one box."""


@dataclass(frozen=True)
class Settings:
    """Settings of the study.

    Attributes:
      file: File for the result; None writes no file.
      conditions: Condition numbers of the quadratics. Their 20 eigenvalues go from 100/condition to 100, with evenly
        spaced logarithms.
      optimizers: Optimizers: SGD, momentum or Adam.
      arms: Names from `ARMS`.
      steps: Number of steps of every descent.
      low: Decimal logarithm of the lowest learning rate.
      high: Decimal logarithm of the highest learning rate.
      per_decade: Number of learning rates in a decade.
      seed: Seed of the start and the directions.
    """

    file: Path | None = None
    conditions: tuple[float, ...] = (1.0, 1e2, 1e4)
    optimizers: tuple[str, ...] = ("SGD", "momentum", "Adam")
    arms: tuple[str, ...] = tuple(ARMS)
    steps: int = 1000
    low: int = -5
    high: int = 2
    per_decade: int = 4
    seed: int = 0

    @property
    def rates(self) -> Float[np.ndarray, "rates"]:
        """Learning rates."""
        return 10.0 ** np.linspace(self.low, self.high, (self.high - self.low) * self.per_decade + 1)


def quadratic(condition: float, seed: int, dimensions: int = 20) -> Problem:
    """Return the problem ½ xᵀHx with largest curvature 100, random eigenvectors, and a standard normal start."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(dimensions, dimensions)))
    hessian = jnp.asarray(basis @ np.diag(np.geomspace(100 / condition, 100, dimensions)) @ basis.T)
    start = jnp.asarray(rng.normal(size=(1, dimensions)))
    return _problem(start, lambda x: 0.5 * jnp.sum((x @ hessian) * x, axis=-1))


def rosenbrock() -> Problem:
    """Return the problem (1 − x)² + 100 (y − x²)² with the start (−1.2, 1)."""
    return _problem(
        jnp.array([[-1.2, 1.0]]), lambda p: jnp.square(1 - p[:, 0]) + 100 * jnp.square(p[:, 1] - p[:, 0] ** 2)
    )


def _problem(start: Array, loss: Any) -> Problem:
    return Problem(start, loss, lambda params: loss(params) / loss(start))


def judge(trajectories: Trajectories, rates: Float[np.ndarray, "rates"]) -> dict[str, Any]:
    """Return the ranges, and the fewest steps to the target with their learning rate."""
    good = trajectories.scores <= TARGET
    done = reached(trajectories.losses, good)
    first = np.where(done, first_to_stay(good[..., 0]), len(good))
    best = int(np.argmin(first))
    ranges = {"stable": widest(rates, stable(trajectories.losses)), "reaches": widest(rates, done)}
    return {
        **{name: {**value._asdict(), "width": value.width} for name, value in ranges.items()},
        "best_rate": float(rates[best]) if done.any() else None,
        "steps": int(trajectories.steps[first[best]]) if done.any() else None,
    }


def main(settings: Settings) -> None:
    """Run the study in float64, and print one line of JSON at the end."""
    rows = []
    with jax.enable_x64(True):
        problems = {f"quadratic, condition {c:g}": quadratic(c, settings.seed) for c in settings.conditions}
        for name, problem in (problems | {"Rosenbrock": rosenbrock()}).items():
            for optimizer in settings.optimizers:
                for arm in settings.arms:
                    row = judge(
                        descend(problem, optimizer, ARMS[arm], settings.rates, steps=settings.steps), settings.rates
                    )
                    rows.append({"problem": name, "optimizer": optimizer, "arm": arm, **row})
                    text = " ".join(f"{x['low']}…{x['high']}" for x in (row["stable"], row["reaches"]))
                    print(f"{name:24} {optimizer:9} {arm:24} {text} steps {row['steps']}", flush=True)
    result = {"study": "stabilizer, toy", **asdict(settings) | {"file": None}, "rows": rows}
    if settings.file is not None:
        settings.file.parent.mkdir(parents=True, exist_ok=True)
        settings.file.write_text(json.dumps(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
