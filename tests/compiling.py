"""How tests compile programs that run once or twice: most of their time would be spent on optimising them."""

QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""For `jax.jit(…, compiler_options=QUICKLY)`; on the CPU only."""
