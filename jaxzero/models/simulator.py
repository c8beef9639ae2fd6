"""The AlphaZero model: the rules of the game, and a network that evaluates positions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from envs import Env, State, backend
from envs.core import where
from jaxzero.models.base import Afterstate, Model, Params, Root, Step
from jaxzero.networks import Prediction

Evaluate = Callable[[Params, jax.Array | None, State], tuple[jax.Array, jax.Array]]
"""`evaluate(params, key, states) -> (legal-only logits f32[B, A], mover's values f32[B])`; no key at the root."""


def make(env: Env, infer: Callable[[Params, jax.Array], Prediction]) -> Model:
    """A model whose embeddings are game states; `infer` is a network's inference function."""

    @backend.separate_call
    def evaluate(params: Params, states: State) -> tuple[jax.Array, jax.Array]:
        prediction = infer(params, jax.vmap(env.observe)(states))
        return mask(prediction.logits, jax.vmap(env.legal_actions)(states)), prediction.value

    return make_with_evaluation(env, lambda params, key, states: evaluate(params, states))


def make_with_evaluation(env: Env, evaluate: Evaluate) -> Model:
    """The model with positions evaluated by `evaluate`."""

    def root(params: Params, states: State) -> Root:
        logits, value = evaluate(params, None, states)
        return Root(prior_logits=logits, value=value, embedding=states)

    def edge(before: State, after: State) -> tuple[jax.Array, jax.Array]:
        """Reward and discount f32[B] of a step, in the view of the player who acted."""
        reward = jnp.take_along_axis(after.rewards, before.player[:, None].astype(jnp.int32), 1)[:, 0]
        same = after.player == before.player
        return reward, where(after.terminated, 0.0, where(same, 1.0, -1.0))

    def evaluated(params: Params, key: jax.Array, states: State, reward: jax.Array, discount: jax.Array) -> Any:
        logits, value = evaluate(params, key, states)
        value = where(states.terminated, 0.0, value)
        return Step(reward=reward, discount=discount, prior_logits=logits, value=value)

    def decision(params: Params, key: jax.Array, actions: jax.Array, states: State) -> tuple[Any, State]:
        after = jax.vmap(env.step)(states, actions)
        return evaluated(params, key, after, *edge(states, after)), after

    def act(params: Params, key: jax.Array, actions: jax.Array, states: State) -> tuple[Afterstate, State]:
        del params, key
        after = jax.vmap(env.step)(states, actions)
        return Afterstate(*edge(states, after), after.chance, jax.vmap(env.outcome_logits)(after)), after

    def resolve(params: Params, key: jax.Array, outcomes: jax.Array, states: State) -> tuple[Any, State]:
        after = jax.vmap(env.resolve)(states, outcomes)
        discount = where(after.terminated, 0.0, 1.0)
        return evaluated(params, key, after, jnp.zeros_like(discount), discount), after

    if env.num_outcomes:
        return Model(root, act, resolve, env.num_outcomes)
    return Model(root, decision)


def mask(logits: jax.Array, legal: jax.Array) -> jax.Array:
    """Logits with illegal actions at the lowest finite value (an infinity would make 0 · ∞ inside the search)."""
    return where(legal, logits, jnp.finfo(logits.dtype).min)


def legal_in(logits: jax.Array) -> jax.Array:
    """bool[..., A]: the actions that `mask` left."""
    return logits > jnp.finfo(logits.dtype).min / 2
