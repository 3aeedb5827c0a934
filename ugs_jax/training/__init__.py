"""Training: the objective, one pure step, the loop around it, and evaluation."""

from ugs_jax.training.evaluate import evaluate, jit_detect
from ugs_jax.training.loggers import LoggerError, RunLogger, RunStart
from ugs_jax.training.loop import Result, train
from ugs_jax.training.non_finite import NonFiniteError
from ugs_jax.training.objective import objective
from ugs_jax.training.step import jit_step, make_step

__all__ = [
    "LoggerError",
    "NonFiniteError",
    "Result",
    "RunLogger",
    "RunStart",
    "evaluate",
    "jit_detect",
    "jit_step",
    "make_step",
    "objective",
    "train",
]
