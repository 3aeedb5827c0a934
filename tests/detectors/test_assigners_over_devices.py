"""Devices that split the images of a batch assign boxes without sending anything to each other."""

import re

import jax
import jax.numpy as jnp
import pytest

from tests.detectors.scenes_of_cells import grid
from tests.several_devices import on_devices
from ugs_jax.detectors import Cells, CenterSampling, ReceptiveField, TaskAligned
from ugs_jax.runs import device_mesh


def over_devices():
    """The number of collective operations in the compiled assignment of each rule, on four devices."""
    center, stride = grid(64, 64, (8, 16))
    split = jax.NamedSharding(device_mesh(4), jax.P("data"))
    of = lambda *shape, dtype=jnp.float32: jax.ShapeDtypeStruct(shape, dtype, sharding=split)  # noqa: E731
    b, m, n = 8, 40, len(center)
    found = []
    given = of(b, n, 4), of(b, n, 3), of(b, m, 4), of(b, m, dtype=jnp.int32), of(b, m, dtype=bool)
    for rule in (TaskAligned(), ReceptiveField(), CenterSampling()):

        def assign(boxes, scores, *objects, rule=rule):
            return rule.assign(Cells(boxes, scores, jnp.asarray(center), jnp.asarray(stride), (8, 16)), *objects)

        text = jax.jit(jax.vmap(assign), out_shardings=split).lower(*given).compile().as_text()
        found.append(len(re.findall(r"(?:all-gather|all-reduce|all-to-all|collective-permute)\(", text)))
    return found


@pytest.mark.slow
def test_no_rule_gathers_the_images_of_all_devices():
    """`jax.lax.top_k` would: it is compiled as if every device had all images."""
    assert on_devices(4, over_devices) == [0, 0, 0]
