"""The interface between search and model: `Model(root, decision, chance)`.

Letters: B batch, A actions, O outcomes of chance.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Params = Any
Embedding = Any


class Root(NamedTuple):
    """A position to search from."""

    prior_logits: jax.Array  # f32[B, A]  illegal actions at the lowest finite value
    value: jax.Array  # f32[B]  mover's view
    embedding: Embedding


class Step(NamedTuple):
    """The result of an action, and the evaluation of the next position."""

    reward: jax.Array  # f32[B]  to the player who acted
    discount: jax.Array  # f32[B]  +1 if the same player moves next, -1 if the other does, 0 at the end
    prior_logits: jax.Array  # f32[B, A]
    value: jax.Array  # f32[B]  mover's view, at the next position


class Afterstate(NamedTuple):
    """The result of an action before its chance outcome; the next position itself where no outcome is due."""

    reward: jax.Array  # f32[B]  to the player who acted
    discount: jax.Array  # f32[B]  as in `Step`
    due: jax.Array  # bool[B]  an outcome is due
    logits: jax.Array  # f32[B, O]  log-probabilities of the outcomes; undefined where none is due


class Model(NamedTuple):
    """The functions that a search calls. Embeddings are pytrees with a leading batch axis.

    `root(params, states) -> Root`: evaluates positions; priors are masked to the legal actions.
    `decision(params, key, actions[B], embedding) -> (Step, embedding)`: plays an action and evaluates the result.
    `chance`: None for a game without chance. In a game with chance `decision` returns `(Afterstate, embedding)` and
        calls no network; `chance(params, key, outcomes[B], embedding) -> (Step, embedding)` then settles the outcome
        and evaluates the next position: reward 0, discount 1, or 0 where the outcome has ended the game. Where no
        outcome is due it evaluates the position as it is.
    `num_outcomes`: O.
    `knows_rules`: illegal actions are masked at every node; if false only at the root, and below it any action may be
        tried.
    """

    root: Callable[[Params, Any], Root]
    decision: Callable[[Params, jax.Array, jax.Array, Embedding], tuple[Any, Embedding]]
    chance: Callable[[Params, jax.Array, jax.Array, Embedding], tuple[Step, Embedding]] | None = None
    num_outcomes: int = 0
    knows_rules: bool = True
