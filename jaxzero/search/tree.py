"""One search tree for a whole batch of games, with mctx's meaning and a small part of its cost.

What is known is stored once: a node's value, its visits and the edge that leads to it belong to the node, so an action
costs memory only in the priors. Children are listed in the order of their first visit. An untried action can only be
the likeliest one left, because all that are untried share one value; so a node remembers that one, and choosing among
its children looks at the tried ones alone. The path is recorded on the way down and walked back up; only the nodes on
it are written.

Letters: B games, N nodes, L lanes (simulations of one game that run at once, in disjoint subtrees), K slots (actions
of a node), C most children of a node, W children looked at. Node 0 is the root; 0 as a child means none. Node N is
nowhere: what is written there is dropped. With chance, the second half of the nodes are the afterstates.
"""

# mctx builds its types with chex, whose dataclasses pyright cannot read.
# pyright: reportCallIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mctx

from jaxzero.models import Model, Params
from jaxzero.search import chance


class Untried(NamedTuple):
    """What choosing has to know of a node's untried actions; [N, B] in a tree."""

    slot: jax.Array  # i16  the likeliest one
    logit: jax.Array  # f32  its log-prior; -inf when every action was tried
    mass: jax.Array  # f32  sum of their priors, as a multiple of the likeliest one's


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tree:
    embedding: Any  # [N, B, ...]
    actions: jax.Array | None  # i16[N, B, K]  actions of the slots; None where slot = action
    priors: jax.Array  # f32[N, B, K]  log-priors; -inf where tried or illegal
    dropped: jax.Array  # f32[N, B]  log-prior of all actions without a slot together
    untried: Untried  # [N, B]
    children: jax.Array  # i16[N, B]  their number
    child: jax.Array  # i16[N, C, B]  their nodes
    raw: jax.Array  # f32[N, B]  the model's value
    value: jax.Array  # f32[N, B]  mean of all returns
    visits: jax.Array  # i32[N, B]
    # The edge into a node:
    action: jax.Array  # i16[N, B]
    logit: jax.Array  # f32[N, B]  log-prior
    reward: jax.Array  # f32[N, B]  to the parent's mover
    discount: jax.Array  # f32[N, B]  0: the game is over
    qvalue: jax.Array  # f32[N, B]  reward + discount · value
    chance: jax.Array | None = None  # bool[N, B]  an outcome is due here; None where that never is

    @property
    def size(self) -> int:
        return self.raw.shape[0]


class Family(NamedTuple):
    """A node [L, B] and its children [W, L, B], as a rule sees them."""

    tried: jax.Array  # bool[W, L, B]  false: no child here
    qvalue: jax.Array  # f32[W, L, B]
    visits: jax.Array  # f32[W, L, B]
    logit: jax.Array  # f32[W, L, B]
    raw: jax.Array  # f32[L, B]
    node_visits: jax.Array  # f32[L, B]
    untried: Untried  # [L, B]
    complete: jax.Array  # bool[L, B]  every action of the game was tried


Rule = Callable[[Family], tuple[jax.Array, jax.Array]]
"""Scores of the children f32[W, L, B] and of the likeliest untried action f32[L, B]; the highest is chosen."""


class Start(NamedTuple):
    """Where lanes begin: a root action each. [L, B]."""

    action: jax.Array  # i32
    child: jax.Array  # i32  its node; 0: none yet
    active: jax.Array  # bool  false: the lane does nothing


class Search(NamedTuple):
    """What stays the same in one search."""

    model: Model
    params: Params
    rule: Rule
    num_actions: int
    num_outcomes: int
    max_depth: int


def num_slots(num_actions: int, max_legal: int, simulations: int, cap: int) -> int | None:
    """K where nodes keep only their likeliest actions; None where they keep all. (All outcomes of chance are kept.)

    A node has no more children than simulations, so nothing is lost unless `cap` (0: none) keeps fewer.
    """
    most = min(max_legal, simulations)
    if 0 < cap < most:
        return cap
    return most if num_actions > 8 * most else None


def plant(root: mctx.RootFnOutput, simulations: int, kept: int | None, num_outcomes: int = 0) -> Tree:
    """A tree of one node, with room for so many simulations; `kept` is `num_slots`."""
    batch = root.value.shape[0]
    slots = max(kept or root.prior_logits.shape[-1], num_outcomes)
    num_nodes = 1 + simulations * (2 if num_outcomes else 1)

    def zeros(dtype, *more):
        return jnp.zeros((num_nodes, batch, *more), dtype)

    real = root.value.dtype
    tree = Tree(
        embedding=jax.tree.map(lambda x: jnp.zeros((num_nodes, *x.shape), x.dtype), root.embedding),
        actions=zeros(jnp.int16, slots) if kept else None,
        priors=zeros(real, slots), dropped=zeros(real),
        untried=Untried(zeros(jnp.int16), zeros(real), zeros(real)),
        children=zeros(jnp.int16), child=jnp.zeros((num_nodes, min(simulations, slots), batch), jnp.int16),
        raw=zeros(real), value=zeros(real), visits=zeros(jnp.int32),
        action=zeros(jnp.int16), logit=zeros(real), reward=zeros(real), discount=zeros(real), qvalue=zeros(real),
        chance=zeros(bool) if num_outcomes else None,
    )  # fmt: skip
    zero = jnp.zeros(batch, real)
    return write(tree, 0, root.embedding, root.prior_logits, root.value, zero, zero + 1, zero, zero)


def write(
    tree: Tree, new: int | jax.Array, embedding: Any, logits: jax.Array, value: jax.Array, reward: jax.Array,
    discount: jax.Array, action: jax.Array, logit: jax.Array, chance: bool = False,
) -> Tree:  # fmt: skip
    """Puts what a model has said [L · B, ...] into nodes `new`, `new` + 1, …: visited once, childless. Of an afterstate
    (`chance`) the logits are the outcomes'."""
    batch = tree.raw.shape[1]

    def put(stored, x):
        x = jnp.asarray(x, stored.dtype).reshape(-1, batch, *x.shape[1:])
        return jax.lax.dynamic_update_slice_in_dim(stored, x, new, 0)

    logits = jnp.where(logits > jnp.finfo(logits.dtype).min / 2, logits, -jnp.inf)
    if (lacking := tree.priors.shape[-1] - logits.shape[-1]) > 0:  # of actions, where there are more outcomes
        logits = jnp.pad(logits, ((0, 0), (0, lacking)), constant_values=-jnp.inf)
    actions, dropped = tree.actions, jnp.full_like(value, -jnp.inf)
    if actions is not None:
        every = logits
        logits, slot = jax.lax.top_k(every, actions.shape[-1])
        actions, dropped = put(actions, slot), weigh_dropped(every, logits)
    first = find_untried(logits, dropped)
    total = first.logit + jnp.log(first.mass)
    return dataclasses.replace(
        tree,
        embedding=jax.tree.map(put, tree.embedding, embedding),
        actions=actions, priors=put(tree.priors, logits - total[:, None]), dropped=put(tree.dropped, dropped - total),
        untried=jax.tree.map(put, tree.untried, first._replace(logit=-jnp.log(first.mass))),
        raw=put(tree.raw, value), value=put(tree.value, value), visits=put(tree.visits, jnp.ones_like(action)),
        action=put(tree.action, action), logit=put(tree.logit, logit),
        reward=put(tree.reward, reward), discount=put(tree.discount, discount),
        qvalue=put(tree.qvalue, reward + discount * value),
        chance=None if tree.chance is None else put(tree.chance, jnp.full(value.shape, chance)),
    )  # fmt: skip


def find_untried(priors: jax.Array, dropped: jax.Array) -> Untried:
    """The likeliest of [..., K] and what all weigh together, `dropped` [...] included; -inf is no action."""
    slots, order = priors.shape[-1], jax.lax.broadcasted_iota(jnp.int32, priors.shape, priors.ndim - 1)
    highest = priors.max(-1)
    slot = jnp.where(priors == highest[..., None], order, slots).min(-1)  # argmax is slower on CPU
    scale = jnp.where(highest > -jnp.inf, highest, 0.0)
    return Untried(slot, highest, jnp.exp(priors - scale[..., None]).sum(-1) + jnp.exp(dropped - scale))


def weigh_dropped(logits: jax.Array, kept: jax.Array) -> jax.Array:
    """log Σ exp over the logits [..., A] that are not among the highest, `kept` [..., K].

    A difference of two sums would lose the small ones."""
    highest, lowest = kept[..., :1], kept[..., -1:]
    scale = jnp.where(highest > -jnp.inf, highest, 0.0)
    below = jnp.where(logits < lowest, jnp.exp(logits - scale), 0.0).sum(-1)
    equal = (logits == lowest).sum(-1) - (kept == lowest).sum(-1)
    return jnp.log(below + equal * jnp.exp(lowest - scale)[..., 0]) + scale[..., 0]


def at(field: jax.Array, node: jax.Array, *slot: jax.Array) -> jax.Array:
    """Values of a field [N, B, ...] at nodes [..., B] (and slots of the same shape)."""
    game = jnp.broadcast_to(jnp.arange(node.shape[-1]), node.shape)
    return field.at[(node, game, *slot)].get(mode="promise_in_bounds")


def put_at(field: jax.Array, node: jax.Array, value: jax.Array, *slot: jax.Array) -> jax.Array:
    """`field` with new values at nodes [L, B], which differ from lane to lane."""
    game = jnp.broadcast_to(jnp.arange(node.shape[-1]), node.shape)
    return field.at[(node, game, *slot)].set(value.astype(field.dtype), mode="drop", unique_indices=True)


def family(tree: Tree, node: jax.Array, width: int, num_actions: int) -> tuple[Family, jax.Array]:
    """The nodes [L, B] with their first `width` children, and the children's nodes [W, L, B]."""
    number = at(tree.children, node)
    order = jnp.arange(width)[:, None, None]
    game = jnp.arange(node.shape[-1])[None, None]
    child = tree.child.at[node[None], order, game].get(mode="promise_in_bounds").astype(jnp.int32)
    real = tree.raw.dtype
    return Family(
        tried=order < number[None], qvalue=at(tree.qvalue, child), visits=at(tree.visits, child).astype(real),
        logit=at(tree.logit, child), raw=at(tree.raw, node), node_visits=at(tree.visits, node).astype(real),
        untried=jax.tree.map(lambda field: at(field, node), tree.untried), complete=number >= num_actions,
    ), child  # fmt: skip


def choose(search: Search, tree: Tree, node: jax.Array, running: jax.Array) -> jax.Array:
    """The child i32[L, B] that the rule picks at each node; 0: the likeliest untried action.

    Among equals the one tried first wins, which is the likelier one, then the one of lower index.
    """
    most = tree.child.shape[1]
    widths = [width for width in (8, 32, 128, 512) if width < most] + [most]

    def pick(width: int) -> jax.Array:
        near, child = family(tree, node, width, search.num_actions)
        scores, other = search.rule(near)
        if tree.chance is not None:
            here, (lag, first) = at(tree.chance, node), chance.rule(near)
            scores, other = jnp.where(here[None], lag, scores), jnp.where(here, first, other)
        scores = jnp.where(near.tried, scores, -jnp.inf)
        highest = scores.max(0)
        first = jnp.where(scores == highest[None], child, tree.size).min(0)
        return jnp.where(highest >= other, first, 0)

    if len(widths) == 1:
        return pick(most)
    largest = jnp.where(running, at(tree.children, node), 0).max()
    index = sum((largest > width).astype(jnp.int32) for width in widths[:-1])
    return jax.lax.switch(index, [lambda width=width: pick(width) for width in widths])


class Descent(NamedTuple):
    """Where lanes have come to."""

    depth: jax.Array  # i32[]  steps below the root
    node: jax.Array  # i32[L, B]
    running: jax.Array  # bool[L, B]
    expand: jax.Array  # bool[L, B]  an untried action of `node` is to be tried
    path: jax.Array  # i32[N, L, B]  node at each depth; N: none


def descend(search: Search, tree: Tree, start: Start | None) -> Descent:
    """Down to where an untried action is chosen, or to a node that is not expanded: an end, or as deep as allowed."""
    batch = tree.raw.shape[1]

    def stays(node, depth):
        deepest = depth >= search.max_depth
        if tree.chance is not None:
            deepest &= ~at(tree.chance, node)
        return (at(tree.discount, node) == 0) | deepest

    if start is None:
        node = jnp.zeros((1, batch), jnp.int32)
        begin = Descent(jnp.int32(0), node, node == 0, node != 0, jnp.full((tree.size, 1, batch), tree.size))
    else:
        node = jnp.where(start.active, start.child, 0)
        first = jnp.where(node > 0, node, tree.size)
        path = jnp.full((tree.size, *node.shape), tree.size).at[1].set(first)
        begin = Descent(jnp.int32(1), node, (node > 0) & ~stays(node, 1), start.active & (node == 0), path)

    def step(now: Descent) -> Descent:
        child = choose(search, tree, now.node, now.running)
        deeper = now.running & (child > 0)
        node, depth = jnp.where(deeper, child, now.node), now.depth + 1
        path = now.path.at[depth].set(jnp.where(deeper, child, tree.size))
        return Descent(depth, node, deeper & ~stays(node, depth), now.expand | (now.running & ~deeper), path)

    return jax.lax.while_loop(lambda now: now.running.any(), step, begin)


def simulate(
    search: Search, tree: Tree, key: jax.Array, new: jax.Array, start: Start | None = None
) -> tuple[Tree, jax.Array]:
    """One simulation a lane: down, expand into nodes `new`, `new` + 1, …, and back up. Returns the nodes [L, B] too
    that were (or would have been) linked to.

    Without a start there is one lane, which begins at the root by the rule. With one, the caller keeps account of the
    root's children.
    """
    down = descend(search, tree, start)
    parent, expand = down.node, down.expand
    slot = jnp.where(expand, at(tree.untried.slot, parent).astype(jnp.int32), 0)
    action = slot if tree.actions is None else at(tree.actions, parent, slot).astype(jnp.int32)
    if start is not None:
        action = jnp.where(parent == 0, start.action, action)

    logit, raw = at(tree.untried.logit, parent), at(tree.raw, parent)
    linked = jnp.where(expand & ((parent > 0) | (start is None)), parent, tree.size)
    later = new + zero_after(down.depth, slot, logit, raw)
    twig = Twig(parent, slot, action, logit, linked, later, later + jnp.arange(len(parent))[:, None])
    tree, gain, node = (grow if search.model.chance is None else grow_by_chance)(search, tree, key, twig)
    active = jnp.ones_like(expand) if start is None else start.active
    return back_up(search, tree, down, jnp.where(expand, gain, raw), active), node


class Twig(NamedTuple):
    """Where lanes grow the tree; [L, B]."""

    parent: jax.Array  # i32
    slot: jax.Array  # i32  of the action
    action: jax.Array  # i32
    logit: jax.Array  # f32  its log-prior
    linked: jax.Array  # i32  the parent, or N where nothing is to be linked
    new: jax.Array  # i32[]  the first of L free nodes
    leaf: jax.Array  # i32[L, 1]  these nodes


def grow(search: Search, tree: Tree, key: jax.Array, twig: Twig) -> tuple[Tree, jax.Array, jax.Array]:
    """Adds the position behind each action. The tree, the returns as the parents see them, and the nodes; [L, B]."""
    tree = link(tree, twig.linked, twig.slot, twig.leaf)
    said, after = search.model.decision(search.params, key, flat(twig.action), embedded(tree, twig.parent))
    tree = write(
        tree, twig.new, after, said.prior_logits, said.value, said.reward, said.discount,
        flat(twig.action), flat(twig.logit),
    )  # fmt: skip
    gain = (said.reward + said.discount * said.value).reshape(twig.parent.shape)
    return tree, gain, jnp.broadcast_to(twig.leaf, gain.shape)


def grow_by_chance(search: Search, tree: Tree, key: jax.Array, twig: Twig) -> tuple[Tree, jax.Array, jax.Array]:
    """The same in a game with chance. Behind an action that leaves an outcome due this adds two nodes, the afterstate
    and the decision behind its likeliest outcome; behind an outcome one, as behind any other action."""
    here = at(tree.chance, twig.parent)
    action, resolving = flat(twig.action), flat(here)
    before = embedded(tree, twig.parent)
    went = chance.step(search.model, search.params, key, action, before, resolving)
    told, said, both = went.told, went.said, went.told.due & ~resolving
    # The afterstate. It is not linked, and so never seen, where there is none.
    value = said.discount * said.value
    half = (tree.size - 1) // 2
    tree = write(
        tree, twig.new + half, went.afterstate, told.logits, value, told.reward, told.discount, action,
        flat(twig.logit), chance=True,
    )  # fmt: skip
    # The decision.
    reward, discount = jnp.where(went.due, 0.0, told.reward), jnp.where(went.due, said.discount, told.discount)
    edge = jnp.where(went.due, went.outcome, action), jnp.where(both, went.logit, flat(twig.logit))
    tree = write(tree, twig.new, went.decision, said.prior_logits, said.value, reward, discount, *edge)

    value = jnp.where(went.due, value, said.value)
    gain, both = (x.reshape(here.shape) for x in (told.reward + told.discount * value, both))
    node = jnp.where(both, twig.leaf + half, twig.leaf)
    tree = link(tree, twig.linked, twig.slot, node)
    first = jnp.where(both, node, tree.size)
    tree = link(tree, first, at(tree.untried.slot, node).astype(jnp.int32), jnp.broadcast_to(twig.leaf, node.shape))
    return tree, gain, node


def flat(x: jax.Array) -> jax.Array:
    """[L, B, ...] -> [L · B, ...]"""
    return x.reshape(-1, *x.shape[2:])


def embedded(tree: Tree, node: jax.Array) -> Any:
    """The embeddings [L · B, ...] of nodes [L, B]."""
    return jax.tree.map(lambda field: flat(at(field, node)), tree.embedding)


def zero_after(*read: jax.Array) -> jax.Array:
    """0 that cannot be known before all these values are: an index plus this writes after they were read, and XLA,
    which cannot see that an order would do, need not copy what is read and written."""
    return sum(((x.astype(jnp.float32) > 3e38).any() for x in read), jnp.bool(False)).astype(jnp.int32)


def back_up(search: Search, tree: Tree, down: Descent, gain: jax.Array, active: jax.Array) -> Tree:
    """Adds the returns `gain` f32[L, B], as seen from the last nodes of the paths, to every node above.

    What chance nodes are worth is computed anew, and what this changes counts for all their visits: a mean above them
    is always one of what its children are worth now.
    """

    def step(i, carry):
        tree, gain = carry
        node = down.path[down.depth - i]
        here = node < tree.size
        where = jnp.where(here, node, 0)
        visits, reward, discount = at(tree.visits, where), at(tree.reward, where), at(tree.discount, where)
        value = (at(tree.value, where) * visits + gain) / (visits + 1)
        if tree.chance is not None:
            width = min(tree.child.shape[1], search.num_outcomes)
            due, mean = at(tree.chance, where), chance.expectation(family(tree, where, width, search.num_actions)[0])
            gain = jnp.where(due, mean + visits * (mean - at(tree.value, where)), gain)
            value = jnp.where(due, mean, value)
        tree = dataclasses.replace(
            tree, value=put_at(tree.value, node, value), visits=put_at(tree.visits, node, visits + 1),
            qvalue=put_at(tree.qvalue, node, reward + discount * value),
        )  # fmt: skip
        return tree, jnp.where(here, reward + discount * gain, gain)

    tree, gain = jax.lax.fori_loop(0, down.depth, step, (tree, gain))
    visits, more = tree.visits[0], active.sum(0, dtype=jnp.int32)
    value = (tree.value[0] * visits + jnp.where(active, gain, 0.0).sum(0)) / (visits + more)
    return dataclasses.replace(tree, value=tree.value.at[0].set(value), visits=tree.visits.at[0].set(visits + more))


def link(tree: Tree, parent: jax.Array, slot: jax.Array, leaf: jax.Array) -> Tree:
    """Makes `leaf` the next child of `parent` (N: of none) by the action in `slot`; all [L, B]."""
    inside = jnp.minimum(parent, tree.size - 1)
    number = at(tree.children, inside)
    game = jnp.broadcast_to(jnp.arange(parent.shape[1]), parent.shape)
    left = at(tree.priors, inside)
    left = jnp.where(jax.lax.broadcasted_iota(jnp.int32, left.shape, 2) == slot[..., None], -jnp.inf, left)
    found = find_untried(left, at(tree.dropped, inside))
    parent += zero_after(found.mass, number)
    return dataclasses.replace(
        tree, child=tree.child.at[parent, number, game].set(leaf.astype(jnp.int16), mode="drop", unique_indices=True),
        children=put_at(tree.children, parent, number + 1),
        priors=put_at(tree.priors, parent, jnp.full(slot.shape, -jnp.inf), slot),
        untried=jax.tree.map(lambda field, x: put_at(field, parent, x), tree.untried, found),
    )  # fmt: skip


def root_visits(tree: Tree, num_actions: int) -> jax.Array:
    """f32[B, A]: visits of the root's children, where `simulate` keeps account of them."""
    child = tree.child[0].astype(jnp.int32)
    tried = jnp.arange(child.shape[0])[:, None] < tree.children[0][None]
    action = jnp.where(tried, at(tree.action, child).astype(jnp.int32), num_actions)
    game = jnp.arange(child.shape[1])[None]
    visits = jnp.zeros((child.shape[1], num_actions), tree.raw.dtype)
    return visits.at[game, action].set(at(tree.visits, child).astype(visits.dtype), mode="drop")
