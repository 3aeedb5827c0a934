"""Bytes read and written, counted in the text of a compiled program."""

import jax
import jax.numpy as jnp
import pytest

from ugs_jax.planning.accesses import read_accesses

HLO = """\
HloModule jit_step, entry_computation_layout={(f32[8,16]{1,0})->f32[8,16]{1,0}}

%fused (param_0: f32[8,16]) -> f32[8,16] {
  %param_0 = f32[8,16]{1,0} parameter(0)
  ROOT %twice = f32[8,16]{1,0} add(%param_0, %param_0)
}

%buffer (p.1: f32[8,16]) -> f32[8,16] {
  %p.1 = f32[8,16]{1,0} parameter(0)
  ROOT %fusion = f32[8,16]{1,0} fusion(%p.1), kind=kLoop, calls=%fused
}

%left (l: f32[8,16]) -> f32[8,16] {
  ROOT %l = f32[8,16]{1,0} parameter(0)
}

ENTRY %main (p: f32[8,16]) -> f32[8,16] {
  %p = f32[8,16]{1,0:T(8,128)} parameter(0)
  %one = bf16[] constant(1)
  %called = f32[8,16]{1,0} call(%p), to_apply=%buffer
  %gemm = (f32[8,8]{1,0}, s8[64]{0}) custom-call(%called, %one), custom_call_target="gemm"
  %product = f32[8,8]{1,0} get-tuple-element(%gemm), index=0
  %start = (f32[4,8]{1,0}, f32[8,8]{1,0}) all-gather-start(%product), dimensions={0}
  %done = f32[8,8]{1,0} all-gather-done(%start)
  ROOT %chosen = f32[8,16]{1,0} conditional(%one, %p, %p), branch_computations={%left, %buffer}
}
"""


def test_every_operation_counts_its_operands_and_results():
    fusion, gemm, gather = 2 * 512, 512 + 2 + 256 + 64, 256 + 128 + 256
    assert read_accesses(HLO) == 2 * fusion + gemm + gather
    assert read_accesses("") == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda a: a @ a.T,
        lambda a: jnp.sort(jnp.sin(a) + 1, axis=0),
        lambda a: jax.nn.softmax(a) @ a.T,
    ],
)
def test_the_count_is_that_of_xla_where_it_has_one(function):
    compiled = jax.jit(function).lower(jax.ShapeDtypeStruct((64, 96), jnp.float32)).compile()
    assert read_accesses(compiled.as_text()) == pytest.approx(compiled.cost_analysis()["bytes accessed"], rel=0.05)
