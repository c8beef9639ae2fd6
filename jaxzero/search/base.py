"""What a search is, and what every search shares: the root, keys, move sampling.

Letters: B batch (games), A actions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from envs import Env
from envs.core import random_action, where
from jaxzero.config.schema import SearchConfig
from jaxzero.models import Model, Params, Root
from jaxzero.models.simulator import legal_in
from jaxzero.search import reuse
from jaxzero.search.tree import Layout, Tree, plant


class SearchResult(NamedTuple):
    action: jax.Array  # i32[B]  the move to play
    policy: jax.Array  # f32[B, A]  improved policy, the training target; 0 on illegal actions
    value: jax.Array  # f32[B]  root value after the search, mover's view
    policy_weight: jax.Array  # f32[B]  how far `policy` may be trained on; 0 = not at all
    visits: jax.Array  # f32[B, A]  visits of the root's actions
    qvalues: jax.Array  # f32[B, A]  their values, mover's view; 0 where there was no visit


class Search(NamedTuple):
    """`init(states) -> carry`: what is kept between moves (a reused tree; () for none).

    `run(params, keys[B], states, carry, temperature[B], explore) -> (SearchResult, carry)`: one key a game, so that a
    game does not depend on its neighbours. `explore` (static) turns root noise on; temperature 0 plays the search's
    own choice, else moves are drawn from policy^(1/temperature).
    """

    init: Callable[[Any], Any]
    run: Callable[[Params, jax.Array, Any, Any, jax.Array, bool], tuple[SearchResult, Any]]


class Finding(NamedTuple):
    """What was found about a root."""

    policy: jax.Array  # f32[B, A]
    value: jax.Array  # f32[B]
    visits: jax.Array  # f32[B, A]
    qvalues: jax.Array  # f32[B, A]  0 where there was no visit
    best: jax.Array  # i32[B]  the search's own choice
    tree: Tree | None = None  # for reuse
    nodes: jax.Array | None = None  # i32[B, A]  in it, of the root's actions; 0: none


Find = Callable[[Params, jax.Array, Root, jax.Array, bool, Tree | None], Finding]
"""`find(params, keys[B], root, legal[B, A], explore, kept)`: the part in which searches differ."""


def make(config: SearchConfig, env: Env, model: Model, find: Find, layout: Layout | None = None) -> Search:
    """A search by `find`; with the layout of its trees it may keep a subtree between moves."""
    if layout and layout.room:
        return make_reusing(config, env, model, find, layout)

    def run(params, keys, states, carry, temperature, explore):
        root = checked(model.root(params, states), keys, temperature, env)
        legal = legal_in(root.prior_logits)
        sub = jax.vmap(jax.random.split)(keys)
        found = find(params, sub[:, 0], root, legal, explore, None)
        return play(config, sub[:, 1], found, legal, temperature, explore), carry

    return Search(lambda states: (), run)


def checked(root: Root, keys: jax.Array, temperature: jax.Array, env: Env) -> Root:
    """The root, if its shapes are those of the games; others would be broadcast without a word."""
    chex.assert_shape(root.prior_logits, (len(keys), env.num_actions))
    chex.assert_shape([root.value, keys, temperature], (len(keys),))
    return root


def make_reusing(config: SearchConfig, env: Env, model: Model, find: Find, layout: Layout) -> Search:
    """A search that begins with what the last one found below the move played."""

    def init(states):
        batch = len(states.player)
        root = Root(prior_logits=jnp.zeros((batch, env.num_actions)), value=jnp.zeros(batch), embedding=states)
        return jax.tree.map(jnp.zeros_like, reuse.outward(plant(root, layout, layout.room)))

    def run(params, keys, states, carry, temperature, explore):
        root = checked(model.root(params, states), keys, temperature, env)
        legal = legal_in(root.prior_logits)
        sub = jax.vmap(jax.random.split)(keys)
        found = find(params, sub[:, 0], root, legal, explore, reuse.inward(carry))
        assert found.tree is not None
        assert found.nodes is not None
        result = play(config, sub[:, 1], found, legal, temperature, explore)
        node = jnp.take_along_axis(found.nodes, result.action[:, None], 1)[:, 0]
        return result, reuse.outward(reuse.reroot(found.tree, node, layout.room))

    return Search(init, run)


def play(
    config: SearchConfig, keys: jax.Array, found: Finding, legal: jax.Array, temperature: jax.Array, explore: bool
) -> SearchResult:
    """Draws the move."""
    epsilon = config.epsilon if explore else 0.0
    action = sample_action(keys, found.policy, found.best, legal, temperature, epsilon)
    weight = jnp.ones_like(found.value)
    return SearchResult(action, found.policy, found.value, weight, found.visits, found.qvalues)


def sample_action(
    keys: jax.Array, policy: jax.Array, best: jax.Array, legal: jax.Array, temperature: jax.Array, epsilon: float
) -> jax.Array:
    """The move played, i32[B]: `best` at temperature 0, else drawn from policy^(1/temperature) [B, A]; with
    probability `epsilon`, at any temperature, drawn uniformly from the legal moves [B, A] instead."""
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
