"""The search trees of a batch of games: what they store, and how nodes are read and written.

Every value is stored once: value, visits and the edge from the parent belong to the node, so an action costs memory
only for its prior. Children are listed in the order of their first visit. All untried actions of a node share one
value, so only the likeliest of them can be chosen next; the node stores which one that is.

Letters: B games, N nodes, L lanes (simulations of one game that run at once, in disjoint subtrees), K slots (actions
stored per node), C most children of a node, W children that are read. Node 0 is the root; as a child, 0 means none.
Writes to node N are dropped. In games with chance the second half of the nodes are the afterstates.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env
from envs.backend import materialized, separate_call
from envs.core import where
from jaxzero.messages import ConfigError
from jaxzero.models import Model, Root
from jaxzero.models.simulator import legal_in
from jaxzero.search.backend import DROP, NON_NEGATIVE, game_of, gather, scatter, zeros_after
from jaxzero.search.config import TreeConfig
from jaxzero.search.slots import compact, likeliest

MAX_NODES = (1 << 15) - 1  # node numbers are i16
MANY_ACTIONS = 1024  # from here on a node with few visits stores only its likeliest actions


class Untried(NamedTuple):
    """The untried actions of nodes; [N, B] in a tree."""

    slot: jax.Array  # f32  slot of the likeliest one
    logit: jax.Array  # f32  its log-prior in `Children`, its logit in `NodeData`; -inf when all were tried
    mass: jax.Array  # f32  sum of their priors, in units of the likeliest one's


class NodeData(NamedTuple):
    """Numbers of a node and of the edge from its parent; [N, B] in a tree."""

    reward: jax.Array  # to the parent's mover
    discount: jax.Array  # 0: the game is over
    value: jax.Array  # mean of all returns, mover's view
    visits: jax.Array
    qvalue: jax.Array  # reward + discount · value
    prior_logit: jax.Array  # log-prior of the edge
    parent: jax.Array  # 0 also where the node is no one's child
    action: jax.Array  # from the parent
    raw_value: jax.Array  # of the model, before any search
    num_children: jax.Array
    slot: jax.Array  # this and the next two: see `Untried`
    logit: jax.Array  # exactly one of `Tree.prior_logits`
    mass: jax.Array
    log_total: jax.Array  # log Σ exp of the logits of all actions


UNTRIED = ("raw_value", "num_children", "slot", "logit", "mass", "log_total")


def _node_field(index: int) -> Any:
    return property(lambda tree: tree.node_data[index].reshape(-1, tree.batch))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tree:
    """A search tree for each game.

    `NodeData` is one array: XLA takes as long to compile the reading of one field as of all. Integers are stored as
    f32 too, exact up to 2^24.
    """

    embedding: Any  # [N, B, ...]
    actions: jax.Array | None  # i16[N, B, K]  actions of the slots; None where slot = action
    prior_logits: jax.Array  # f32[N, B, K]  log-priors + `log_total`; -inf: illegal, or tried at a kept root
    dropped_logit: jax.Array | None  # f32[N, B]  log Σ exp of the actions without a slot; None: all legal ones have one
    children_index: jax.Array  # i16[N, C, B]  a node's children
    node_data: jax.Array  # f32[14, N · B]  `NodeData`
    chance: jax.Array | None = None  # bool[N, B]  an outcome is due here; None: a game without chance

    # [N, B] each:
    reward, discount, value, visits, qvalue, prior_logit, parent, action = (_node_field(i) for i in range(8))
    raw_value, num_children, slot, logit, mass, log_total = (_node_field(i) for i in range(8, 14))

    @property
    def size(self) -> int:
        return self.children_index.shape[0]

    @property
    def batch(self) -> int:
        return self.children_index.shape[2]


class Children(NamedTuple):
    """The children of nodes [L, B], as a selection rule sees them; W is the first axis."""

    tried: jax.Array  # bool[W, L, B]  false: no child here
    qvalue: jax.Array  # f32[W, L, B]
    visits: jax.Array  # f32[W, L, B]
    prior_logit: jax.Array  # f32[W, L, B]
    raw_value: jax.Array  # f32[1, L, B]  of the node itself, like all that follows
    node_value: jax.Array  # f32[1, L, B]
    node_visits: jax.Array  # f32[1, L, B]
    untried: Untried  # [1, L, B]
    complete: jax.Array  # bool[1, L, B]  every action of the game was tried


class Layout(NamedTuple):
    """Sizes of a tree."""

    slots: int | None  # K where nodes do not store all actions
    capped: bool  # the slots are for the likeliest actions; false: for all legal ones
    max_children: int  # C
    kept_nodes: int  # nodes kept from the last move, root included; 0: none
    outcomes: int  # of chance, all stored; 0: no chance

    def nodes(self, simulations: int) -> int:
        return (self.kept_nodes or 1) + simulations * (2 if self.outcomes else 1)


def layout(env: Env, config: TreeConfig, simulations: int, model: Model) -> Layout:
    """The sizes that a search needs.

    A node has no more children than visits, so nodes with few visits may store fewer slots than actions at no loss;
    `config.slots` stores fewer still. Trees that are kept between moves have one layout for all budgets.

    Raises:
        ConfigError: more nodes than a tree can number.
    """
    if config.reuse_tree:
        simulations = max(simulations, config.simulations, *config.schedule)
    kept = 2 * simulations if config.reuse_tree else 0
    legal, actions = env.max_legal if model.knows_rules else env.num_actions, env.num_actions
    most = min(legal, kept + simulations)
    slots = legal if 4 * legal <= actions else None
    capped = not slots and actions > max(MANY_ACTIONS, 8 * most)
    if 0 < config.slots < most:
        most, capped = config.slots, True
    children = min(max(most, model.num_outcomes), kept + simulations)
    sizes = Layout(most if capped else slots, capped, children, kept, model.num_outcomes)
    if (nodes := sizes.nodes(simulations)) > MAX_NODES:
        raise ConfigError(
            f"simulations: {simulations} need {nodes} nodes a game, and a tree numbers no more than {MAX_NODES}; "
            "use fewer"
        )
    return sizes


def empty_tree(root: Root, layout: Layout, num_nodes: int) -> Tree:
    """A tree with room for `num_nodes`: zeros, and the root's embedding at every node."""
    batch = root.value.shape[0]
    slots = max(layout.slots or root.prior_logits.shape[-1], layout.outcomes)

    def zeros(dtype, *more):
        return jnp.zeros((num_nodes, batch, *more), dtype)

    real = root.value.dtype
    return Tree(
        embedding=jax.tree.map(lambda x: jnp.broadcast_to(x[None], (num_nodes, *x.shape)), root.embedding),
        actions=zeros(jnp.int16, slots) if layout.slots else None,
        prior_logits=zeros(real, slots), dropped_logit=zeros(real) if layout.capped else None,
        children_index=jnp.zeros((num_nodes, layout.max_children, batch), jnp.int16),
        node_data=jnp.zeros((len(NodeData._fields), num_nodes * batch)),
        chance=zeros(bool) if layout.outcomes else None,
    )  # fmt: skip


def tree_from_root(root: Root, layout: Layout, num_nodes: int) -> Tree:
    """A tree of the root alone, with room for `num_nodes`."""
    tree, zero = empty_tree(root, layout, num_nodes), jnp.zeros_like(root.value)
    return add_nodes(tree, 0, root.embedding, root.prior_logits, root.value, zero, zero + 1, zero, zero, zero)


def add_nodes(
    tree: Tree, new: int | jax.Array, embedding: Any, logits: jax.Array, value: jax.Array, reward: jax.Array,
    discount: jax.Array, parent: jax.Array, action: jax.Array, prior_logit: jax.Array, chance: bool = False,
) -> Tree:  # fmt: skip
    """Writes a model's output [L · B, ...] to nodes `new`, `new` + 1, …: visited once, childless.

    Logits are those of the actions, or with `chance` (an afterstate) of the outcomes. If there are no more of them
    than slots, slot k holds action k.
    """

    def put(stored, x):
        x = jnp.asarray(x, stored.dtype).reshape(-1, tree.batch, *x.shape[1:])
        return jax.lax.dynamic_update_slice_in_dim(stored, x, new, 0, **NON_NEGATIVE)

    legal = legal_in(logits)
    masked = where(legal, logits, -jnp.inf)
    slots, dropped = tree.prior_logits.shape[-1], None if tree.dropped_logit is None else jnp.full_like(value, -jnp.inf)
    if logits.shape[-1] <= slots:
        logits = jnp.pad(masked, ((0, 0), (0, slots - logits.shape[-1])), constant_values=-jnp.inf)
        slot = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    elif dropped is None:
        logits, slot = compact(logits, legal, slots)
    else:
        logits, slot, dropped = likeliest(masked, slots)
    actions = None if tree.actions is None else put(tree.actions, slot)
    # The shapes of `next_untried`: equal operations are compiled once.
    lanes = (-1, tree.batch)
    first = find_untried(logits.reshape(*lanes, slots), None if dropped is None else dropped.reshape(lanes))
    first = Untried(*(x.reshape(-1) for x in first))
    log_total = first.logit + jnp.log(first.mass)
    one, zero = jnp.ones_like(value), jnp.zeros_like(value)
    data = NodeData(
        reward, discount, value, one, reward + discount * value, prior_logit, parent, action,
        value, zero, *first, log_total,
    )  # fmt: skip
    rows = jnp.stack([x.astype(tree.node_data.dtype) for x in data])
    return dataclasses.replace(
        tree,
        embedding=jax.tree.map(put, tree.embedding, embedding),
        actions=actions, prior_logits=put(tree.prior_logits, logits),
        dropped_logit=None if dropped is None else put(tree.dropped_logit, dropped),
        node_data=jax.lax.dynamic_update_slice_in_dim(tree.node_data, rows, new * tree.batch, 1, **NON_NEGATIVE),
        chance=None if tree.chance is None else put(tree.chance, jnp.full(value.shape, chance)),
    )  # fmt: skip


@separate_call
def find_untried(logits: jax.Array, dropped_logit: jax.Array | None) -> Untried:
    """The likeliest of the untried actions [..., K] and their mass, that of the dropped ones [...] included.

    Logits of actions that cannot be tried are -inf.
    """
    slots, order = logits.shape[-1], jax.lax.broadcasted_iota(jnp.float32, logits.shape, logits.ndim - 1)
    highest = logits.max(-1)
    # An argmax is slower on a CPU.
    slot = where(logits == highest[..., None], order, slots).min(-1)
    scale = where(highest > -jnp.inf, highest, 0.0)
    mass = jnp.exp(logits - scale[..., None]).sum(-1)
    return Untried(slot, highest, mass if dropped_logit is None else mass + jnp.exp(dropped_logit - scale))


def lookup(field: jax.Array, node: jax.Array, *slot: jax.Array) -> jax.Array:
    """Values of a field [N, B, ...] at nodes [..., B] (and slots of the same shape)."""
    return gather(field, node, game_of(node), *slot)


def read_nodes(tree: Tree, node: jax.Array, *names: str) -> tuple[jax.Array, ...]:
    """Fields of `NodeData` by name, [..., B] each, at nodes [..., B]."""
    return tuple(materialized(gather(tree.node_data, _rows(names, node), _column(node)[None])))


def update_nodes(tree: Tree, node: jax.Array, **fields: jax.Array) -> Tree:
    """The tree with these fields of `NodeData` [..., B] at distinct nodes [..., B]."""
    values = jnp.stack([x.astype(tree.node_data.dtype) for x in fields.values()])
    data = tree.node_data.at[_rows(fields, node), _column(node)[None]].set(values, **DROP)
    return dataclasses.replace(tree, node_data=data)


def _rows(names: Iterable[str], node: jax.Array) -> np.ndarray:
    """Rows of `Tree.node_data` that hold these fields, i32[R, 1, ...] to go with nodes [..., B]."""
    return np.array([NodeData._fields.index(name) for name in names], np.int32).reshape(-1, *(1,) * node.ndim)


def _column(node: jax.Array) -> jax.Array:
    """Columns of `Tree.node_data` that hold nodes [..., B]."""
    return node * node.shape[-1] + game_of(node)


def read_children(tree: Tree, node: jax.Array, width: int, num_actions: int) -> tuple[Children, jax.Array]:
    """The first `width` children of nodes [L, B], and their indices i32[W, L, B]."""
    raw_value, number, slot, logit, mass, log_total = (x[None] for x in read_nodes(tree, node, *UNTRIED))
    order = jnp.arange(width)[:, None, None]
    child = gather(tree.children_index, node[None], order, game_of(node)[None]).astype(jnp.int32)
    visits, qvalue, prior_logit = read_nodes(tree, child, "visits", "qvalue", "prior_logit")
    return Children(
        tried=order < number, qvalue=qvalue, visits=visits, prior_logit=prior_logit, raw_value=raw_value,
        node_value=lookup(tree.value, node)[None], node_visits=lookup(tree.visits, node)[None],
        untried=Untried(slot, logit - log_total, mass), complete=number >= num_actions,
    ), child  # fmt: skip


class NextAction(NamedTuple):
    """The action that nodes try next, their likeliest untried one; [L, B]."""

    slot: jax.Array  # i32
    logit: jax.Array  # f32  its log-prior
    number: jax.Array  # f32  of children so far
    raw_value: jax.Array  # f32  of the node
    left: Untried  # what is untried after it


def next_untried(tree: Tree, node: jax.Array) -> NextAction:
    """The next action of nodes [L, B]."""
    raw_value, number, slot, logit, _, log_total = read_nodes(tree, node, *UNTRIED)
    slot, logits = slot.astype(jnp.int32), lookup(tree.prior_logits, node)
    order = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    # Actions are tried from the likeliest down, so what is left comes after this one.
    less = (logits < logit[..., None]) | (logits == logit[..., None]) & (order > slot[..., None])
    dropped = None if tree.dropped_logit is None else lookup(tree.dropped_logit, node)
    left = find_untried(where(less, logits, -jnp.inf), dropped)
    return NextAction(slot, logit - log_total, number, raw_value, left)


def link_child(tree: Tree, node: jax.Array, links: jax.Array, leaf: jax.Array, action: NextAction) -> Tree:
    """Makes `leaf` the child of `node` by its next action, where `links` bool; all [L, B]."""
    parent = where(links, node, tree.size) + zeros_after(action.left.mass)
    index = scatter(tree.children_index, jnp.broadcast_to(leaf, parent.shape), parent, action.number, game_of(parent))
    tree = dataclasses.replace(tree, children_index=index)
    return update_nodes(tree, parent, num_children=action.number + 1, **action.left._asdict())


def by_action(tree: Tree, values: jax.Array, num_actions: int) -> jax.Array:
    """Values of the root's children [C, B] by action [B, A]; 0 where there is no child."""
    child = tree.children_index[0].astype(jnp.int32)
    tried = jnp.arange(child.shape[0])[:, None] < tree.num_children[0][None]
    action = where(tried, lookup(tree.action, child).astype(jnp.int32), num_actions)
    game = jnp.broadcast_to(jnp.arange(child.shape[1]), child.shape)
    return jnp.zeros((child.shape[1], num_actions), values.dtype).at[game, action].set(values, mode="drop")
