"""Quick compilation of programs that would take minutes, even if XLA_FLAGS is not set."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import jax
import pytest

from tests.flags import QUICKLY


@contextmanager
def compiled_quickly() -> Iterator[None]:
    """What is jitted inside is compiled with `QUICKLY`, also by the library."""
    import ugs_jax.training  # noqa: F401 - what its imports jit, they may use in programs, where options are refused

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "jit", partial(jax.jit, compiler_options=QUICKLY))
        yield
