"""Analysis of a finished run: calibration of its predicted deviations, and landscape of its loss."""

from ugs_jax.analysis.calibration import measure_calibration
from ugs_jax.analysis.landscape import Landscape, Slice, landscape_of, measure_landscape

__all__ = [
    "Landscape",
    "Slice",
    "landscape_of",
    "measure_calibration",
    "measure_landscape",
]
