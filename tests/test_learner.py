"""Batches, optimizer and updates: symmetries, decay, clipping, accumulation, schedules, averages, learning at all."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

import envs
from jaxzero import networks
from jaxzero.config.schema import Config, LearnerConfig, ReplayConfig, SelfPlayConfig
from jaxzero.networks import MlpConfig, ResNetConfig
from jaxzero.parallel import make_mesh
from jaxzero.training import learner
from jaxzero.training import replay as replay_lib
from jaxzero.training.learner import Batch, TrainState
from jaxzero.training.optimizers import MuonConfig, SgdConfig
from jaxzero.training.transitions import Transition, compact_policy

ENV = envs.make("tic_tac_toe")
MLP = MlpConfig(sizes=(16,))


def on_one_device(function):
    """The function jitted under a mesh axis of one device."""
    everywhere = PartitionSpec()
    mapped = jax.shard_map(function, mesh=make_mesh(1), in_specs=everywhere, out_specs=everywhere, check_vma=False)
    return jax.jit(mapped)


def random_batch(seed, count):
    """Positions of tic-tac-toe with random stones, random policies over the empty squares and random values."""
    rng = np.random.default_rng(seed)
    cells = rng.permuted(np.tile([0, 0, 0, 0, 0, 1, 1, 2, 2], (count, 1)), axis=1)
    moves = np.sort(np.where(cells == 0, np.arange(9), 9), axis=1)
    weights = np.where(moves < 9, rng.random((count, 9)), 0)
    return Batch(
        observation=jnp.asarray(np.stack([cells == 1, cells == 2], -1).reshape(count, 3, 3, 2), jnp.float32),
        moves=jnp.asarray(np.where(moves < 9, moves, -1), jnp.int16),
        weights=jnp.asarray(weights / weights.sum(1, keepdims=True), jnp.float16),
        policy_weight=jnp.ones(count, jnp.float16),
        value=jnp.asarray(rng.choice([-1.0, 0.0, 1.0], count), jnp.float32),
    )


def fresh(network, optimizer):
    variables = network.init(jax.random.key(0))
    return TrainState(variables, variables, optimizer.init(variables["params"]), jnp.int32(0))


def setup(config, network_config=MLP, total_updates=100):
    """(state, jitted update)"""
    network = networks.make(network_config, ENV)
    optimizer = learner.optimizer(config, total_updates)
    return fresh(network, optimizer), on_one_device(learner.make_update(network, config, optimizer))


def close(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# Symmetries


@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four"])
def test_symmetry_turns_board_and_policy(name):
    """The batch holds what playing a[0], a[1], … as actions[a[0]], actions[a[1]], … leads to."""
    env = envs.make(name)
    rng = np.random.default_rng(3)
    step, observe, legal_actions = jax.jit(env.step), jax.jit(env.observe), jax.jit(env.legal_actions)
    states = [env.init(jax.random.key(0))] * len(env.symmetries)
    for _ in range(3):
        action = rng.choice(np.flatnonzero(legal_actions(states[0])))
        states = [
            step(state, jnp.int32(actions[action])) for state, (_, actions) in zip(states, env.symmetries, strict=True)
        ]
    assert len({env.to_text(state) for state in states}) == len(states)  # no turn looks like another
    legal = np.asarray(legal_actions(states[0]))
    policy = np.where(legal, rng.random(env.num_actions), 0).astype(np.float16)
    moves, weights = compact_policy(jnp.asarray(policy)[None], jnp.asarray(legal)[None], env.max_legal)
    count = 64

    def repeat(x):
        return jnp.broadcast_to(x, (count, *x.shape))

    one = Transition(
        states[0], jnp.int16(0), jnp.float32(0), jnp.bool(False), jnp.float32(0.5), moves[0], weights[0], jnp.float16(1)
    )
    played = jax.tree.map(repeat, one)
    target = jnp.arange(count) / count
    batch = learner.make_batch(env, LearnerConfig(), played, target, jax.random.key(0))
    seen = set()
    for row in range(count):
        turn = next(i for i, state in enumerate(states) if np.array_equal(observe(state), batch.observation[row]))
        seen.add(turn)
        turned = np.zeros_like(policy)
        turned[env.symmetries[turn][1]] = policy
        used = np.asarray(batch.moves[row]) >= 0
        assert sorted(np.asarray(batch.moves[row])[used]) == np.flatnonzero(legal_actions(states[turn])).tolist()
        np.testing.assert_array_equal(turned[np.asarray(batch.moves[row])[used]], np.asarray(batch.weights[row])[used])
    assert seen == set(range(len(states)))
    np.testing.assert_array_equal(batch.value, target)
    plain = learner.make_batch(env, LearnerConfig(augment=False), played, target, jax.random.key(0))
    assert equal(plain.observation, repeat(observe(states[0])))
    assert equal(plain.moves, played.moves)


# Optimizer

PARAMS = {"kernel": jnp.float32([[1.0, -2.0], [3.0, 0.5]]), "bias": jnp.float32([1.0, -1.0])}


def steps(gradients, **settings):
    """Changes of PARAMS by each gradient in turn, at a constant rate of 0.1 unless told."""
    config = LearnerConfig(
        **{"lr": 0.1, "schedule": "constant", "warmup": 0, "weight_decay": 0.0, "clip": 0.0} | settings
    )
    chain = learner.optimizer(config, 100)
    state, changes = chain.init(PARAMS), []
    for gradient in gradients:
        change, state = chain.update(gradient, state, PARAMS)
        changes.append(change)
    return changes


ZERO = jax.tree.map(jnp.zeros_like, PARAMS)
ONES = jax.tree.map(jnp.ones_like, PARAMS)


def test_muon_steps_are_orthogonal_and_as_large_as_those_of_adam():
    """Kernels move equally far in every direction; the root mean square of a step is about 0.2 of the rate."""
    rng = np.random.default_rng(0)
    for shape in ((6, 4), (3, 3, 2, 5)):
        outputs = shape[-1]
        u, _, v = np.linalg.svd(rng.normal(size=(math.prod(shape[:-1]), outputs)), full_matrices=False)
        gradient = {"kernel": jnp.float32((u * np.geomspace(1, 30, outputs)) @ v).reshape(shape), "bias": ONES["bias"]}
        chain = learner.optimizer(
            LearnerConfig(optimizer=MuonConfig(), lr=0.1, warmup=0, weight_decay=0.0, clip=0.0), 100
        )
        params = jax.tree.map(jnp.zeros_like, gradient)
        change: Any = chain.update(gradient, chain.init(params), params)[0]
        towards = -u.T @ np.asarray(change["kernel"]).reshape(-1, outputs) @ v.T
        size = 0.1 * 0.2 * math.sqrt(max(math.prod(shape[:-1]), outputs))
        np.testing.assert_allclose(towards / size, np.eye(outputs), atol=0.4)  # Newton-Schulz: 0.7 to 1.2
        adam = optax.scale_by_adam(nesterov=True)
        expected: Any = adam.update(gradient, adam.init(params))[0]
        np.testing.assert_allclose(change["bias"], -0.1 * expected["bias"], rtol=1e-5)


def test_muon_decays_kernels_at_the_learning_rate():
    for change in steps([ZERO, ZERO], weight_decay=0.5, optimizer=MuonConfig()):
        np.testing.assert_allclose(change["kernel"], -0.05 * PARAMS["kernel"], rtol=1e-5)
        assert not change["bias"].any()


def test_decoupled_decay_is_not_scaled_by_adam():
    for change in steps([ZERO, ZERO], weight_decay=0.5):
        np.testing.assert_allclose(change["kernel"], -0.05 * PARAMS["kernel"], rtol=1e-6)
        assert not change["bias"].any()


def test_l2_decay_is_part_of_the_gradient():
    (change,) = steps([ZERO], weight_decay=0.5, decay="l2")
    np.testing.assert_allclose(change["kernel"], -0.1 * jnp.sign(PARAMS["kernel"]), rtol=1e-5)
    assert not change["bias"].any()


def test_momentum_gathers_l2_decay_only():
    _, decoupled = steps([ONES, ONES], optimizer=SgdConfig(), weight_decay=0.5)
    _, l2 = steps([ONES, ONES], optimizer=SgdConfig(), weight_decay=0.5, decay="l2")
    np.testing.assert_allclose(decoupled["kernel"], -0.1 * (1.9 + 0.5 * PARAMS["kernel"]), rtol=1e-6)
    np.testing.assert_allclose(l2["kernel"], -0.1 * 1.9 * (1 + 0.5 * PARAMS["kernel"]), rtol=1e-6)
    np.testing.assert_allclose(decoupled["bias"], [-0.19, -0.19], rtol=1e-6)


def test_clipping_by_the_global_norm():
    gradient = jax.tree.map(lambda x: 10 * x, ONES)  # norm 10 · √6
    (clipped,), (free,) = steps([gradient], optimizer=SgdConfig(), clip=1.0), steps([gradient], optimizer=SgdConfig())
    (small,) = steps([ONES], optimizer=SgdConfig(), clip=3.0)
    close(clipped, jax.tree.map(lambda x: -0.1 * x / np.sqrt(6), ONES), rtol=1e-6)
    close(free, jax.tree.map(lambda x: -x, ONES), rtol=1e-6)
    close(small, jax.tree.map(lambda x: -0.1 * x, ONES), rtol=1e-6)


@pytest.mark.parametrize(("settings", "values"), [
    ({"schedule": "constant", "warmup": 0}, {0: 1, 500: 1}),
    ({"schedule": "constant", "warmup": 10}, {0: 0, 5: 0.5, 10: 1, 99: 1}),
    ({"schedule": "step", "warmup": 10, "step_size": 30, "factor": 0.5},
     {0: 0, 5: 0.5, 29: 1, 30: 0.5, 59: 0.5, 60: 0.25, 99: 0.125}),
    ({"schedule": "step", "warmup": 0, "step_size": 30, "accumulate": 10}, {2: 1, 3: 0.1, 6: 0.01}),
    ({"schedule": "piecewise", "warmup": 4, "boundaries": (20, 60), "factors": (0.5, 0.1)},
     {2: 0.5, 19: 1, 21: 0.5, 59: 0.5, 61: 0.05}),
    ({"warmup": 0}, {0: 1, 50: 0.505, 100: 0.01}),
    ({"warmup": 20}, {0: 0, 10: 0.5, 20: 1, 60: 0.505, 100: 0.01}),
    ({"warmup": 20, "accumulate": 2}, {0: 0, 5: 0.5, 10: 1, 30: 0.505, 50: 0.01}),  # optimizer steps of two updates
    ({"warmup": 1000}, {0: 0, 50: 1, 75: 0.505, 100: 0.01}),
])  # fmt: skip
def test_learning_rate(settings, values):
    rate = learner.learning_rate(LearnerConfig(**{"lr": 1.0} | settings), 100)
    for step, value in values.items():
        np.testing.assert_allclose(rate(step), value, atol=1e-6)


# Updates


def test_two_accumulated_batches_are_one_step_of_their_mean():
    config = LearnerConfig(warmup=0, ema=0.0, weight_decay=0.1, optimizer=SgdConfig(), lr=0.1, clip=0.0)
    first, second = random_batch(0, 8), random_batch(1, 8)
    both = jax.tree.map(lambda *x: jnp.concatenate(x), first, second)
    start, update = setup(dataclasses.replace(config, accumulate=2), total_updates=200)
    key = jax.random.key(0)
    half, _ = update(start, first, key)
    assert equal(half.variables, start.variables)
    done, _ = update(half, second, key)
    start, update = setup(config)
    wanted, _ = update(start, both, key)
    assert not equal(wanted.variables, start.variables)
    close(done.variables, wanted.variables, atol=1e-5)


def test_a_position_counts_as_much_as_it_weighs():
    start, update = setup(LearnerConfig(warmup=0, optimizer=SgdConfig(), lr=0.1, clip=0.0))
    both, key = random_batch(0, 8), jax.random.key(0)
    few = jax.tree.map(lambda x: x[:4], both)
    weighed, metrics = update(start, both, key, jnp.repeat(jnp.array([2.0, 0.0]), 4))
    wanted, expected = update(start, few, key)
    close(weighed.variables, wanted.variables, atol=1e-6)
    close(metrics, expected, rtol=1e-5)
    assert not equal(wanted.variables, update(start, both, key)[0].variables)


@pytest.mark.parametrize("ema", [0.0, 0.15, 0.9])
def test_ema_of_parameters(ema):
    state, update = setup(LearnerConfig(warmup=0, lr=0.1, ema=ema))
    expected = state.ema
    for i in range(3):
        state, _ = update(state, random_batch(i, 8), jax.random.key(i))
        decay = min(ema, (i + 2) / (i + 11))
        expected = jax.tree.map(lambda old, new, d=decay: d * old + (1 - d) * new, expected, state.variables)
        close(state.ema, expected, atol=1e-6)
        assert equal(state.ema, state.variables) == (ema == 0)
    assert int(state.step) == 3


@pytest.mark.parametrize(("network", "settings"), [
    (
        MlpConfig(sizes=(16,), value="wdl"),
        {"value_loss": "wdl", "policy_loss": "kl", "optimizer": SgdConfig(), "decay": "l2"},
    ),
    (MlpConfig(sizes=(16,), dropout=0.5, shared=False), {"value_loss": "huber", "clip": 0.0, "schedule": "constant"}),
    (ResNetConfig(channels=4, blocks=1, norm="batch"), {"accumulate": 2}),
    (ResNetConfig(channels=4, blocks=1), {"accumulate": 2, "optimizer": MuonConfig()}),
])  # fmt: skip
def test_every_loss_and_optimizer_runs(network, settings):
    state, update = setup(LearnerConfig(warmup=0, **settings), network)
    start = state
    for i in range(2):
        state, metrics = update(state, random_batch(0, 8), jax.random.key(i))
        assert all(np.isfinite(value) and value > 0 for value in jax.tree.leaves(metrics)), metrics
    assert not equal(state.variables["params"], start.variables["params"])
    assert vars(network).get("norm") != "batch" or not equal(state.variables["stats"], start.variables["stats"])


def test_overfits_a_fixed_batch():
    config = LearnerConfig(lr=0.01, warmup=0, schedule="constant", policy_loss="kl", weight_decay=0.0)
    network = networks.make(dataclasses.replace(MLP, sizes=(64,)), ENV)
    optimizer = learner.optimizer(config, 400)
    update, batch = learner.make_update(network, config, optimizer), random_batch(0, 32)

    def many(state):
        return jax.lax.scan(lambda x, i: update(x, batch, jax.random.key(0)), state, jnp.arange(400))

    _, metrics = on_one_device(many)(fresh(network, optimizer))
    for name in ("policy_loss", "value_loss"):
        assert metrics[name][-1] < 0.04 * metrics[name][0]
    close(metrics["loss"], metrics["policy_loss"] + metrics["value_loss"], rtol=1e-5)


# Learning from the replay

CONFIG = Config(
    network=MLP,
    selfplay=SelfPlayConfig(games=4, plies=4),
    replay=ReplayConfig(capacity=64, window=32, growth=0.0),
    learner=LearnerConfig(batch=8, replay_ratio=1.0, warmup=0),
)


def test_window_grows_with_the_positions_seen():
    def rows(positions, **settings):
        config = ReplayConfig(**{"capacity": 6400, "window": 1600, "growth": 0.5} | settings)
        return int(replay_lib.window_rows(config, jnp.float32(positions), 16))

    assert [rows(x) for x in (16, 1600, 6400, 25600, 10**6)] == [100, 100, 200, 400, 400]
    assert rows(10**6, growth=0.0) == 100
    assert rows(3200, growth=1.0) == 200


def test_nothing_is_learned_before_a_full_batch_is_ready():
    network = networks.make(MLP, ENV)
    optimizer = learner.optimizer(CONFIG.learner, 100)
    steps = learner.make_learn(ENV, network, CONFIG, optimizer)
    learn = on_one_device(lambda state, replay, key: steps(state, replay_lib.source(replay, jnp.int32(8)), key))
    start, empty = fresh(network, optimizer), replay_lib.init(ENV, 16, 4)
    moves = jnp.zeros_like(empty.transitions.moves).at[..., 1:].set(-1)
    played = dataclasses.replace(empty.transitions, moves=moves)

    def replay(rows, lanes):
        ready = (jnp.arange(16)[:, None] < rows) & (jnp.arange(4)[None] < lanes)
        return replay_lib.Replay(played, empty.target, ready, jnp.int32(8))  # the window is rows 0 to 7

    for waiting in (empty, replay(7, 1), replay(16, 0)):
        state, metrics = learn(start, waiting, jax.random.key(0))
        assert equal(state, start)
        assert metrics["updates"] == 0
        assert metrics["loss"] == 0
    state, metrics = learn(start, replay(8, 1), jax.random.key(0))
    assert metrics["updates"] == CONFIG.updates == int(state.step) == 2
    assert not equal(state.variables, start.variables)
