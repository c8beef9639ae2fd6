"""Gumbel AlphaZero (Danihelka et al. 2022, "Policy improvement by planning with Gumbel") on our tree.

At the root, sequential halving over the candidates with the highest Gumbel noise + logit (section 3); below it, the
action whose visits lag most behind the improved policy (section 5); untried actions count with the mixed value
(appendix D). The value of a search is that of its improved policy: the mean over all visits would count moves that
halving tried and dropped.

Letters as in `tree`; M candidates, A actions.
"""

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial
from typing import Annotated, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env, backend
from envs.core import where
from jaxzero.config.fields import COMMON, Range
from jaxzero.models import Model
from jaxzero.search import base, reuse, simulation
from jaxzero.search import tree as tree_lib
from jaxzero.search.base import Finding, Search
from jaxzero.search.config import TreeConfig
from jaxzero.search.indexing import UNSIGNED, game_of, take
from jaxzero.search.tree import Chunks, apart, each, over

TINY = jnp.finfo(jnp.float32).tiny  # the least prior of an action that was tried
VISIT_OFFSET = 50.0  # c_visit of the paper
CPU_ROWS = 128  # of a network call in rounds, at most, unless there are more games; wider ones leave the caches


@dataclasses.dataclass(frozen=True)
class GumbelConfig(TreeConfig):
    """Gumbel AlphaZero."""

    kind: ClassVar[str] = "gumbel"
    ours_only: ClassVar[tuple[str, ...]] = ("rounds", *TreeConfig.ours_only)

    max_considered: Annotated[int, Range(1, 65_536), COMMON] = 16
    """Actions considered at the root."""
    rounds: bool = False
    """Visits all candidates of a round at once, so that a search takes few, large network calls; on a CPU, where large
    calls are no faster, in blocks."""
    value_scale: Annotated[float, Range(1e-6, 10**6)] = 0.1
    """Weight of values against the network's logits: c_scale of the paper."""
    rescale_values: bool = True
    """Values are stretched to [0, 1] at each node. false takes them as they are, in [-1, 1], so that no difference
    between equally good moves is blown up."""


class Scale(NamedTuple):
    """How values are weighed against logits."""

    factor: float  # c_scale
    stretch: bool  # values to [0, 1] first, by the extremes around


def schedule(candidates: int, simulations: int) -> list[int]:
    """Sequential halving as the number of candidates in each round; the rounds visit each of theirs once.

    The paper's figure 1: as many rounds of a phase as share the budget evenly over log2(candidates) phases, then the
    better half goes on, down to two.
    """
    phases = max(1, int(np.ceil(np.log2(candidates))))
    rounds: list[int] = []
    left = candidates
    while sum(rounds) < simulations:
        rounds += [left] * max(1, simulations // (phases * left))
        left = max(min(2, candidates), left // 2)
    while sum(rounds) > simulations:
        excess = sum(rounds) - simulations
        last = rounds.pop()
        if excess < last:
            rounds.append(last - excess)
    return rounds


def considered_visits(most: int, simulations: int) -> np.ndarray:
    """i32[M + 1, S]: how often a candidate must have been visited to be visited now, by their number and simulation."""
    table = np.zeros((most + 1, simulations), np.int32)
    for candidates in range(1, most + 1):
        rounds = schedule(candidates, simulations)
        table[candidates] = np.repeat(np.arange(len(rounds)), rounds)
    return table


def completed(
    scale: Scale, tried: Chunks, qvalue: Chunks, visits: Chunks, prior: Chunks, raw: jax.Array, complete: jax.Array
) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """How values count in choosing, times (c_visit + most visits) · c_scale (equation 8): a map of those of children,
    and the value of any untried action [1, ...] (appendix D). `visits` are 0 where not tried; `raw` and `complete`
    [1, ...] are the parent's."""
    prior = each(lambda tried, prior: where(tried, prior, 0.0), tried, prior)
    least = each(lambda tried, value: where(tried, value, jnp.inf), tried, qvalue)
    greatest = each(lambda tried, value: where(tried, value, -jnp.inf), tried, qvalue)
    known, weight, total, most, low, high = over(
        (jnp.add, each(jnp.multiply, prior, qvalue)), (jnp.add, prior), (jnp.add, visits), (jnp.maximum, visits),
        (jnp.minimum, least), (jnp.maximum, greatest),
    )  # fmt: skip
    mixed = (raw + total * (known / jnp.maximum(weight, TINY))) / (total + 1)
    weight = (VISIT_OFFSET + most) * scale.factor
    if not scale.stretch:
        return lambda value: value * weight, mixed * weight
    low, high = (
        jnp.minimum(low, where(complete, jnp.inf, mixed)),
        jnp.maximum(high, where(complete, -jnp.inf, mixed)),
    )
    weight /= jnp.maximum(high - low, 1e-8)
    return lambda value: (value - low) * weight, (mixed - low) * weight


def interior(scale: Scale, near: tree_lib.Family) -> tuple[Chunks, jax.Array]:
    """The rule below the root: improved policy less the share of the visits so far (equation 14)."""
    visits = each(lambda tried, n: where(tried, n, 0.0), near.tried, near.visits)
    prior = apart(each(lambda logit: jnp.maximum(jnp.exp(logit), TINY), near.logit))
    scaled, other = completed(scale, near.tried, near.qvalue, visits, prior, near.raw, near.complete)
    score = lambda tried, logit, value: where(tried, logit + scaled(value), -jnp.inf)  # noqa: E731
    logits, other = each(score, near.tried, near.logit, near.qvalue), near.untried.likeliest + other
    (highest,) = over((jnp.maximum, logits))
    highest = jnp.maximum(highest, other)
    weights, weight = each(lambda logit: jnp.exp(logit - highest), logits), jnp.exp(other - highest)
    total, rest = over((jnp.add, weights), (jnp.add, visits))
    total += near.untried.mass * weight
    rest += 1
    # XLA on a CPU fuses by divisions: of few children there are 16 kernels more without them, and trees are slower.
    return each(lambda weight, n: weight / total - n / rest, weights, visits), weight / total


class Candidates(NamedTuple):
    """The root's candidates, best Gumbel noise + logit first, and what the search has found of them."""

    action: jax.Array  # i32[M, B]
    score: jax.Array  # f32[M, B]  Gumbel noise + logit; -inf where there are fewer, or when out of a search in rounds
    prior: jax.Array  # f32[M, B]
    child: jax.Array  # i32[M, B]  node; 0: not visited yet
    visits: jax.Array  # f32[M, B]
    qvalue: jax.Array  # f32[M, B]  0 where not visited yet
    value: jax.Array  # f32[M, B]  completed
    other: jax.Array  # f32[1, B]  completed value of all other actions
    raw: jax.Array  # f32[1, B]  value of the root as the model said it


def find_candidates(logits: jax.Array, gumbel: jax.Array, legal: jax.Array, raw: jax.Array, most: int) -> Candidates:
    """All [B, A], `raw` [B] -> the `most` with the highest score, not judged yet."""
    scores = where(legal, logits + gumbel, -jnp.inf)
    action = backend.alone(jax.lax.top_k(scores, most)[1].T)
    score, prior = of_candidates(scores, action), of_candidates(softmax(logits), action)
    prior = jnp.maximum(prior, TINY)
    zero = jnp.zeros_like(score)
    return Candidates(action, score, prior, zero.astype(jnp.int32), zero, zero, zero, zero[:1], raw[None])


@backend.called
def of_candidates(x: jax.Array, action: jax.Array) -> jax.Array:
    """Of actions [B, A] -> of candidates [M, B]."""
    return take(x, game_of(action), action)


softmax = backend.called(jax.nn.softmax)


def judge(search: simulation.Search, scale: Scale, tree: tree_lib.Tree, at_root: Candidates) -> Candidates:
    """The candidates as the tree has them."""
    tried = at_root.child > 0
    visits, qvalue = (where(tried, x, 0.0) for x in tree_lib.read(tree, at_root.child, "visits", "qvalue"))
    complete = tried.all(0)[None] & (len(tried) == search.num_actions)
    scaled, other = completed(scale, (tried,), (qvalue,), (visits,), (at_root.prior,), at_root.raw, complete)
    value = where(tried, scaled(qvalue), other)
    return at_root._replace(visits=visits, qvalue=qvalue, value=value, other=other)


def visit(
    search: simulation.Search,
    tree: tree_lib.Tree,
    at_root: Candidates,
    chosen: jax.Array,
    key: jax.Array,
    new: jax.Array,
) -> tuple[tree_lib.Tree, Candidates]:
    """A simulation of each lane from the candidate `chosen` bool[M, L, B] for it, if any, into nodes from `new` on."""

    def pick(field):
        return where(chosen, field[:, None], 0).max(0)

    start = simulation.Start(pick(at_root.action), pick(at_root.child), chosen.any(0))
    tree, node = simulation.simulate(search, tree, key, new, start)
    child = at_root.child[:, None]
    child = where(chosen & (child == 0), node[None], child).max(1)
    return tree, at_root._replace(child=backend.alone(child.astype(jnp.int32)))


def one_at_a_time(
    search: simulation.Search, scale: Scale, tree: tree_lib.Tree, at_root: Candidates, key: jax.Array, simulations: int,
    first: int,
):  # fmt: skip
    """Each simulation goes to the best of the least visited candidates still considered, as in mctx. Visits of earlier
    searches do not count; new nodes begin at `first`."""
    number, before = (at_root.score > -jnp.inf).sum(0), at_root.visits
    table = considered_visits(at_root.child.shape[0], simulations).T
    wanted = take(jnp.asarray(table), np.arange(simulations)[:, None], number[None])  # [S, B]

    def step(i, carry):
        tree, at_root = carry
        due = at_root.visits - before == jax.lax.dynamic_index_in_dim(wanted, i, **UNSIGNED)
        best = jnp.argmax(where(due, at_root.score + at_root.value, -jnp.inf), 0)
        chosen = np.arange(len(due))[:, None] == backend.alone(best)[None]
        tree, at_root = visit(search, tree, at_root, chosen[:, None], jax.random.fold_in(key, i), first + i)
        return tree, judge(search, scale, tree, at_root)

    return jax.lax.fori_loop(0, simulations, step, (tree, at_root))


def rank(scores: jax.Array) -> jax.Array:
    """i32[M, B]: how many of [M, B] are higher, or equal and before."""
    other, scores = scores[:, None], scores[None]
    before = np.triu(np.ones((scores.shape[1],) * 2, bool), 1)[..., None]
    return ((other > scores) | (other == scores) & before).sum(0, dtype=jnp.int32)


def round_by_round(
    search: simulation.Search, scale: Scale, tree: tree_lib.Tree, at_root: Candidates, key: jax.Array, simulations: int,
    first: int,
):  # fmt: skip
    """The candidates of a round without regard to each other: the paper's algorithm, where a round's candidates are the
    best by what was known before it. A game with fewer candidates than a round has lanes leaves some unused."""

    def play(lanes, plan, i, carry):
        """Some lanes of a round, a row of `plan`: its width, and how many lanes it has had before."""
        tree, at_root, place, new = carry
        width, begin = jnp.asarray(plan)[i]
        place = where(begin == 0, rank(at_root.score + at_root.value), place)
        at_root = at_root._replace(score=where(place < width, at_root.score, -jnp.inf))
        lane = (begin + jnp.arange(lanes))[None, :, None]
        chosen = (place[:, None] == lane) & (at_root.score > -jnp.inf)[:, None]
        tree, at_root = visit(search, tree, at_root, chosen, jax.random.fold_in(key, new), new)
        return tree, judge(search, scale, tree, at_root), place, new + lanes

    carry = tree, at_root, jnp.zeros_like(at_root.child), jnp.int32(first)
    rounds = lanes_of(schedule(at_root.child.shape[0], simulations), tree.batch)
    for lanes, same in itertools.groupby(rounds, lambda entry: entry[0]):
        plan = np.array([(width, begin) for _, width in same for begin in range(0, width, lanes)], np.int32)
        carry = jax.lax.fori_loop(0, len(plan), partial(play, lanes, plan), carry)
    return carry[:2]


def lanes_of(rounds: list[int], batch: int) -> list[tuple[int, int]]:
    """How many candidates each round visits at once, and its width, for `batch` games a device: all of them; on a CPU,
    where a row of a large batch costs the network more and each number of lanes compiles a simulation, one number."""
    if backend.accelerated():
        return [(width, width) for width in rounds]
    common = int(np.gcd.reduce(rounds))
    lanes = max(n for n in range(1, common + 1) if common % n == 0 and (n == 1 or n * batch <= CPU_ROWS))
    return [(lanes, width) for width in rounds]


def make(config: GumbelConfig, env: Env, model: Model, simulations: int) -> Search:
    if config.engine == "mctx":
        from jaxzero.search import stock  # late: it needs mctx, which few runs do

        return stock.gumbel(config, env, model, simulations)
    most = min(config.max_considered, simulations, env.num_actions)
    layout = tree_lib.layout(env, config, simulations, model)
    run = round_by_round if config.rounds else one_at_a_time
    if config.rounds and not layout.room:  # a round visits a candidate once, and each visit adds a node below it
        layout = layout._replace(children=min(layout.children, len(schedule(most, simulations))))
    scale = Scale(config.value_scale, config.rescale_values)

    def find(params, keys, root, legal, explore, kept) -> Finding:
        gumbel = gumbel_noise(keys, env.num_actions) if explore else jnp.zeros_like(root.prior_logits)
        at_root = find_candidates(root.prior_logits, gumbel, legal, root.value, most)
        first = layout.room or 1
        tree = tree_lib.ground(root, layout, layout.nodes(simulations))
        search = simulation.Search(
            model, params, partial(interior, scale), env.num_actions, model.num_outcomes, config.max_depth or tree.size
        )
        if kept is not None:
            tree = reuse.replant(kept, tree)
            nodes = tree_lib.by_action(tree, tree.child[0].astype(jnp.int32), env.num_actions)
            at_root = at_root._replace(child=jnp.take_along_axis(nodes, at_root.action.T, 1).T)
            at_root = judge(search, scale, tree, at_root)
        before = at_root.visits
        tree, at_root = run(search, scale, tree, at_root, keys[0], simulations, first)
        added = at_root.visits - before
        scores = where(added == added.max(0)[None], at_root.score + at_root.value, -jnp.inf)
        best = take(at_root.action, jnp.argmax(scores, 0), np.arange(len(root.value)))
        place = places(at_root.action, env.num_actions)

        def by_action(x, others):
            """Of candidates [M, B], and of all others [1, B] -> of actions [B, A]."""
            return take(jnp.concatenate([x, others]), place, jax.lax.broadcasted_iota(jnp.int32, place.shape, 0))

        policy = improved_policy(root.prior_logits, by_action(at_root.value, at_root.other))
        weights = where(at_root.visits > 0, of_candidates(policy, at_root.action), 0.0)
        value = (weights * at_root.qvalue).sum(0) / jnp.maximum(weights.sum(0), 1e-30)
        none = jnp.zeros_like(at_root.other)
        visits, qvalues, nodes = (by_action(x, none) for x in (at_root.visits, at_root.qvalue, at_root.child))
        return Finding(policy, value, visits, qvalues, best, tree, nodes.astype(jnp.int32))

    return base.make(config, env, model, find, layout)


def places(action: jax.Array, num_actions: int) -> jax.Array:
    """Which of the candidates i32[M, B] each action is, i32[B, A]; M: none."""
    order = jax.lax.broadcasted_iota(jnp.int32, (action.shape[1], num_actions), 1)
    action, found = action.T, jnp.full_like(order, len(action))
    for i in range(action.shape[1]):
        found = where(order == action[:, i : i + 1], i, found)
    return found


def gumbel_noise(keys: jax.Array, num_actions: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.gumbel(key, (num_actions,)))(keys)


def improved_policy(logits: jax.Array, values: jax.Array) -> jax.Array:
    """Equation 10, of masked logits and values completed and scaled; all [B, A]."""
    return softmax(logits + values)
