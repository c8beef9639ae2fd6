"""Forced playouts and policy target pruning (Wu 2019, "Accelerating self-play learning in Go", section 3.2).

Forced playouts follow the root's noise far enough to see whether it has found something. What they cost is taken out
of the policy target again, so that it does not teach the noise.

Letters as in `tree`.
"""

import jax
import jax.numpy as jnp

from envs.core import where
from jaxzero.search import simulation
from jaxzero.search import tree as tree_lib
from jaxzero.search.tree import each


def number(k: float, children: tree_lib.Children) -> tree_lib.Chunks:
    """f32[W, L, B]: playouts that each child of a root is owed, √(k · prior · playouts so far)."""
    return each(lambda logit: jnp.sqrt(k * jnp.exp(logit) * (children.node_visits - 1)), children.prior_logit)


def rule(plain: simulation.Rule, k: float, children: tree_lib.Children) -> tuple[tree_lib.Chunks, jax.Array]:
    """At the root: a child that is owed playouts comes first, else as the plain rule says."""
    scores, other = plain(children)
    first = lambda visits, owed, score: where(visits < owed, jnp.inf, score)  # noqa: E731
    return each(first, children.visits, number(k, children), scores), other


def prune(plain: simulation.Rule, tree: tree_lib.Tree, k: float) -> jax.Array:
    """f32[C, B]: visits of the root's children without the playouts that the plain rule would not have chosen.

    From every child but the most visited (the likeliest of several) up to `number` playouts are subtracted, as long as
    the plain rule, its values unchanged, would still choose the most visited one before it. A single one left is none.
    """
    root = jnp.zeros((1, tree.batch), jnp.int32)
    children, _ = tree_lib.read_children(tree, root, tree.children_index.shape[1], 0)
    tried, visits, owed = (
        jnp.concatenate(x) for x in (children.tried, children.visits, each(jnp.floor, number(k, children)))
    )
    visits = where(tried, visits, 0.0)
    order = jnp.arange(len(visits))[:, None, None]
    best = order == where(visits == visits.max(0)[None], order, len(visits)).min(0)[None]
    highest = where(best, jnp.concatenate(plain(children)[0]), -jnp.inf).max(0)

    def subtract(i, left):
        fewer = left - 1
        score = jnp.concatenate(plain(children._replace(visits=tree_lib.chunks(fewer)))[0])
        return where((i < owed) & (fewer >= 0) & (score < highest[None]), fewer, left)

    most = where(tried & ~best, owed, 0.0).max().astype(jnp.int32)
    left = jax.lax.fori_loop(0, most, subtract, visits)
    return where(best, visits, where(left > 1, left, 0.0))[:, 0]
