"""Monte Carlo tree search without a network: UCT (Kocsis and Szepesvári 2006), on the tree of all searches. One random
game to its end evaluates each new position.

Letters: B batch (games), A actions.
"""

from typing import Any

import jax
import jax.numpy as jnp

from envs import Env
from envs.core import sample_outcome
from jaxzero.models import simulator
from jaxzero.search import base, simulation
from jaxzero.search import tree as tree_lib
from jaxzero.search.base import Search, SearchOutput
from jaxzero.search.config import TreeConfig


def make(env: Env, simulations: int) -> Search:
    """A search without parameters. The move with most visits is played, of these the one of the highest value.

    Raises:
        ValueError: a game of one player, whose values have no bounds that UCT could explore by.
    """
    if env.num_players != 2:
        raise ValueError(f"mcts takes values to lie in [-1, 1], and the rewards of {env.name} add up without a bound")
    config = TreeConfig(simulations=simulations)
    model = simulator.make_with_evaluation(env, lambda params, key, states: evaluate(env, key, states))
    layout = tree_lib.layout(env, config, simulations, model)

    def search_root(params, keys, root, legal, explore, kept):
        order = jax.vmap(lambda key: jax.random.gumbel(key, (env.num_actions,)))(keys)
        root = root._replace(prior_logits=simulator.mask(order, legal))
        search = simulation.TreeSearch(
            model, params, rule, env.num_actions, env.num_outcomes, layout.nodes(simulations)
        )

        def step(i, tree):
            return simulation.simulate(search, tree, jax.random.fold_in(keys[0], i), 1 + i)[0]

        tree = jax.lax.fori_loop(0, simulations, step, tree_lib.tree_from_root(root, layout, layout.nodes(simulations)))
        child = tree.children_index[0].astype(jnp.int32)
        visits, quality = (
            tree_lib.by_action(tree, tree_lib.lookup(field, child), env.num_actions)
            for field in (tree.visits, tree.qvalue)
        )
        best = jnp.argmax(visits + jnp.where(visits > 0, (quality + 1) / 4, 0.0), -1).astype(jnp.int32)
        policy, value = visits / visits.sum(-1, keepdims=True), tree.value[0]
        return SearchOutput(best, policy, value, jnp.ones_like(value), visits, quality), None

    return base.make(config, env, model, search_root, layout)


def rule(children: tree_lib.Children) -> tuple[jax.Array, jax.Array]:
    """UCB1, values scaled to [0, 1]; what is untried comes first, in random order."""
    explore = jnp.sqrt(2 * jnp.log(children.node_visits) / jnp.maximum(children.visits, 1))
    scores = (children.qvalue + 1) / 2 + explore
    return scores, jnp.where(children.untried.logit > -jnp.inf, jnp.inf, -jnp.inf)


def evaluate(env: Env, key: jax.Array | None, states: Any) -> tuple[jax.Array, jax.Array]:
    """Priors [B, A] in random order, and what the movers [B] earn in a random game; zeros without a key."""
    legal = jax.vmap(env.legal_actions)(states)
    if key is None:
        return simulator.mask(jnp.zeros(legal.shape), legal), jnp.zeros(legal.shape[0])
    order, game = jax.random.split(key)
    return simulator.mask(jax.random.gumbel(order, legal.shape), legal), rollout(env, game, states)


def rollout(env: Env, key: jax.Array, states: Any) -> jax.Array:
    """Uniformly random play to the end of each game: the rewards f32[B] of who is to move now."""
    batch = states.player.shape[0]
    mover = states.player.astype(jnp.int32)[:, None]

    def ply(key: jax.Array, state: Any) -> Any:
        move, chance = jax.random.split(key)
        action = sample_outcome(move, jnp.where(env.legal_actions(state), 0.0, -jnp.inf))
        return env.advance(state, action, chance)

    def turn(carry):
        i, states, earned = carry
        states = jax.vmap(ply)(jax.random.split(jax.random.fold_in(key, i), batch), states)
        return i + 1, states, earned + jnp.take_along_axis(states.rewards, mover, 1)[:, 0]

    begin = jnp.int32(0), states, jnp.zeros(batch, jnp.float32)
    return jax.lax.while_loop(lambda carry: ~carry[1].terminated.all(), turn, begin)[2]
