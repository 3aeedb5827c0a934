"""XLA options for tests. This module imports nothing of JAX, so that they can be set before JAX is imported."""

import gc
import os
import re
from importlib.metadata import version

# Of every process that runs tests. Tracing makes many objects that live long, and to look for cycles among them every
# 700 objects took a fifth of its time.
gc.set_threshold(200_000)

_JAXLIB = tuple(int(number) for number in re.findall(r"\d+", version("jaxlib"))[:3])

QUICKLY = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,  # splitting takes a tenth of the time
}
if _JAXLIB < (0, 11, 1):  # after which XLA has no such option and ends the process that sets it
    # Fusions are emitted as they used to be, which takes a third of the time; the passes over the whole program stay.
    QUICKLY["xla_cpu_use_fusion_emitters"] = False
"""For `jax.jit(…, compiler_options=QUICKLY)`; on the CPU only."""

QUICK_FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in QUICKLY.items())
"""The same for XLA_FLAGS."""


def with_devices(count: int) -> str:
    """XLA_FLAGS of this process, and as many simulated devices."""
    return f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}".strip()
