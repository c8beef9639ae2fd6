"""Gumbel AlphaZero (Danihelka et al. 2022, "Policy improvement by planning with Gumbel") on our tree.

At the root, sequential halving over the candidates with the highest Gumbel noise + logit (section 3); below it, the
action whose visits lag most behind the improved policy (section 5); unvisited actions have the mixed value (appendix
D). The value of a search is that of its improved policy: a mean over all visits would count moves that halving tried
and dropped.

Letters as in `tree`; M candidates, A actions.
"""

import dataclasses
import itertools
from functools import partial
from typing import Annotated, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env
from envs.backend import materialized, separate_call
from envs.core import where
from jaxzero.config.fields import COMMON, Range
from jaxzero.models import Model
from jaxzero.search import base, reuse, simulation
from jaxzero.search import tree as tree_lib
from jaxzero.search.backend import NON_NEGATIVE, game_of, gather, lanes_per_round
from jaxzero.search.base import Search, SearchedTree, SearchOutput
from jaxzero.search.config import TreeConfig

TINY = jnp.finfo(jnp.float32).tiny  # the least prior of an action that was tried
VISIT_OFFSET = 50.0  # c_visit of the paper


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


class ValueScale(NamedTuple):
    """How values are weighed against logits."""

    factor: float  # c_scale
    rescale: bool  # map values to [0, 1] first, by the least and greatest at the node


def schedule(candidates: int, simulations: int) -> list[int]:
    """The number of candidates in each round of sequential halving; a round visits each of its candidates once.

    As in the paper's figure 1: log2(candidates) phases share the budget evenly, as whole rounds; after each phase the
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
    """i32[M + 1, S]: the visits of the candidates that simulation S considers, by their number (mctx's table)."""
    table = np.zeros((most + 1, simulations), np.int32)
    for candidates in range(1, most + 1):
        rounds = schedule(candidates, simulations)
        table[candidates] = np.repeat(np.arange(len(rounds)), rounds)
    return table


def completed_qvalues(
    scale: ValueScale, tried: jax.Array, qvalue: jax.Array, visits: jax.Array, prior: jax.Array, raw_value: jax.Array,
    complete: jax.Array,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """Completed Q-values, scaled by (c_visit + most visits) · c_scale (equation 8).

    Actions are the first axis, [W, ...]. `visits` are 0 where not tried; the node's `raw_value` and `complete` (all
    actions were tried) are [1, ...].

    Returns:
        The values of the tried actions f32[W, ...], and that of any unvisited action f32[1, ...] (appendix D).
    """
    prior = where(tried, prior, 0.0)
    weighted, weight = (prior * qvalue).sum(0, keepdims=True), prior.sum(0, keepdims=True)
    total, most = visits.sum(0, keepdims=True), visits.max(0, keepdims=True)
    mixed = (raw_value + total * (weighted / jnp.maximum(weight, TINY))) / (total + 1)
    if scale.rescale:
        least = where(tried, qvalue, jnp.inf).min(0, keepdims=True)
        greatest = where(tried, qvalue, -jnp.inf).max(0, keepdims=True)
        low = jnp.minimum(least, where(complete, jnp.inf, mixed))
        high = jnp.maximum(greatest, where(complete, -jnp.inf, mixed))
        stretch = 1 / jnp.maximum(high - low, 1e-8)
        qvalue, mixed = (qvalue - low) * stretch, (mixed - low) * stretch
    weight = (VISIT_OFFSET + most) * scale.factor
    return qvalue * weight, mixed * weight


def interior_scores(scale: ValueScale, children: tree_lib.Children) -> tuple[jax.Array, jax.Array]:
    """The rule below the root: improved policy less the share of the visits so far (equation 14)."""
    tried = children.tried
    visits = where(tried, children.visits, 0.0)
    prior = jnp.maximum(jnp.exp(children.prior_logit), TINY)
    values, unvisited = completed_qvalues(
        scale, tried, children.qvalue, visits, prior, children.raw_value, children.complete
    )
    logits, untried_logit = where(tried, children.prior_logit + values, -jnp.inf), children.untried.logit + unvisited
    highest = jnp.maximum(logits.max(0, keepdims=True), untried_logit)
    weights, untried_weight = jnp.exp(logits - highest), jnp.exp(untried_logit - highest)
    total = weights.sum(0, keepdims=True) + children.untried.mass * untried_weight
    total_visits = visits.sum(0, keepdims=True)
    return weights / total - visits / (total_visits + 1), untried_weight / total


class Candidates(NamedTuple):
    """The root actions that halving considers, highest Gumbel noise + logit first, and their search statistics."""

    action: jax.Array  # i32[M, B]
    score: jax.Array  # f32[M, B]  Gumbel noise + logit; -inf: no such candidate, or dropped by a search in rounds
    prior: jax.Array  # f32[M, B]
    child: jax.Array  # i32[M, B]  node; 0: not visited yet
    visits: jax.Array  # f32[M, B]
    qvalue: jax.Array  # f32[M, B]  0 where not visited yet
    value: jax.Array  # f32[M, B]  completed Q-value
    unvisited: jax.Array  # f32[1, B]  completed Q-value of all other actions
    raw_value: jax.Array  # f32[1, B]  of the root, by the model


def top_candidates(
    logits: jax.Array, gumbel: jax.Array, legal: jax.Array, raw_value: jax.Array, most: int
) -> Candidates:
    """The `most` actions with the highest score, unvisited, from arrays [B, A] and `raw_value` [B]."""
    scores = where(legal, logits + gumbel, -jnp.inf)
    action = materialized(jax.lax.top_k(scores, most)[1].T)
    score, prior = of_candidates(scores, action), of_candidates(softmax(logits), action)
    prior = jnp.maximum(prior, TINY)
    zero = jnp.zeros_like(score)
    return Candidates(action, score, prior, zero.astype(jnp.int32), zero, zero, zero, zero[:1], raw_value[None])


@separate_call
def of_candidates(x: jax.Array, action: jax.Array) -> jax.Array:
    """Values by action [B, A] -> of the candidates [M, B]."""
    return gather(x, game_of(action), action)


softmax = separate_call(jax.nn.softmax)


def update_candidates(
    search: simulation.TreeSearch, scale: ValueScale, tree: tree_lib.Tree, candidates: Candidates
) -> Candidates:
    """The candidates with the statistics of the tree."""
    tried = candidates.child > 0
    visits, qvalue = (where(tried, x, 0.0) for x in tree_lib.read_nodes(tree, candidates.child, "visits", "qvalue"))
    complete = tried.all(0)[None] & (len(tried) == search.num_actions)
    value, unvisited = completed_qvalues(scale, tried, qvalue, visits, candidates.prior, candidates.raw_value, complete)
    value = where(tried, value, unvisited)
    return candidates._replace(visits=visits, qvalue=qvalue, value=value, unvisited=unvisited)


def simulate_candidates(
    search: simulation.TreeSearch, tree: tree_lib.Tree, candidates: Candidates, chosen: jax.Array, key: jax.Array,
    new: jax.Array,
) -> tuple[tree_lib.Tree, Candidates]:  # fmt: skip
    """A simulation in each lane from its `chosen` candidate bool[M, L, B], if any, into nodes from `new` on."""

    def pick(field):
        return where(chosen, field[:, None], 0).max(0)

    start = simulation.Start(pick(candidates.action), pick(candidates.child), chosen.any(0))
    tree, node = simulation.simulate(search, tree, key, new, start)
    child = candidates.child[:, None]
    child = where(chosen & (child == 0), node[None], child).max(1)
    return tree, candidates._replace(child=materialized(child.astype(jnp.int32)))


def one_at_a_time(
    search: simulation.TreeSearch, scale: ValueScale, tree: tree_lib.Tree, candidates: Candidates, key: jax.Array,
    simulations: int, first: int,
):  # fmt: skip
    """Each simulation visits the best of the least visited candidates still considered, as in mctx.

    Visits of earlier searches do not count. New nodes begin at `first`.
    """
    number, before = (candidates.score > -jnp.inf).sum(0), candidates.visits
    table = considered_visits(candidates.child.shape[0], simulations).T
    considered = gather(jnp.asarray(table), np.arange(simulations)[:, None], number[None])  # [S, B]

    def step(i, carry):
        tree, candidates = carry
        wanted = jax.lax.dynamic_index_in_dim(considered, i, **NON_NEGATIVE)
        scores = where(candidates.visits - before == wanted, candidates.score + candidates.value, -jnp.inf)
        chosen = np.arange(len(scores))[:, None] == materialized(jnp.argmax(scores, 0))[None]
        sub = jax.random.fold_in(key, i)
        tree, candidates = simulate_candidates(search, tree, candidates, chosen[:, None], sub, first + i)
        return tree, update_candidates(search, scale, tree, candidates)

    return jax.lax.fori_loop(0, simulations, step, (tree, candidates))


def rank(scores: jax.Array) -> jax.Array:
    """i32[M, B]: how many of the scores [M, B] are higher, or equal and before."""
    other, scores = scores[:, None], scores[None]
    before = np.triu(np.ones((scores.shape[1],) * 2, bool), 1)[..., None]
    return ((other > scores) | (other == scores) & before).sum(0, dtype=jnp.int32)


def round_by_round(
    search: simulation.TreeSearch, scale: ValueScale, tree: tree_lib.Tree, candidates: Candidates, key: jax.Array,
    simulations: int, first: int,
):  # fmt: skip
    """The paper's algorithm: a round visits the best candidates by what was known before it.

    A game with fewer candidates than a round has lanes leaves some unused. New nodes begin at `first`.
    """

    def visit(lanes, plan, i, carry):
        """Visits some candidates of a round. A row of `plan`: its width, and the candidates it has visited already."""
        tree, candidates, ranks, new = carry
        width, begin = jnp.asarray(plan)[i]
        ranks = where(begin == 0, rank(candidates.score + candidates.value), ranks)
        candidates = candidates._replace(score=where(ranks < width, candidates.score, -jnp.inf))
        lane = (begin + jnp.arange(lanes))[None, :, None]
        chosen = (ranks[:, None] == lane) & (candidates.score > -jnp.inf)[:, None]
        sub = jax.random.fold_in(key, new)
        tree, candidates = simulate_candidates(search, tree, candidates, chosen, sub, new)
        return tree, update_candidates(search, scale, tree, candidates), ranks, new + lanes

    carry = tree, candidates, jnp.zeros_like(candidates.child), jnp.int32(first)
    rounds = lanes_per_round(schedule(candidates.child.shape[0], simulations), tree.batch)
    for lanes, same in itertools.groupby(rounds, lambda entry: entry[0]):
        plan = np.array([(width, begin) for _, width in same for begin in range(0, width, lanes)], np.int32)
        carry = jax.lax.fori_loop(0, len(plan), partial(visit, lanes, plan), carry)
    return carry[:2]


def make(config: GumbelConfig, env: Env, model: Model, simulations: int) -> Search:
    if config.engine == "mctx":
        from jaxzero.search import stock  # late: it needs mctx, which few runs do

        return stock.gumbel(config, env, model, simulations)
    most = min(config.max_considered, simulations, env.num_actions)
    layout = tree_lib.layout(env, config, simulations, model)
    run = round_by_round if config.rounds else one_at_a_time
    if config.rounds and not layout.kept_nodes:
        # A round visits a candidate once, and each visit adds a node below it.
        layout = layout._replace(max_children=min(layout.max_children, len(schedule(most, simulations))))
    scale = ValueScale(config.value_scale, config.rescale_values)

    def search_root(params, keys, root, legal, explore, kept):
        gumbel = gumbel_noise(keys, env.num_actions) if explore else jnp.zeros_like(root.prior_logits)
        candidates = top_candidates(root.prior_logits, gumbel, legal, root.value, most)
        first = layout.kept_nodes or 1
        tree = tree_lib.empty_tree(root, layout, layout.nodes(simulations))
        depth = config.max_depth or tree.size
        rule = partial(interior_scores, scale)
        search = simulation.TreeSearch(model, params, rule, env.num_actions, model.num_outcomes, depth)
        if kept is not None:
            tree = reuse.graft(kept, tree)
            nodes = tree_lib.by_action(tree, tree.children_index[0].astype(jnp.int32), env.num_actions)
            candidates = candidates._replace(child=jnp.take_along_axis(nodes, candidates.action.T, 1).T)
            candidates = update_candidates(search, scale, tree, candidates)
        before = candidates.visits
        tree, candidates = run(search, scale, tree, candidates, keys[0], simulations, first)
        added = candidates.visits - before
        scores = where(added == added.max(0)[None], candidates.score + candidates.value, -jnp.inf)
        best = gather(candidates.action, jnp.argmax(scores, 0), np.arange(len(root.value)))
        candidate = candidate_of_action(candidates.action, env.num_actions)

        def by_action(x, others):
            """Values of the candidates [M, B], and of all others [1, B] -> by action [B, A]."""
            game = jax.lax.broadcasted_iota(jnp.int32, candidate.shape, 0)
            return gather(jnp.concatenate([x, others]), candidate, game)

        policy = improved_policy(root.prior_logits, by_action(candidates.value, candidates.unvisited))
        weights = where(candidates.visits > 0, of_candidates(policy, candidates.action), 0.0)
        value = (weights * candidates.qvalue).sum(0) / jnp.maximum(weights.sum(0), 1e-30)
        none = jnp.zeros_like(candidates.unvisited)
        visits, qvalues, nodes = (by_action(x, none) for x in (candidates.visits, candidates.qvalue, candidates.child))
        output = SearchOutput(best, policy, value, jnp.ones_like(value), visits, qvalues)
        return output, SearchedTree(tree, nodes.astype(jnp.int32))

    return base.make(config, env, model, search_root, layout)


def candidate_of_action(action: jax.Array, num_actions: int) -> jax.Array:
    """i32[B, A]: which of the candidates i32[M, B] each action is; M: none."""
    order = jax.lax.broadcasted_iota(jnp.int32, (action.shape[1], num_actions), 1)
    action, candidate = action.T, jnp.full_like(order, len(action))
    for i in range(action.shape[1]):
        candidate = where(order == action[:, i : i + 1], i, candidate)
    return candidate


def gumbel_noise(keys: jax.Array, num_actions: int) -> jax.Array:
    """f32[B, A], with one key a game."""
    return jax.vmap(lambda key: jax.random.gumbel(key, (num_actions,)))(keys)


def improved_policy(logits: jax.Array, values: jax.Array) -> jax.Array:
    """Equation 10: the policy [B, A] of masked logits and completed Q-values."""
    return softmax(logits + values)
