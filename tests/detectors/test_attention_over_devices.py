"""Attention blocks over several devices: values and gradients equal those on one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests.several_devices import on_devices
from ugs_jax.detectors.attention import CBAM, CLLA
from ugs_jax.detectors.transformer import C3STR, C3TR
from ugs_jax.runs import device_mesh

pytestmark = pytest.mark.slow

LAYOUTS = {"data 4, spatial 2": (8, 2), "spatial 8": (8, 8)}
BLOCKS = {
    "C3TR": lambda **kw: C3TR(16, 16, 1, **kw),
    "C3STR": lambda **kw: C3STR(16, 32, 2, **kw),  # the second layer's windows are shifted
    "CBAM": lambda **kw: CBAM(16, **kw),
    "CLLA": lambda **kw: CLLA(8, 16, 8, **kw),
}
# The weights of attention are float32 whatever the rest: sums over at most 128 cells in another order, forth and back.
TOLERANCE = 128 * np.finfo(np.float32).eps / 2


def compare_everywhere():
    """How far apart results are, relative, by block and layout; in a process with 8 devices and float64."""
    rng = np.random.default_rng(0)
    x, fine = (
        rng.normal(size=(4, 16, 8, 16)),
        rng.normal(size=(4, 32, 16, 8)),
    )  # two rows a device of eight: windows cross
    found = {}
    for name, build in BLOCKS.items():
        block = build(dtype=jnp.float64, rngs=nnx.Rngs(0))
        alone = gradients(block, x, fine, 1, 1)
        found[name] = {layout: distance(alone, gradients(block, x, fine, *shape)) for layout, shape in LAYOUTS.items()}
    return found


def gradients(block, x, fine, devices, spatial):
    """The value of a loss, and its gradients by parameters and inputs."""
    graph, *state = nnx.split(block, nnx.Param, ...)
    pure = [nnx.to_pure_dict(nnx.as_pure(part)) for part in state]
    params, rest = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), pure)

    def loss(params, x, fine):
        block = nnx.merge(graph, params, rest)
        if isinstance(block, CLLA):
            y = block(fine, x)
        elif isinstance(block, C3TR | C3STR):
            y = block(x, jax.random.key(3))  # what is dropped must be the same, too
        else:
            y = block(x)
        return jnp.mean(jnp.sin(y) ** 2 * jnp.arange(y.size).reshape(y.shape) / y.size)

    mesh = device_mesh(devices, spatial)
    rows, whole = NamedSharding(mesh, P("data", "spatial")), NamedSharding(mesh, P())
    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)), in_shardings=(whole, rows, rows))
    return jax.tree.map(np.asarray, run(params, x, fine))


def distance(one, other):
    """The largest over all arrays; of those with next to no gradient, relative to a hundredth of the largest one."""
    leaves = [jax.tree.leaves(tree) for tree in (one, other)]
    least = 0.01 * max(np.linalg.norm(leaf) for leaf in jax.tree.leaves(one[1][0]))
    return max(np.linalg.norm(a - b) / max(np.linalg.norm(a), least) for a, b in zip(*leaves, strict=True))


@pytest.fixture(scope="module")
def distances():
    return on_devices(8, compare_everywhere, double=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("block", BLOCKS)
def test_every_layout_gives_the_gradients_of_one_device(distances, block, layout):
    assert distances[block][layout] <= TOLERANCE
