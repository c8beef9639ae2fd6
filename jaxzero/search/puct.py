"""AlphaZero's PUCT search (Silver et al. 2018, supplementary pseudocode) with Dirichlet noise, through mctx.

Values are scaled to [0, 1] and an unvisited action counts as lost, as in the pseudocode. The noise is drawn over the
legal actions only, with one key a game.
"""

# mctx builds its types with chex, whose dataclasses pyright cannot read.
# pyright: reportCallIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from functools import partial

import jax
import jax.numpy as jnp
import mctx

from envs import Env
from jaxzero.config import SearchConfig
from jaxzero.models import Model
from jaxzero.search.base import Search, SearchResult, sample_action


def make(config: SearchConfig, env: Env, model: Model, simulations: int) -> Search:
    def select(key, tree, node_index, depth):
        del key  # it would depend on the batch; ties are broken by the game's own key
        tie_key = jax.random.fold_in(tree.extra_data, tree.node_visits[0] * (simulations + 1) + node_index)
        qtransform = partial(mctx.qtransform_by_min_max, min_value=-1.0, max_value=1.0)
        return mctx.muzero_action_selection(
            tie_key, tree, node_index, depth, pb_c_init=config.c_puct, qtransform=qtransform
        )

    def run(params, keys, states, carry, temperature, explore):
        root = model.root(params, states)
        legal = jax.vmap(env.legal_actions)(states)
        sub = jax.vmap(partial(jax.random.split, num=3))(keys)
        if explore:
            noisy = jax.vmap(partial(noisy_logits, config))(sub[:, 0], root.prior_logits, legal)
            root = root.replace(prior_logits=noisy)
        tree = mctx.search(
            params, sub[0, 1], root=root, recurrent_fn=model.decision, num_simulations=simulations,
            root_action_selection_fn=partial(select, depth=0), interior_action_selection_fn=select,
            invalid_actions=~legal, extra_data=sub[:, 1],
        )  # fmt: skip
        summary = tree.summary()
        policy = summary.visit_probs
        best = jnp.argmax(jnp.where(legal, policy, -1.0), -1)
        action = sample_action(sub[:, 2], policy, best, legal, temperature, config.epsilon if explore else 0.0)
        return SearchResult(action, policy, summary.value, jnp.ones_like(summary.value)), carry

    return Search(lambda states: (), run)


def noisy_logits(config: SearchConfig, key: jax.Array, logits: jax.Array, legal: jax.Array) -> jax.Array:
    """log((1 - fraction) · prior + fraction · Dirichlet(alpha)) over the legal actions, [A]."""
    gamma = jnp.where(legal, jax.random.loggamma(key, config.dirichlet_alpha, logits.shape), -jnp.inf)
    mixed = (1 - config.dirichlet_fraction) * jax.nn.softmax(logits) + config.dirichlet_fraction * jax.nn.softmax(gamma)
    return jnp.where(legal, jnp.log(jnp.maximum(mixed, 1e-30)), jnp.finfo(logits.dtype).min)
