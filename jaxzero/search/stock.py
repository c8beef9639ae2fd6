"""The same searches by stock mctx, the reference that our tree is measured against.

Only this file converts our types to mctx's. Mctx's policy functions cannot draw the root's Gumbel noise with one key a
game, so this file composes them from mctx's public parts.
"""

# mctx builds its types with chex, whose dataclasses pyright cannot read.
# pyright: reportCallIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from functools import partial

import jax
import jax.numpy as jnp
import mctx

from envs import Env
from envs.core import where
from jaxzero.models import Model, Root
from jaxzero.models.simulator import mask
from jaxzero.search import base
from jaxzero.search.base import Search, SearchOutput
from jaxzero.search.gumbel import GumbelConfig, gumbel_noise, improved_policy
from jaxzero.search.puct import PuctConfig, noisy_logits


def converted(root: Root) -> mctx.RootFnOutput:
    return mctx.RootFnOutput(**root._asdict())


def stepping(model: Model) -> mctx.RecurrentFn:
    def recurrent(params, key, action, embedding):
        step, after = model.decision(params, key, action, embedding)
        return mctx.RecurrentFnOutput(**step._asdict()), after

    return recurrent


def gumbel(config: GumbelConfig, env: Env, model: Model, simulations: int) -> Search:
    transform = partial(
        mctx.qtransform_completed_by_mix_value, value_scale=config.value_scale, rescale_values=config.rescale_values
    )
    halving = partial(
        mctx.gumbel_muzero_root_action_selection, qtransform=transform, num_simulations=simulations,
        max_num_considered_actions=min(config.max_considered, simulations),
    )  # fmt: skip
    inside = partial(mctx.gumbel_muzero_interior_action_selection, qtransform=transform)

    def search_root(params, keys, root, legal, explore, kept):
        noise = gumbel_noise(keys, env.num_actions) if explore else jnp.zeros_like(root.prior_logits)
        tree = mctx.search(
            params, keys[0], root=converted(root), recurrent_fn=stepping(model), num_simulations=simulations,
            max_depth=config.max_depth or None, root_action_selection_fn=halving,
            interior_action_selection_fn=inside,
            invalid_actions=~legal, extra_data=mctx.GumbelMuZeroExtraData(root_gumbel=noise),
        )  # fmt: skip
        summary = tree.summary()
        completed = jax.vmap(transform, in_axes=(0, None))(tree, tree.ROOT_INDEX)
        most = summary.visit_counts == summary.visit_counts.max(-1, keepdims=True)
        best = jnp.argmax(where(most & legal, root.prior_logits + completed + noise, -jnp.inf), -1)
        policy = improved_policy(root.prior_logits, completed)
        tried = mask(root.prior_logits, summary.visit_counts > 0)
        value = (improved_policy(tried, completed) * summary.qvalues).sum(-1)
        output = SearchOutput(best, policy, value, jnp.ones_like(value), summary.visit_counts, summary.qvalues)
        return output, None

    return base.make(config, env, model, search_root)


def puct(config: PuctConfig, env: Env, model: Model, simulations: int) -> Search:
    qtransform = mctx.qtransform_by_parent_and_siblings
    if env.num_players > 1:
        qtransform = partial(mctx.qtransform_by_min_max, min_value=-1.0, max_value=1.0)

    def select(key, tree, node_index, depth):
        # The key depends on the batch, so ties are broken by a key of the game.
        del key
        tie_key = jax.random.fold_in(tree.extra_data, tree.node_visits[0] * (simulations + 1) + node_index)
        return mctx.muzero_action_selection(
            tie_key, tree, node_index, depth, pb_c_init=config.c_puct, qtransform=qtransform
        )

    def search_root(params, keys, root, legal, explore, kept):
        ties = jax.vmap(partial(jax.random.fold_in, data=1))(keys)
        if explore:
            noisy = jax.vmap(partial(noisy_logits, config))(keys, root.prior_logits, legal)
            root = root._replace(prior_logits=noisy)
        tree = mctx.search(
            params, keys[0], root=converted(root), recurrent_fn=stepping(model), num_simulations=simulations,
            max_depth=config.max_depth or None, root_action_selection_fn=partial(select, depth=0),
            interior_action_selection_fn=select, invalid_actions=~legal, extra_data=ties,
        )  # fmt: skip
        summary = tree.summary()
        best = jnp.argmax(where(legal, summary.visit_probs, -1.0), -1)
        value = summary.value
        weight = jnp.ones_like(value)
        return SearchOutput(best, summary.visit_probs, value, weight, summary.visit_counts, summary.qvalues), None

    return base.make(config, env, model, search_root)
