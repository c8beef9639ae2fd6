"""Minimax to a fixed depth, guided by a network: each ply searches only the likeliest moves of its policy, and leaves
have its value. Finished games inside the tree have their exact result.

`widths` has the number of moves of each ply. The search itself has no randomness or noise: variety comes from drawing
moves. The policy is softmax(root action values / `value_temperature`) over the searched moves, so a move drawn at
`temperature` t has probability softmax(values / (value_temperature · t)).

Letters: B games, A actions, w width of a ply, N nodes of a ply (of all games, or of one).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from envs import Env
from envs.core import where
from jaxzero.config.schema import SearchConfig
from jaxzero.models import Model, Params
from jaxzero.models.simulator import legal_in
from jaxzero.search import base
from jaxzero.search.base import Search, SearchOutput

LEAVES = 1 << 15  # leaves in memory at once; 1 GB of observations for chess


def likeliest(logits: jax.Array, width: int) -> tuple[jax.Array, jax.Array]:
    """The likeliest actions i32[N, w] by masked logits [N, A], and bool[N, w]: there is such a legal action.

    The rest is filled with the likeliest action, which every model can play.
    """
    logit, action = jax.lax.top_k(logits, width)
    used = legal_in(logit).at[:, 0].set(True)
    return where(used, action, action[:, :1]), used


def search_moves(
    model: Model, params: Params, key: jax.Array, widths: tuple[int, ...], logits: jax.Array, embedding: Any
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Searches the likeliest moves of positions with these masked logits [N, A] and embeddings [N, ...].

    Returns:
        The actions i32[N, w], bool[N, w] whether there is such a move, their values f32[N, w] in the mover's view, and
        the number of leaves below them f32[N, w].
    """
    width, deeper = widths[0], widths[1:]
    action, used = likeliest(logits, width)
    before = jax.tree.map(lambda x: jnp.repeat(x, width, 0), embedding)
    step, after = model.decision(params, jax.random.fold_in(key, len(widths)), action.reshape(-1), before)
    value, leaves = step.value, jnp.ones_like(step.value)
    if deeper:
        _, there, values, below = search_moves(model, params, key, deeper, step.prior_logits, after)
        terminal = step.discount == 0
        value = where(there, values, -jnp.inf).max(-1)
        leaves = where(terminal, 1.0, where(there, below, 0.0).sum(-1))
    value = (step.reward + step.discount * value).reshape(action.shape)
    return action, used, value, leaves.reshape(action.shape)


def make(config: SearchConfig, env: Env, model: Model, simulations: int) -> Search:
    """The widths, not `simulations`, set the size of the search."""
    widths = tuple(min(width, env.max_legal) for width in config.widths)

    def search_root(params, keys, root, legal, explore, kept):
        def games(logits, embedding):
            return search_moves(model, params, keys[0], widths, logits, embedding)

        def game(one):
            return jax.tree.map(lambda x: x[0], games(*jax.tree.map(lambda x: x[None], one)))

        parts = math.ceil(len(keys) * math.prod(widths) / LEAVES)
        work = root.prior_logits, root.embedding
        if parts == 1:
            action, used, values, leaves = games(*work)
        else:
            action, used, values, leaves = jax.lax.map(game, work, batch_size=math.ceil(len(keys) / parts))
        values = where(used, values, -jnp.inf)
        weights = jax.nn.softmax(values / config.value_temperature)
        row = jnp.arange(len(keys))[:, None]

        def spread(x):
            return jnp.zeros_like(root.prior_logits).at[row, action].add(where(used, x, 0.0))

        best = jnp.take_along_axis(action, jnp.argmax(values, -1)[:, None], -1)[:, 0]
        value = values.max(-1)
        output = SearchOutput(best, spread(weights), value, jnp.ones_like(value), spread(leaves), spread(values))
        return output, None

    return base.make(config, env, model, search_root)
