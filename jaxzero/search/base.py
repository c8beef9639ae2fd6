"""The interface of a search, and what all searches share: the root, keys, move sampling.

Letters: B batch (games), A actions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from envs import Env
from envs.core import random_action, where
from jaxzero.models import Model, Params, Root
from jaxzero.models.simulator import legal_in
from jaxzero.search import reuse
from jaxzero.search.config import SearchConfig
from jaxzero.search.tree import Layout, Tree, tree_from_root


class SearchOutput(NamedTuple):
    """What a search says about its root."""

    action: jax.Array  # i32[B]  the move to play
    policy: jax.Array  # f32[B, A]  improved policy, the training target; 0 on illegal actions
    value: jax.Array  # f32[B]  root value after the search, mover's view
    policy_weight: jax.Array  # f32[B]  weight of `policy` in training; 0 = not trained on
    visits: jax.Array  # f32[B, A]  visits of the root's actions
    qvalues: jax.Array  # f32[B, A]  their values, mover's view; 0 without a visit


class Search(NamedTuple):
    """A search: `init(states) -> carry`, `run(params, keys[B], states, carry, temperature[B], explore)`.

    The carry is what is kept between moves: a subtree to reuse, or (). `run` returns `(SearchOutput, carry)`. There is
    one key a game, so that no game depends on its neighbours. `explore` (static) turns root noise on. At temperature 0
    the search plays its own choice, else a move drawn from policy^(1/temperature).
    """

    init: Callable[[Any], Any]
    run: Callable[[Params, jax.Array, Any, Any, jax.Array, bool], tuple[SearchOutput, Any]]


class SearchedTree(NamedTuple):
    """The tree of a search, for reuse."""

    tree: Tree
    nodes: jax.Array  # i32[B, A]  nodes of the root's actions; 0: none


SearchRoot = Callable[[Params, jax.Array, Root, jax.Array, bool, Tree | None], tuple[SearchOutput, SearchedTree | None]]
"""`search_root(params, keys[B], root, legal[B, A], explore, kept)`, in which searches differ. The action of its output
is the search's own choice; `kept` is the subtree to go on from."""


def make(config: SearchConfig, env: Env, model: Model, search_root: SearchRoot, layout: Layout | None = None) -> Search:
    """A search by `search_root`. It reuses subtrees if the layout of its trees has room for them."""
    if layout and layout.kept_nodes:
        return make_reusing(config, env, model, search_root, layout)

    def run(params, keys, states, carry, temperature, explore):
        root = checked(model.root(params, states), keys, temperature, env)
        legal = legal_in(root.prior_logits)
        sub = jax.vmap(jax.random.split)(keys)
        output, _ = search_root(params, sub[:, 0], root, legal, explore, None)
        return choose_move(config, sub[:, 1], output, legal, temperature, explore), carry

    return Search(lambda states: (), run)


def checked(root: Root, keys: jax.Array, temperature: jax.Array, env: Env) -> Root:
    """The root, if its shapes fit the game; wrong ones would broadcast silently."""
    chex.assert_shape(root.prior_logits, (len(keys), env.num_actions))
    chex.assert_shape([root.value, keys, temperature], (len(keys),))
    return root


def make_reusing(config: SearchConfig, env: Env, model: Model, search_root: SearchRoot, layout: Layout) -> Search:
    """A search that starts from the last search's subtree below the move played."""

    def init(states):
        batch = len(states.player)
        root = Root(prior_logits=jnp.zeros((batch, env.num_actions)), value=jnp.zeros(batch), embedding=states)
        return jax.tree.map(jnp.zeros_like, reuse.games_first(tree_from_root(root, layout, layout.kept_nodes)))

    def run(params, keys, states, carry, temperature, explore):
        root = checked(model.root(params, states), keys, temperature, env)
        legal = legal_in(root.prior_logits)
        sub = jax.vmap(jax.random.split)(keys)
        output, searched = search_root(params, sub[:, 0], root, legal, explore, reuse.games_second(carry))
        assert searched is not None
        output = choose_move(config, sub[:, 1], output, legal, temperature, explore)
        node = jnp.take_along_axis(searched.nodes, output.action[:, None], 1)[:, 0]
        return output, reuse.games_first(reuse.reroot(searched.tree, node, layout.kept_nodes))

    return Search(init, run)


def choose_move(
    config: SearchConfig, keys: jax.Array, output: SearchOutput, legal: jax.Array, temperature: jax.Array, explore: bool
) -> SearchOutput:
    """The output with the move to play in place of the search's own choice."""
    epsilon = config.epsilon if explore else 0.0
    return output._replace(action=sample_action(keys, output.policy, output.action, legal, temperature, epsilon))


def sample_action(
    keys: jax.Array, policy: jax.Array, best: jax.Array, legal: jax.Array, temperature: jax.Array, epsilon: float
) -> jax.Array:
    """The move to play, i32[B].

    `best` i32[B] at temperature 0, else a move drawn from policy^(1/temperature) [B, A]. With probability `epsilon`, at
    any temperature, a uniformly random legal move [B, A] instead.
    """
    heat = where(temperature > 0, temperature, 1.0)[:, None]
    logits = where(legal, jnp.log(jnp.maximum(policy, 1e-30)) / heat, -jnp.inf)

    def draw(key, logits, legal):
        sampled, uniform, mixed = jax.random.split(key, 3)
        action = jax.random.categorical(sampled, logits)
        other = random_action(uniform, legal)
        return action, other, jax.random.uniform(mixed) < epsilon

    action, other, mix = jax.vmap(draw)(keys, logits, legal)
    action = where(temperature > 0, action, best)
    return where(mix, other, action).astype(jnp.int32) if epsilon > 0 else action.astype(jnp.int32)
