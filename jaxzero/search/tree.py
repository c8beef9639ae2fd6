"""One search tree for a whole batch of games: what is stored, and how it is read and written.

What is known is stored once: a node's value, its visits and the edge that leads to it belong to the node, so an action
costs memory only in the priors. Children are listed in the order of their first visit. An untried action can only be
the likeliest one left, because all that are untried share one value; so a node remembers that one.

Letters: B games, N nodes, L lanes (simulations of one game that run at once, in disjoint subtrees), K slots (actions
of a node), C most children of a node, W children looked at. Node 0 is the root; 0 as a child means none. Node N is
nowhere: what is written there is dropped. With chance, the second half of the nodes are the afterstates.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env, backend
from envs.core import where
from jaxzero.config.schema import ConfigError, SearchConfig
from jaxzero.models import Model, Root
from jaxzero.models.simulator import legal_in
from jaxzero.search.indexing import ANYWHERE, UNSIGNED, game_of, gather, scatter
from jaxzero.search.slots import compact, likeliest

FEW = 8  # children that are looked at one by one
OPEN = ("raw_value", "num_children", "slot", "logit", "mass", "log_total")  # facts that tell what can be tried
WIDE = 1024  # actions that a node does not keep all for a few visits


class Untried(NamedTuple):
    """What choosing has to know of a node's untried actions; [N, B] in a tree."""

    slot: jax.Array  # f32  the likeliest one
    logit: (
        jax.Array
    )  # f32  its log-prior in a `Children`, else as in `Tree.prior_logits`; -inf when every action was tried
    mass: jax.Array  # f32  sum of their priors, as a multiple of the likeliest one's


class NodeData(NamedTuple):
    """What is known of a node and of the edge that leads to it; [N, B] in a tree."""

    reward: jax.Array  # to the parent's mover
    discount: jax.Array  # 0: the game is over
    value: jax.Array  # mean of all returns
    visits: jax.Array
    qvalue: jax.Array  # reward + discount · value
    prior_logit: jax.Array  # log-prior
    parent: jax.Array  # 0 too where the node is no one's child
    action: jax.Array
    raw_value: jax.Array  # of the model, before any search
    num_children: jax.Array
    slot: jax.Array  # of `Untried`, as the next two
    logit: jax.Array  # one of `Tree.prior_logits`, to the last bit
    mass: jax.Array
    log_total: jax.Array  # log Σ exp of the logits of all its actions


def node_field(index: int) -> Any:
    return property(lambda tree: tree.node_data[index].reshape(-1, tree.batch))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tree:
    """The facts of nodes are rows of one array, because XLA needs as long to compile the reading or writing of one as
    of all. Whole numbers too are f32, which counts up to 2^24."""

    embedding: Any  # [N, B, ...]
    actions: jax.Array | None  # i16[N, B, K]  actions of the slots; None where slot = action
    prior_logits: jax.Array  # f32[N, B, K]  log-priors + `log_total`; -inf where illegal, or tried at a kept root
    dropped_logit: jax.Array | None  # f32[N, B]  the same of all actions that lack a slot; None: no legal one does
    children_index: jax.Array  # i16[N, C, B]  a node's children
    node_data: jax.Array  # f32[14, N · B]  `NodeData`
    chance: jax.Array | None = None  # bool[N, B]  an outcome is due here; None where that never is

    # [N, B] each:
    reward, discount, value, visits, qvalue, prior_logit, parent, action = (node_field(i) for i in range(8))
    raw_value, num_children, slot, logit, mass, log_total = (node_field(i) for i in range(8, 14))

    @property
    def size(self) -> int:
        return self.children_index.shape[0]

    @property
    def batch(self) -> int:
        return self.children_index.shape[2]


Chunks = tuple[jax.Array, ...]
"""An array [W, ...] in pieces [w, ...]: see `chunks`."""


class Children(NamedTuple):
    """Nodes [1, L, B] and their children [W, L, B], as a rule sees them."""

    tried: Chunks  # bool[W, L, B]  false: no child here
    qvalue: Chunks  # f32[W, L, B]
    visits: Chunks  # f32[W, L, B]
    prior_logit: Chunks  # f32[W, L, B]
    raw_value: jax.Array  # f32[1, L, B]
    node_value: jax.Array  # f32[1, L, B]
    node_visits: jax.Array  # f32[1, L, B]
    untried: Untried  # [1, L, B]
    complete: jax.Array  # bool[1, L, B]  every action of the game was tried


class Layout(NamedTuple):
    """Sizes of a tree."""

    slots: int | None  # K where nodes do not keep all actions
    capped: bool  # slots are for the likeliest actions; false: for all legal ones
    max_children: int  # C
    kept_nodes: int  # nodes kept from the last move, the root included; 0: none are
    outcomes: int  # of chance, all kept; 0: no chance

    def nodes(self, simulations: int) -> int:
        return (self.kept_nodes or 1) + simulations * (2 if self.outcomes else 1)


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


def empty_tree(root: Root, layout: Layout, num_nodes: int) -> Tree:
    """Room for `num_nodes`: zeros, and everywhere the root's position."""
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
    """A tree of one node, with room for `num_nodes`."""
    tree, zero = empty_tree(root, layout, num_nodes), jnp.zeros_like(root.value)
    return add_nodes(tree, 0, root.embedding, root.prior_logits, root.value, zero, zero + 1, zero, zero, zero)


def add_nodes(
    tree: Tree, new: int | jax.Array, embedding: Any, logits: jax.Array, value: jax.Array, reward: jax.Array,
    discount: jax.Array, parent: jax.Array, action: jax.Array, logit: jax.Array, chance: bool = False,
) -> Tree:  # fmt: skip
    """Puts what a model has said [L · B, ...] into nodes `new`, `new` + 1, …: visited once, childless. Of an afterstate
    (`chance`) the logits are the outcomes'. No more logits than slots are those of actions 0, 1, …"""

    def put(stored, x):
        x = jnp.asarray(x, stored.dtype).reshape(-1, tree.batch, *x.shape[1:])
        return jax.lax.dynamic_update_slice_in_dim(stored, x, new, 0, **UNSIGNED)

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
    lanes = (-1, tree.batch)  # as `next_untried` has them: equal operations are compiled once
    first = find_untried(logits.reshape(*lanes, slots), None if dropped is None else dropped.reshape(lanes))
    first = Untried(*(x.reshape(-1) for x in first))
    total = first.logit + jnp.log(first.mass)
    one, zero = jnp.ones_like(value), jnp.zeros_like(value)
    facts = NodeData(
        reward, discount, value, one, reward + discount * value, logit, parent, action,
        value, zero, *first, total,
    )  # fmt: skip
    facts = stack_rows(facts, tree.node_data.dtype)
    return dataclasses.replace(
        tree,
        embedding=jax.tree.map(put, tree.embedding, embedding),
        actions=actions, prior_logits=put(tree.prior_logits, logits),
        dropped_logit=None if dropped is None else put(tree.dropped_logit, dropped),
        node_data=jax.lax.dynamic_update_slice_in_dim(tree.node_data, facts, new * tree.batch, 1, **UNSIGNED),
        chance=None if tree.chance is None else put(tree.chance, jnp.full(value.shape, chance)),
    )  # fmt: skip


@backend.called
def find_untried(priors: jax.Array, dropped: jax.Array | None) -> Untried:
    """The likeliest of [..., K] and what all weigh together, `dropped` [...] included; -inf is no action."""
    slots, order = priors.shape[-1], jax.lax.broadcasted_iota(jnp.float32, priors.shape, priors.ndim - 1)
    highest = priors.max(-1)
    slot = where(priors == highest[..., None], order, slots).min(-1)  # an argmax is slower on CPU
    scale = where(highest > -jnp.inf, highest, 0.0)
    mass = jnp.exp(priors - scale[..., None]).sum(-1)
    return Untried(slot, highest, mass if dropped is None else mass + jnp.exp(dropped - scale))


def lookup(field: jax.Array, node: jax.Array, *slot: jax.Array) -> jax.Array:
    """Values of a field [N, B, ...] at nodes [..., B] (and slots of the same shape)."""
    return gather(field, node, game_of(node), *slot)


def read_nodes(tree: Tree, node: jax.Array, *names: str) -> tuple[jax.Array, ...]:
    """These facts [..., B] of nodes [..., B], at once."""
    return tuple(backend.alone(gather(tree.node_data, rows_of(names, node), column_of(node)[None])))


def update_nodes(tree: Tree, node: jax.Array, **facts: jax.Array) -> Tree:
    """The tree with these facts [..., B] of nodes [..., B], which differ."""
    values = stack_rows(tuple(facts.values()), tree.node_data.dtype)
    table = tree.node_data.at[rows_of(facts, node), column_of(node)[None]].set(values, **ANYWHERE)
    return dataclasses.replace(tree, node_data=table)


def rows_of(names: Iterable[str], node: jax.Array) -> np.ndarray:
    """Where facts of nodes [..., B] are in the table, i32[R, ...]."""
    return np.array([NodeData._fields.index(name) for name in names], np.int32).reshape(-1, *(1,) * node.ndim)


def column_of(node: jax.Array) -> jax.Array:
    """Where nodes [..., B] are in the table."""
    return node * node.shape[-1] + game_of(node)


def stack_rows(rows: Sequence[jax.Array], dtype: Any) -> jax.Array:
    """`jnp.stack` in a form that XLA computes as one, the rows' arithmetic included.

    What is added to the order keeps XLA from comparing it before a loop, for each row in a kernel of its own.
    """
    order = np.arange(len(rows), dtype=np.int32).reshape(-1, *(1,) * rows[0].ndim) + zeros_after(rows[-1])[None]
    rows = [jnp.asarray(x, dtype)[None] for x in rows]
    return functools.reduce(lambda x, entry: where(order == entry[0], entry[1], x), enumerate(rows[1:], 1), rows[0])


def read_children(tree: Tree, node: jax.Array, width: int, num_actions: int) -> tuple[Children, Chunks]:
    """The nodes [L, B] with their first `width` children, and the children's nodes [W, L, B]."""
    raw_value, number, slot, logit, mass, log_total = (x[None] for x in read_nodes(tree, node, *OPEN))
    order = jnp.arange(width)[:, None, None]
    child = gather(tree.children_index, node[None], order, game_of(node)[None]).astype(jnp.int32)
    visits, qvalue, prior_logit = read_nodes(tree, child, "visits", "qvalue", "prior_logit")
    return Children(
        tried=chunks(order < number), qvalue=chunks(qvalue), visits=chunks(visits),
        prior_logit=chunks(prior_logit), raw_value=raw_value,
        node_value=lookup(tree.value, node)[None], node_visits=lookup(tree.visits, node)[None],
        untried=Untried(slot, logit - log_total, mass), complete=number >= num_actions,
    ), chunks(child)  # fmt: skip


def chunks(x: jax.Array) -> Chunks:
    """[W, ...] -> [w, ...] each. Few are taken one by one on a CPU: XLA makes a kernel of every sum over an axis, but
    of a rule without such sums two or three in all, which compile and run faster."""
    size = 1 if len(x) <= FEW and not backend.accelerated() else len(x)
    return tuple(x[i : i + size] for i in range(0, len(x), size))


def each(f: Callable[..., jax.Array], *fields: Chunks) -> Chunks:
    """f of [W, ...], elementwise."""
    return tuple(f(*x) for x in zip(*fields, strict=True))


def apart(x: Chunks) -> Chunks:
    """x in one piece is computed before it is summed over: inside of a sum XLA computes number by number."""
    return x if len(x) > 1 else each(backend.alone, x)


def fold(combine: Callable[[Any, Any], Any], initial: Sequence[Any], *fields: Chunks) -> Sequence[jax.Array]:
    """Fields [W, ...] -> [1, ...] each, combined at once, so that XLA makes one kernel of it; `initial` is neutral."""
    pieces = list(zip(*fields, strict=True))
    if len(pieces) > 1:
        return functools.reduce(combine, pieces)
    initial = tuple(np.asarray(value, x.dtype) for value, x in zip(initial, pieces[0], strict=True))
    return [x[None] for x in jax.lax.reduce(pieces[0], initial, combine, (0,))]


NEUTRAL = {jnp.add: 0, jnp.maximum: -np.inf, jnp.minimum: np.inf}  # what leaves the other operand as it is


def over(*sums: tuple[Callable[[jax.Array, jax.Array], jax.Array], Chunks]) -> Sequence[jax.Array]:
    """Sums, maxima or minima f32[1, ...] of fields [W, ...], as each says."""
    operators, fields = zip(*sums, strict=True)

    def combine(x, y):
        return tuple(operator(*pair) for operator, *pair in zip(operators, x, y, strict=True))

    return fold(combine, [NEUTRAL[operator] for operator in operators], *fields)


def zeros_after(x: jax.Array) -> jax.Array:
    """0 [L, B] that cannot be known before x [L, B] is: an index plus this writes after all that x comes from was read,
    and XLA, which cannot see that an order would do, need not copy what is read and written."""
    return (x.astype(jnp.float32) > 3e38).astype(jnp.int32)


class NextAction(NamedTuple):
    """What nodes will try next, the likeliest untried action, and what will then be left; [L, B]."""

    slot: jax.Array  # i32
    logit: jax.Array  # f32  its log-prior
    number: jax.Array  # f32  of children so far
    raw: jax.Array  # f32  the node's value as the model said it
    left: Untried


def next_untried(tree: Tree, node: jax.Array) -> NextAction:
    raw, number, slot, logit, _, total = read_nodes(tree, node, *OPEN)
    slot, priors = slot.astype(jnp.int32), lookup(tree.prior_logits, node)
    order = jax.lax.broadcasted_iota(jnp.int32, priors.shape, priors.ndim - 1)
    less = (priors < logit[..., None]) | (priors == logit[..., None]) & (order > slot[..., None])
    left = where(less, priors, -jnp.inf)  # what is likelier has been tried
    dropped = None if tree.dropped_logit is None else lookup(tree.dropped_logit, node)
    return NextAction(slot, logit - total, number, raw, find_untried(left, dropped))


def link_child(tree: Tree, node: jax.Array, grows: jax.Array, leaf: jax.Array, due: NextAction) -> Tree:
    """Makes `leaf` the child of `node` by the action that is `due`, where it `grows`; all [L, B]."""
    parent = where(grows, node, tree.size) + zeros_after(due.left.mass)
    child = scatter(tree.children_index, jnp.broadcast_to(leaf, parent.shape), parent, due.number, game_of(parent))
    return update_nodes(
        dataclasses.replace(tree, children_index=child), parent, num_children=due.number + 1, **due.left._asdict()
    )


def by_action(tree: Tree, values: jax.Array, num_actions: int) -> jax.Array:
    """Values of the root's listed children [C, B] -> [B, A]; 0 where there is no child."""
    child = tree.children_index[0].astype(jnp.int32)
    tried = jnp.arange(child.shape[0])[:, None] < tree.num_children[0][None]
    action = where(tried, lookup(tree.action, child).astype(jnp.int32), num_actions)
    game = jnp.broadcast_to(jnp.arange(child.shape[1]), child.shape)
    return jnp.zeros((child.shape[1], num_actions), values.dtype).at[game, action].set(values, mode="drop")
