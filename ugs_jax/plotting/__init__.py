"""Curves of a run and of several runs side by side."""

from ugs_jax.plotting.comparison import plot_comparison
from ugs_jax.plotting.run import plot_run

__all__ = ["plot_comparison", "plot_run"]
