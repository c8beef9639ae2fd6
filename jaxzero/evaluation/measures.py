"""What evaluation measures beside matches: the truth, where it is known, and a function of the user's own."""

import logging
import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from envs import Env
from jaxzero.config.games import own_function
from jaxzero.config.schema import Config
from jaxzero.evaluation import oracles
from jaxzero.evaluation.players import search_agent
from jaxzero.networks import Network, Prediction

Measure = Callable[[Any, int], dict[str, float]]
"""`measure(params, iteration) -> {name: number}` of folded parameters."""

_log = logging.getLogger(__name__)


class Agent(NamedTuple):
    """The network as a function of the user's own sees it."""

    infer: Callable[[jax.Array], Prediction]  # observations [B, …] -> logits [B, A] and values [B]
    act: Callable[[Any, jax.Array], jax.Array]  # states [B], a key -> actions i32[B], with evaluation.simulations


def make(env: Env, network: Network, config: Config) -> list[Measure]:
    """The configured measures; names begin with "oracle/" and "metric/"."""
    found: list[Measure] = []
    if config.evaluation.oracle:
        solved = oracles.make(env, network, config)
        found.append(lambda params, iteration: {f"oracle/{key}": value for key, value in solved(params).items()})
    if config.evaluation.metric:
        found.append(own_metric(env, network, config))
    return found


def own_metric(env: Env, network: Network, config: Config) -> Measure:
    """The user's function. Its mistakes never end a run that is under way: they are logged, and its numbers lack."""
    source = config.evaluation.metric
    function = own_function(source, "evaluation.metric", "name a function of a Python file")
    infer, player = jax.jit(network.infer), jax.jit(search_agent(env, network, config, config.evaluation.simulations))

    def measure(params: Any, iteration: int) -> dict[str, float]:
        def act(states: Any, key: jax.Array) -> jax.Array:
            return player(params, jax.random.split(key, len(states.player)), states)

        try:
            result = function(env, Agent(lambda observations: infer(params, observations), act), iteration)
            return {f"metric/{name}": number(name, value) for name, value in dict(result).items()}
        except Exception as error:
            _log.warning("evaluation.metric: %s: %s: %s", source, type(error).__name__, error)
            return {}

    return measure


def number(name: str, value: Any) -> float:
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {type(value).__name__}, not a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}, not a finite number")
    return float(value)
