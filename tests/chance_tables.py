"""Tables and positions for searches over chance."""

import jax
import jax.numpy as jnp
import tables

import envs
from envs.core import random_opening


def look_up(params, observation):
    """`tables.look_up` of observations that are fractions."""
    return tables.look_up(params, jnp.floor(observation * 64 + 0.25))


def positions(env: envs.Env, count: int, plies: int, seed: int = 1):
    """A batch of unfinished positions after random plies, at most this many."""
    opening = jax.jit(jax.vmap(lambda key: random_opening(env, key, plies)[0]))
    return opening(jax.random.split(jax.random.key(seed), count))
