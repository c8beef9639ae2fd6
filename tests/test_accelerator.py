"""An accelerator gives what a CPU gives: the same games, the same trees. Skipped where there is none."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import also

import envs
from envs import backend
from envs.core import auto_reset, random_opening
from jaxzero import search
from jaxzero.models import simulator
from jaxzero.networks.base import Prediction
from jaxzero.search import GumbelConfig, PuctConfig

needs_one = pytest.mark.skipif(jax.default_backend() == "cpu", reason="there is no accelerator")

GAMES, PLIES = 256, 100


def on_both(make, seed):
    """Results of the function `make()` gives: on the accelerator in the form for accelerators, and on the CPU in its
    own."""
    results = []
    for device, accelerated in ((jax.devices()[0], True), (jax.devices("cpu")[0], False)):
        with jax.default_device(device):
            results.append(jax.tree.map(np.asarray, in_form(accelerated, make)(jax.device_put(seed, device))))
    return results


def in_form(accelerated, make):
    """A call of the function that `make()` gives, traced in that form."""

    def call(seed):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backend, "accelerated", lambda: accelerated)
            jax.clear_caches()  # of functions jitted inside
            return jax.block_until_ready(jax.jit(make())(seed))

    return call


def playing(env, plies):
    """A function of a seed: legal moves, states after and sums of observations, of every ply of random games."""

    def play(seed):
        def ply(state, key):
            legal = jax.vmap(env.legal_actions)(state)
            choose, play, renew = jax.random.split(key, 3)
            action = jnp.argmax(jnp.where(legal, jax.random.uniform(choose, legal.shape), -1.0), -1)
            after = jax.vmap(env.advance)(state, action, jax.random.split(play, GAMES))
            seen = jax.vmap(env.observe)(state).reshape(GAMES, -1).sum(-1)
            return jax.vmap(partial(auto_reset, env))(after, jax.random.split(renew, GAMES)), (legal, after, seen)

        keys = jax.random.split(jax.random.key(seed), plies + GAMES)
        return jax.lax.scan(ply, jax.vmap(env.init)(keys[plies:]), keys[:plies])[1]

    return play


def same_games(played, expected):
    """Bit by bit; observations to the last bits of a division."""
    jax.tree.map(np.testing.assert_array_equal, played[:2], expected[:2])
    np.testing.assert_allclose(played[2], expected[2], rtol=1e-6)


@needs_one
@pytest.mark.parametrize("name", list(envs.GAMES))
def test_games(name):
    same_games(*on_both(partial(playing, envs.make(name), PLIES), 0))


@pytest.mark.parametrize(
    "options", [{"name": "othello"}, {"name": "go", "size": 5, "ko": "positional"}, *also({"name": "chess"})], ids=str
)
def test_the_form_of_rules_for_accelerators(options):
    """Loops written out come to the same. (These are the games that have any.)"""
    make = partial(playing, envs.make(**options), PLIES)
    same_games(in_form(True, make)(0), in_form(False, make)(0))


def hashed(env):
    """A network whose numbers in [-1, 1) are hashes of the observation: hardly any two are equal."""

    def infer(params, observation):
        flat = observation.reshape(len(observation), -1).astype(jnp.float32).round().astype(jnp.uint32)
        weights = jnp.arange(1, flat.shape[1] + 1, dtype=jnp.uint32) * jnp.uint32(0x9E3779B1)
        word = (flat * weights[None]).sum(-1, dtype=jnp.uint32)
        mixed = word[:, None] * (2 * jnp.arange(env.num_actions + 1, dtype=jnp.uint32) + jnp.uint32(0x85EBCA77))[None]
        numbers = ((mixed ^ (mixed >> 15)) >> 8 & 0xFFFF).astype(jnp.float32) / 2**15 - 1
        return Prediction(numbers[:, 1:], numbers[:, 0], {})

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
        GumbelConfig(simulations=48), GumbelConfig(simulations=48, rounds=True),
        PuctConfig(simulations=48),
    ],
    ids=["sequential", "rounds", "puct"],
)  # fmt: skip


@needs_one
@SEARCHES
@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four", "othello", "chess", "ur"])
def test_trees(name, config):
    """The same policy to rounding and the same move, but for ties."""
    (action, policy, value), (expected, expected_policy, expected_value) = on_both(partial(searching, name, config), 1)
    same = action == expected
    assert same.mean() > 0.95, same
    np.testing.assert_allclose(policy[same], expected_policy[same], atol=1e-3)
    np.testing.assert_allclose(value[same], expected_value[same], atol=1e-3)


@SEARCHES
@pytest.mark.parametrize("name", ["tic_tac_toe", *also("connect_four", "ur")])
def test_the_form_of_searches_for_accelerators(name, config):
    """Loops that do more in a step grow the same trees."""
    make = partial(searching, name, config)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), in_form(True, make)(2), in_form(False, make)(2))
