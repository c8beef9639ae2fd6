"""Learning: optax updates on samples from the replay.

Letters: N samples on this device, K updates of an iteration.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from envs import Env
from jaxzero import replay as replays
from jaxzero.config import Config, LearnerConfig, ReplayConfig
from jaxzero.losses import alphazero_loss
from jaxzero.networks import Network, Variables

AXIS = "devices"


class Learned(NamedTuple):
    """What updates change."""

    variables: Variables
    average: Variables  # exponential moving average of `variables`
    optimizer: Any
    updates: jax.Array  # i32[]  batches so far


class Batch(NamedTuple):
    """Positions to learn from; leading axis N."""

    observation: jax.Array  # f32[N, …]
    moves: jax.Array  # i16[N, L]  legal actions, -1 in unused slots
    weights: jax.Array  # f16[N, L]  target policy over `moves`
    policy_weight: jax.Array  # f16[N]
    value: jax.Array  # f32[N]  target


def learning_rate(config: LearnerConfig, total_updates: int) -> optax.Schedule:
    """Optimizer step -> learning rate over a run of `total_updates` batches."""
    steps = max(1, total_updates // config.accumulate)
    warmup = min(config.warmup // config.accumulate, steps // 2)
    if config.schedule == "constant":
        return optax.join_schedules([optax.linear_schedule(0, config.lr, warmup), lambda _: config.lr], [warmup])
    return optax.warmup_cosine_decay_schedule(0.0, config.lr, warmup, max(steps, warmup + 1), 0.01 * config.lr)


def muon() -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) for the kernels, whose last axis is their output, and Adam with Nesterov's momentum for
    the rest.

    Steps have the root mean square of Adam's (Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2), so
    that both take the same learning rate.
    """

    def kernels(tree: Any) -> Any:
        numbers = optax.contrib.MuonDimensionNumbers
        return jax.tree.map(lambda x: numbers(tuple(range(x.ndim - 1)), x.ndim - 1) if x.ndim > 1 else None, tree)

    # The learning rate comes after the decay of the weights; -1 leaves the sign as it is elsewhere in the chain.
    return optax.contrib.muon(-1.0, muon_weight_dimension_numbers=kernels, consistent_rms=0.2)


def optimizer(config: LearnerConfig, total_updates: int) -> optax.GradientTransformation:
    """Clipping, decay of the weights (kernels, not biases) and Adam, SGD with momentum or Muon."""
    decay = optax.add_decayed_weights(config.weight_decay, lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree))
    step = {"adam": optax.scale_by_adam, "sgd": partial(optax.trace, decay=0.9), "muon": muon}[config.optimizer]()
    # Something in its place without clipping too, so that a resumed run may change it.
    parts = [optax.clip_by_global_norm(config.clip) if config.clip else optax.identity()]
    parts += [decay, step] if config.decay == "l2" else [step, decay]
    parts += [optax.scale_by_learning_rate(learning_rate(config, total_updates))]
    chain = optax.chain(*parts)
    return optax.MultiSteps(chain, config.accumulate).gradient_transformation() if config.accumulate > 1 else chain


def window_rows(config: ReplayConfig, positions: jax.Array, games: int) -> jax.Array:
    """Rows of the newest positions that are sampled (KataGo, Wu 2019, appendix C: grows sublinearly), i32[]."""
    grown = config.window * jnp.maximum(positions / config.window, 1.0) ** config.growth
    return jnp.ceil(jnp.minimum(grown, config.capacity) / games).astype(jnp.int32)


def make_batch(env: Env, config: LearnerConfig, slots: replays.Slots, value: jax.Array, key: jax.Array) -> Batch:
    """What N slots and their value targets f32[N] teach, each turned by a random symmetry if `config.augment`."""
    observation = jax.vmap(env.observe)(slots.state)
    moves = slots.moves
    if config.augment and len(env.symmetries) > 1:
        turn = jax.random.randint(key, value.shape, 0, len(env.symmetries))
        turned = jnp.stack([jax.vmap(transform)(observation) for transform, _ in env.symmetries])
        observation = turned[turn, jnp.arange(len(value))]
        table = jnp.asarray(np.stack([actions for _, actions in env.symmetries]).astype(np.int16))
        moves = jnp.where(moves >= 0, table[turn[:, None], jnp.maximum(moves, 0)], -1)
    return Batch(observation, moves, slots.weights, slots.policy_weight, value)


def make_update(network: Network, config: LearnerConfig, optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """The function `update(learned, batch, key) -> (learned, metrics)`, to be run under the mesh axis `AXIS`: each
    device holds N positions, gradients and statistics are those of the whole batch."""

    def loss(params, stats, batch: Batch, key):
        prediction, stats = network.predict(
            {"params": params, "stats": stats}, batch.observation, train=True, key=key, axis_name=AXIS
        )
        losses = alphazero_loss(config, prediction, batch.moves, batch.weights, batch.policy_weight, batch.value)
        means = {name: values.mean() for name, values in losses.items()}
        return means["loss"], (stats, means)

    def update(learned: Learned, batch: Batch, key: jax.Array):
        variables = learned.variables
        gradients, (stats, metrics) = jax.grad(loss, has_aux=True)(
            variables["params"], variables["stats"], batch, jax.random.fold_in(key, jax.lax.axis_index(AXIS))
        )
        gradients, metrics = jax.lax.pmean((gradients, metrics), AXIS)
        changes, state = optimizer.update(gradients, learned.optimizer, variables["params"])
        variables = {"params": optax.apply_updates(variables["params"], changes), "stats": stats}
        updates = learned.updates + 1
        decay = jnp.minimum(config.ema, (1 + updates) / (10 + updates)) if config.ema else 0.0
        average = optax.incremental_update(variables, learned.average, 1 - decay)
        metrics["gradient_norm"] = optax.global_norm(gradients)
        return Learned(variables, average, state, updates), metrics

    return update


def make_learn(
    env: Env, network: Network, config: Config, optimizer: optax.GradientTransformation
) -> Callable[..., Any]:
    """The function `learn(learned, replay, key, positions) -> (learned, metrics)` of K updates, under `AXIS`.

    Nothing is learned until every device has a full batch of finished positions.
    """
    update = make_update(network, config.learner, optimizer)

    def learn(learned: Learned, replay: replays.Replay, key: jax.Array, positions: jax.Array):
        devices = jax.lax.psum(1, AXIS)
        count = config.learner.batch // devices
        rows = window_rows(config.replay, positions, config.selfplay.games)
        table = replays.sampling_table(replay, rows)

        def one(learned, k):
            sampled, turned, dropped = jax.random.split(jax.random.fold_in(key, k), 3)
            device = jax.lax.axis_index(AXIS)
            slots, value = replays.sample(replay, table, jax.random.fold_in(sampled, device), count)
            batch = make_batch(env, config.learner, slots, value, jax.random.fold_in(turned, device))
            return update(learned, batch, dropped)

        def run(learned):
            learned, metrics = jax.lax.scan(one, learned, jnp.arange(config.updates))
            return learned, jax.tree.map(lambda x: x.mean(), metrics) | {"updates": jnp.float32(config.updates)}

        def skip(learned):
            nothing = jax.eval_shape(run, learned)[1]
            return learned, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), nothing)

        enough = jax.lax.pmin(table[-1], AXIS) >= count
        learned, metrics = jax.lax.cond(enough, run, skip, learned)
        return learned, metrics | {"window": (rows * config.selfplay.games).astype(jnp.float32)}

    return learn
