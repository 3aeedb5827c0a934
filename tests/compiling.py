"""How tests compile programs that run once or twice: most of their time would be spent on optimising them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import jax
import pytest

# Fusions are emitted as they used to be, which takes a third of the time; the passes over the whole program stay.
QUICKLY = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
"""For `jax.jit(…, compiler_options=QUICKLY)`; on the CPU only."""


@contextmanager
def compiled_quickly() -> Iterator[None]:
    """What is jitted inside is compiled with `QUICKLY`, also by the library."""
    import ugs_jax.training  # noqa: F401 - what its imports jit, they may use in programs, where options are refused

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "jit", partial(jax.jit, compiler_options=QUICKLY))
        yield
