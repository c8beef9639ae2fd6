"""The AlphaZero model: the game itself, judged by the network."""

# mctx builds its types with chex, whose dataclasses pyright cannot read.
# pyright: reportCallIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mctx

from envs import Env, State
from jaxzero.models import Model, Params
from jaxzero.networks import Prediction


def make(env: Env, infer: Callable[[Params, jax.Array], Prediction]) -> Model:
    """A model whose embeddings are game states; `infer` is a network's folded form."""

    def evaluate(params: Params, states: State) -> tuple[jax.Array, jax.Array]:
        """Legal-only logits [B, A] and mover's values [B]."""
        prediction = infer(params, jax.vmap(env.observe)(states))
        return mask(prediction.logits, jax.vmap(env.legal_actions)(states)), prediction.value

    def root(params: Params, states: State) -> mctx.RootFnOutput:
        logits, value = evaluate(params, states)
        return mctx.RootFnOutput(prior_logits=logits, value=value, embedding=states)

    def decision(params: Params, key: jax.Array, actions: jax.Array, states: State) -> tuple[Any, State]:
        del key  # the rules are deterministic
        after = jax.vmap(env.step)(states, actions)
        logits, value = evaluate(params, after)
        same = after.player == states.player
        output = mctx.RecurrentFnOutput(
            reward=jnp.take_along_axis(after.rewards, states.player[:, None].astype(jnp.int32), 1)[:, 0],
            discount=jnp.where(after.terminated, 0.0, jnp.where(same, 1.0, -1.0)),
            prior_logits=logits,
            value=jnp.where(after.terminated, 0.0, value),
        )
        return output, after

    return Model(root, decision)


def mask(logits: jax.Array, legal: jax.Array) -> jax.Array:
    """Logits with illegal actions at the lowest finite value (an infinity would make 0 · ∞ inside the search)."""
    return jnp.where(legal, logits, jnp.finfo(logits.dtype).min)
