"""Gumbel AlphaZero (Danihelka et al. 2022, "Policy improvement by planning with Gumbel"), through mctx.

The root's Gumbel noise is drawn with one key a game, which mctx's own policy function cannot do; the rest of that
function is repeated here from mctx's public parts. The value of a search is that of its improved policy: the mean over
visits that mctx gives counts moves that sequential halving tried and dropped.
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
    transform = partial(
        mctx.qtransform_completed_by_mix_value, value_scale=config.value_scale, rescale_values=config.rescale
    )
    halving = partial(
        mctx.gumbel_muzero_root_action_selection,
        num_simulations=simulations,
        max_num_considered_actions=min(config.max_considered, simulations),
        qtransform=transform,
    )
    inside = partial(mctx.gumbel_muzero_interior_action_selection, qtransform=transform)

    def run(params, keys, states, carry, temperature, explore):
        root = model.root(params, states)
        legal = jax.vmap(env.legal_actions)(states)
        sub = jax.vmap(partial(jax.random.split, num=3))(keys)
        noise = jax.vmap(lambda key: jax.random.gumbel(key, (env.num_actions,)))(sub[:, 0]) if explore else 0.0
        gumbel = noise * jnp.ones_like(root.prior_logits)
        tree = mctx.search(
            params, sub[0, 1], root=root, recurrent_fn=model.decision, num_simulations=simulations,
            root_action_selection_fn=halving, interior_action_selection_fn=inside,
            invalid_actions=~legal, extra_data=mctx.GumbelMuZeroExtraData(root_gumbel=gumbel),
        )  # fmt: skip
        summary = tree.summary()
        completed = jax.vmap(transform, in_axes=(0, None))(tree, tree.ROOT_INDEX)
        logits = jnp.where(legal, root.prior_logits + completed, -jnp.inf)
        most = summary.visit_counts == summary.visit_counts.max(-1, keepdims=True)
        best = jnp.argmax(jnp.where(most & legal, logits + gumbel, -jnp.inf), -1)
        policy = jax.nn.softmax(logits)
        action = sample_action(sub[:, 2], policy, best, legal, temperature, config.epsilon if explore else 0.0)
        value = policy_value(policy, summary.qvalues, summary.visit_counts > 0)
        return SearchResult(action, policy, value, jnp.ones_like(value)), carry

    return Search(lambda states: (), run)


def policy_value(policy: jax.Array, qvalues: jax.Array, visited: jax.Array) -> jax.Array:
    """Mean of the root's action values under the policy, over the visited actions; all [B, A] -> f32[B]."""
    weights = jnp.where(visited, policy, 0.0)
    return (weights * qvalues).sum(-1) / jnp.maximum(weights.sum(-1), 1e-30)
