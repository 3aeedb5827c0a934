"""Plots: curves of one run, comparison of runs, calibration, and sharpness of losses and runs."""

from ugs_jax.report.plots.calibration import plot_calibration
from ugs_jax.report.plots.comparison import plot_comparison
from ugs_jax.report.plots.diagnosis import plot_diagnosis
from ugs_jax.report.plots.run import plot_run
from ugs_jax.report.plots.sharpness import plot_sharpness
from ugs_jax.report.plots.wells import plot_wells

__all__ = ["plot_calibration", "plot_comparison", "plot_diagnosis", "plot_run", "plot_sharpness", "plot_wells"]
