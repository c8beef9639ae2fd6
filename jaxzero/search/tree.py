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
from jaxzero.messages import ConfigError
from jaxzero.models import Model, Root
from jaxzero.models.simulator import legal_in
from jaxzero.search.config import TreeConfig
from jaxzero.search.indexing import ANYWHERE, UNSIGNED, game_of, place, take
from jaxzero.search.slots import compact, likeliest

FEW = 8  # children that are looked at one by one
OPEN = ("raw", "number", "slot", "likeliest", "mass", "total")  # facts that tell what can be tried
WIDE = 1024  # actions that a node does not keep all for a few visits


class Untried(NamedTuple):
    """What choosing has to know of a node's untried actions; [N, B] in a tree."""

    slot: jax.Array  # f32  the likeliest one
    likeliest: jax.Array  # f32  its log-prior in a `Family`, else as in `Tree.priors`; -inf when every action was tried
    mass: jax.Array  # f32  sum of their priors, as a multiple of the likeliest one's


class Facts(NamedTuple):
    """What is known of a node and of the edge that leads to it; [N, B] in a tree."""

    reward: jax.Array  # to the parent's mover
    discount: jax.Array  # 0: the game is over
    value: jax.Array  # mean of all returns
    visits: jax.Array
    qvalue: jax.Array  # reward + discount · value
    logit: jax.Array  # log-prior
    parent: jax.Array  # 0 too where the node is no one's child
    action: jax.Array
    raw: jax.Array  # the value that the model said
    number: jax.Array  # of children
    slot: jax.Array  # of `Untried`, as the next two
    likeliest: jax.Array  # one of `Tree.priors`, to the last bit
    mass: jax.Array
    total: jax.Array  # log Σ exp of the logits of all its actions


def fact(index: int) -> Any:
    return property(lambda tree: tree.facts[index].reshape(-1, tree.batch))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tree:
    """The facts of nodes are rows of one array, because XLA needs as long to compile the reading or writing of one as
    of all. Whole numbers too are f32, which counts up to 2^24."""

    embedding: Any  # [N, B, ...]
    actions: jax.Array | None  # i16[N, B, K]  actions of the slots; None where slot = action
    priors: jax.Array  # f32[N, B, K]  log-priors + `total`; -inf where illegal, or tried at a kept root
    dropped: jax.Array | None  # f32[N, B]  the same of all actions that lack a slot; None: no legal one does
    child: jax.Array  # i16[N, C, B]  a node's children
    facts: jax.Array  # f32[14, N · B]  `Facts`
    chance: jax.Array | None = None  # bool[N, B]  an outcome is due here; None where that never is

    # [N, B] each:
    reward, discount, value, visits, qvalue, logit, parent, action = (fact(i) for i in range(8))
    raw, number, slot, likeliest, mass, total = (fact(i) for i in range(8, 14))
    children = property(lambda tree: tree.number.astype(jnp.int32))

    @property
    def size(self) -> int:
        return self.child.shape[0]

    @property
    def batch(self) -> int:
        return self.child.shape[2]


Chunks = tuple[jax.Array, ...]
"""An array [W, ...] in pieces [w, ...]: see `chunks`."""


class Family(NamedTuple):
    """Nodes [1, L, B] and their children [W, L, B], as a rule sees them."""

    tried: Chunks  # bool[W, L, B]  false: no child here
    qvalue: Chunks  # f32[W, L, B]
    visits: Chunks  # f32[W, L, B]
    logit: Chunks  # f32[W, L, B]
    raw: jax.Array  # f32[1, L, B]
    node_value: jax.Array  # f32[1, L, B]
    node_visits: jax.Array  # f32[1, L, B]
    untried: Untried  # [1, L, B]
    complete: jax.Array  # bool[1, L, B]  every action of the game was tried


class Layout(NamedTuple):
    """Sizes of a tree."""

    slots: int | None  # K where nodes do not keep all actions
    capped: bool  # slots are for the likeliest actions; false: for all legal ones
    children: int  # C
    room: int  # nodes kept from the last move, the root included; 0: none are
    outcomes: int  # of chance, all kept; 0: no chance

    def nodes(self, simulations: int) -> int:
        return (self.room or 1) + simulations * (2 if self.outcomes else 1)


def layout(env: Env, config: TreeConfig, simulations: int, model: Model) -> Layout:
    """A node has no more children than it has visits, so fewer slots than actions lose nothing, unless `config.slots`
    keeps fewer. Trees that are kept between moves have one layout for all budgets."""
    if config.reuse_tree:
        simulations = max(simulations, config.simulations, *config.schedule)
    room = 2 * simulations if config.reuse_tree else 0
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


def ground(root: Root, layout: Layout, num_nodes: int) -> Tree:
    """Room for `num_nodes`: zeros, and everywhere the root's position."""
    batch = root.value.shape[0]
    slots = max(layout.slots or root.prior_logits.shape[-1], layout.outcomes)

    def zeros(dtype, *more):
        return jnp.zeros((num_nodes, batch, *more), dtype)

    real = root.value.dtype
    return Tree(
        embedding=jax.tree.map(lambda x: jnp.broadcast_to(x[None], (num_nodes, *x.shape)), root.embedding),
        actions=zeros(jnp.int16, slots) if layout.slots else None,
        priors=zeros(real, slots), dropped=zeros(real) if layout.capped else None,
        child=jnp.zeros((num_nodes, layout.children, batch), jnp.int16),
        facts=jnp.zeros((len(Facts._fields), num_nodes * batch)), chance=zeros(bool) if layout.outcomes else None,
    )  # fmt: skip


def plant(root: Root, layout: Layout, num_nodes: int) -> Tree:
    """A tree of one node, with room for `num_nodes`."""
    tree, zero = ground(root, layout, num_nodes), jnp.zeros_like(root.value)
    return write(tree, 0, root.embedding, root.prior_logits, root.value, zero, zero + 1, zero, zero, zero)


def write(
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
    slots, dropped = tree.priors.shape[-1], None if tree.dropped is None else jnp.full_like(value, -jnp.inf)
    if logits.shape[-1] <= slots:
        logits = jnp.pad(masked, ((0, 0), (0, slots - logits.shape[-1])), constant_values=-jnp.inf)
        slot = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    elif dropped is None:
        logits, slot = compact(logits, legal, slots)
    else:
        logits, slot, dropped = likeliest(masked, slots)
    actions = None if tree.actions is None else put(tree.actions, slot)
    lanes = (-1, tree.batch)  # as `find_next` has them: equal operations are compiled once
    first = find_untried(logits.reshape(*lanes, slots), None if dropped is None else dropped.reshape(lanes))
    first = Untried(*(x.reshape(-1) for x in first))
    total = first.likeliest + jnp.log(first.mass)
    one, zero = jnp.ones_like(value), jnp.zeros_like(value)
    facts = Facts(
        reward, discount, value, one, reward + discount * value, logit, parent, action,
        value, zero, *first, total,
    )  # fmt: skip
    facts = stacked(facts, tree.facts.dtype)
    return dataclasses.replace(
        tree,
        embedding=jax.tree.map(put, tree.embedding, embedding),
        actions=actions, priors=put(tree.priors, logits),
        dropped=None if dropped is None else put(tree.dropped, dropped),
        facts=jax.lax.dynamic_update_slice_in_dim(tree.facts, facts, new * tree.batch, 1, **UNSIGNED),
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


def at(field: jax.Array, node: jax.Array, *slot: jax.Array) -> jax.Array:
    """Values of a field [N, B, ...] at nodes [..., B] (and slots of the same shape)."""
    return take(field, node, game_of(node), *slot)


def read(tree: Tree, node: jax.Array, *names: str) -> tuple[jax.Array, ...]:
    """These facts [..., B] of nodes [..., B], at once."""
    return tuple(backend.alone(take(tree.facts, rows_of(names, node), column_of(node)[None])))


def put(tree: Tree, node: jax.Array, **facts: jax.Array) -> Tree:
    """The tree with these facts [..., B] of nodes [..., B], which differ."""
    values = stacked(tuple(facts.values()), tree.facts.dtype)
    table = tree.facts.at[rows_of(facts, node), column_of(node)[None]].set(values, **ANYWHERE)
    return dataclasses.replace(tree, facts=table)


def rows_of(names: Iterable[str], node: jax.Array) -> np.ndarray:
    """Where facts of nodes [..., B] are in the table, i32[R, ...]."""
    return np.array([Facts._fields.index(name) for name in names], np.int32).reshape(-1, *(1,) * node.ndim)


def column_of(node: jax.Array) -> jax.Array:
    """Where nodes [..., B] are in the table."""
    return node * node.shape[-1] + game_of(node)


def stacked(rows: Sequence[jax.Array], dtype: Any) -> jax.Array:
    """`jnp.stack` in a form that XLA computes as one, the rows' arithmetic included.

    What is added to the order keeps XLA from comparing it before a loop, for each row in a kernel of its own.
    """
    order = np.arange(len(rows), dtype=np.int32).reshape(-1, *(1,) * rows[0].ndim) + zero_after(rows[-1])[None]
    rows = [jnp.asarray(x, dtype)[None] for x in rows]
    return functools.reduce(lambda x, entry: where(order == entry[0], entry[1], x), enumerate(rows[1:], 1), rows[0])


def family(tree: Tree, node: jax.Array, width: int, num_actions: int) -> tuple[Family, Chunks]:
    """The nodes [L, B] with their first `width` children, and the children's nodes [W, L, B]."""
    raw, number, slot, likeliest, mass, total = (x[None] for x in read(tree, node, *OPEN))
    order = jnp.arange(width)[:, None, None]
    child = take(tree.child, node[None], order, game_of(node)[None]).astype(jnp.int32)
    visits, qvalue, logit = read(tree, child, "visits", "qvalue", "logit")
    return Family(
        tried=chunks(order < number), qvalue=chunks(qvalue), visits=chunks(visits), logit=chunks(logit), raw=raw,
        node_value=at(tree.value, node)[None], node_visits=at(tree.visits, node)[None],
        untried=Untried(slot, likeliest - total, mass), complete=number >= num_actions,
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


def zero_after(x: jax.Array) -> jax.Array:
    """0 [L, B] that cannot be known before x [L, B] is: an index plus this writes after all that x comes from was read,
    and XLA, which cannot see that an order would do, need not copy what is read and written."""
    return (x.astype(jnp.float32) > 3e38).astype(jnp.int32)


class Next(NamedTuple):
    """What nodes will try next, the likeliest untried action, and what will then be left; [L, B]."""

    slot: jax.Array  # i32
    logit: jax.Array  # f32  its log-prior
    number: jax.Array  # f32  of children so far
    raw: jax.Array  # f32  the node's value as the model said it
    left: Untried


def find_next(tree: Tree, node: jax.Array) -> Next:
    raw, number, slot, logit, _, total = read(tree, node, *OPEN)
    slot, priors = slot.astype(jnp.int32), at(tree.priors, node)
    order = jax.lax.broadcasted_iota(jnp.int32, priors.shape, priors.ndim - 1)
    less = (priors < logit[..., None]) | (priors == logit[..., None]) & (order > slot[..., None])
    left = where(less, priors, -jnp.inf)  # what is likelier has been tried
    dropped = None if tree.dropped is None else at(tree.dropped, node)
    return Next(slot, logit - total, number, raw, find_untried(left, dropped))


def link(tree: Tree, node: jax.Array, grows: jax.Array, leaf: jax.Array, due: Next) -> Tree:
    """Makes `leaf` the child of `node` by the action that is `due`, where it `grows`; all [L, B]."""
    parent = where(grows, node, tree.size) + zero_after(due.left.mass)
    child = place(tree.child, jnp.broadcast_to(leaf, parent.shape), parent, due.number, game_of(parent))
    return put(dataclasses.replace(tree, child=child), parent, number=due.number + 1, **due.left._asdict())


def by_action(tree: Tree, values: jax.Array, num_actions: int) -> jax.Array:
    """Values of the root's listed children [C, B] -> [B, A]; 0 where there is no child."""
    child = tree.child[0].astype(jnp.int32)
    tried = jnp.arange(child.shape[0])[:, None] < tree.children[0][None]
    action = where(tried, at(tree.action, child).astype(jnp.int32), num_actions)
    game = jnp.broadcast_to(jnp.arange(child.shape[1]), child.shape)
    return jnp.zeros((child.shape[1], num_actions), values.dtype).at[game, action].set(values, mode="drop")
