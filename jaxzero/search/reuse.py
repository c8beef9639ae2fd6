"""Subtree reuse: a search starts from the last search's subtree below the move played.

Between moves the subtree is stored with games first, [B, ...], like everything that a game in play carries. Games of
chance do not reuse subtrees (`validation` refuses that): the outcome after a move is not known yet, so the subtrees of
all outcomes would have to be carried, and each has only its share of the visits.
Letters as in `tree`; R nodes kept.
"""

import dataclasses

import jax
import jax.numpy as jnp

from envs.core import where
from jaxzero.search.tree import Tree, find_untried, lookup, update_nodes


def games_first(tree: Tree) -> Tree:
    """The tree with all fields [B, N, ...]."""
    return jax.tree.map(lambda field: jnp.moveaxis(field, 1, 0), _nodes_first(tree))


def games_second(tree: Tree) -> Tree:
    """The inverse of `games_first`: the tree as a search has it."""
    return _as_in_search(jax.tree.map(lambda field: jnp.moveaxis(field, 0, 1), tree))


def _nodes_first(tree: Tree) -> Tree:
    """The tree with all fields [N, B, ...]."""
    node_data = jnp.moveaxis(tree.node_data.reshape(len(tree.node_data), -1, tree.batch), 0, -1)
    return dataclasses.replace(tree, children_index=jnp.swapaxes(tree.children_index, 1, 2), node_data=node_data)


def _as_in_search(tree: Tree) -> Tree:
    node_data = jnp.moveaxis(tree.node_data, -1, 0).reshape(tree.node_data.shape[-1], -1)
    return dataclasses.replace(tree, children_index=jnp.swapaxes(tree.children_index, 1, 2), node_data=node_data)


def reroot(tree: Tree, child: jax.Array, room: int) -> Tree:
    """The subtree of `child` i32[B] as a tree of `room` nodes; empty where there is none or it has more nodes."""
    size, batch = tree.size, tree.batch

    def descends(i, keep):
        return keep.at[i].set((child > 0) & ((child == i) | lookup(keep, tree.parent[i].astype(jnp.int32))))

    keep = jax.lax.fori_loop(1, size, descends, jnp.zeros((size, batch), bool))  # parents come first
    index = jnp.cumsum(keep, 0, dtype=jnp.int32) - 1
    fits = (child > 0) & (index[-1] < room)
    game = jnp.broadcast_to(jnp.arange(batch), keep.shape)
    node = jnp.broadcast_to(jnp.arange(size)[:, None], keep.shape)
    order = jnp.zeros((room, batch), jnp.int32)
    order = order.at[where(keep & fits[None], index, room), game].set(node, mode="drop")
    kept = _as_in_search(jax.tree.map(lambda field: lookup(field, order), _nodes_first(tree)))
    new = lambda nodes: lookup(index, nodes.astype(jnp.int32))  # noqa: E731
    children = jnp.moveaxis(new(jnp.moveaxis(kept.children_index, 1, 0)), 0, 1)
    kept = update_nodes(kept, node[:room], parent=new(kept.parent))
    node_data = kept.node_data.at[:, :batch].set(where(fits[None], kept.node_data[:, :batch], 0))
    return dataclasses.replace(kept, children_index=children.astype(jnp.int16), node_data=node_data)


def graft(kept: Tree, fresh: Tree) -> Tree:
    """`fresh`, a root with room, with the kept subtree below its root; the root has the priors of `fresh`.

    New nodes begin at R.
    """
    room = kept.size

    def below(field, stored):
        return field.at[1:room].set(stored[1:])

    tree = _as_in_search(jax.tree.map(below, _nodes_first(fresh), _nodes_first(kept)))
    seen = kept.visits[0] > 0
    child = kept.children_index[0].astype(jnp.int32)  # [C, B]
    tried = jnp.arange(child.shape[0])[:, None] < kept.num_children[0][None]
    action = lookup(kept.action, child).astype(jnp.int32)
    slot = action if tree.actions is None else _slot_of(tree.actions[0], action)
    tried &= slot < tree.prior_logits.shape[-1]
    root = jnp.zeros_like(child)
    logit = lookup(tree.prior_logits, root, where(tried, slot, 0)) - tree.log_total[:1]
    nowhere = where(tried, child, tree.size)
    game = jnp.broadcast_to(jnp.arange(child.shape[1]), child.shape)
    row = tree.prior_logits[0].at[game, where(tried, slot, tree.prior_logits.shape[-1])].set(-jnp.inf, mode="drop")
    untried = find_untried(row, None if tree.dropped_logit is None else tree.dropped_logit[0])
    value, visits = where(seen, kept.value[0], fresh.value[0]), jnp.maximum(kept.visits[0], 1)
    node = jnp.zeros_like(game[0])
    tree = update_nodes(update_nodes(tree, nowhere, prior_logit=logit), node, value=value, visits=visits)
    tree = update_nodes(tree, node, num_children=kept.num_children[0], **untried._asdict())
    return dataclasses.replace(
        tree,
        prior_logits=tree.prior_logits.at[0].set(row),
        children_index=tree.children_index.at[0].set(kept.children_index[0]),
    )


def _slot_of(actions: jax.Array, action: jax.Array) -> jax.Array:
    """The slots i32[C, B] that hold the actions [C, B], among those of the slots i16[B, K]; K where none does."""
    same = actions.T[None] == action[:, None]  # [C, K, B]
    order = jax.lax.broadcasted_iota(jnp.int32, same.shape, 1)
    return where(same, order, actions.shape[-1]).min(1)
