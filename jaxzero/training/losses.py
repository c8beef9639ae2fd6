"""Losses of one batch. Letters: N batch, L legal-move slots, A actions, K unrolled steps, S support."""

import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxzero.config.schema import LearnerConfig
from jaxzero.networks import DynamicsOutput, Latent, Prediction
from jaxzero.networks.values import Heads, squash, two_hot
from jaxzero.training.targets import wdl_target


def policy_loss(
    logits: jax.Array, moves: jax.Array, weights: jax.Array, kind: str, legal_only: bool = True
) -> jax.Array:
    """Cross-entropy (or KL divergence) of the policy, f32[N], over the legal moves or over all actions.

    Args:
        logits: f32[N, A].
        moves: i16[N, L] legal actions, -1 in unused slots.
        weights: [N, L] target policy over `moves`.
        legal_only: false teaches that illegal actions are not played, where no rules will mask them.
    """
    chex.assert_equal_shape([moves, weights])
    chex.assert_equal_shape_prefix([logits, moves], moves.ndim - 1)
    used = moves >= 0
    if not legal_only:
        logits = jax.nn.log_softmax(logits, -1)
    chosen = jnp.take_along_axis(logits, jnp.where(used, moves, 0).astype(jnp.int32), -1)
    log_policy = jnp.where(used, chosen, jnp.finfo(jnp.float32).min)
    if legal_only:
        log_policy = jax.nn.log_softmax(log_policy, -1)
    target = jnp.where(used, weights.astype(jnp.float32), 0.0)
    target = target / jnp.maximum(target.sum(-1, keepdims=True), 1e-6)
    loss = -(target * jnp.where(used, log_policy, 0.0)).sum(-1)
    return loss - entropy(target) if kind == "kl" else loss


def entropy(policy: jax.Array) -> jax.Array:
    """f32[N, ·] probabilities -> f32[N], in nats."""
    return -(policy * jnp.log(jnp.maximum(policy, 1e-30))).sum(-1)


def value_loss(heads: Heads, target: jax.Array, kind: str) -> jax.Array:
    """Loss of a value or reward head against targets f32[N]; of heads of one number, squared or Huber by `kind`."""
    if "wdl" in heads:
        return optax.softmax_cross_entropy(heads["wdl"], wdl_target(target))
    if "categorical" in heads:
        logits = heads["categorical"]
        return optax.softmax_cross_entropy(logits, two_hot(squash(target), logits.shape[-1] // 2))
    chex.assert_equal_shape([*heads.values(), target])
    error = heads["transformed"] - squash(target) if "transformed" in heads else heads["value"] - target
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
    value = value_loss(prediction.heads, target, config.value_loss)
    return {"loss": policy + config.value_weight * value, "policy_loss": policy, "value_loss": value}


class Window(NamedTuple):
    """A position and the K plies after it. What is beyond the end of the game is not `alive` and counts nothing: no
    reward, value or policy is invented there."""

    observation: jax.Array  # f32[N, K + 1, …]
    action: jax.Array  # i16[N, K + 1]
    moves: jax.Array  # i16[N, K + 1, L]  legal actions, -1 in unused slots
    weights: jax.Array  # f16[N, K + 1, L]  target policy over `moves`
    policy_weight: jax.Array  # f16[N, K + 1]
    value: jax.Array  # f32[N, K + 1]  target, mover's view
    reward: jax.Array  # f32[N, K + 1]  of the action, to its mover
    to_play: jax.Array  # i32[N, K + 1]  0 the same player moves next, 1 the other, 2 none: the game has ended
    alive: jax.Array  # bool[N, K + 1]  this position belongs to the game


COMMITMENT = 0.1  # weight of the encoder's distance from its codes, and of their uneven use


class Outcomes(NamedTuple):
    """What chance did between the positions of a window."""

    happened: jax.Array  # f32[K, N, M]  one-hot, without gradient
    code: jax.Array  # f32[K, N, M]  the same with the gradient of the probabilities (straight through)
    distance: jax.Array  # f32[K, N]  how far the encoder's probabilities are from it
    uneven: jax.Array  # f32[]  KL divergence of their mean from equal use of all codes, in nats


def outcomes(network: Latent, params: Any, observation: jax.Array, seen: jax.Array) -> Outcomes:
    """The code that the encoder finds likeliest between each two observations f32[N, K + 1, …] (Antonoglou et al. 2022,
    section 4.2: a VQ-VAE whose codebook is the unit vectors). Without a pull to equal use, over those that `seen`
    bool[N, K + 1] says are of the game, one code soon stands for everything."""
    assert network.encode is not None
    steps, count = observation.shape[1] - 1, len(observation)
    before, after = (x.reshape(-1, *x.shape[2:]) for x in (observation[:, :-1], observation[:, 1:]))
    share = jax.nn.softmax(network.encode(params, before, after))
    happened = jax.lax.stop_gradient(jax.nn.one_hot(share.argmax(-1), network.num_codes))
    found = happened, happened + share - jax.lax.stop_gradient(share), jnp.square(share - happened).sum(-1)
    weight = seen[:, 1:].reshape(-1, 1).astype(jnp.float32)
    use = (weight * share).sum(0) / jnp.maximum(weight.sum(), 1.0)
    uneven = math.log(network.num_codes) - entropy(use)
    happened, code, distance = (jnp.moveaxis(x.reshape(count, steps, *x.shape[1:]), 1, 0) for x in found)
    return Outcomes(happened, code, distance, uneven)


def unroll(network: Latent, params: Any, window: Window) -> tuple[Prediction, DynamicsOutput, Outcomes | None]:
    """What the model says of the K + 1 positions, of the K actions and, if it knows chance, of what happened after
    each. Half of the gradient goes on from each step to the one before."""
    action = jnp.moveaxis(window.action[:, :-1], 1, 0).astype(jnp.int32)
    latent = network.represent(params, window.observation[:, 0])
    codes = outcomes(network, params, window.observation, window.alive) if network.num_codes else None

    def step(latent, now):
        action, code = now
        moved = network.dynamics(params, (latent + jax.lax.stop_gradient(latent)) / 2, action)
        if network.settle is not None:
            moved = moved._replace(latent=network.settle(params, moved.latent, code))
        return moved.latent, (moved, network.predict(params, moved.latent))

    root = network.predict(params, latent)
    _, (moved, later) = jax.lax.scan(step, latent, (action, None if codes is None else codes.code))
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), root, later), moved, codes


def muzero_loss(config: LearnerConfig, network: Latent, params: Any, window: Window) -> dict[str, jax.Array]:
    """Losses of a model unrolled over K actions, weighted total `loss` f32[N] (Schrittwieser et al. 2020, equation 1
    and appendix G): each unrolled step weighs 1 / K.

    Row k of the other results f32[K + 1, N] is about the position after k actions, and about the k-th action; row 0 of
    those about actions is 0, as is all that is beyond the end of a game. They are not weighted.
    """
    said, moved, codes = unroll(network, params, window)
    due: Window = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), window)

    def acted(error: jax.Array) -> jax.Array:
        """[K, N] of the actions as rows 1 to K; an action counts if the position it was played in does."""
        return jnp.pad(jnp.where(due.alive[:-1], error, 0.0), ((1, 0), (0, 0)))

    def here(error: jax.Array) -> jax.Array:
        return jnp.where(due.alive, error, 0.0)

    rows = {
        "policy_loss": here(
            due.policy_weight * policy_loss(said.logits, due.moves, due.weights, config.policy_loss, legal_only=False)
        ),
        "value_loss": here(value_loss(said.heads, due.value, config.value_loss)),
        "reward_loss": acted(value_loss(moved.reward_heads, due.reward[:-1], config.value_loss)),
        "to_play_loss": acted(optax.softmax_cross_entropy_with_integer_labels(moved.to_play, due.to_play[:-1])),
    }
    weights = {
        "policy_loss": 1.0, "value_loss": config.value_weight, "reward_loss": config.reward_weight,
        "to_play_loss": config.follows_weight,
    }  # fmt: skip
    if codes is not None and moved.codes is not None:
        # Nobody has seen what came after the end.
        error = optax.softmax_cross_entropy(moved.codes, codes.happened)
        error += COMMITMENT * (codes.distance + codes.uneven)
        rows["codes_loss"] = here(jnp.pad(error, ((1, 0), (0, 0))))
        weights["codes_loss"] = config.codes_weight
    if config.consistency_weight:
        rows["consistency_loss"] = here(consistency(network, params, moved.latent, window.observation))
        weights["consistency_loss"] = config.consistency_weight
    steps = window.action.shape[1] - 1
    share = jnp.where(jnp.arange(steps + 1) == 0, 1.0, 1 / max(1, steps))[:, None]
    total = sum((weights[name] * (share * row).sum(0) for name, row in rows.items()), jnp.float32(0))
    errors = {
        "value_error": here(jnp.abs(said.value - due.value)),
        "reward_error": acted(jnp.abs(moved.reward - due.reward[:-1])),
        "latent_norm": acted(jnp.sqrt(jnp.square(moved.latent).mean(tuple(range(2, moved.latent.ndim))))),
    }
    return {"loss": total} | rows | errors


def by_depth(rows: dict[str, jax.Array], alive: jax.Array) -> dict[str, jax.Array]:
    """Means of `muzero_loss`'s rows [K + 1, N] over what counts: of all depths by name (errors of values, which grow
    with depth, excepted), and of each depth as "unroll/NAME_DEPTH"."""
    alive = alive.T
    acted = jnp.pad(alive[:-1], ((1, 0), (0, 0)))
    means = {}
    for name, row in rows.items():
        about_action = name in ("reward_loss", "to_play_loss", "reward_error", "latent_norm")
        count = (acted if about_action else alive).sum(1).astype(jnp.float32)
        first = int(about_action or name in ("codes_loss", "consistency_loss"))
        if name != "value_error":
            means[name] = row.sum() / jnp.maximum(count[first:].sum(), 1.0)
        means |= {f"unroll/{name}_{k}": row[k].sum() / jnp.maximum(count[k], 1.0) for k in range(first, len(row))}
    return means


def consistency(network: Latent, params: Any, unrolled: jax.Array, observation: jax.Array) -> jax.Array:
    """f32[K + 1, N]: 1 - cosine between each unrolled latent [K, N, ...] and the one seen, which gets no gradient
    (EfficientZero, Ye et al. 2021, section 4.1); row 0 is 0."""
    assert network.project is not None
    seen = jnp.moveaxis(observation[:, 1:], 1, 0)
    flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
    wanted = jax.lax.stop_gradient(network.project(params, network.represent(params, flat(seen)), False))
    distance = 1 - optax.cosine_similarity(network.project(params, flat(unrolled), True), wanted, epsilon=1e-6)
    return jnp.pad(distance.reshape(unrolled.shape[:2]), ((1, 0), (0, 0)))
