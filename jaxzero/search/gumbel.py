"""Gumbel AlphaZero (Danihelka et al. 2022, "Policy improvement by planning with Gumbel") on our tree.

At the root, sequential halving over the candidates with the highest Gumbel noise + logit (section 3); below it, the
action whose visits lag most behind the improved policy (section 5); untried actions count with the mixed value
(appendix D). The value of a search is that of its improved policy: the mean over all visits would count moves that
halving tried and dropped.

Letters as in `tree`; M candidates, A actions.
"""

import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env, backend
from jaxzero.config import SearchConfig
from jaxzero.models import Model
from jaxzero.search import base, reuse, simulation
from jaxzero.search import tree as trees
from jaxzero.search.base import Finding, Search

VISIT_OFFSET = 50.0  # c_visit of the paper
CPU_ROWS = 128  # of a network call in rounds, at most, unless there are more games; wider ones leave the caches


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
    scale: Scale, tried: jax.Array, qvalue: jax.Array, visits: jax.Array, logit: jax.Array, raw: jax.Array,
    complete: jax.Array,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """Values for choosing, of children [W, ...] and of any untried action [...], times (c_visit + most visits) ·
    c_scale (equation 8; the untried by appendix D). `visits` are 0 where not tried; `raw` and `complete` are the
    parent's."""
    tiny = jnp.finfo(logit.dtype).tiny
    prior = jnp.where(tried, jnp.maximum(jnp.exp(logit), tiny), 0.0)
    total = visits.sum(0)
    mixed = (raw + total * (prior * qvalue).sum(0) / jnp.maximum(prior.sum(0), tiny)) / (total + 1)
    weight = (VISIT_OFFSET + visits.max(0)) * scale.factor
    if not scale.stretch:
        return qvalue * weight[None], mixed * weight
    low = jnp.minimum(jnp.where(tried, qvalue, jnp.inf).min(0), jnp.where(complete, jnp.inf, mixed))
    high = jnp.maximum(jnp.where(tried, qvalue, -jnp.inf).max(0), jnp.where(complete, -jnp.inf, mixed))
    weight /= jnp.maximum(high - low, 1e-8)
    return (qvalue - low[None]) * weight[None], (mixed - low) * weight


def interior(scale: Scale, near: trees.Family) -> tuple[jax.Array, jax.Array]:
    """The rule below the root: improved policy less the share of the visits so far (equation 14)."""
    visits = jnp.where(near.tried, near.visits, 0.0)
    values, other = completed(scale, near.tried, near.qvalue, visits, near.logit, near.raw, near.complete)
    logits, other = jnp.where(near.tried, near.logit + values, -jnp.inf), near.untried.logit + other
    highest = jnp.maximum(logits.max(0), other)
    weights, weight = jnp.exp(logits - highest[None]), jnp.exp(other - highest)
    total = weights.sum(0) + near.untried.mass * weight
    return weights / total[None] - visits / (1 + visits.sum(0))[None], weight / total


class Candidates(NamedTuple):
    """The root's candidates, best Gumbel noise + logit first."""

    action: jax.Array  # i32[M, B]
    score: jax.Array  # f32[M, B]  Gumbel noise + logit; -inf where there are fewer
    logit: jax.Array  # f32[M, B]  log-prior
    child: jax.Array  # i32[M, B]  node; 0: not visited yet


def find_candidates(logits: jax.Array, gumbel: jax.Array, legal: jax.Array, most: int) -> Candidates:
    """All [B, A] -> the `most` with the highest score."""
    priors = jax.nn.log_softmax(jnp.where(legal, logits, -jnp.inf))
    score, action = jax.lax.top_k(jnp.where(legal, logits + gumbel, -jnp.inf), most)
    logit = jnp.take_along_axis(priors, action, -1, mode="promise_in_bounds")
    return Candidates(action.T, score.T, logit.T, jnp.zeros_like(action.T))


class Standing(NamedTuple):
    """What the search has found of its candidates."""

    visits: jax.Array  # f32[M, B]
    qvalue: jax.Array  # f32[M, B]
    value: jax.Array  # f32[M, B]  completed
    other: jax.Array  # f32[B]  completed value of all other actions


def judge(search: simulation.Search, scale: Scale, tree: trees.Tree, at_root: Candidates) -> Standing:
    tried = at_root.child > 0
    visits = jnp.where(tried, trees.at(tree.visits, at_root.child), 0.0)
    qvalue = trees.at(tree.qvalue, at_root.child)
    complete = tried.all(0) & (len(tried) == search.num_actions)
    values, other = completed(scale, tried, qvalue, visits, at_root.logit, tree.raw[0], complete)
    return Standing(visits, qvalue, jnp.where(tried, values, other[None]), other)


def start_lanes(at_root: Candidates, chosen: jax.Array, active: jax.Array) -> simulation.Start:
    """Lanes that begin with the candidates of index `chosen` [L, B]."""
    pick = lambda field: jnp.take_along_axis(field, chosen, 0, mode="promise_in_bounds")  # noqa: E731
    return simulation.Start(pick(at_root.action), pick(at_root.child), active)


def with_new(at_root: Candidates, chosen: jax.Array, start: simulation.Start, new: jax.Array) -> Candidates:
    """Notes the nodes `new` [L, B] of candidates that had none."""
    order = jnp.arange(at_root.child.shape[0])[:, None, None]
    here = (order == chosen[None]) & (start.active & (start.child == 0))[None]  # [M, L, B]
    return at_root._replace(child=jnp.where(here, new[None].astype(jnp.int32), at_root.child[:, None]).max(1))


def one_at_a_time(
    search: simulation.Search, scale: Scale, tree: trees.Tree, at_root: Candidates, key: jax.Array, simulations: int,
    first: int,
):  # fmt: skip
    """Each simulation goes to the best of the least visited candidates still considered, as in mctx. Visits of earlier
    searches do not count; new nodes begin at `first`."""
    number = (at_root.score > -jnp.inf).sum(0)
    before = judge(search, scale, tree, at_root).visits
    table = considered_visits(at_root.child.shape[0], simulations)

    def step(i, carry):
        tree, at_root = carry
        visits, _, values, _ = judge(search, scale, tree, at_root)
        due = visits - before == jnp.asarray(table)[number, i][None]
        chosen = first_highest(jnp.where(due, at_root.score + values, -jnp.inf))[None]
        start = start_lanes(at_root, chosen, chosen >= 0)
        tree, node = simulation.simulate(search, tree, jax.random.fold_in(key, i), first + i, start)
        return tree, with_new(at_root, chosen, start, node)

    return jax.lax.fori_loop(0, simulations, step, (tree, at_root))


def first_highest(scores: jax.Array) -> jax.Array:
    """i32[B]: index of the first highest of [M, B]."""
    order = jnp.arange(scores.shape[0])[:, None]
    return jnp.where(scores == scores.max(0)[None], order, scores.shape[0] - 1).min(0)


def round_by_round(
    search: simulation.Search, scale: Scale, tree: trees.Tree, at_root: Candidates, key: jax.Array, simulations: int,
    first: int,
):  # fmt: skip
    """The candidates of a round without regard to each other: the paper's algorithm, where a round's candidates are the
    best by what was known before it. A game with fewer candidates than a round has lanes leaves some unused."""
    most = at_root.child.shape[0]

    def play(lanes, widths, i, carry):
        tree, at_root, new, alive = carry
        _, _, values, _ = judge(search, scale, tree, at_root)
        rank, order = jax.lax.top_k(jnp.where(alive, at_root.score + values, -jnp.inf).T, max(widths))
        width = jnp.asarray(widths)[i] if len(set(widths)) > 1 else widths[0]  # static where it can be
        order, active = order.T, jnp.isfinite(rank.T) & (jnp.arange(max(widths))[:, None] < width)
        alive = ((jnp.arange(most)[:, None, None] == order[None]) & active[None]).any(1)

        def visit(j, carry):
            tree, at_root, new = carry
            chosen, lively = (jax.lax.dynamic_slice_in_dim(x, j * lanes, lanes) for x in (order, active))
            start = start_lanes(at_root, chosen, lively)
            tree, node = simulation.simulate(search, tree, jax.random.fold_in(key, new), new, start)
            return tree, with_new(at_root, chosen, start, node), new + lanes

        return *jax.lax.fori_loop(0, width // lanes, visit, (tree, at_root, new)), alive

    carry = tree, at_root, jnp.int32(first), jnp.ones(at_root.child.shape, bool)
    plan = lanes_of(schedule(most, simulations), tree.batch)
    for lanes, rounds in itertools.groupby(plan, lambda entry: entry[0]):
        widths = [width for _, width in rounds]
        carry = jax.lax.fori_loop(0, len(widths), partial(play, lanes, widths), carry)
    return carry[:2]


def lanes_of(rounds: list[int], batch: int) -> list[tuple[int, int]]:
    """How many candidates each round visits at once, and its width, for `batch` games a device: all of them; on a CPU,
    where a row of a large batch costs the network more and each number of lanes compiles a simulation, one number."""
    if backend.accelerated():
        return [(width, width) for width in rounds]
    common = int(np.gcd.reduce(rounds))
    lanes = max(n for n in range(1, common + 1) if common % n == 0 and (n == 1 or n * batch <= CPU_ROWS))
    return [(lanes, width) for width in rounds]


def make(config: SearchConfig, env: Env, model: Model, simulations: int) -> Search:
    most = min(config.max_considered, simulations, env.num_actions)
    layout = trees.layout(env, config, simulations, model)
    visit = round_by_round if config.rounds else one_at_a_time
    scale = Scale(config.value_scale, config.rescale)

    def find(params, keys, root, legal, explore, kept) -> Finding:
        gumbel = gumbel_noise(keys, env.num_actions) if explore else jnp.zeros_like(root.prior_logits)
        at_root = find_candidates(root.prior_logits, gumbel, legal, most)
        first = layout.room or 1
        tree = trees.plant(root, layout, layout.nodes(simulations))
        if kept is not None:
            tree = reuse.replant(kept, tree)
            nodes = trees.by_action(tree, tree.child[0].astype(jnp.int32), env.num_actions)
            at_root = at_root._replace(child=jnp.take_along_axis(nodes, at_root.action.T, 1).T)
        search = simulation.Search(
            model, params, partial(interior, scale), env.num_actions, model.num_outcomes, config.max_depth or tree.size
        )
        before = judge(search, scale, tree, at_root).visits
        tree, at_root = visit(search, scale, tree, at_root, keys[0], simulations, first)
        visits, qvalues, values, other = judge(search, scale, tree, at_root)
        added = visits - before
        best = first_highest(jnp.where(added == added.max(0)[None], at_root.score + values, -jnp.inf))
        game, action = jnp.arange(len(keys))[:, None], at_root.action.T

        def by_action(x):
            """Of candidates [M, B] -> of actions [B, A]; each apart, as those that no one asks for cost nothing."""
            return jnp.zeros(legal.shape, x.dtype).at[game, action].set(x.T)

        improved = jnp.tile(other[:, None], (1, env.num_actions)).at[game, action].set(values.T)
        policy = improved_policy(root.prior_logits, improved, legal)
        value = policy_value(policy[game, action], qvalues.T, visits.T > 0)
        best = jnp.take_along_axis(at_root.action, best[None], 0)[0]
        qvalues = jnp.where(at_root.child > 0, qvalues, 0.0)
        return Finding(policy, value, by_action(visits), by_action(qvalues), best, tree, by_action(at_root.child))

    return base.make(config, env, model, find, layout)


def gumbel_noise(keys: jax.Array, num_actions: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.gumbel(key, (num_actions,)))(keys)


def improved_policy(logits: jax.Array, values: jax.Array, legal: jax.Array) -> jax.Array:
    """Equation 10, with values completed and scaled; all [B, A]."""
    return jax.nn.softmax(jnp.where(legal, logits + values, -jnp.inf))


def policy_value(policy: jax.Array, qvalues: jax.Array, visited: jax.Array) -> jax.Array:
    """Mean of the root's action values under the policy, over the visited actions; all [B, A] -> f32[B]."""
    weights = jnp.where(visited, policy, 0.0)
    return (weights * qvalues).sum(-1) / jnp.maximum(weights.sum(-1), 1e-30)
