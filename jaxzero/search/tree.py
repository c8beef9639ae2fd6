"""One search tree for a whole batch of games: what is stored, and how it is read and written.

What is known is stored once: a node's value, its visits and the edge that leads to it belong to the node, so an action
costs memory only in the priors. Children are listed in the order of their first visit. An untried action can only be
the likeliest one left, because all that are untried share one value; so a node remembers that one.

Letters: B games, N nodes, L lanes (simulations of one game that run at once, in disjoint subtrees), K slots (actions
of a node), C most children of a node, W children looked at. Node 0 is the root; 0 as a child means none. Node N is
nowhere: what is written there is dropped. With chance, the second half of the nodes are the afterstates.
"""

# mctx builds its types with chex, whose dataclasses pyright cannot read.
# pyright: reportCallIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false

import dataclasses
import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mctx

from envs import Env, backend
from jaxzero.config import ConfigError, SearchConfig
from jaxzero.models import Model
from jaxzero.search.slots import compact, likeliest

INSIDE: Any = {"mode": "promise_in_bounds", "wrap_negative_indices": False}
ANYWHERE: Any = {"mode": "drop", "unique_indices": True, "wrap_negative_indices": False}
WIDE = 1024  # actions that a node does not keep all for a few visits


class Untried(NamedTuple):
    """What choosing has to know of a node's untried actions; [N, B] in a tree."""

    slot: jax.Array  # the likeliest one
    logit: jax.Array  # f32  its log-prior; -inf when every action was tried
    mass: jax.Array  # f32  sum of their priors, as a multiple of the likeliest one's


class Tally(NamedTuple):
    """What simulations change about a node."""

    value: jax.Array  # mean of all returns
    visits: jax.Array
    qvalue: jax.Array  # reward + discount · value
    number: jax.Array  # of children
    slot: jax.Array  # of `Untried`, as the next two
    likeliest: jax.Array
    mass: jax.Array


class Edge(NamedTuple):
    """What the model said of a node and of the edge into it."""

    raw: jax.Array  # the value
    parent: jax.Array  # 0 too where the node is no one's child
    action: jax.Array
    logit: jax.Array  # log-prior
    reward: jax.Array  # to the parent's mover
    discount: jax.Array  # 0: the game is over


VALUE, NUMBER = map(Tally._fields.index, ("value", "number"))
RAW, PARENT, LOGIT = map(Edge._fields.index, ("raw", "parent", "logit"))


def fact(table: str, index: int) -> Any:
    return property(lambda tree: getattr(tree, table)[index].reshape(-1, tree.batch))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tree:
    """Numbers that are written together are rows of one array, because XLA needs as long to compile the writing of one
    number as of all. Whole ones too are f32, which counts up to 2^24."""

    embedding: Any  # [N, B, ...]
    actions: jax.Array | None  # i16[N, B, K]  actions of the slots; None where slot = action
    priors: jax.Array  # f32[N, B, K]  log-priors; -inf where illegal, or tried at a kept root
    dropped: jax.Array | None  # f32[N, B]  log-prior of all actions that lack a slot; None: no legal one does
    child: jax.Array  # i16[N, C, B]  a node's children
    tally: jax.Array  # f32[7, N · B]  a `Tally`
    edge: jax.Array  # f32[6, N · B]  an `Edge`
    chance: jax.Array | None = None  # bool[N, B]  an outcome is due here; None where that never is

    # [N, B] each:
    value, visits, qvalue, number, slot, likeliest, mass = (fact("tally", i) for i in range(7))
    raw, parent, action, logit, reward, discount = (fact("edge", i) for i in range(6))
    children = property(lambda tree: tree.number.astype(jnp.int32))
    untried = property(lambda tree: Untried(tree.slot, tree.likeliest, tree.mass))

    @property
    def size(self) -> int:
        return self.child.shape[0]

    @property
    def batch(self) -> int:
        return self.child.shape[2]


class Family(NamedTuple):
    """A node [L, B] and its children [W, L, B], as a rule sees them."""

    tried: jax.Array  # bool[W, L, B]  false: no child here
    qvalue: jax.Array  # f32[W, L, B]
    visits: jax.Array  # f32[W, L, B]
    logit: jax.Array  # f32[W, L, B]
    raw: jax.Array  # f32[L, B]
    node_value: jax.Array  # f32[L, B]
    node_visits: jax.Array  # f32[L, B]
    untried: Untried  # [L, B]
    complete: jax.Array  # bool[L, B]  every action of the game was tried


class Layout(NamedTuple):
    """Sizes of a tree."""

    slots: int | None  # K where nodes do not keep all actions
    capped: bool  # slots are for the likeliest actions; false: for all legal ones
    children: int  # C
    room: int  # nodes kept from the last move, the root included; 0: none are
    outcomes: int  # of chance, all kept; 0: no chance

    def nodes(self, simulations: int) -> int:
        return (self.room or 1) + simulations * (2 if self.outcomes else 1)


def layout(env: Env, config: SearchConfig, simulations: int, model: Model) -> Layout:
    """A node has no more children than it has visits, so fewer slots than actions lose nothing, unless `config.slots`
    keeps fewer. Trees that are kept between moves have one layout for all budgets."""
    if config.reuse:
        simulations = max(simulations, config.simulations, *config.schedule)
    room = 2 * simulations if config.reuse else 0
    legal, actions = env.max_legal if model.knows_rules else env.num_actions, env.num_actions
    most = min(legal, room + simulations)
    slots = legal if 4 * legal <= actions else None
    capped = not slots and actions > max(WIDE, 8 * most)
    if 0 < config.slots < most:
        most, capped = config.slots, True
    children = min(max(most, model.num_outcomes), room + simulations)
    found = Layout(most if capped else slots, capped, children, room, model.num_outcomes)
    if (nodes := found.nodes(simulations)) >= 1 << 15:
        raise ConfigError(
            f"simulations: {simulations} need {nodes} nodes a game, and a tree numbers no more than {(1 << 15) - 1}; "
            "use fewer"
        )
    return found


def ground(root: mctx.RootFnOutput, layout: Layout, num_nodes: int) -> Tree:
    """Room for `num_nodes`, all zeros."""
    batch = root.value.shape[0]
    slots = max(layout.slots or root.prior_logits.shape[-1], layout.outcomes)

    def zeros(dtype, *more):
        return jnp.zeros((num_nodes, batch, *more), dtype)

    real = root.value.dtype
    return Tree(
        embedding=jax.tree.map(lambda x: jnp.zeros((num_nodes, *x.shape), x.dtype), root.embedding),
        actions=zeros(jnp.int16, slots) if layout.slots else None,
        priors=zeros(real, slots), dropped=zeros(real) if layout.capped else None,
        child=jnp.zeros((num_nodes, layout.children, batch), jnp.int16),
        tally=jnp.zeros((len(Tally._fields), num_nodes * batch)),
        edge=jnp.zeros((len(Edge._fields), num_nodes * batch)), chance=zeros(bool) if layout.outcomes else None,
    )  # fmt: skip


def plant(root: mctx.RootFnOutput, layout: Layout, num_nodes: int) -> Tree:
    """A tree of one node, with room for `num_nodes`."""
    tree, zero = ground(root, layout, num_nodes), jnp.zeros_like(root.value)
    return write(tree, 0, root.embedding, root.prior_logits, root.value, zero, zero + 1, zero, zero, zero)


def plant_seed(root: mctx.RootFnOutput, layout: Layout, num_nodes: int) -> Tree:
    """The same for a search that keeps account of the root: of it the tree knows the position and the value alone."""
    tree, batch = ground(root, layout, num_nodes), root.value.shape[0]
    embedding = jax.tree.map(lambda stored, x: stored.at[0].set(x), tree.embedding, root.embedding)
    return dataclasses.replace(tree, embedding=embedding, edge=tree.edge.at[RAW, :batch].set(root.value))


def write(
    tree: Tree, new: int | jax.Array, embedding: Any, logits: jax.Array, value: jax.Array, reward: jax.Array,
    discount: jax.Array, parent: jax.Array, action: jax.Array, logit: jax.Array, chance: bool = False,
) -> Tree:  # fmt: skip
    """Puts what a model has said [L · B, ...] into nodes `new`, `new` + 1, …: visited once, childless. Of an afterstate
    (`chance`) the logits are the outcomes'. No more logits than slots are those of actions 0, 1, …"""

    def put(stored, x):
        x = jnp.asarray(x, stored.dtype).reshape(-1, tree.batch, *x.shape[1:])
        return jax.lax.dynamic_update_slice_in_dim(stored, x, new, 0)

    logits = jnp.where(logits > jnp.finfo(logits.dtype).min / 2, logits, -jnp.inf)
    slots, dropped = tree.priors.shape[-1], None if tree.dropped is None else jnp.full_like(value, -jnp.inf)
    if logits.shape[-1] <= slots:
        logits = jnp.pad(logits, ((0, 0), (0, slots - logits.shape[-1])), constant_values=-jnp.inf)
        slot = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    elif dropped is None:
        logits, slot = compact(logits, slots)
    else:
        logits, slot, dropped = likeliest(logits, slots)
    actions = None if tree.actions is None else put(tree.actions, slot)
    lanes = (-1, tree.batch)  # as `find_next` has them: equal operations are compiled once
    first = find_untried(logits.reshape(*lanes, slots), None if dropped is None else dropped.reshape(lanes))
    first = Untried(*(x.reshape(-1) for x in first))
    weight = jnp.log(first.mass)
    total = first.logit + weight
    one, zero = jnp.ones_like(value), jnp.zeros_like(value)
    tally = Tally(value, one, reward + discount * value, zero, first.slot, -weight, first.mass)
    edge = Edge(value, parent, action, logit, reward, discount)

    def put_all(table, numbers):
        numbers = jnp.stack(numbers).astype(table.dtype)
        return jax.lax.dynamic_update_slice_in_dim(table, numbers, new * tree.batch, 1)

    return dataclasses.replace(
        tree,
        embedding=jax.tree.map(put, tree.embedding, embedding),
        actions=actions, priors=put(tree.priors, logits - total[:, None]),
        dropped=None if dropped is None else put(tree.dropped, dropped - total),
        tally=put_all(tree.tally, tally), edge=put_all(tree.edge, edge),
        chance=None if tree.chance is None else put(tree.chance, jnp.full(value.shape, chance)),
    )  # fmt: skip


def find_untried(priors: jax.Array, dropped: jax.Array | None) -> Untried:
    """The likeliest of [..., K] and what all weigh together, `dropped` [...] included; -inf is no action."""
    slots, order = priors.shape[-1], jax.lax.broadcasted_iota(jnp.int32, priors.shape, priors.ndim - 1)
    highest = priors.max(-1)
    slot = jnp.where(priors == highest[..., None], order, slots).min(-1)  # argmax is slower on CPU
    scale = jnp.where(highest > -jnp.inf, highest, 0.0)
    mass = jnp.exp(priors - scale[..., None]).sum(-1)
    return Untried(slot, highest, mass if dropped is None else mass + jnp.exp(dropped - scale))


def at(field: jax.Array, node: jax.Array, *slot: jax.Array) -> jax.Array:
    """Values of a field [N, B, ...] at nodes [..., B] (and slots of the same shape)."""
    return take(field, node, game_of(node), *slot)


def put(table: jax.Array, first: int, node: jax.Array, *values: jax.Array) -> jax.Array:
    """A tally or edges with new rows from the `first` on, [..., B] each, of nodes [..., B], which differ."""
    row = node * node.shape[-1] + game_of(node)
    return table.at[first : first + len(values), row].set(jnp.stack(values), **ANYWHERE)


def game_of(node: jax.Array) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, node.shape, node.ndim - 1)


def take(field: jax.Array, *index: jax.Array) -> jax.Array:
    """`field[index]` of indices that are in bounds."""
    field, index = flattened(field, *index)
    return field.at[index].get(**INSIDE)


def place(field: jax.Array, value: jax.Array, *index: jax.Array) -> jax.Array:
    """`field` with `field[index] = value` of distinct indices; where the first is too large nothing is written."""
    shape = field.shape
    field, index = flattened(field, *index)
    return field.at[index].set(value.astype(field.dtype), **ANYWHERE).reshape(shape)


def flattened(field: jax.Array, *index: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The same elements of the same field, by a single index on a CPU, where that takes XLA a third less time."""
    index = tuple(along.astype(jnp.int32) for along in index)
    if backend.accelerated() or field.size > 1 << 30:
        return field, index
    flat = jnp.int32(0)
    for size, along in zip(field.shape, index, strict=False):
        flat = flat * size + along
    return field.reshape(-1, *field.shape[len(index) :]), (flat,)


def family(tree: Tree, node: jax.Array, width: int, num_actions: int) -> tuple[Family, jax.Array]:
    """The nodes [L, B] with their first `width` children, and the children's nodes [W, L, B]."""
    number = at(tree.number, node)
    order = jnp.arange(width)[:, None, None]
    child = take(tree.child, node[None], order, game_of(node)[None]).astype(jnp.int32)
    return Family(
        tried=order < number[None], qvalue=at(tree.qvalue, child), visits=at(tree.visits, child),
        logit=at(tree.logit, child), raw=at(tree.raw, node), node_value=at(tree.value, node),
        node_visits=at(tree.visits, node), untried=Untried(*(at(field, node) for field in tree.untried)),
        complete=number >= num_actions,
    ), child  # fmt: skip


def zero_after(*read: jax.Array) -> jax.Array:
    """0 [L, B] that cannot be known before all these values [L, B] are: an index plus this writes after they were read,
    and XLA, which cannot see that an order would do, need not copy what is read and written."""
    return functools.reduce(operator.or_, (x.astype(jnp.float32) > 3e38 for x in read)).astype(jnp.int32)


class Next(NamedTuple):
    """What nodes will try next, the likeliest untried action, and what will then be left; [L, B]."""

    slot: jax.Array  # i32
    logit: jax.Array  # f32  its log-prior
    number: jax.Array  # f32  of children so far
    left: Untried


def find_next(tree: Tree, node: jax.Array) -> Next:
    slot, priors = at(tree.slot, node).astype(jnp.int32), at(tree.priors, node)
    logit, order = at(tree.priors, node, slot), jax.lax.broadcasted_iota(jnp.int32, priors.shape, priors.ndim - 1)
    less = (priors < logit[..., None]) | (priors == logit[..., None]) & (order > slot[..., None])
    left = jnp.where(less, priors, -jnp.inf)  # what is likelier has been tried
    dropped = None if tree.dropped is None else at(tree.dropped, node)
    return Next(slot, logit, at(tree.number, node), find_untried(left, dropped))


def link(tree: Tree, node: jax.Array, grows: jax.Array, leaf: jax.Array, due: Next) -> Tree:
    """Makes `leaf` the child of `node` by the action that is `due`, where it `grows`; all [L, B]."""
    parent = jnp.where(grows, node, tree.size) + zero_after(due.left.mass, due.number)
    return dataclasses.replace(
        tree,
        child=place(tree.child, jnp.broadcast_to(leaf, parent.shape), parent, due.number, game_of(parent)),
        tally=put(tree.tally, NUMBER, parent, due.number + 1, *due.left),
    )


def by_action(tree: Tree, values: jax.Array, num_actions: int) -> jax.Array:
    """Values of the root's listed children [C, B] -> [B, A]; 0 where there is no child."""
    child = tree.child[0].astype(jnp.int32)
    tried = jnp.arange(child.shape[0])[:, None] < tree.children[0][None]
    action = jnp.where(tried, at(tree.action, child).astype(jnp.int32), num_actions)
    game = jnp.broadcast_to(jnp.arange(child.shape[1]), child.shape)
    return jnp.zeros((child.shape[1], num_actions), values.dtype).at[game, action].set(values, mode="drop")
