"""Self-play and update throughput on Connect Four, ours against the algorithm of the Pgx AlphaZero example.

Both sides: a residual network of 32 channels and 2 blocks, 128 games, Gumbel search of 32 simulations a move, then
64 moves of self-play followed by 8 Adam updates of 1,024 samples. One process, in turns, warm, every call waited for.

The peer, written here from its description: mctx's `gumbel_muzero_policy` over the Pgx game, batch norm, value
targets computed backwards through the finished part of each game, no replay.

    python -m benchmarks.self_play [--rounds 5] [--games 128] [--plies 64] [--simulations 32] [--batch 1024]
"""

# mctx and pgx build their types with chex, whose dataclasses pyright cannot read.
# pyright: reportCallIssue=false, reportArgumentType=false

# ruff: noqa: E402
from jaxzero.hardware import use_all_cores

use_all_cores()  # before pgx, which uses JAX when it is imported

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import optax
import pgx
from pgx.experimental import auto_reset as pgx_auto_reset

import envs
from benchmarks import peer_network
from benchmarks.timing import interleave, row
from jaxzero.config.schema import Config, LearnerConfig, ReplayConfig, SelfPlayConfig
from jaxzero.networks import ResNetConfig
from jaxzero.search import GumbelConfig
from jaxzero.training import iteration


class Size(NamedTuple):
    games: int
    plies: int
    simulations: int
    batch: int
    channels: int
    blocks: int


class Samples(NamedTuple):
    """Letters: T plies, B games, A actions."""

    observation: jax.Array  # f32[T, B, …]
    policy: jax.Array  # f32[T, B, A]
    reward: jax.Array  # f32[T, B]  to the mover
    discount: jax.Array  # f32[T, B]  -1, or 0 where the game ended


class Side(NamedTuple):
    """One trainer in two calls on its own variables and games; both continue where the last call stopped."""

    play: Callable[[], Any]
    learn: Callable[[Any], Any]


def value_targets(samples: Samples) -> tuple[jax.Array, jax.Array]:
    """Mover's outcome [T, B], and whether its game ended within the samples, bool[T, B]."""

    def back(carry, ply):
        value, known = carry
        reward, discount = ply
        value, known = reward + discount * value, known | (discount == 0)
        return (value, known), (value, known)

    zeros = jnp.zeros_like(samples.reward[0])
    return jax.lax.scan(back, (zeros, zeros > 0), (samples.reward, samples.discount), reverse=True)[1]


def batches(key: jax.Array, samples: Samples, *, batch: int) -> Any:
    """Shuffled (observation, policy, value, known) in batches, each leaf [N, batch, …]."""
    data = (samples.observation, samples.policy, *value_targets(samples))
    flat = [leaf.reshape(-1, *leaf.shape[2:]) for leaf in data]
    order = jax.random.permutation(key, len(flat[0]))[: len(flat[0]) // batch * batch]
    return tuple(leaf[order].reshape(-1, batch, *leaf.shape[1:]) for leaf in flat)


def loss(logits: jax.Array, value: jax.Array, target: Any) -> jax.Array:
    _, policy, outcome, known = target
    return optax.softmax_cross_entropy(logits, policy).mean() + (known * (value - outcome) ** 2).mean()


def updates(apply: Callable, optimizer: optax.GradientTransformation, batch: int) -> Callable:
    """A function of (params, stats, optimizer state, key, samples): one pass over the samples.

    `apply(params, stats, observation) -> (logits, value, stats)`. Each update is one jitted call, as in the example
    (XLA's CPU compiler would run its convolutions' gradients far slower inside a scan).
    """

    @jax.jit
    def update(params, stats, memory, target):
        def objective(params):
            logits, value, new = apply(params, stats, target[0])
            return loss(logits, value, target), new

        gradient, stats = jax.grad(objective, has_aux=True)(params)
        change, memory = optimizer.update(gradient, memory, params)
        return optax.apply_updates(params, change), stats, memory

    shuffle = jax.jit(partial(batches, batch=batch))

    def run(params, stats, memory, key, samples):
        data = shuffle(key, samples)
        for i in range(len(data[0])):
            params, stats, memory = update(params, stats, memory, tuple(leaf[i] for leaf in data))
        return params, stats, memory

    return run


def side(play: Callable, learn: Callable, params: Any, stats: Any, memory: Any, states: Any) -> Side:
    """Holds what changes between calls. `play(params, stats, states, key) -> (states, samples)`."""
    keys = map(jax.random.key, range(1, 1_000_000))

    def call_play():
        nonlocal states
        states, samples = play(params, stats, states, next(keys))
        return samples

    def call_learn(samples):
        nonlocal params, stats, memory
        params, stats, memory = learn(params, stats, memory, next(keys), samples)
        return params

    return Side(call_play, call_learn)


def ours(size: Size) -> Side:
    """The trainer itself: its two jitted functions, with replay, moving average, compact states and all cores."""
    config = Config(
        network=ResNetConfig(channels=size.channels, blocks=size.blocks, pooling=False),
        search=GumbelConfig(simulations=size.simulations),
        selfplay=SelfPlayConfig(games=size.games, plies=size.plies),
        replay=ReplayConfig(capacity=4 * size.games * size.plies, window=2 * size.games * size.plies),
        learner=LearnerConfig(batch=size.batch, replay_ratio=1.0),
    )
    steps = iteration.make(config, envs.make("connect_four"))
    state = steps.init(np.int32(0))

    def play():
        nonlocal state
        state, sums = steps.self_play(state)
        return sums

    def learn(_):
        nonlocal state
        state, metrics = steps.learn(state)
        return metrics

    return Side(play, learn)


def theirs(size: Size) -> Side:
    env = pgx.make("connect_four")
    network = peer_network.build(env.num_actions, size.channels, size.blocks)
    games = jnp.arange(size.games)

    def evaluate(model, states):
        (logits, value), _ = network.apply(*model, states.observation, False)
        logits = jnp.where(states.legal_action_mask, logits, jnp.finfo(logits.dtype).min)
        return logits, value

    def recurrent(model, key, action, states):
        after = jax.vmap(env.step)(states, action)
        logits, value = evaluate(model, after)
        output = mctx.RecurrentFnOutput(
            reward=after.rewards[games, states.current_player],
            discount=jnp.where(after.terminated, 0.0, -1.0),
            prior_logits=logits,
            value=jnp.where(after.terminated, 0.0, value),
        )
        return output, after

    @jax.jit
    def play(params, stats, states, key):
        model = params, stats

        def ply(states, key):
            choose, renew = jax.random.split(key)
            logits, value = evaluate(model, states)
            result = mctx.gumbel_muzero_policy(
                model,
                choose,
                mctx.RootFnOutput(prior_logits=logits, value=value, embedding=states),
                recurrent,
                size.simulations,
                invalid_actions=~states.legal_action_mask,
            )
            keys = jax.random.split(renew, size.games)
            after = jax.vmap(pgx_auto_reset(env.step, env.init))(states, result.action, keys)
            samples = Samples(
                states.observation.astype(jnp.float32),
                result.action_weights,
                after.rewards[games, states.current_player],
                jnp.where(after.terminated, 0.0, -1.0),
            )
            return after, samples

        return jax.lax.scan(ply, states, jax.random.split(key, size.plies))

    def apply(params, stats, observation):
        (logits, value), stats = network.apply(params, stats, observation, True)
        return logits, value, stats

    optimizer = optax.adam(1e-3)
    states = jax.jit(jax.vmap(env.init))(jax.random.split(jax.random.key(0), size.games))
    params, stats = network.init(jax.random.key(0), states.observation[:2], True)
    return side(play, updates(apply, optimizer, size.batch), params, stats, optimizer.init(params), states)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("rounds", 5), ("games", 128), ("plies", 64), ("simulations", 32), ("batch", 1024)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=2)
    args = vars(parser.parse_args())
    rounds = args.pop("rounds")
    size = Size(**args)
    sides = {"ours": ours(size), "peer": theirs(size)}
    samples: dict[str, Any] = {}

    def play(name):
        samples[name] = sides[name].play()
        return samples[name]

    calls = {f"play {name}": partial(play, name) for name in sides}
    calls |= {f"learn {name}": lambda name=name: sides[name].learn(samples[name]) for name in sides}
    seconds = interleave(calls, rounds)
    positions = size.games * size.plies
    for kind, unit in (("play", "positions/s"), ("learn", "samples/s")):
        work = positions if kind == "play" else positions // size.batch * size.batch
        for name in sides:
            print(row(f"{kind} {name}", work, seconds[f"{kind} {name}"], unit))
        print(row(f"{kind} ours / peer", seconds[f"{kind} peer"], seconds[f"{kind} ours"], "ratio"))


if __name__ == "__main__":
    main()
