"""Subtree reuse: what was found below the move played is where the next search begins.

Between moves the subtree is kept with games first, [B, ...], like everything that a game in play carries. Not in games
of chance (`validation` refuses that): which outcome follows a move is known only after it, so the subtrees of
all would have to be carried, and as these share the visits by probability, little of them would go on.
Letters as in `tree`; R nodes kept.
"""

import dataclasses

import jax
import jax.numpy as jnp

from envs.core import where
from jaxzero.search.tree import Tree, at, find_untried, put


def outward(tree: Tree) -> Tree:
    """Games first."""
    return jax.tree.map(lambda field: jnp.moveaxis(field, 1, 0), _nodes_first(tree))


def inward(tree: Tree) -> Tree:
    """As in a search."""
    return _as_in_a_search(jax.tree.map(lambda field: jnp.moveaxis(field, 0, 1), tree))


def _nodes_first(tree: Tree) -> Tree:
    """All fields as [N, B, ...]."""
    facts = jnp.moveaxis(tree.facts.reshape(len(tree.facts), -1, tree.batch), 0, -1)
    return dataclasses.replace(tree, child=jnp.swapaxes(tree.child, 1, 2), facts=facts)


def _as_in_a_search(tree: Tree) -> Tree:
    facts = jnp.moveaxis(tree.facts, -1, 0).reshape(tree.facts.shape[-1], -1)
    return dataclasses.replace(tree, child=jnp.swapaxes(tree.child, 1, 2), facts=facts)


def reroot(tree: Tree, child: jax.Array, room: int) -> Tree:
    """The subtree of `child` i32[B] as a tree of `room` nodes; without visits where there is none or it is larger."""
    size, batch = tree.size, tree.batch

    def descends(i, keep):
        return keep.at[i].set((child > 0) & ((child == i) | at(keep, tree.parent[i].astype(jnp.int32))))

    keep = jax.lax.fori_loop(1, size, descends, jnp.zeros((size, batch), bool))  # parents come first
    index = jnp.cumsum(keep, 0, dtype=jnp.int32) - 1
    fits = (child > 0) & (index[-1] < room)
    game = jnp.broadcast_to(jnp.arange(batch), keep.shape)
    node = jnp.broadcast_to(jnp.arange(size)[:, None], keep.shape)
    order = jnp.zeros((room, batch), jnp.int32)
    order = order.at[where(keep & fits[None], index, room), game].set(node, mode="drop")
    kept = _as_in_a_search(jax.tree.map(lambda field: at(field, order), _nodes_first(tree)))
    new = lambda nodes: at(index, nodes.astype(jnp.int32))  # noqa: E731
    children = jnp.moveaxis(new(jnp.moveaxis(kept.child, 1, 0)), 0, 1)
    kept = put(kept, node[:room], parent=new(kept.parent))
    facts = kept.facts.at[:, :batch].set(where(fits[None], kept.facts[:, :batch], 0))
    return dataclasses.replace(kept, child=children.astype(jnp.int16), facts=facts)


def replant(kept: Tree, planted: Tree) -> Tree:
    """`planted` (a root and room) with the kept subtree below its root, whose priors are those of `planted`.

    New nodes begin at R.
    """
    room = kept.size

    def below(field, stored):
        return field.at[1:room].set(stored[1:])

    tree = _as_in_a_search(jax.tree.map(below, _nodes_first(planted), _nodes_first(kept)))
    seen = kept.visits[0] > 0
    child = kept.child[0].astype(jnp.int32)  # [C, B]
    tried = jnp.arange(child.shape[0])[:, None] < kept.children[0][None]
    action = at(kept.action, child).astype(jnp.int32)
    slot = action if tree.actions is None else _slot_of(tree.actions[0], action)
    tried &= slot < tree.priors.shape[-1]
    root = jnp.zeros_like(child)
    logit = at(tree.priors, root, where(tried, slot, 0)) - tree.total[:1]
    nowhere = where(tried, child, tree.size)
    game = jnp.broadcast_to(jnp.arange(child.shape[1]), child.shape)
    row = tree.priors[0].at[game, where(tried, slot, tree.priors.shape[-1])].set(-jnp.inf, mode="drop")
    untried = find_untried(row, None if tree.dropped is None else tree.dropped[0])
    value, visits = where(seen, kept.value[0], planted.value[0]), jnp.maximum(kept.visits[0], 1)
    node = jnp.zeros_like(game[0])
    tree = put(put(tree, nowhere, logit=logit), node, value=value, visits=visits)
    tree = put(tree, node, number=kept.number[0], **untried._asdict())
    return dataclasses.replace(tree, priors=tree.priors.at[0].set(row), child=tree.child.at[0].set(kept.child[0]))


def _slot_of(actions: jax.Array, action: jax.Array) -> jax.Array:
    """Slots [C, B] that hold the actions [C, B], of i16[B, K]; K where none does."""
    same = actions.T[None] == action[:, None]  # [C, K, B]
    order = jax.lax.broadcasted_iota(jnp.int32, same.shape, 1)
    return where(same, order, actions.shape[-1]).min(1)
