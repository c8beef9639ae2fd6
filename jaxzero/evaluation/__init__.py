"""How strong a player is: matches against opponents, and every line of replies in small games."""

from collections.abc import Callable
from typing import Any

import jax

from envs import Env
from jaxzero.config.schema import Config
from jaxzero.evaluation import matches, players
from jaxzero.evaluation.base import Player
from jaxzero.evaluation.exhaustive import exhaustive
from jaxzero.evaluation.matches import write_results
from jaxzero.evaluation.players import search_agent
from jaxzero.models import Params
from jaxzero.networks import Network

__all__ = ["exhaustive", "make", "opponents", "prove", "search_agent", "write_results"]

OPPONENTS = "evaluation.opponents"
Opponents = dict[str, tuple[Player, Params]]


def opponents(env: Env, config: Config) -> Opponents:
    """The configured opponents by name; loads the checkpoints of those that are runs.

    Raises:
        ConfigError: one cannot play, or its checkpoint cannot be read.
    """
    return {name: players.make_device_player(name, env, OPPONENTS) for name in config.evaluation.opponents}


def make(
    env: Env, network: Network, config: Config, opponents: Opponents
) -> dict[str, Callable[[Any, jax.Array], dict[str, Any]]]:
    """For each opponent a function `(params, key) -> matches.summary`."""
    settings = config.evaluation
    agent = search_agent(env, network, config, settings.simulations)

    def against(name: str) -> Callable[[Any, jax.Array], dict[str, Any]]:
        opponent, theirs = opponents[name]
        match = matches.play(env, agent, opponent, settings.games, settings.opening_plies)
        return lambda params, key: matches.summary(match(params, theirs, key))

    return {name: against(name) for name in opponents}


def prove(env: Env, network: Network, config: Config, params: Any) -> str:
    """Plays every line of replies with search and with the raw policy; one sentence of what was lost."""

    def losses(simulations: int) -> tuple[int, int]:
        agent = jax.jit(search_agent(env, network, config, simulations))

        def act(states: Any) -> jax.Array:
            keys = jax.random.split(jax.random.key(0), len(jax.tree.leaves(states)[0]))
            return agent(params, keys, states)

        sides = exhaustive(env, act).values()
        lost = sum(side["lines"]["losses"] for side in sides)
        return lost, sum(sum(side["lines"].values()) for side in sides)

    searched, raw = losses(config.evaluation.simulations), losses(0)
    return (
        f"{searched[0]} losses in all {searched[1]} lines of opponent replies with {config.evaluation.simulations} "
        f"simulations, {raw[0]} in {raw[1]} by raw policy"
    )
