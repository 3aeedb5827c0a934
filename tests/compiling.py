"""How tests compile programs that run once or twice: most of their time would be spent on optimising them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import jax
import pytest


def _known(**options: bool | int) -> dict[str, bool | int]:
    """Those that this version of the compiler has."""
    known = {}
    for name, value in options.items():
        try:
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
        except jax.errors.JaxRuntimeError:
            continue
        known[name] = value
    return known


QUICKLY = _known(
    xla_backend_optimization_level=0, xla_llvm_disable_expensive_passes=True, xla_cpu_use_fusion_emitters=False
)
"""For `jax.jit(…, compiler_options=QUICKLY)`; on the CPU only."""


@contextmanager
def compiled_quickly() -> Iterator[None]:
    """What is jitted inside is compiled with `QUICKLY`, also by the library."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "jit", partial(jax.jit, compiler_options=QUICKLY))
        yield
