"""Random convex quadratic functions."""

import numpy as np
from hypothesis import strategies as st

SPECTRA = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=6).map(np.array)
SEEDS = st.integers(0, 2**31 - 1)


def quadratic(spectrum, seed):
    """½ xᵀHx with a given spectrum in random directions, as float64 (H, x); flat in further dimensions, to six."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(len(spectrum),) * 2))
    h, x = np.zeros((6, 6)), np.zeros(6)
    h[: len(spectrum), : len(spectrum)] = basis @ np.diag(spectrum) @ basis.T
    x[: len(spectrum)] = rng.normal(size=len(spectrum))
    return h, x
