"""Minimax to a fixed depth, guided by a network: each ply searches only the likeliest moves of its policy, and leaves
have its value. Finished games inside the tree have their exact result.

`widths` has the number of moves of each ply. The search itself has no randomness or noise: variety comes from drawing
moves. The policy is softmax(root action values / `value_temperature`) over the searched moves, so a move drawn at
`temperature` t has probability softmax(values / (value_temperature · t)).

Letters: B games, A actions, w width of a ply, N nodes of a ply (of all games, or of one).
"""

import dataclasses
import math
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp

from envs import Env
from envs.core import where
from jaxzero.config.fields import COMMON, Range
from jaxzero.messages import ConfigError
from jaxzero.models import Model, Params
from jaxzero.models.simulator import legal_in
from jaxzero.networks.base import NetworkConfig
from jaxzero.search import base
from jaxzero.search.base import Search, SearchOutput
from jaxzero.search.config import SearchConfig

LEAVES = 1 << 15  # leaves in memory at once; 1 GB of observations for chess


@dataclasses.dataclass(frozen=True)
class MinimaxConfig(SearchConfig):
    """Minimax over the moves that the network finds likeliest."""

    kind: ClassVar[str] = "minimax"

    widths: Annotated[tuple[int, ...], Range(1, 65_536), COMMON] = (13, 8)
    """Moves looked at in every position, ply by ply: the network's likeliest."""
    value_temperature: Annotated[float, Range(1e-4, 10**6), COMMON] = 0.2
    """The policy is softmax(values of the root's moves / value_temperature)."""

    def check(self, env: Env, network: NetworkConfig) -> None:
        if not self.widths:
            raise ConfigError("search.widths: needs one or more widths, got []")
        if (leaves := self.leaves(env)) > LEAVES:
            raise ConfigError(
                f"search.widths: {list(self.widths)} look at {leaves} positions a move, and {LEAVES} are the most; use "
                "fewer or smaller ones"
            )
        if self.schedule or self.full_share < 1:
            field = "schedule" if self.schedule else "full_share"
            raise ConfigError(f"search.{field}: minimax has no simulations; leave it out")
        if network.learned_model and network.outcomes(env):
            raise ConfigError("network.codes: minimax looks at no chance; use gumbel or puct, or leave them out")
        if env.num_outcomes:
            raise ConfigError(
                f"search.kind: minimax cannot play games of chance such as {env.name}; use gumbel or puct"
            )

    def leaves(self, env: Env) -> int:
        """Positions that a move looks at, if there are legal moves enough."""
        return math.prod(min(width, env.max_legal) for width in self.widths)

    def cost(self, simulations: int) -> float:
        return math.prod(self.widths)

    def batch(self, env: Env, games: int) -> int:
        return min(games * self.leaves(env), LEAVES)


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


def make(config: MinimaxConfig, env: Env, model: Model, simulations: int) -> Search:
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
