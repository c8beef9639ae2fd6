"""Chance nodes with known probabilities: outcomes are visited in proportion to them, the value is the expectation.

An afterstate, the position after an action and before chance, is a node of its own. Its "actions" are the outcomes,
its priors their probabilities. The network does not evaluate it: the simulation that adds it also adds the decision
after its likeliest outcome, and evaluates only that.

Letters as in `tree`; O outcomes.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs.core import where
from jaxzero.models import Afterstate, Model, Params, Step
from jaxzero.search.tree import Children

ROUNDING = 1e-4  # in visits


def rule(children: Children) -> tuple[jax.Array, jax.Array]:
    """Which outcome to visit, as a `simulation.Rule`.

    Of the outcomes that are behind their share of the visits, the one with the highest probability / (visits + 1).
    After n visits an outcome of probability p has then had either floor(p·n) or ceil(p·n) of them, at any n (the quota
    method of Balinski and Young 1975, proven there for seats and votes). Taking the largest p·n - visits instead can
    fall behind by more than one.
    """
    total = where(children.tried, children.visits, 0.0).sum(0, keepdims=True)
    probability = jnp.exp(children.prior_logit)
    behind = children.visits + ROUNDING < probability * (1 + total)
    scores = where(behind, probability / (children.visits + 1), -jnp.inf)
    return scores, jnp.exp(children.untried.logit)


def expectation(children: Children) -> jax.Array:
    """f32[L, B]: mean value of the outcomes tried, weighted by probability; exact once all have been tried."""
    probability = where(children.tried, jnp.exp(children.prior_logit), 0.0)
    tiny = jnp.finfo(jnp.float32).tiny
    return (probability * children.qvalue).sum(0) / jnp.maximum(probability.sum(0), tiny)


class ChanceStep(NamedTuple):
    """What follows an action, or an outcome, up to the next decision. Leading axis B."""

    afterstate: Afterstate  # after the action
    afterstate_embedding: Any
    due: jax.Array  # bool[B]  an outcome has been settled
    outcome: jax.Array  # i32[B]  which
    outcome_logit: jax.Array  # f32[B]  its log-probability, where it followed an action
    step: Step  # to the decision
    embedding: Any


def step(
    model: Model, params: Params, key: jax.Array, action: jax.Array, embedding: Any, resolving: jax.Array
) -> ChanceStep:
    """Plays `action` i32[B] and the likeliest outcome after it. Where `resolving` bool[B], `embedding` is an
    afterstate already, and `action` its outcome."""
    assert model.chance is not None
    afterstate, after = model.decision(params, key, action, embedding)
    after = jax.vmap(where)(resolving, embedding, after)
    likeliest = jnp.argmax(afterstate.logits, -1).astype(jnp.int32)
    outcome = where(resolving, action, likeliest)
    decision, decision_embedding = model.chance(params, key, outcome, after)
    due = afterstate.due | resolving
    return ChanceStep(afterstate, after, due, outcome, afterstate.logits.max(-1), decision, decision_embedding)
