"""The truth where it is known: how often a network keeps a position's value, and how far off its own value is.

A game's oracle is one line in `ORACLES`. Its positions are always the same ones, and none of them from self-play.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env
from jaxzero import solvers
from jaxzero.config.schema import Config
from jaxzero.evaluation.exhaustive import BATCH, batched
from jaxzero.evaluation.oracles import chess, connect_four, solved
from jaxzero.evaluation.oracles.solved_positions import SolvedPositions, compare
from jaxzero.evaluation.players import fresh_search
from jaxzero.messages import ConfigError
from jaxzero.models.simulator import mask
from jaxzero.networks import Network


class Oracle(NamedTuple):
    positions: Callable[[Any], SolvedPositions]  # of the game
    solved: bool  # when they are needed, by a solver that may not take every size; else they are stored


ORACLES = {
    "tic_tac_toe": Oracle(solved.every_position, True),
    "connect_four": Oracle(connect_four.positions, False),
    "hex": Oracle(lambda env: solved.random_positions(env, env.size**2 // 2), True),
    "ur": Oracle(lambda env: solved.random_positions(env, 20 * env.pieces), True),
    "chess": Oracle(chess.read, False),
}


def check(env: Env) -> None:
    """ConfigError if there is no oracle of this game, or not of its size."""
    if env.name not in ORACLES:
        raise ConfigError(f"evaluation.oracle: there is none of {env.name}; there are oracles of {', '.join(ORACLES)}")
    if ORACLES[env.name].solved:
        try:
            solvers.make(env)
        except ValueError as error:
            raise ConfigError(f"evaluation.oracle: {error}; set it to false") from error


def make(env: Env, network: Network, config: Config) -> Callable[[Any], dict[str, float]]:
    """A function of folded parameters: for the raw "policy" and for the "search" with `evaluation.simulations`, how
    they `compare` with the truth, such as "search_moves"."""
    positions = ORACLES[env.name].positions(env)
    searcher = fresh_search(env, network, config, config.evaluation.simulations)

    @jax.jit
    def find(params: Any, states: Any) -> Any:
        prediction = network.infer(params, jax.vmap(env.observe)(states))
        choice = jnp.argmax(mask(prediction.logits, jax.vmap(env.legal_actions)(states)), -1)
        batch = states.player.shape[0]
        keys = jax.random.split(jax.random.key(0), batch)
        result, _ = searcher.run(params, keys, states, searcher.init(states), jnp.zeros(batch), False)
        return (choice, prediction.value), (result.action, result.value)

    def measure(params: Any) -> dict[str, float]:
        found = batched(lambda states: find(params, states), BATCH, positions.states)
        return {
            f"{name}_{figure}": value
            for name, (actions, values) in zip(("policy", "search"), found, strict=True)
            for figure, value in compare(positions, np.asarray(actions), np.asarray(values)).items()
        }

    return measure
