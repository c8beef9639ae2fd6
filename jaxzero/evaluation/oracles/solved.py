"""Positions of small games with the values that an exact solver gives them when a run starts."""

from functools import partial

import jax
import numpy as np

from envs import Env
from envs.core import random_opening
from envs.host import legal_actions_of_all, step_all
from jaxzero import solvers
from jaxzero.evaluation.exhaustive import BATCH, batched, merge, take
from jaxzero.evaluation.oracles.solved_positions import SolvedPositions
from jaxzero.messages import ConfigError

DRAWN = 2_000  # random positions drawn; equal ones count once


def every_position(env: Env) -> SolvedPositions:
    """Every live position of a tiny deterministic game."""
    level = jax.tree.map(lambda x: np.asarray(x)[None], env.init(jax.random.key(0)))
    found = [level]
    while True:
        parents, actions = np.nonzero(batched(partial(legal_actions_of_all, env), BATCH, level))
        after = batched(partial(step_all, env), BATCH, take(level, parents), actions.astype(np.int32))
        if after.terminated.all():
            break
        level = distinct(take(after, ~after.terminated))
        found.append(level)
    states = jax.tree.map(lambda *x: np.concatenate(x), *found)
    return SolvedPositions(states, solvers.make(env)(states))


def random_positions(env: Env, plies: int) -> SolvedPositions:
    """Positions after 0 to `plies` random plies, always the same, in which the moves differ in value.

    Raises:
        ConfigError: there are none.
    """
    solve = solvers.make(env)
    openings = jax.jit(jax.vmap(lambda key: random_opening(env, key, plies)[0]))
    states = distinct(jax.device_get(openings(jax.random.split(jax.random.key(0), DRAWN))))
    values = solve(states)
    differ = np.nanmax(values, 1) > np.nanmin(values, 1) + 1e-6
    if not differ.any():
        raise ConfigError(f"evaluation.oracle: in {env} no choice of moves matters; set it to false")
    return SolvedPositions(take(states, differ), values[differ])


def distinct(states):
    nothing = np.zeros(len(states.player), np.float32)
    return merge(states, nothing, nothing.astype(np.int64))[0]
