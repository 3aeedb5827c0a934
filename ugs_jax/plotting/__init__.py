"""Curves of a run and of several runs side by side; sharpness of losses and runs."""

from ugs_jax.plotting.calibration import plot_calibration
from ugs_jax.plotting.comparison import plot_comparison
from ugs_jax.plotting.run import plot_run
from ugs_jax.plotting.sharpness import plot_sharpness
from ugs_jax.plotting.wells import plot_wells

__all__ = ["plot_calibration", "plot_comparison", "plot_run", "plot_sharpness", "plot_wells"]
