"""Communication in compiled programs: kinds, bytes, and bytes sent along a ring."""

import pytest

from ugs_jax.planning.collectives import Collective, read_collectives, shape_bytes, traffic

HLO = """\
%sum.1 (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}
ENTRY %main (p: f32[8,16]) -> f32[8,16] {
  %all-reduce.470 = (u32[1,1,128]{2,1,0:T(1,128)S(1)}, f32[5]{0:T(128)}) all-reduce(%a, %b), replica_groups={{0,1}}
  ROOT %all-reduce.471 = bf16[8,16]{1,0:T(8,128)(2,1)} all-reduce(%c), channel_id=1, to_apply=%sum.1
  %all-gather-start = (f32[2,16]{1,0}, f32[8,16]{1,0}) all-gather-start(%p), dimensions={0}
  %all-gather-done = f32[8,16]{1,0} all-gather-done(%all-gather-start)
  %scattered = (f32[3]{0}, f32[3]{0}, /*index=2*/s8[4]{0}) reduce-scatter(%d, %e, %f), dimensions={0}
  %moved = pred[7]{0} collective-permute(%mask), source_target_pairs={{0,1}}
  %used = f32[8,16]{1,0} add(%all-gather-done, %all-reduce.470)
}
"""


def test_collectives_are_read_from_the_text_of_a_program():
    assert read_collectives(HLO) == {
        "all-reduce": Collective(2, 4 * 128 + 4 * 5 + 2 * 8 * 16),
        "all-gather": Collective(1, 4 * 8 * 16),
        "reduce-scatter": Collective(1, 12 + 12 + 4),
        "collective-permute": Collective(1, 7),
    }
    assert read_collectives("ENTRY %main (p: f32[8]) -> f32[8] {\n  ROOT %all-reduce = f32[8] add(%p, %p)\n}") == {}


@pytest.mark.parametrize(
    ("shape", "size"), [("f32[]", 4), ("bf16[2,3]", 12), ("s4[3]", 2), ("(f8e4m3fn[5], token[])", 5), ("c64[2]", 16)]
)
def test_bytes_of_shapes(shape, size):
    assert shape_bytes(shape) == size


def test_a_ring_sends_what_theory_says():
    # Of 4 devices, a ring sends 3/4 of the whole to gather it, as much again to sum it first.
    assert traffic({"all-gather": Collective(1, 400)}, 4) == 300
    assert traffic({"all-reduce": Collective(1, 400)}, 4) == 600
    assert traffic({"reduce-scatter": Collective(1, 100)}, 4) == 300
    assert traffic({"collective-permute": Collective(1, 100)}, 4) == 100
    assert traffic({"all-reduce": Collective(1, 400)}, 1) == 0
