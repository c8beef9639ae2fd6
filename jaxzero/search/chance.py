"""Chance nodes whose probabilities are known: visited by probability, worth their expectation.

What an action leads to before chance has spoken, an afterstate, is a node of its own. Its "actions" are the outcomes
and their priors the probabilities, so that it is stored as any node is. No network judges it: the simulation that adds
it adds the decision behind its likeliest outcome too, and only that is judged.

Letters as in `tree`; O outcomes.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs.core import where
from jaxzero.models import Afterstate, Model, Params, Step
from jaxzero.search.tree import Children, Chunks, each, over

ROUNDING = 1e-4  # in visits


def rule(children: Children) -> tuple[Chunks, jax.Array]:
    """Which outcome is due, as a `simulation.Rule`: of those behind their share of the visits, the one with the highest
    probability / (visits + 1).

    After n visits an outcome of probability p has had either floor(p·n) or ceil(p·n) of them, at any n (the quota
    method of Balinski and Young 1975, proven there for seats and votes). The largest p·n - visits, the plainer rule,
    can fall behind by more than one.
    """
    (total,) = over((jnp.add, each(lambda tried, visits: where(tried, visits, 0.0), children.tried, children.visits)))

    def score(logit, visits):
        probability = jnp.exp(logit)
        behind = visits + ROUNDING < probability * (1 + total)
        return where(behind, probability / (visits + 1), -jnp.inf)

    return each(score, children.prior_logit, children.visits), jnp.exp(children.untried.logit)


def expectation(children: Children) -> jax.Array:
    """f32[L, B]: mean of the outcomes tried, by probability; exact as soon as all are."""
    probability = each(lambda tried, logit: where(tried, jnp.exp(logit), 0.0), children.tried, children.prior_logit)
    total, weight = over((jnp.add, each(jnp.multiply, probability, children.qvalue)), (jnp.add, probability))
    return (total / jnp.maximum(weight, jnp.finfo(jnp.float32).tiny))[0]


class ChanceStep(NamedTuple):
    """What follows an action, or an outcome, up to the next decision. Leading axis B."""

    told: Afterstate  # of the action
    afterstate: Any
    due: jax.Array  # bool[B]  an outcome has been settled
    outcome: jax.Array  # i32[B]  which
    logit: jax.Array  # f32[B]  its log-probability, where it followed an action
    said: Step  # of the decision
    decision: Any


def step(
    model: Model, params: Params, key: jax.Array, action: jax.Array, before: Any, resolving: jax.Array
) -> ChanceStep:
    """Takes `action` i32[B] from `before` and the likeliest outcome of what it leads to; where `resolving` bool[B],
    `before` is an afterstate and `action` its outcome."""
    assert model.chance is not None
    told, after = model.decision(params, key, action, before)
    after = jax.vmap(where)(resolving, before, after)
    likeliest = jnp.argmax(told.logits, -1).astype(jnp.int32)
    outcome = where(resolving, action, likeliest)
    said, decision = model.chance(params, key, outcome, after)
    return ChanceStep(told, after, told.due | resolving, outcome, told.logits.max(-1), said, decision)
