"""One iteration: any number of devices plays and learns the same, seeds, resumption, keys, traces, donation."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from tables import search_config

import envs
from jaxzero import networks
from jaxzero.config.schema import Config, LearnerConfig, ReplayConfig, SelfPlayConfig
from jaxzero.networks import MlpConfig, Network, Prediction, ResNetConfig
from jaxzero.parallel import AXIS, make_mesh
from jaxzero.search import GumbelConfig, Search, SearchOutput
from jaxzero.training import iteration, learner
from jaxzero.training.optimizers import SgdConfig

ENV = envs.make("tic_tac_toe")
CONFIG = Config(
    iterations=3,
    devices=1,
    network=MlpConfig(sizes=(8,)),
    search=GumbelConfig(simulations=4),
    selfplay=SelfPlayConfig(games=8, plies=6, opening_plies=1),
    replay=ReplayConfig(capacity=8 * 24, window=64),
    learner=LearnerConfig(batch=16, replay_ratio=1.0, warmup=0),
)


def lookup_network(env):
    """Logits and values from an integer hash of the observation: exact in any order of summation."""
    size = math.prod(env.observation_shape)
    odd = (np.random.default_rng(0).integers(1, 2**31, (size, env.num_actions + 1)) | 1).astype(np.int32)

    def infer(params, observation):
        bits = observation.reshape(len(observation), -1, 1).astype(jnp.int32)
        number = (bits * odd[None]).sum(1)
        share = ((number ^ (number >> 15)) & 0xFFFF).astype(jnp.float32) / 65536
        value = 2 * share[:, -1] - 1
        return Prediction(4 * share[:, :-1], value, {"value": value})

    def predict(variables, observation, *, train=False, key=None, axis_name=None):
        prediction = infer((), observation)
        return prediction._replace(logits=prediction.logits * variables["params"]["scale"]), {"key": raw(key)}

    def raw(key):
        return jax.random.key_data(key).astype(jnp.float32)

    def init(key):
        return {"params": {"scale": jnp.float32(1)}, "stats": {"key": raw(key)}}

    return Network(init, predict, lambda variables: (), infer)


def host(tree):
    return jax.tree.map(np.asarray, tree)


def assert_identical(a, b):
    jax.tree.map(np.testing.assert_array_equal, host(a), host(b))


def run(steps, state, iterations):
    for _ in range(iterations):
        state, _ = steps.self_play(state)
        state, _ = steps.learn(state)
    return state


@pytest.mark.parametrize("kind", ["gumbel", "puct"])
def test_any_number_of_devices_plays_the_same_games(kind):
    results = []
    for devices in (1, 2, 4):
        config = dataclasses.replace(CONFIG, devices=devices, search=search_config(kind, simulations=4))
        steps = iteration.make(config, ENV, lookup_network(ENV))
        state = steps.init(np.int32(0))
        assert state.games.plies.sharding.num_devices == devices
        totals = []
        for _ in range(2):
            state, sums = steps.self_play(state)
            totals.append(host(sums))
            state = dataclasses.replace(state, iteration=state.iteration + 1)
        assert totals[1]["games"] > 0
        results.append((host((state.games, state.replay)), totals))
    for games, totals in results[1:]:
        assert_identical(games, results[0][0])
        for total, wanted in zip(totals, results[0][1], strict=True):
            for name, value in wanted.items():
                np.testing.assert_allclose(total[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", [
    MlpConfig(sizes=(16,)), ResNetConfig(channels=4, blocks=1, norm="batch")
], ids=["mlp", "batch norm"])  # fmt: skip
def test_any_number_of_devices_makes_the_same_update(network):
    net = networks.make(network, ENV)
    config = LearnerConfig(warmup=0, ema=0.5, optimizer=SgdConfig(), lr=0.1)
    optimizer = learner.optimizer(config, 100)
    variables = jax.jit(net.init)(jax.random.key(0))
    start = learner.TrainState(variables, variables, optimizer.init(variables["params"]), jnp.int32(0))
    rng = np.random.default_rng(0)
    batch = learner.Batch(
        jnp.asarray(rng.integers(0, 2, (8, 3, 3, 2)), jnp.float32),
        jnp.tile(jnp.arange(9, dtype=jnp.int16), (8, 1)),
        jnp.asarray(rng.dirichlet(np.ones(9), 8), jnp.float16),
        jnp.asarray(rng.choice([0, 1], 8), jnp.float16),
        jnp.asarray(rng.choice([-1, 0, 1], 8), jnp.float32),
    )
    results = []
    for devices in (1, 2, 4):
        everywhere, split = PartitionSpec(), PartitionSpec(AXIS)
        update = jax.shard_map(
            learner.make_update(net, config, optimizer), mesh=make_mesh(devices),
            in_specs=(everywhere, split, everywhere), out_specs=everywhere, check_vma=False,
        )  # fmt: skip
        results.append(host(jax.jit(update)(start, batch, jax.random.key(0))))
    for result in results[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5), result, results[0])


def test_the_ema_parameters_play():
    """Games are those of the EMA, whatever the parameters are that are trained."""
    steps = iteration.make(CONFIG, ENV, networks.make(CONFIG.network, ENV))

    def games(change):
        state = steps.init(np.int32(0))
        state = dataclasses.replace(state, train_state=change(state.train_state))
        return host(steps.self_play(state)[0].games)

    doubled = lambda tree: jax.tree.map(lambda x: 2 * x + 1, tree)  # noqa: E731
    plain = games(lambda trained: trained)
    assert_identical(games(lambda trained: trained._replace(variables=doubled(trained.variables))), plain)
    with pytest.raises(AssertionError):
        assert_identical(games(lambda trained: trained._replace(ema=doubled(trained.ema))), plain)


def test_runs_repeat_resume_compile_once_and_donate():
    traced = []
    network = networks.make(CONFIG.network, ENV)

    def infer(params, observation):
        traced.append(observation.shape)
        return network.infer(params, observation)

    steps = iteration.make(CONFIG, ENV, network._replace(infer=infer))
    first = steps.init(np.int32(0))
    one = run(steps, first, 1)
    for leaf in jax.tree.leaves(first):
        assert leaf.is_deleted()
    traces = len(traced)
    saved = host(one)
    whole = run(steps, one, 2)
    assert int(whole.iteration) == 3
    assert int(whole.train_state.step) > 0
    assert len(traced) == traces

    restored = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), saved, steps.abstract)
    assert_identical(run(steps, restored, 2), whole)
    assert_identical(run(steps, steps.init(np.int32(0)), 3), whole)
    assert len(traced) == traces

    other = iteration.make(dataclasses.replace(CONFIG, seed=1), ENV).init(np.int32(0))
    pairs = zip(
        *(jax.tree.leaves(x.train_state.variables["params"]) for x in (other, steps.init(np.int32(0)))), strict=True
    )
    assert not all(np.array_equal(a, b) for a, b in pairs)
    assert not np.array_equal(other.key, whole.key)


def test_simulations_follow_the_schedule():
    """Each iteration plays what a run with that many simulations throughout would play from there."""
    growing = dataclasses.replace(CONFIG, search=GumbelConfig(schedule=(2, 9)))
    network = lookup_network(ENV)
    steps = iteration.make(growing, ENV, network)
    constant = {
        n: iteration.make(dataclasses.replace(CONFIG, search=GumbelConfig(simulations=n)), ENV, network) for n in (2, 9)
    }
    state = steps.init(np.int32(0))
    for done in range(4):
        copies = {n: jax.tree.map(jnp.copy, state) for n in constant}
        played = {n: host(constant[n].self_play(copies[n])[0]) for n in constant}
        state, _ = steps.self_play(state)
        assert_identical(state, played[growing.simulations(done)])
        assert not np.array_equal(played[2].replay.transitions.value, played[9].replay.transitions.value)
        state = dataclasses.replace(state, iteration=state.iteration + 1)


def test_streams_of_keys_never_meet():
    key = jax.random.key_data(jax.random.key(0))
    streams = jax.vmap(iteration.stream, (None, None, 0))
    names = iteration.INIT, iteration.PLAY, iteration.LEARN, iteration.EVALUATE
    data = np.concatenate([jax.random.key_data(streams(key, name, jnp.arange(500))) for name in names])
    assert len(np.unique(data, axis=0)) == len(data) == 2000


def test_no_ply_and_no_update_uses_a_key_again(monkeypatch):
    """The search records a number made of its key as the root value, the network its key as statistics."""

    def run_search(params, keys, states, carry, temperature, explore):
        legal = jax.vmap(ENV.legal_actions)(states)
        value = jax.vmap(jax.random.uniform)(keys)
        even = legal / 9.0
        return SearchOutput(jnp.argmax(legal, -1), even, value, jnp.ones_like(value), even, even), carry

    monkeypatch.setattr(iteration.search, "make", lambda *_: Search(lambda states: (), run_search))
    config = dataclasses.replace(CONFIG, learner=LearnerConfig(batch=16, replay_ratio=1 / 3, ema=0.0))
    assert config.updates == 1
    steps = iteration.make(config, ENV, lookup_network(ENV))
    state = steps.init(np.int32(0))
    keys = []
    for _ in range(4):
        state = run(steps, state, 1)
        keys.append(tuple(np.asarray(state.train_state.variables["stats"]["key"])))
    assert int(state.train_state.step) >= 3
    assert len(np.unique(state.replay.transitions.value)) == 8 * 24
    assert len(set(keys[-3:])) == 3


def test_restarted_games_are_new_games():
    """A resume that has lost its games does not play those of the start again."""
    init = iteration.make(dataclasses.replace(CONFIG, selfplay=SelfPlayConfig(8, 6, 4)), ENV).init
    start, later = init(np.int32(0)), init(np.int32(2))
    assert not np.array_equal(start.games.state.stones, later.games.state.stones)
    assert_identical(start.train_state, later.train_state)
    assert int(later.iteration) == 2


def test_averages_of_a_row():
    value, outcome = np.array([0.5, -0.5, 1.0, 0.0]), np.array([1.0, -1.0, 1.0, -1.0])
    sums = {
        "entropy": 96.0, "games": 4.0, "first_player_wins": 2.0, "second_player_wins": 1.0, "draws": 1.0,
        "length": 30.0, "ended": 4.0, "error": abs(value - outcome).sum(), "v": value.sum(), "z": outcome.sum(),
        "vv": (value**2).sum(), "zz": (outcome**2).sum(), "vz": (value * outcome).sum(),
    }  # fmt: skip
    row = iteration.averages(CONFIG, sums, {"loss": 2.0, "updates": 3.0, "window": 64.0})
    assert row.pop("value_correlation") == pytest.approx(np.corrcoef(value, outcome)[0, 1])
    assert row == {
        "policy_entropy": 2.0, "first_player_wins": 0.5, "second_player_wins": 0.25, "draws": 0.25,
        "game_length": 7.5, "value_error": 0.5, "loss": 2.0, "window": 64.0,
    }  # fmt: skip
    nothing = dict.fromkeys(sums, 0.0)
    assert iteration.averages(CONFIG, nothing, {"loss": 0.0, "updates": 0.0, "window": 64.0}) == {
        "policy_entropy": 0.0, "window": 64.0,
    }  # fmt: skip
