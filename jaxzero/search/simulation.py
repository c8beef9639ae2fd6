"""Simulations on a tree, with mctx's meaning and a small part of its cost: down, one node more, and back up.

Choosing among a node's children looks at the tried ones and the likeliest untried one alone. The path is recorded on
the way down and walked back up; only the nodes on it are written.

Letters as in `tree`.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import backend
from envs.core import where
from jaxzero.models import Model, Params
from jaxzero.search import chance
from jaxzero.search.indexing import UNSIGNED
from jaxzero.search.tree import (
    FEW,
    Children,
    Chunks,
    NextAction,
    Tree,
    add_nodes,
    each,
    fold,
    link_child,
    lookup,
    next_untried,
    read_children,
    read_nodes,
    update_nodes,
    zeros_after,
)

SOME = 32  # children that are looked at at once whether they are there or not

Rule = Callable[[Children], tuple[Chunks, jax.Array]]
"""Scores of the children f32[W, L, B] and of the likeliest untried action f32[1, L, B]; the highest is chosen."""


class Start(NamedTuple):
    """Where lanes begin: a root action each. [L, B]."""

    action: jax.Array  # i32
    child: jax.Array  # i32  its node; 0: none yet
    active: jax.Array  # bool  false: the lane does nothing


class TreeSearch(NamedTuple):
    """What stays the same in one search."""

    model: Model
    params: Params
    rule: Rule
    num_actions: int
    num_outcomes: int
    max_depth: int
    root_rule: Rule | None = None  # at the root, where that differs


def widths(tree: Tree) -> list[int]:
    """Numbers of children that there is code for. On a CPU a first width pays only where there may be many children: it
    takes XLA a tenth longer, and a search of 32 simulations is at most 5 % faster by it, with the smallest network."""
    most = tree.children_index.shape[1]
    steps = (128, 512) if backend.accelerated() else (FEW, 128) if most > SOME else ()
    return [width for width in steps if width < most] + [most]


def width_needed(tree: Tree, node: jax.Array, state: jax.Array) -> jax.Array:
    """i32[]: which of `widths`, from 1 on, the nodes [L, B] need where a lane runs; 0 where none does."""
    way = (state.min() == RUNS).astype(jnp.int32)
    for width in widths(tree)[:-1]:
        way += ((state == RUNS) & (lookup(tree.num_children, node) > width)).any()
    return way


def choose(search: TreeSearch, rule: Rule, tree: Tree, width: int, node: jax.Array) -> jax.Array:
    """The child i32[L, B] that the rule picks at each node, of no more than `width`; 0: the likeliest untried action.

    Among equals the one tried first wins, which is the likelier one, then the one of lower index.
    """
    children, child = read_children(tree, node, width, search.num_actions)
    scores, other = rule(children)
    if tree.chance is not None:
        here, (lag, first) = lookup(tree.chance, node), chance.rule(children)
        scores = each(lambda lag, score: where(here[None], lag, score), lag, scores)
        other = where(here[None], first, other)
    scores = each(lambda tried, score: where(tried, score, -jnp.inf), children.tried, scores)
    highest, best = fold(better, (-np.inf, tree.size), scores, child)
    return where(highest >= other, best, 0)[0]


def follow(ways: list[Callable[[jax.Array], jax.Array]], way: jax.Array, node: jax.Array) -> jax.Array:
    return jax.lax.switch(way - 1, ways, node) if len(ways) > 1 else ways[0](node)


def better(x: tuple[jax.Array, jax.Array], y: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The higher of two scores with its child; the lower child among equals."""
    first = (x[0] > y[0]) | ((x[0] == y[0]) & (x[1] < y[1]))
    return where(first, x, y)


def levels_at_once(tree: Tree, lanes: int) -> int:
    """Levels that are backed up together, fewer where there are lanes enough to keep a step of the loop busy. What a
    chance node is worth depends on its children, so there it is one."""
    return max(1, (8 if backend.accelerated() else 4) // lanes) if tree.chance is None else 1


RUNS, STAYS, EXPANDS = np.arange(3, dtype=np.int32)  # a lane goes on; ends at its node; tries an untried action of it


class Descent(NamedTuple):
    """Where lanes have come to."""

    depth: jax.Array  # i32[]  steps below the root
    way: jax.Array  # i32[]  the code for the next step, from 1 on; 0: no lane runs
    node: jax.Array  # i32[L, B]
    state: jax.Array  # i32[L, B]
    path: jax.Array  # i32[R, L, B]  node at depth d in row d + levels - 1; N: none; R >= N + levels - 1


def descend(search: TreeSearch, tree: Tree, start: Start | None) -> Descent:
    """Down to where an untried action is chosen, or to a node that is not expanded: an end, or as deep as allowed."""
    lanes = 1 if start is None else len(start.child)
    ahead, stride = levels_at_once(tree, lanes) - 1, max(1, 4 // lanes) if backend.accelerated() else 1
    rows = tree.size + ahead + stride - 1

    def go(now: Descent, child: jax.Array) -> Descent:
        """A step of the running lanes, to a child or (0) to an untried action."""
        depth, deeper = now.depth + 1, (now.state == RUNS) & (child > 0)
        deepest = depth >= search.max_depth
        if tree.chance is not None:
            deepest &= ~lookup(tree.chance, child)
        state = where(child == 0, EXPANDS, where((lookup(tree.discount, child) == 0) | deepest, STAYS, RUNS))
        state = where(now.state == RUNS, state, now.state)
        on_path = where(deeper, child, tree.size)[None]
        path = jax.lax.dynamic_update_slice_in_dim(now.path, on_path, depth + ahead, 0, **UNSIGNED)
        node = where(deeper, child, now.node)
        return Descent(depth, width_needed(tree, node, state), node, state, path)

    root = jnp.zeros((lanes, tree.batch), jnp.int32)
    path = jnp.full((rows, *root.shape), tree.size, jnp.int32)
    below, first = (
        [partial(choose, search, rule, tree, width) for width in widths(tree) if rule]
        for rule in (search.rule, search.root_rule)
    )
    if start is None:
        state, path = root + RUNS, path.at[ahead].set(0)
        way = width_needed(tree, root, state)
    else:
        way, state, first = jnp.int32(1), where(start.active, RUNS, STAYS), [lambda node: start.child]
    begin = Descent(jnp.int32(0), way, root, state, path)
    if first and backend.accelerated():
        begin, first = go(begin, follow(first, way, root)), []
    elif first:  # on a CPU the first step is a branch in the loop, so that `go` is compiled once
        begin = begin._replace(way=way + len(below))

    def steps(now: Descent) -> Descent:
        for _ in range(stride):
            now = go(now, follow(below + first, now.way, now.node))
        return now

    # The second condition always holds. XLA tries to count the steps of a loop that a single number ends, in vain.
    return jax.lax.while_loop(lambda now: (now.way > 0) & (now.depth < rows), steps, begin)


def simulate(
    search: TreeSearch, tree: Tree, key: jax.Array, new: jax.Array, start: Start | None = None
) -> tuple[Tree, jax.Array]:
    """One simulation a lane: down, expand into nodes `new`, `new` + 1, …, and back up. Returns the nodes [L, B] too
    that were (or would have been) linked to.

    Without a start there is one lane, which begins at the root by the rule. With one, the caller keeps account of the
    root.
    """
    down = descend(search, tree, start)
    parent, expand = down.node, down.state == EXPANDS
    due = next_untried(tree, parent)
    action = due.slot if tree.actions is None else lookup(tree.actions, parent, due.slot).astype(jnp.int32)
    links = expand
    if start is not None:
        action, links = where(parent == 0, start.action, action), expand & (parent > 0)
    action += zeros_after(due.left.mass)  # all that is written depends on it

    expansion = Expansion(parent, expand, links, action, due, new, new + jnp.arange(len(parent))[:, None])
    tree, gain, node = (expand_leaf if search.model.chance is None else expand_with_chance)(
        search, tree, key, expansion
    )
    return backup(search, tree, down, down.depth + (start is None), where(expand, gain, due.raw)), node


class Expansion(NamedTuple):
    """Where lanes expand_leaf the tree; [L, B]."""

    parent: jax.Array  # i32
    grows: jax.Array  # bool  false: nothing is tried here
    links: jax.Array  # bool  false: nothing is linked here
    action: jax.Array  # i32
    due: NextAction
    new: jax.Array  # i32[]  the first of L free nodes
    leaf: jax.Array  # i32[L, 1]  these nodes


def expand_leaf(
    search: TreeSearch, tree: Tree, key: jax.Array, expansion: Expansion
) -> tuple[Tree, jax.Array, jax.Array]:
    """Adds the position behind each action. The tree, the returns as the parents see them, and the nodes; [L, B]."""
    said, after = search.model.decision(
        search.params, key, flat(expansion.action), embeddings_of(tree, expansion.parent)
    )
    said = said._replace(value=backend.alone(said.value))
    tree = add_nodes(
        tree, expansion.new, after, said.prior_logits, said.value, said.reward, said.discount,
        flat(expansion.parent * expansion.grows), flat(expansion.action), flat(expansion.due.logit),
    )  # fmt: skip
    tree = link_child(tree, expansion.parent, expansion.links, expansion.leaf, expansion.due)
    gain = (said.reward + said.discount * said.value).reshape(expansion.parent.shape)
    return tree, gain, jnp.broadcast_to(expansion.leaf, gain.shape)


def expand_with_chance(
    search: TreeSearch, tree: Tree, key: jax.Array, expansion: Expansion
) -> tuple[Tree, jax.Array, jax.Array]:
    """The same in a game with chance. Behind an action that leaves an outcome due this adds two nodes, the afterstate
    and the decision behind its likeliest outcome; behind an outcome one, as behind any other action."""
    assert tree.chance is not None
    here = lookup(tree.chance, expansion.parent)
    action, resolving = flat(expansion.action), flat(here)
    before = embeddings_of(tree, expansion.parent)
    outcome_step = chance.step(search.model, search.params, key, action, before, resolving)
    told, said, both = outcome_step.told, outcome_step.said, outcome_step.told.due & ~resolving
    # The afterstate. It is not linked, and so never seen, where there is none.
    value = said.discount * said.value
    half = (tree.size - 1) // 2
    tree = add_nodes(
        tree, expansion.new + half, outcome_step.afterstate, told.logits, value, told.reward, told.discount,
        jnp.zeros_like(action), action, flat(expansion.due.logit), chance=True,
    )  # fmt: skip
    # The decision.
    reward, discount = where(outcome_step.due, 0.0, told.reward), where(outcome_step.due, said.discount, told.discount)
    edge = (
        where(outcome_step.due, outcome_step.outcome, action),
        where(both, outcome_step.logit, flat(expansion.due.logit)),
    )
    nobody = jnp.zeros_like(action)  # parents are for reuse, which knows no chance
    tree = add_nodes(
        tree, expansion.new, outcome_step.decision, said.prior_logits, said.value, reward, discount, nobody, *edge
    )

    value = where(outcome_step.due, value, said.value)
    gain, both = (x.reshape(here.shape) for x in (told.reward + told.discount * value, both))
    node = where(both, expansion.leaf + half, expansion.leaf)
    tree = link_child(tree, expansion.parent, expansion.links, node, expansion.due)
    tree = link_child(tree, node, both, expansion.leaf, next_untried(tree, node))
    return tree, gain, node


def flat(x: jax.Array) -> jax.Array:
    """[L, B, ...] -> [L · B, ...]"""
    return x.reshape(-1, *x.shape[2:])


def embeddings_of(tree: Tree, node: jax.Array) -> Any:
    """The embeddings [L · B, ...] of nodes [L, B]."""
    return jax.tree.map(lambda field: flat(lookup(field, node)), tree.embedding)


def backup(search: TreeSearch, tree: Tree, down: Descent, length: jax.Array, gain: jax.Array) -> Tree:
    """Adds the returns `gain` f32[L, B], as seen from the last nodes of the paths, of `length` i32[] nodes at most, to
    every node on them.

    What chance nodes are worth is computed anew, and what this changes counts for all their visits: a mean above them
    is always one of what its children are worth now.
    """
    levels = levels_at_once(tree, len(gain))

    def step(i, carry):
        now, gain = dataclasses.replace(tree, node_data=carry[0]), carry[1]
        node = jax.lax.dynamic_slice_in_dim(down.path, down.depth - i * levels, levels, **UNSIGNED)  # [levels, L, B]
        here = node < tree.size
        inside = where(here, node, 0)
        reward, discount, before, visits = read_nodes(now, inside, "reward", "discount", "value", "visits")
        due = mean = None
        if tree.chance is not None:
            width = min(tree.children_index.shape[1], search.num_outcomes)
            children, _ = read_children(now, inside[0], width, search.num_actions)
            due, mean = lookup(tree.chance, inside), chance.expectation(children)[None]
            gain = where(due, mean + visits * (mean - before), gain[None])[0]
        gains = [gain]
        for j in reversed(range(levels)):
            gain = where(here[j], reward[j] + discount[j] * gain, gain)
            gains.append(gain)
        value = (before * visits + jnp.stack(gains[-2::-1])) / (visits + 1)
        if due is not None:
            value = where(due, mean, value)
        now = update_nodes(now, node, value=value, visits=visits + 1, qvalue=reward + discount * value)
        return now.node_data, gain

    facts, _ = jax.lax.fori_loop(0, -(-length // levels), step, (tree.node_data, gain))
    return dataclasses.replace(tree, node_data=facts)
