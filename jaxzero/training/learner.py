"""Learning: optax updates on batches from any source.

Letters: N samples on this device, K plies that a model is unrolled over.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from envs import Env
from jaxzero import models, search
from jaxzero.config.schema import Config, LearnerConfig
from jaxzero.networks import Network, Variables
from jaxzero.parallel import AXIS, keys_by_index
from jaxzero.training import optimizers
from jaxzero.training.losses import Window, alphazero_loss, by_depth, muzero_loss
from jaxzero.training.transitions import BatchSource, Transition, compact_policy


class TrainState(NamedTuple):
    """What an update changes. Variables are parameters and batch statistics."""

    variables: Variables
    ema: Variables  # exponential moving average of `variables`
    opt_state: optax.OptState
    step: jax.Array  # i32[]  updates so far


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
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, config.lr, warmup, max(steps, warmup + 1), 0.01 * config.lr)
    after = optax.constant_schedule(config.lr)
    if config.schedule == "step":
        size = max(1, config.step_size // config.accumulate)
        after = optax.exponential_decay(config.lr, size, config.factor, staircase=True)
    elif config.schedule == "piecewise":
        boundaries = [boundary // config.accumulate for boundary in config.boundaries]
        after = optax.piecewise_constant_schedule(config.lr, dict(zip(boundaries, config.factors, strict=True)))
    rising = optax.linear_schedule(0, config.lr, warmup)
    return optax.join_schedules([rising, lambda step: after(step + warmup)], [warmup])


def optimizer(config: LearnerConfig, total_updates: int) -> optax.GradientTransformation:
    """Clipping, decay of the weights (kernels, not biases) and the optimizer's steps."""
    decay = optax.add_decayed_weights(config.weight_decay, lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree))
    step = optimizers.make(config.optimizer)
    # Something in its place without clipping too, so that a resumed run may change it.
    parts = [optax.clip_by_global_norm(config.clip) if config.clip else optax.identity()]
    parts += [decay, step] if config.decay == "l2" else [step, decay]
    parts += [optax.scale_by_learning_rate(learning_rate(config, total_updates))]
    chain = optax.chain(*parts)
    return optax.MultiSteps(chain, config.accumulate).gradient_transformation() if config.accumulate > 1 else chain


def make_batch(env: Env, config: LearnerConfig, played: Transition, value: jax.Array, key: jax.Array) -> Batch:
    """A batch of N plies with value targets f32[N], each under a random symmetry if `config.augment`."""
    turn = draw_symmetries(env, config, key, len(value))
    observation = turned(env, jax.vmap(env.observe)(played.state), turn)
    return Batch(observation, turned_actions(env, played.moves, turn), played.weights, played.policy_weight, value)


def make_window(
    env: Env, config: LearnerConfig, played: Transition, value: jax.Array, key: jax.Array, seen: bool = False
) -> Window:
    """A window of N positions and the K plies after each, [N, K + 1], to unroll a model over. With `seen` it holds the
    observations of all K + 1 positions, else of the first only."""
    count, plies = value.shape
    turn = draw_symmetries(env, config, key, count)
    shown = plies if seen else 1
    states = jax.tree.map(lambda x: x[:, :shown].reshape(-1, *x.shape[2:]), played.state)
    repeated = None if turn is None else jnp.repeat(turn, shown)
    observation = turned(env, jax.vmap(env.observe)(states), repeated)
    mover, end = played.state.player, played.end
    return Window(
        observation=observation.reshape(count, shown, *observation.shape[1:]),
        action=turned_actions(env, played.action, turn), moves=turned_actions(env, played.moves, turn),
        weights=played.weights, policy_weight=played.policy_weight, value=value, reward=played.reward,
        to_play=jnp.where(end, 2, (jnp.roll(mover, -1, 1) != mover).astype(jnp.int32)),
        alive=jnp.cumsum(end, 1) - end == 0,
    )  # fmt: skip


def draw_symmetries(env: Env, config: LearnerConfig, key: jax.Array, count: int) -> jax.Array | None:
    """Indices i32[N] into `env.symmetries`; None if there is nothing to choose."""
    if not config.augment or len(env.symmetries) == 1:
        return None
    return jax.random.randint(key, (count,), 0, len(env.symmetries))


def turned(env: Env, observation: jax.Array, turn: jax.Array | None) -> jax.Array:
    """Observations [N, …] under symmetries i32[N]."""
    if turn is None:
        return observation
    every = jnp.stack([jax.vmap(transform)(observation) for transform, _ in env.symmetries])
    return every[turn, jnp.arange(len(turn))]


def turned_actions(env: Env, actions: jax.Array, turn: jax.Array | None) -> jax.Array:
    """Actions i16[N, …] under symmetries i32[N]; -1 stays."""
    if turn is None:
        return actions
    table = jnp.asarray(np.stack([actions for _, actions in env.symmetries]).astype(np.int16))
    which = turn.reshape(-1, *(1,) * (actions.ndim - 1))
    return jnp.where(actions >= 0, table[which, jnp.maximum(actions, 0)], -1)


def make_reanalyse(env: Env, network: Network, config: Config) -> Callable[..., Any]:
    """The function `reanalyse(variables, played, value, key) -> (played, value)` on [N, K + 1]: the first
    `learner.reanalyse` of the N get new policies and root values from a search with the latest network
    (Schrittwieser et al. 2021, "Online and offline reinforcement learning by planning with a learned model").

    A λ-return is linear in the root values, so that what a new value changes is added; those of plies beyond the window
    stay as they were.
    """
    searcher = search.make(config.search.afresh(), env, models.make(env, network))
    td_lambda = config.learner.td_lambda

    def reanalyse(variables: Variables, played: Transition, value: jax.Array, key: jax.Array):
        count, plies = round(config.learner.reanalyse * len(value)), value.shape[1]
        states = jax.tree.map(lambda x: x[:count].reshape(-1, *x.shape[2:]), played.state)
        keys = keys_by_index(key, jnp.arange(count * plies))
        temperature = jnp.zeros(count * plies)
        found, _ = searcher.run(network.fold(variables), keys, states, searcher.init(states), temperature, True)
        _, weights = compact_policy(found.policy, jax.vmap(env.legal_actions)(states), env.max_legal)

        def back(later, ply):
            change, later_mover = later
            new, old, mover, end = ply
            follow = jnp.where(end, 0.0, jnp.where(later_mover == mover, change, -change))
            change = (1 - td_lambda) * (new - old) + td_lambda * follow
            return (change, mover), change

        fresh = found.value.reshape(count, plies)
        by_ply = jax.tree.map(lambda x: x[:count].T, (played.value, played.state.player, played.end))
        start = jnp.zeros(count), by_ply[1][-1]
        _, change = jax.lax.scan(back, start, (fresh.T, *by_ply), reverse=True)

        def put(old, new):
            return old.at[:count].set(new.reshape(count, plies, *new.shape[1:]).astype(old.dtype))

        renewed = dataclasses.replace(
            played, weights=put(played.weights, weights), value=put(played.value, found.value),
            policy_weight=put(played.policy_weight, found.policy_weight),
        )  # fmt: skip
        return renewed, value.at[:count].add(change.T)

    return reanalyse


def make_update(network: Network, config: LearnerConfig, optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """The function `update(state, batch, key, weight=1) -> (state, metrics)`, to be run under the mesh axis `AXIS`:
    each device holds N positions, which weigh f32[N]; gradients and statistics are those of the whole batch."""

    def muzero(params, stats, window: Window, weight, key):
        assert network.latent is not None
        losses = muzero_loss(config, network.latent, params, window)
        total = (weight * losses.pop("loss")).mean()
        return total, (stats, {"loss": total} | by_depth(losses, window.alive))

    def alphazero(params, stats, batch: Batch, weight, key):
        prediction, stats = network.predict(
            {"params": params, "stats": stats}, batch.observation, train=True, key=key, axis_name=AXIS
        )
        losses = alphazero_loss(config, prediction, batch.moves, batch.weights, batch.policy_weight, batch.value)
        means = {name: (weight * values).mean() for name, values in losses.items()}
        return means["loss"], (stats, means)

    loss = muzero if network.latent else alphazero

    def update(state: TrainState, batch: Batch | Window, key: jax.Array, weight: Any = 1.0):
        variables = state.variables
        gradients, (stats, metrics) = jax.grad(loss, has_aux=True)(
            variables["params"], variables["stats"], batch, weight,
            jax.random.fold_in(key, jax.lax.axis_index(AXIS)),
        )  # fmt: skip
        gradients, metrics = jax.lax.pmean((gradients, metrics), AXIS)
        changes, opt_state = optimizer.update(gradients, state.opt_state, variables["params"])
        variables = {"params": optax.apply_updates(variables["params"], changes), "stats": stats}
        step = state.step + 1
        decay = jnp.minimum(config.ema, (1 + step) / (10 + step)) if config.ema else 0.0
        ema = optax.incremental_update(variables, state.ema, 1 - decay)
        metrics["gradient_norm"] = optax.global_norm(gradients)
        return TrainState(variables, ema, opt_state, step), metrics

    return update


def make_learn(
    env: Env, network: Network, config: Config, optimizer: optax.GradientTransformation
) -> Callable[..., Any]:
    """The function `learn(state, source, key) -> (state, metrics)` of `config.updates` updates, under `AXIS`.

    Nothing is learned until every device has a full batch of finished positions.
    """
    update = make_update(network, config.learner, optimizer)
    reanalyse = make_reanalyse(env, network, config) if config.learner.reanalyse else None
    steps = config.learner.unroll if network.latent else 0

    def batch_of(state: TrainState, source: BatchSource, k: jax.Array, key: jax.Array, turning: jax.Array, count: int):
        """A `Batch`, or a `Window` for a network with a model, and its weights f32[N]."""
        drawn, looked = jax.random.split(key)
        played, value, weight = source.draw(k, drawn, count, steps)
        if reanalyse:
            played, value = reanalyse(state.variables, played, value, looked)
        if network.latent:
            seen = bool(config.learner.consistency_weight or network.latent.num_codes)
            return make_window(env, config.learner, played, value, turning, seen), weight
        played, value = jax.tree.map(lambda x: x[:, 0], (played, value))
        return make_batch(env, config.learner, played, value, turning), weight

    def learn(state: TrainState, source: BatchSource, key: jax.Array):
        count = config.learner.batch // jax.lax.psum(1, AXIS)

        def one(state, k):
            sampled, turns, dropped = jax.random.split(jax.random.fold_in(key, k), 3)
            sampled, turns = (jax.random.fold_in(x, jax.lax.axis_index(AXIS)) for x in (sampled, turns))
            batch, weight = batch_of(state, source, k, sampled, turns, count)
            return update(state, batch, dropped, weight)

        def run(state):
            state, metrics = jax.lax.scan(one, state, jnp.arange(config.updates))
            return state, jax.tree.map(lambda x: x.mean(), metrics) | {"updates": jnp.float32(config.updates)}

        def skip(state):
            nothing = jax.eval_shape(run, state)[1]
            return state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), nothing)

        return jax.lax.cond(jax.lax.pmin(source.available, AXIS) >= count, run, skip, state)

    return learn
