"""What the search asks: `Model(root, decision, chance)`. Letters: B batch, A actions, O outcomes of chance."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Params = Any
Embedding = Any


class Root(NamedTuple):
    """A position to be searched."""

    prior_logits: jax.Array  # f32[B, A]  illegal actions at the lowest finite value
    value: jax.Array  # f32[B]  mover's view
    embedding: Embedding


class Step(NamedTuple):
    """What an action leads to, and how the position there is judged."""

    reward: jax.Array  # f32[B]  to the player who acted
    discount: jax.Array  # f32[B]  +1 if the same player moves next, -1 if the other does, 0 at the end
    prior_logits: jax.Array  # f32[B, A]
    value: jax.Array  # f32[B]  in the view of who moves next


class Afterstate(NamedTuple):
    """What an action leads to while chance has still to speak (or need not: then this is the next position)."""

    reward: jax.Array  # f32[B]  to the player who acted
    discount: jax.Array  # f32[B]  as in `Step`
    due: jax.Array  # bool[B]  an outcome is due
    logits: jax.Array  # f32[B, O]  log-probabilities of the outcomes; without meaning where none is due


class Model(NamedTuple):
    """Embeddings are pytrees with a leading batch axis.

    `root(params, states) -> Root`: priors masked to the legal actions.
    `decision(params, key, actions[B], embedding) -> (Step, embedding)`.
    `chance`: None for a game without chance. Else `decision` gives `(Afterstate, embedding)`, which takes no network,
        and `chance(params, key, outcomes[B], embedding) -> (Step, embedding)` goes on to the next position and judges
        it: reward 0, discount 1, or 0 where the outcome has ended the game. Where none is due it judges what is
        there.
    `num_outcomes`: O.
    `knows_rules`: illegal actions are masked at every node; false: at the root only, below it any action is tried.
    """

    root: Callable[[Params, Any], Root]
    decision: Callable[[Params, jax.Array, jax.Array, Embedding], tuple[Any, Embedding]]
    chance: Callable[[Params, jax.Array, jax.Array, Embedding], tuple[Step, Embedding]] | None = None
    num_outcomes: int = 0
    knows_rules: bool = True
