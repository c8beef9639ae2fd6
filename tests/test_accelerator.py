"""An accelerator gives what a CPU gives: the same games, the same trees. Skipped where there is none."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.core import auto_reset, random_opening
from jaxzero import search
from jaxzero.config import SearchConfig
from jaxzero.models import simulator
from jaxzero.networks.base import Prediction
from jaxzero.search import simulation

needs_one = pytest.mark.skipif(jax.default_backend() == "cpu", reason="there is no accelerator")

GAMES, PLIES = 256, 100


def on_both(function, *args):
    """Results on the accelerator and on the CPU."""
    results = []
    for device in (jax.devices()[0], jax.devices("cpu")[0]):
        with jax.default_device(device):
            results.append(jax.tree.map(np.asarray, jax.jit(function)(*jax.device_put(args, device))))
    return results


@needs_one
@pytest.mark.parametrize("name", list(envs.GAMES))
def test_games(name):
    """Random play: every state, legal move, reward and end, bit by bit; observations to the last bits of a division."""
    env = envs.make(name)

    def play(seed):
        def ply(state, key):
            legal = jax.vmap(env.legal_actions)(state)
            choose, play, renew = jax.random.split(key, 3)
            action = jnp.argmax(jnp.where(legal, jax.random.uniform(choose, legal.shape), -1.0), -1)
            after = jax.vmap(env.advance)(state, action, jax.random.split(play, GAMES))
            told = legal, after, jax.vmap(env.observe)(state).reshape(GAMES, -1).sum(-1)
            return jax.vmap(partial(auto_reset, env))(after, jax.random.split(renew, GAMES)), told

        keys = jax.random.split(jax.random.key(seed), PLIES + GAMES)
        return jax.lax.scan(ply, jax.vmap(env.init)(keys[PLIES:]), keys[:PLIES])[1]

    (legal, after, seen), (expected_legal, expected, expected_seen) = on_both(play, 0)
    np.testing.assert_array_equal(legal, expected_legal)
    jax.tree.map(np.testing.assert_array_equal, after, expected)
    np.testing.assert_allclose(seen, expected_seen, rtol=1e-6)


def hashed(env):
    """A network whose numbers are eighths, from a hash of the observation: no rounding differs."""

    def infer(params, observation):
        flat = observation.reshape(len(observation), -1).astype(jnp.float32).round().astype(jnp.uint32)
        weights = jnp.arange(1, flat.shape[1] + 1, dtype=jnp.uint32) * jnp.uint32(0x9E3779B1)
        word = (flat * weights[None]).sum(-1, dtype=jnp.uint32)
        mixed = word[:, None] * (2 * jnp.arange(env.num_actions + 1, dtype=jnp.uint32) + jnp.uint32(0x85EBCA77))[None]
        eighths = ((mixed ^ (mixed >> 15)) >> 10 & 15).astype(jnp.float32) / 8 - 1
        return Prediction(eighths[:, 1:], eighths[:, 0], {})

    return infer


def searching(name, config, plies=6):
    """A function of a seed: what a search finds of 64 positions."""
    env = envs.make(name)
    made = search.make(config, env, simulator.make(env, hashed(env)))

    def run(seed):
        keys = jax.random.split(jax.random.key(seed), 64)
        states = jax.vmap(lambda key: random_opening(env, key, plies)[0])(keys)
        result, _ = made.run((), keys, states, made.init(states), jnp.zeros(64), False)
        return result.action, result.policy, result.value

    return run


SEARCHES = pytest.mark.parametrize(
    "config",
    [
        SearchConfig(simulations=48), SearchConfig(simulations=48, rounds=True),
        SearchConfig(simulations=48, kind="puct"),
    ],
    ids=["sequential", "rounds", "puct"],
)  # fmt: skip


@needs_one
@SEARCHES
@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four", "othello", "chess", "ur"])
def test_trees(name, config):
    """The same policy to rounding and the same move, but for ties."""
    (action, policy, value), (expected, expected_policy, expected_value) = on_both(searching(name, config), 1)
    same = action == expected
    assert same.mean() > 0.95, same
    np.testing.assert_allclose(policy[same], expected_policy[same], atol=1e-3)
    np.testing.assert_allclose(value[same], expected_value[same], atol=1e-3)


@SEARCHES
@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four", "ur"])
def test_the_form_for_accelerators(name, config, monkeypatch):
    """Loops that do more in a step grow the same trees."""
    found = jax.jit(searching(name, config))(2)
    monkeypatch.setattr(simulation, "accelerated", lambda: True)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), jax.jit(searching(name, config))(2), found)
