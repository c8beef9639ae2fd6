"""Forced playouts and policy target pruning (Wu 2019, "Accelerating self-play learning in Go", section 3.2).

Forced playouts follow the root's noise far enough to see whether it has found a good move. Pruning takes them out of
the policy target again, so that the target does not teach the noise.

Letters as in `tree`.
"""

import jax
import jax.numpy as jnp

from envs.core import where
from jaxzero.search import simulation
from jaxzero.search import tree as tree_lib


def forced_playouts(k: float, children: tree_lib.Children) -> jax.Array:
    """f32[W, L, B]: playouts that each child of a root must get, √(k · prior · playouts so far)."""
    return jnp.sqrt(k * jnp.exp(children.prior_logit) * (children.node_visits - 1))


def rule(plain: simulation.Rule, k: float, children: tree_lib.Children) -> tuple[jax.Array, jax.Array]:
    """The rule of the root: children with too few playouts first, then the plain rule."""
    scores, untried_score = plain(children)
    return where(children.visits < forced_playouts(k, children), jnp.inf, scores), untried_score


def prune(plain: simulation.Rule, tree: tree_lib.Tree, k: float) -> jax.Array:
    """f32[C, B]: visits of the root's children without the playouts that the plain rule would not have chosen.

    Every child but the most visited one (the likeliest of several) loses up to `forced_playouts`, as long as the plain
    rule, with unchanged values, still prefers the most visited one. A child left with a single visit loses that too.
    """
    root = jnp.zeros((1, tree.batch), jnp.int32)
    children, _ = tree_lib.read_children(tree, root, tree.children_index.shape[1], 0)
    tried, forced = children.tried, jnp.floor(forced_playouts(k, children))
    visits = where(tried, children.visits, 0.0)
    order = jnp.arange(len(visits))[:, None, None]
    best = order == where(visits == visits.max(0)[None], order, len(visits)).min(0)[None]
    highest = where(best, plain(children)[0], -jnp.inf).max(0)

    def subtract(i, left):
        fewer = left - 1
        score = plain(children._replace(visits=fewer))[0]
        return where((i < forced) & (fewer >= 0) & (score < highest[None]), fewer, left)

    most = where(tried & ~best, forced, 0.0).max().astype(jnp.int32)
    left = jax.lax.fori_loop(0, most, subtract, visits)
    return where(best, visits, where(left > 1, left, 0.0))[:, 0]
