"""Searches on a table: a network whose answers are drawn at random for every position, without any structure that could
hide a mistake, and without rounding that could depend on the batch."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.core import random_opening
from jaxzero import search
from jaxzero.models import Model, simulator
from jaxzero.networks import Prediction
from jaxzero.search import SearchConfig, gumbel

KEY = jax.random.key(0)
SIZE = 4093  # rows of the table
ROWS, COUNT = 64, 4096  # games of a batch; where shares are counted
WEIGHTS = np.random.default_rng(0).integers(1, 1 << 20, 4096).astype(np.int32)  # what each input adds to the row


def table(env: envs.Env, seed: int = 0):
    """Logits [SIZE, A] and values [SIZE], the parameters of `look_up`."""
    logits, value = jax.random.split(jax.random.key(seed))
    return jax.random.normal(logits, (SIZE, env.num_actions)), jax.random.uniform(value, (SIZE,), minval=-1, maxval=1)


def look_up(params, observation):
    flat = observation.reshape(len(observation), -1).astype(jnp.int32)
    row = (flat * WEIGHTS[None, : flat.shape[1]]).sum(-1) % SIZE
    return Prediction(params[0][row], params[1][row], {})


def uninformed(env: envs.Env):
    return jnp.zeros((SIZE, env.num_actions)), jnp.zeros(SIZE)


def positions(env: envs.Env, count: int, seed: int = 1):
    return opening(env, keys(count, seed))


@functools.partial(jax.jit, static_argnums=0)
def opening(env: envs.Env, keys):
    return jax.vmap(lambda key: random_opening(env, key, min(env.max_plies - 2, 60))[0])(keys)


def keys(count: int, seed: int = 0):
    return jax.random.split(jax.random.key(seed), count)


def search_config(kind: str = "gumbel", **settings: Any) -> SearchConfig:
    """The configuration of a search by its kind."""
    cls, _ = search.SEARCHES[kind]
    return cls(**settings)


def searcher(env: envs.Env, model: Model | None = None, explore: bool = False, at_once: bool = False, **settings):
    """(params, keys, states, temperature=0) -> SearchOutput, compiled once for all tests."""
    return compiled(env, model, explore, at_once, search_config(**settings))


@functools.cache
def compiled(env: envs.Env, model: Model | None, explore: bool, at_once: bool, config: SearchConfig):
    made = search.make(config, env, model or simulator.make(env, look_up))

    @jax.jit
    def run(params, keys, states, temperature):
        temperatures = jnp.broadcast_to(temperature, len(keys))
        with pytest.MonkeyPatch.context() as patch:
            if at_once:
                patch.setattr(gumbel, "lanes_per_round", all_at_once)
            return made.run(params, keys, states, made.init(states), temperatures, explore)[0]

    def call(params, keys, states, temperature=0.0):
        return jax.device_get(run(params, keys, states, jnp.float32(temperature)))

    return call


def all_at_once(rounds, batch):
    """`backend.lanes_per_round` elsewhere than on a CPU."""
    return [(width, width) for width in rounds]
