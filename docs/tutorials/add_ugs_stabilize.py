"""Add `ugs_stabilize()` to my optax chain: train a small Flax model, no detector, with too large a learning rate.

python docs/tutorials/add_ugs_stabilize.py
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from ugs_jax import ugs_stabilize

STEPS = 150


class Regressor(nnx.Module):
    """A network of two layers with one output."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(4, 32, rngs=rngs)
        self.second = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Predict one number for each row: [n, 4] → [n]."""
        return self.second(jnp.tanh(self.first(x)))[..., 0]


rng = np.random.default_rng(0)
x = jnp.asarray(rng.normal(size=(256, 4)), jnp.float32)
y = jnp.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2]
graph, start = nnx.split(Regressor(nnx.Rngs(0)))


def loss_fn(params: nnx.State) -> jax.Array:
    """Return the mean squared error."""
    return jnp.mean((nnx.merge(graph, params)(x) - y) ** 2)


def train(optimizer: optax.GradientTransformation) -> tuple[list[float], optax.OptState]:
    """Return the loss at each step and the final state of the chain."""
    optimizer = optax.with_extra_args_support(optimizer)

    @jax.jit
    def step(params: nnx.State, state: optax.OptState) -> tuple[nnx.State, optax.OptState, jax.Array]:
        value, gradient = jax.value_and_grad(loss_fn)(params)
        # The names are those of optax's line searches. Members that do not know them never receive them.
        updates, state = optimizer.update(gradient, state, params, grad=gradient, value=value, value_fn=loss_fn)
        return optax.apply_updates(params, updates), state, value

    params, state, values = start, optimizer.init(start), []
    for _ in range(STEPS):
        params, state, value = step(params, state)
        values.append(float(value))
    return values, state


# The stabilizer comes last, after the learning rate, so it shortens the step itself.
for rate in (0.1, 1.0, 10.0):
    plain, _ = train(optax.sgd(rate))
    stable, state = train(optax.chain(optax.sgd(rate), ugs_stabilize(every=1)))
    limited = int(optax.tree.get(state, "limited"))
    print(
        f"SGD, rate {rate:4.1f}: loss {plain[0]:.2f} → {plain[-1]:.3g} alone, → {stable[-1]:.3g} stabilized; "
        f"{limited} of {STEPS} steps shortened, last factor {float(optax.tree.get(state, 'scale')):.3g}"
    )
    assert stable[-1] < 0.5 * stable[0]
    if rate == 0.1:
        assert plain[-1] < plain[0]
    if rate == 10.0:
        assert not plain[-1] < 2 * plain[0]  # it diverged: larger than at the start, or NaN

# If no loss function is at hand, pass a known bound of the curvature. Without `grad` updates are unchanged.
bounded = optax.chain(optax.sgd(10.0), ugs_stabilize())
gradient = jax.grad(loss_fn)(start)
untouched, _ = bounded.update(gradient, bounded.init(start), start)
shorter, state = bounded.update(gradient, bounded.init(start), start, grad=gradient, curvature=5.0)
print("bound κ = 5: step shortened to", float(optax.tree.get(state, "scale")), "of its length at lr = 10: 1/(lr·κ)")
np.testing.assert_allclose(optax.tree.get(state, "scale"), 1 / (10 * 5), rtol=1e-6)
assert jax.tree.all(jax.tree.map(lambda u, g: bool((u == -10.0 * g).all()), untouched, gradient))
