"""Optimizers with their own iterates: with the limit inside, they train as well as alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from ugs_jax.stabilize import ugs_stabilize

START = {"w": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}


def bowl(params):
    return 50 * jnp.sum(params["w"] ** 2) + params["b"] ** 2


def schedule_free(rate, *members):
    return optax.contrib.schedule_free(optax.chain(optax.sgd(rate), *members), rate, b1=0.9)


def mechanized(rate, *members):
    return optax.contrib.mechanize(optax.chain(optax.sgd(rate), *members))


def losses(tx, steps=300):
    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(bowl)(params)
        updates, state = tx.update(grads, state, params, grad=grads, value=value, value_fn=bowl)
        return (optax.apply_updates(params, updates), state), value

    (params, _), values = jax.lax.scan(step, (START, tx.init(START)), length=steps)
    return jnp.append(values, bowl(params))


# Schedule-free is as fast as its rate allows, which the limit lowers: at 0.1 it ends at 1.5 times the loss. Mechanic
# finds its own rate and ends lower with the limit.
@pytest.mark.parametrize("rate", [0.019, 0.05, 0.1])
@pytest.mark.parametrize("optimizer", [schedule_free, mechanized])
def test_inside_the_optimizer_the_loss_ends_as_low_as_without_limit_and_never_rises_higher(optimizer, rate):
    alone, inside = losses(optimizer(rate)), losses(optimizer(rate, ugs_stabilize()))
    assert float(inside[-1]) <= 1.6 * float(alone[-1])
    assert float(inside.max()) <= float(alone.max())


def test_inside_schedule_free_it_trains_at_a_rate_that_diverges_without_limit():
    assert not np.isfinite(losses(schedule_free(1.0))[-1])
    assert float(losses(schedule_free(1.0, ugs_stabilize()))[-1]) < 1e-6


def test_outside_schedule_free_it_hinders_training():
    """The reason for the rule: this is what the documentation warns of."""
    alone = losses(schedule_free(0.1), steps=100)
    outside = losses(optax.chain(schedule_free(0.1), ugs_stabilize()), steps=100)
    assert float(outside[-1]) > 100 * float(alone[-1])  # 0.24 against 0.0001
