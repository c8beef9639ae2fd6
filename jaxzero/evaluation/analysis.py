"""What a network thinks of positions: its prior, and what a search found of every move.

Letters: B batch (positions), A actions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs import Env
from jaxzero import models
from jaxzero.config.schema import Config
from jaxzero.evaluation import players
from jaxzero.models import Params
from jaxzero.networks import Network


class Analysis(NamedTuple):
    """Values are the mover's."""

    action: jax.Array  # i32[B]  the move chosen, without noise
    value: jax.Array  # f32[B]  of the position, after the search
    prior: jax.Array  # f32[B, A]  the network's policy; 0 on illegal actions
    visits: jax.Array  # f32[B, A]  of the root's actions; all 0 without a search
    qvalues: jax.Array  # f32[B, A]  their values; 0 where there was no visit


def make(env: Env, network: Network, config: Config, simulations: int) -> Callable[[Params, jax.Array, Any], Analysis]:
    """A pure function `(params, keys[B], states) -> Analysis`; 0 simulations: the network alone."""
    model = models.make(env, network)
    searcher = players.fresh_search(env, network, config, simulations) if simulations else None

    def analyse(params: Params, keys: jax.Array, states: Any) -> Analysis:
        root = model.root(params, states)
        prior = jax.nn.softmax(root.prior_logits)
        if searcher is None:
            nothing = jnp.zeros_like(prior)
            return Analysis(jnp.argmax(prior, -1).astype(jnp.int32), root.value, prior, nothing, nothing)
        temperature = jnp.zeros(keys.shape[0], jnp.float32)
        found, _ = searcher.run(params, keys, states, searcher.init(states), temperature, False)
        return Analysis(found.action, found.value, prior, found.visits, found.qvalues)

    return analyse
