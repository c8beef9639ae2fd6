"""Losses of one batch. Letters: N batch, L legal-move slots, A actions."""

import jax
import jax.numpy as jnp
import optax

from jaxzero.config import LearnerConfig
from jaxzero.networks import Prediction
from jaxzero.targets import wdl_target


def policy_loss(logits: jax.Array, moves: jax.Array, weights: jax.Array, kind: str) -> jax.Array:
    """Cross-entropy (or KL divergence) of the policy over the legal moves, f32[N].

    Args:
        logits: f32[N, A].
        moves: i16[N, L] legal actions, -1 in unused slots.
        weights: [N, L] target policy over `moves`.
    """
    used = moves >= 0
    chosen = jnp.take_along_axis(logits, jnp.where(used, moves, 0).astype(jnp.int32), -1)
    log_policy = jax.nn.log_softmax(jnp.where(used, chosen, jnp.finfo(jnp.float32).min), -1)
    target = jnp.where(used, weights.astype(jnp.float32), 0.0)
    target = target / jnp.maximum(target.sum(-1, keepdims=True), 1e-6)
    loss = -(target * jnp.where(used, log_policy, 0.0)).sum(-1)
    return loss - entropy(target) if kind == "kl" else loss


def entropy(policy: jax.Array) -> jax.Array:
    """f32[N, ·] probabilities -> f32[N], in nats."""
    return -(policy * jnp.log(jnp.maximum(policy, 1e-30))).sum(-1)


def value_loss(prediction: Prediction, target: jax.Array, kind: str) -> jax.Array:
    """Loss of the value head against targets in [-1, 1], f32[N]."""
    if kind == "wdl":
        return optax.softmax_cross_entropy(prediction.heads["wdl"], wdl_target(target))
    error = prediction.heads["value"] - target
    return optax.huber_loss(error) if kind == "huber" else jnp.square(error)


def alphazero_loss(
    config: LearnerConfig,
    prediction: Prediction,
    moves: jax.Array,
    weights: jax.Array,
    policy_weight: jax.Array,
    target: jax.Array,
) -> dict[str, jax.Array]:
    """Policy, value and weighted total loss of each position, f32[N] (Silver et al. 2018, equation 1; the penalty on
    the parameters is the optimizer's weight decay)."""
    policy = policy_weight * policy_loss(prediction.logits, moves, weights, config.policy_loss)
    value = value_loss(prediction, target, config.value_loss)
    return {"loss": policy + config.value_weight * value, "policy_loss": policy, "value_loss": value}
