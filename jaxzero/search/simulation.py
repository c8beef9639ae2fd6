"""One simulation of a tree search: selection, expansion and backup, with mctx's meaning.

Selection compares a node's children and its likeliest untried action. The path is recorded on the way down, and the
backup walks it: only nodes on the path are written.

Letters as in `tree`.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.backend import materialized
from envs.core import where
from jaxzero.models import Model, Params
from jaxzero.search import backend, chance
from jaxzero.search.backend import NON_NEGATIVE, zeros_after
from jaxzero.search.tree import (
    Children,
    NextAction,
    Tree,
    add_nodes,
    link_child,
    lookup,
    next_untried,
    read_children,
    read_nodes,
    update_nodes,
)

Rule = Callable[[Children], tuple[jax.Array, jax.Array]]
"""Scores of the children f32[W, L, B] and of the likeliest untried action f32[1, L, B]; the highest is selected."""


class Start(NamedTuple):
    """A root action for each lane to begin with; [L, B]."""

    action: jax.Array  # i32
    child: jax.Array  # i32  its node; 0: not expanded yet
    active: jax.Array  # bool  false: the lane does nothing


class TreeSearch(NamedTuple):
    """What stays the same during one search."""

    model: Model
    params: Params
    rule: Rule
    num_actions: int
    num_outcomes: int
    max_depth: int
    root_rule: Rule | None = None  # at the root, where that differs


# What a lane does next: it goes on, stops at its node, or expands an untried action of it.
SELECTING, STOPPED, EXPANDING = np.arange(3, dtype=np.int32)


class Descent(NamedTuple):
    """The state of selection."""

    depth: jax.Array  # i32[]  steps below the root
    branch: jax.Array  # i32[]  the code that the next step takes, from 1 on; 0: no lane is selecting
    node: jax.Array  # i32[L, B]
    state: jax.Array  # i32[L, B]
    path: jax.Array  # i32[R, L, B]  node at depth d in row d + levels - 1; N: none; R >= N + levels - 1


class Expansion(NamedTuple):
    """Where lanes expand the tree; [L, B]."""

    parent: jax.Array  # i32
    expands: jax.Array  # bool  false: nothing is tried here
    links: jax.Array  # bool  false: nothing is linked here
    action: jax.Array  # i32
    next_action: NextAction
    new: jax.Array  # i32[]  the first of L free nodes
    leaf: jax.Array  # i32[L, 1]  these nodes


def simulate(
    search: TreeSearch, tree: Tree, key: jax.Array, new: jax.Array, start: Start | None = None
) -> tuple[Tree, jax.Array]:
    """Runs one simulation a lane, which expands into nodes `new`, `new` + 1, …

    Without `start` there is one lane, which begins at the root by the rule. With it the caller keeps account of the
    root, which is not written.

    Returns:
        The tree, and the nodes i32[L, B] that were linked (or would have been, without `start`).
    """
    down = descend(search, tree, start)
    parent, expands = down.node, down.state == EXPANDING
    next_action = next_untried(tree, parent)
    slot = next_action.slot
    action = slot if tree.actions is None else lookup(tree.actions, parent, slot).astype(jnp.int32)
    links = expands
    if start is not None:
        action, links = where(parent == 0, start.action, action), expands & (parent > 0)
    # All writes below depend on `action`, so they come after the reads above.
    action += zeros_after(next_action.left.mass)

    leaf = new + jnp.arange(len(parent))[:, None]
    expansion = Expansion(parent, expands, links, action, next_action, new, leaf)
    expand_tree = expand if search.model.chance is None else expand_with_chance
    tree, leaf_return, node = expand_tree(search, tree, key, expansion)
    length = down.depth + (start is None)
    return backup(search, tree, down, length, where(expands, leaf_return, next_action.raw_value)), node


def select_child(search: TreeSearch, rule: Rule, tree: Tree, width: int, node: jax.Array) -> jax.Array:
    """The child i32[L, B] that the rule selects at each node, which has at most `width`; 0: the untried action.

    Among equal scores the child that was tried first wins: the likelier one, then the one of lower index.
    """
    children, child = read_children(tree, node, width, search.num_actions)
    scores, untried_score = rule(children)
    if tree.chance is not None:
        here, (outcome_scores, untried_outcome) = lookup(tree.chance, node), chance.rule(children)
        scores = where(here[None], outcome_scores, scores)
        untried_score = where(here[None], untried_outcome, untried_score)
    scores = where(children.tried, scores, -jnp.inf)
    highest = scores.max(0)
    # Nodes are numbered as they are created, so of equals the lowest index is the first.
    best = where(scores == highest[None], child, tree.size).min(0)
    return where(highest >= untried_score[0], best, 0)


def branch_needed(tree: Tree, node: jax.Array, state: jax.Array) -> jax.Array:
    """i32[]: which of `child_widths`, from 1 on, fits all nodes [L, B] of selecting lanes; 0 where none selects."""
    branch = (state.min() == SELECTING).astype(jnp.int32)
    for width in backend.child_widths(tree.children_index.shape[1])[:-1]:
        branch += ((state == SELECTING) & (lookup(tree.num_children, node) > width)).any()
    return branch


def select_by_branch(branches: list[Callable[[jax.Array], jax.Array]], branch: jax.Array, node: jax.Array) -> jax.Array:
    return jax.lax.switch(branch - 1, branches, node) if len(branches) > 1 else branches[0](node)


def levels_at_once(tree: Tree, lanes: int) -> int:
    """Levels that are backed up together; one with chance, where a node's value depends on its children."""
    return backend.levels_per_backup(lanes) if tree.chance is None else 1


def descend(search: TreeSearch, tree: Tree, start: Start | None) -> Descent:
    """Selects down to an untried action, or to a node that is not expanded: terminal, or at the greatest depth."""
    lanes = 1 if start is None else len(start.child)
    ahead, stride = levels_at_once(tree, lanes) - 1, backend.levels_per_descent(lanes)
    rows = tree.size + ahead + stride - 1

    def step_down(now: Descent, child: jax.Array) -> Descent:
        """Moves the selecting lanes to a child, or (0) to the expansion of an untried action."""
        depth, deeper = now.depth + 1, (now.state == SELECTING) & (child > 0)
        deepest = depth >= search.max_depth
        if tree.chance is not None:
            deepest &= ~lookup(tree.chance, child)
        stopped = (lookup(tree.discount, child) == 0) | deepest
        state = where(child == 0, EXPANDING, where(stopped, STOPPED, SELECTING))
        state = where(now.state == SELECTING, state, now.state)
        on_path = where(deeper, child, tree.size)[None]
        path = jax.lax.dynamic_update_slice_in_dim(now.path, on_path, depth + ahead, 0, **NON_NEGATIVE)
        node = where(deeper, child, now.node)
        return Descent(depth, branch_needed(tree, node, state), node, state, path)

    root = jnp.zeros((lanes, tree.batch), jnp.int32)
    path = jnp.full((rows, *root.shape), tree.size, jnp.int32)
    below, first = (
        [
            partial(select_child, search, rule, tree, width)
            for width in backend.child_widths(tree.children_index.shape[1])
            if rule
        ]
        for rule in (search.rule, search.root_rule)
    )
    if start is None:
        state, path = root + SELECTING, path.at[ahead].set(0)
        branch = branch_needed(tree, root, state)
    else:
        branch, state = jnp.int32(1), where(start.active, SELECTING, STOPPED)
        first = [lambda node: start.child]
    begin = Descent(jnp.int32(0), branch, root, state, path)
    if first and not backend.first_step_in_loop():
        begin, first = step_down(begin, select_by_branch(first, branch, root)), []
    elif first:
        begin = begin._replace(branch=branch + len(below))

    def steps(now: Descent) -> Descent:
        for _ in range(stride):
            now = step_down(now, select_by_branch(below + first, now.branch, now.node))
        return now

    # The second condition always holds. XLA tries to count the steps of a loop that a single number ends, in vain.
    return jax.lax.while_loop(lambda now: (now.branch > 0) & (now.depth < rows), steps, begin)


def expand(search: TreeSearch, tree: Tree, key: jax.Array, expansion: Expansion) -> tuple[Tree, jax.Array, jax.Array]:
    """Adds the position after each action.

    Returns:
        The tree, the returns f32[L, B] in the view of the parents' movers, and the new nodes i32[L, B].
    """
    embeddings = embeddings_of(tree, expansion.parent)
    step, embedding = search.model.decision(search.params, key, flat(expansion.action), embeddings)
    step = step._replace(value=materialized(step.value))
    tree = add_nodes(
        tree, expansion.new, embedding, step.prior_logits, step.value, step.reward, step.discount,
        flat(expansion.parent * expansion.expands), flat(expansion.action), flat(expansion.next_action.logit),
    )  # fmt: skip
    tree = link_child(tree, expansion.parent, expansion.links, expansion.leaf, expansion.next_action)
    leaf_return = (step.reward + step.discount * step.value).reshape(expansion.parent.shape)
    return tree, leaf_return, jnp.broadcast_to(expansion.leaf, leaf_return.shape)


def expand_with_chance(
    search: TreeSearch, tree: Tree, key: jax.Array, expansion: Expansion
) -> tuple[Tree, jax.Array, jax.Array]:
    """`expand` in a game with chance.

    An action that leaves an outcome due adds two nodes: the afterstate, and the decision after its likeliest outcome.
    Any other action, and any outcome, adds one.
    """
    assert tree.chance is not None
    here = lookup(tree.chance, expansion.parent)
    action, resolving, prior_logit = flat(expansion.action), flat(here), flat(expansion.next_action.logit)
    result = chance.step(search.model, search.params, key, action, embeddings_of(tree, expansion.parent), resolving)
    after, step, due = result.afterstate, result.step, result.due
    both = after.due & ~resolving
    # The afterstate. Where there is none it is not linked, and so never seen.
    value = step.discount * step.value
    half = (tree.size - 1) // 2
    tree = add_nodes(
        tree, expansion.new + half, result.afterstate_embedding, after.logits, value, after.reward, after.discount,
        jnp.zeros_like(action), action, prior_logit, chance=True,
    )  # fmt: skip
    # The decision. Parents serve subtree reuse, which is not for games with chance.
    reward, discount = where(due, 0.0, after.reward), where(due, step.discount, after.discount)
    edge = where(due, result.outcome, action), where(both, result.outcome_logit, prior_logit)
    no_parent = jnp.zeros_like(action)
    tree = add_nodes(
        tree, expansion.new, result.embedding, step.prior_logits, step.value, reward, discount, no_parent, *edge
    )

    value = where(due, value, step.value)
    leaf_return, both = (x.reshape(here.shape) for x in (after.reward + after.discount * value, both))
    node = where(both, expansion.leaf + half, expansion.leaf)
    tree = link_child(tree, expansion.parent, expansion.links, node, expansion.next_action)
    tree = link_child(tree, node, both, expansion.leaf, next_untried(tree, node))
    return tree, leaf_return, node


def flat(x: jax.Array) -> jax.Array:
    """[L, B, ...] -> [L · B, ...]"""
    return x.reshape(-1, *x.shape[2:])


def embeddings_of(tree: Tree, node: jax.Array) -> Any:
    """The embeddings [L · B, ...] of nodes [L, B]."""
    return jax.tree.map(lambda field: flat(lookup(field, node)), tree.embedding)


def backup(search: TreeSearch, tree: Tree, down: Descent, length: jax.Array, leaf_return: jax.Array) -> Tree:
    """Adds `leaf_return` f32[L, B], in the view of the last node of each path, to all nodes of the paths.

    `length` i32[] is the number of nodes of the longest path. The value of a chance node is the expectation over its
    children, and a change of it counts for all its visits: the mean of a node above is always that of its children's
    present values.
    """
    levels = levels_at_once(tree, len(leaf_return))

    def step(i, carry):
        now, returns = dataclasses.replace(tree, node_data=carry[0]), carry[1]
        first = down.depth - i * levels
        node = jax.lax.dynamic_slice_in_dim(down.path, first, levels, **NON_NEGATIVE)  # [levels, L, B]
        here = node < tree.size
        inside = where(here, node, 0)
        reward, discount, before, visits = read_nodes(now, inside, "reward", "discount", "value", "visits")
        due = mean = None
        if tree.chance is not None:
            width = min(tree.children_index.shape[1], search.num_outcomes)
            children, _ = read_children(now, inside[0], width, search.num_actions)
            due, mean = lookup(tree.chance, inside), chance.expectation(children)[None]
            returns = where(due, mean + visits * (mean - before), returns[None])[0]
        all_returns = [returns]
        for j in reversed(range(levels)):
            returns = where(here[j], reward[j] + discount[j] * returns, returns)
            all_returns.append(returns)
        value = (before * visits + jnp.stack(all_returns[-2::-1])) / (visits + 1)
        if due is not None:
            value = where(due, mean, value)
        now = update_nodes(now, node, value=value, visits=visits + 1, qvalue=reward + discount * value)
        return now.node_data, returns

    node_data, _ = jax.lax.fori_loop(0, -(-length // levels), step, (tree.node_data, leaf_return))
    return dataclasses.replace(tree, node_data=node_data)
