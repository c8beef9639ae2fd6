"""MuZero: targets and losses by hand, whose value it is, no rules inside the tree, reanalyse, resumption."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import envs
from envs.core import random_opening
from envs.tic_tac_toe import TicTacToe
from jaxzero import models, networks, search
from jaxzero.config.schema import Config, LearnerConfig, NetworkConfig, ReplayConfig, SearchConfig, SelfPlayConfig
from jaxzero.networks import DynamicsOutput, Latent, Prediction, values
from jaxzero.search import Search, SearchResult
from jaxzero.training import iteration, learner, losses, targets
from jaxzero.training import replay as replay_lib
from jaxzero.training.losses import Window, muzero_loss
from jaxzero.training.transitions import Transition, compact_policy

ENV = envs.make("tic_tac_toe")
FORMS = {
    "mlp": NetworkConfig(kind="muzero_mlp", hidden_dim=16, latent_dim=8, value="wdl", projection=4),
    "conv": NetworkConfig(kind="muzero_conv", channels=4, blocks=1, value="categorical", support=2, projection=4),
}


# Value heads


def test_value_transform_against_float64():
    x = np.concatenate([-np.logspace(-3, 6, 50), [0.0], np.logspace(-3, 6, 50)])
    h = np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + 0.001 * x
    np.testing.assert_allclose(values.squash(jnp.float32(x)), h, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(values.unsquash(jnp.float32(h)), x, rtol=2e-6, atol=1e-6)


def test_two_hot_and_what_is_read_of_it():
    wanted = [[0, 0, 0.75, 0.25, 0], [0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]
    np.testing.assert_allclose(values.two_hot(jnp.float32([0.25, -0.5, 2.0, -7.0]), 2), wanted)
    target = jnp.float32([3.5, -1.0, 0.0, 8.0])
    hot = values.two_hot(values.squash(target), 3)
    value, heads = values.categorical(3).read(jnp.log(hot + 1e-12))
    np.testing.assert_allclose(value, target, rtol=1e-5, atol=1e-5)
    entropy = -(hot * jnp.log(jnp.maximum(hot, 1e-12))).sum(-1)
    np.testing.assert_allclose(losses.value_loss(heads, target, "categorical"), entropy, atol=1e-5)
    number = values.squash(target)
    value, heads = values.transformed(0).read(number[:, None])
    np.testing.assert_allclose(value, target, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(losses.value_loss(heads, target + 1, "mse"), (values.squash(target + 1) - number) ** 2)


# Targets and windows


def game(actions, rewards, movers, values_found):
    """The plies [T, 1] of one finished game with these actions, rewards to the mover, movers and root values."""

    @jax.jit
    def play(actions, movers):
        def ply(state, now):
            action, mover = now
            return ENV.step(state, action), dataclasses.replace(state, player=mover)

        _, states = jax.lax.scan(ply, ENV.init(jax.random.key(0)), (actions, movers))
        legal = jax.vmap(ENV.legal_actions)(states)
        return states, compact_policy(legal / legal.sum(-1, keepdims=True), legal, ENV.max_legal)

    count = len(actions)
    states, (moves, weights) = jax.device_get(play(np.int32(actions), np.int8(movers)))
    fields = (
        states, np.int16(actions), np.float32(rewards), np.arange(count) == count - 1, np.float32(values_found),
        moves, weights, np.ones(count, np.float16),
    )  # fmt: skip
    return Transition(*jax.tree.map(lambda x: x[:, None], fields))


def windows(played, steps, **settings):
    """The windows [T, K + 1] that begin at each ply of one game."""
    config = LearnerConfig(augment=False, **settings)
    count = len(played.action)

    @jax.jit
    def draw(played):
        ring = replay_lib.add(replay_lib.init(ENV, count + 4, 1), played)
        labels = targets.label(replay_lib.newest(ring, count + 9), config.td_lambda, config.td_steps)
        ring, new = replay_lib.label(ring, *labels)
        found, target, _ = replay_lib.source(ring, jnp.int32(count + 4)).draw(jax.random.key(0), 64, steps)
        return learner.make_window(ENV, config, found, target, jax.random.key(0)), found.action[:, 0], new.sum()

    made, begun, known = jax.device_get(draw(played))
    assert known == count
    first = np.array([np.flatnonzero(begun == action)[0] for action in played.action[:, 0]])
    return jax.tree.map(lambda x: x[first], made)


@functools.cache
def short():
    """Player 0 moves twice, then player 1 once."""
    return game((0, 1, 2), (0.5, -0.25, 1.0), (0, 0, 1), (0.1, 0.2, 0.3))


def test_windows_of_a_short_game_by_hand():
    """G(2) = 1 to player 1; G(1) = -0.25 - 1 and G(0) = 0.5 - 1.25 to player 0. After two plies from the first the
    value found at the third is player 1's: 0.5 - 0.25 - 0.3."""
    made = windows(short(), 3, td_lambda=1.0)
    np.testing.assert_allclose(made.value[0, :3], [-0.75, -1.25, 1.0])
    assert made.alive.tolist() == [[True, True, True, False], [True, True, False, False], [True, False, False, False]]
    assert made.to_play[0, :3].tolist() == [0, 1, 2]
    assert made.to_play[1, :2].tolist() == [1, 2]
    np.testing.assert_allclose(made.reward[0, :3], [0.5, -0.25, 1.0])
    np.testing.assert_allclose(windows(short(), 1, td_steps=2).value[:, 0], [-0.05, -1.25, 1.0], rtol=1e-6)
    np.testing.assert_allclose(windows(short(), 1, td_steps=1).value[:, 0], [0.7, -0.55, 1.0], rtol=1e-6)
    half = [0.05 + 0.5 * (0.5 + (0.1 + 0.5 * (-0.25 - 0.65))), 0.1 + 0.5 * (-0.25 - 0.65), 0.15 + 0.5]
    np.testing.assert_allclose(windows(short(), 1, td_lambda=0.5).value[:, 0], half, rtol=1e-6)


@pytest.mark.parametrize("actions", [(0, 3, 1, 4, 2), (0, 3, 1, 4, 8, 5)], ids=["X wins", "O wins"])
def test_signs_for_both_colours(actions):
    """Who has won sees a reward of 1 for the last move and +1 from every position of their own; the other sees -1."""
    count = len(actions)
    made = windows(game(actions, [0.0] * (count - 1) + [1.0], [i % 2 for i in range(count)], [0.0] * count), count)
    winner = (count - 1) % 2
    for ply in range(count):
        sign = [1.0 if (ply + k) % 2 == winner else -1.0 for k in range(count - ply)]
        np.testing.assert_allclose(np.sign(made.value[ply, : count - ply]), sign)
        assert made.reward[ply, : count - ply].tolist() == [0.0] * (count - ply - 1) + [1.0]
        assert made.to_play[ply, : count - ply].tolist() == [1] * (count - ply - 1) + [2]


def test_symmetries_turn_the_actions_of_a_window_too():
    """Along the window the turned actions lead from the turned position to turned positions."""
    played = jax.tree.map(lambda x: np.broadcast_to(x[:, 0][None], (32, *x[:, 0].shape)), short())
    make = jax.jit(functools.partial(learner.make_window, ENV, LearnerConfig(), seen=True))
    made = jax.device_get(make(played, jnp.zeros((32, 3)), jax.random.key(1)))
    turns = set()
    for row in range(32):
        stones = np.asarray(made.observation[row]).sum(-1).reshape(3, 9)
        turns.add(tuple(np.asarray(made.action[row]).tolist()))
        for k in range(2):
            assert np.flatnonzero(stones[k + 1] != stones[k]).tolist() == [int(made.action[row, k])]
        free = np.asarray(made.moves[row, 2])
        assert sorted(free[free >= 0].tolist()) == np.flatnonzero(stones[2] == 0).tolist()
    assert len(turns) > 4


# The loss


SAID = {  # of a window's three positions (of two actions) and of what follows its actions
    "logits": np.array([[0.5, -0.5], [1.0, 0.0], [0.25, 0.75]]), "value": np.array([0.1, -0.4, 0.6]),
    "reward": np.array([0.2, -0.3]), "to_play": np.array([[1.0, 2.0, 0.0], [0.0, 0.5, 1.5]]),
}  # fmt: skip


def scripted():
    """A network whose latent is the number of actions made; it says what `params` holds for that number."""

    def predict(params, latent):
        at = latent[:, 0].astype(jnp.int32)
        value = params["value"][at]
        return Prediction(params["logits"][at], value, {"value": value})

    def dynamics(params, latent, action):
        at = latent[:, 0].astype(jnp.int32)
        reward = params["reward"][at]
        return DynamicsOutput(latent + 1, reward, reward, {"value": reward}, params["to_play"][at])

    return Latent(lambda params, observation: jnp.zeros((len(observation), 1)), dynamics, predict)


def test_loss_of_an_unroll_by_hand():
    """Three plies are unrolled over, the game ends with the second: the third position does not exist, and nothing is
    learned about it or about the third action. Root in full, unrolled steps 1 / K each, here K = 3."""
    params = jax.tree.map(jnp.float32, SAID | {
        "logits": np.vstack([SAID["logits"], [[3.0, 3.0]]]), "value": np.append(SAID["value"], 9.0),
        "reward": np.append(SAID["reward"], 9.0), "to_play": np.vstack([SAID["to_play"], [[5.0, 5.0, 5.0]]]),
    })  # fmt: skip
    policy = np.array([[0.75, 0.25], [1.0, 0.0]])
    window = Window(
        observation=jnp.zeros((1, 1, 2)), action=jnp.zeros((1, 4), jnp.int16),
        moves=jnp.int16([[[0, 1], [0, -1], [0, 1], [0, 1]]]),
        weights=jnp.float16([[policy[0], policy[1], [0.5, 0.5], [0.5, 0.5]]]),
        policy_weight=jnp.ones((1, 4), jnp.float16),
        value=jnp.float32([[0.5, -1.0, 7.0, 7.0]]), reward=jnp.float32([[0.0, 1.0, 5.0, 5.0]]),
        to_play=jnp.int32([[1, 2, 0, 0]]), alive=jnp.array([[True, True, False, False]]),
    )  # fmt: skip
    config = LearnerConfig(value_weight=0.25, reward_weight=2.0, follows_weight=0.5)
    result = jax.jit(lambda params: muzero_loss(config, scripted(), params, window))(params)

    def cross_entropy(logits, target):
        return np.log(np.exp(logits).sum()) - (np.asarray(target) * logits).sum()

    policies = [cross_entropy(SAID["logits"][k], policy[k]) for k in (0, 1)]
    value = [(0.1 - 0.5) ** 2, (-0.4 + 1.0) ** 2]
    reward = [(0.2 - 0.0) ** 2, (-0.3 - 1.0) ** 2]
    to_play = [cross_entropy(SAID["to_play"][0], [0, 1, 0]), cross_entropy(SAID["to_play"][1], [0, 0, 1])]
    expected = (
        policies[0] + policies[1] / 3 + 0.25 * (value[0] + value[1] / 3)
        + 2 * (reward[0] + reward[1]) / 3 + 0.5 * (to_play[0] + to_play[1]) / 3
    )  # fmt: skip
    np.testing.assert_allclose(result["loss"], [expected], rtol=0, atol=1e-6)
    np.testing.assert_allclose(result["policy_loss"][:, 0], [*policies, 0, 0], atol=1e-6)
    np.testing.assert_allclose(result["value_loss"][:, 0], [*value, 0, 0], atol=1e-6)
    np.testing.assert_allclose(result["reward_loss"][:, 0], [0, *reward, 0], atol=1e-6)
    np.testing.assert_allclose(result["to_play_loss"][:, 0], [0, *to_play, 0], atol=1e-6)
    means = losses.by_depth({name: row for name, row in result.items() if name != "loss"}, window.alive)
    assert float(means["value_loss"]) == pytest.approx(sum(value) / 2)
    assert float(means["reward_loss"]) == pytest.approx(sum(reward) / 2)
    assert float(means["unroll/value_error_1"]) == pytest.approx(0.6)
    assert float(means["unroll/reward_error_2"]) == pytest.approx(1.3)
    assert float(means["unroll/value_error_2"]) == 0.0

    gradient = jax.jit(jax.grad(lambda params: muzero_loss(config, scripted(), params, window)["loss"].sum()))(params)
    assert not np.any(gradient["value"][2:])
    assert not np.any(gradient["reward"][2:])
    np.testing.assert_allclose(gradient["value"][:2], [0.25 * 2 * -0.4, 0.25 * 2 * 0.6 / 3], rtol=1e-6)


def test_each_step_of_the_dynamics_halves_the_gradient():
    """A latent p that no action changes, of which the value says p: d loss / dp = 2p (1 + (1/2 + 1/4 + 1/8) / 3)."""
    zero = jnp.zeros((1, 3))

    def predict(params, latent):
        return Prediction(jnp.zeros((1, 2)), latent[:, 0], {"value": latent[:, 0]})

    def dynamics(params, latent, action):
        return DynamicsOutput(latent, zero[:, 0], zero[:, 0], {"value": zero[:, 0]}, zero)

    network = Latent(lambda params, observation: params * jnp.ones((1, 1)), dynamics, predict)
    window = Window(
        jnp.zeros((1, 1, 2)), jnp.zeros((1, 4), jnp.int16), jnp.zeros((1, 4, 1), jnp.int16), jnp.ones((1, 4, 1)),
        jnp.ones((1, 4)), jnp.zeros((1, 4)), jnp.zeros((1, 4)), jnp.zeros((1, 4), jnp.int32), jnp.ones((1, 4), bool),
    )  # fmt: skip
    gradient = jax.jit(jax.grad(lambda p: muzero_loss(LearnerConfig(), network, p, window)["loss"].sum()))(0.3)
    assert float(gradient) == pytest.approx(0.6 * (1 + 0.875 / 3))


# Network and search


@pytest.fixture(scope="module", params=list(FORMS))
def modelled(request):
    network = networks.make(FORMS[request.param], ENV)
    return network, lively(network, 0.1)


def lively(network, noise):
    """Folded initial parameters, moved away from zeros."""
    rng = np.random.default_rng(0)
    params = jax.device_get(jax.jit(network.init)(jax.random.key(0)))["params"]
    return jax.tree.map(lambda x: np.float32(x + noise * rng.normal(size=x.shape)), params)


@functools.cache
def some_states():
    """Four positions."""
    play = jax.jit(jax.vmap(lambda key: random_opening(ENV, key, 4)[0]))
    return jax.device_get(play(jax.random.split(jax.random.key(5), 4)))


def test_what_a_network_says(modelled):
    network, params = modelled

    @jax.jit
    def ask(params, observation, action):
        latent = network.latent.represent(params, observation)
        after = network.latent.dynamics(params, latent, action)
        return latent, after, network.latent.predict(params, after.latent), network.infer(params, observation)

    observation = jax.vmap(ENV.observe)(some_states())
    latent, after, said, at_root = ask(params, observation, jnp.arange(4))
    for one in (latent, after.latent):
        flat = np.asarray(one).reshape(4, -1)
        np.testing.assert_allclose(flat.min(1), 0, atol=1e-6)
        np.testing.assert_allclose(flat.max(1), 1, atol=1e-3)
    assert not np.allclose(latent, after.latent)
    same, other, _ = np.asarray(jax.nn.softmax(after.to_play)).T
    np.testing.assert_allclose(after.discount, same - other, rtol=1e-5, atol=1e-6)
    assert said.logits.shape == at_root.logits.shape == (4, 9)
    assert after.reward.shape == (4,)
    _, others, _, _ = ask(params, observation, jnp.arange(4) + 1)
    assert not np.allclose(others.latent, after.latent)


@dataclasses.dataclass(frozen=True)
class Sealed(TicTacToe):
    """Its rules raise; what is seen and what is legal may be asked about the positions that are searched, once each."""

    asked: list = dataclasses.field(default_factory=list, hash=False)

    def step(self, state, action):
        raise AssertionError("the rules were asked inside the tree")

    def legal_actions(self, state):
        self.asked.append("legal")
        return super().legal_actions(state)

    def observe(self, state):
        self.asked.append("seen")
        return super().observe(state)


@pytest.mark.parametrize("engine", ["tree", "mctx"])
@pytest.mark.parametrize("kind", ["gumbel", "puct"])
def test_the_tree_asks_no_rules(kind, engine):
    sealed = Sealed()
    network = networks.make(FORMS["mlp"], ENV)
    params = jax.eval_shape(network.init, jax.random.key(0))["params"]

    def run(made: Search):
        states = some_states()
        keys = jax.random.split(jax.random.key(0), 4)
        sealed.asked.clear()
        return jax.eval_shape(lambda params: made.run(params, keys, states, (), jnp.ones(4), True)[0], params)

    config = SearchConfig(kind=kind, engine=engine)
    run(search.make(config, sealed, models.make(sealed, network), 8))
    assert sorted(sealed.asked) == ["legal", "seen"]
    with pytest.raises(AssertionError, match="rules were asked"):
        run(search.make(config, sealed, models.simulator.make(sealed, network.infer), 8))


@pytest.mark.parametrize("kind", ["gumbel", "puct"])
def test_our_tree_agrees_with_mctx_and_masks_the_root(kind):
    network = networks.make(FORMS["mlp"], ENV)
    params = lively(network, 0.3)
    states, keys = some_states(), jax.random.split(jax.random.key(0), 4)
    results = []
    for engine in ("tree", "mctx"):
        made = search.make(SearchConfig(kind=kind, engine=engine), ENV, models.make(ENV, network), 12)
        run = jax.jit(lambda params, made=made: made.run(params, keys, states, (), jnp.zeros(4), False)[0])
        results.append(run(params))
    ours, theirs = results
    np.testing.assert_array_equal(ours.visits, theirs.visits)
    np.testing.assert_allclose(ours.policy, theirs.policy, atol=1e-5)
    np.testing.assert_allclose(ours.value, theirs.value, atol=1e-5)
    assert not np.any(np.where(jax.vmap(ENV.legal_actions)(states), 0.0, ours.policy))


@pytest.mark.parametrize(("to_play", "expected"), [("same", 0.25 + 0.5), ("other", 0.25 - 0.5), ("end", 0.25)])
def test_whose_value_a_learned_child_has(to_play, expected):
    """Reward to who acted, plus the next value with the sign of who moves next; no illegal action is masked below."""
    logits = 50.0 * jax.nn.one_hot(("same", "other", "end").index(to_play), 3)

    def dynamics(params, latent, action):
        chance = jax.nn.softmax(logits)
        quarter = jnp.full(len(action), 0.25)
        return DynamicsOutput(latent, quarter, jnp.full(len(action), chance[0] - chance[1]), {}, logits)

    def predict(params, latent):
        half = jnp.full(len(latent), 0.5)
        return Prediction(jnp.zeros((len(latent), 9)), half, {"value": half})

    latent = Latent(lambda params, observation: jnp.zeros((len(observation), 1)), dynamics, predict)
    network = networks.Network(lambda key: {}, lambda *_: None, lambda x: x, lambda *_: None, latent=latent)  # pyright: ignore
    model = models.make(ENV, network)
    states = some_states()
    said, _ = model.decision((), jax.random.key(0), jnp.zeros(4, jnp.int32), model.root((), states).embedding)
    np.testing.assert_allclose(said.reward + said.discount * said.value, expected, rtol=1e-6)
    assert np.ptp(np.asarray(said.prior_logits)) == 0
    assert not np.array_equal(model.root((), states).prior_logits, np.zeros((4, 9)))


# Reanalyse and whole iterations

CONFIG = Config(
    iterations=3, devices=1, network=FORMS["mlp"], search=SearchConfig(simulations=4),
    selfplay=SelfPlayConfig(games=8, plies=6, opening_plies=1), replay=ReplayConfig(capacity=8 * 24, window=64),
    learner=LearnerConfig(
        batch=16, reuse=1.0, warmup=0, unroll=2, value_loss="wdl", consistency_weight=0.5, reanalyse=0.25
    ),
)  # fmt: skip


def test_reanalyse_renews_a_share(monkeypatch):
    """Found values 0.9, -0.5, 0.4 make the λ-returns that they would have made when the game was played."""
    fresh = jnp.float32([0.9, -0.5, 0.4])

    def run(params, keys, states, carry, temperature, explore):
        count = len(keys)
        policy = jnp.zeros((count, 9)).at[:, 8].set(1.0)
        return SearchResult(
            jnp.full(count, 8), policy, jnp.tile(fresh, count // 3), jnp.full(count, 0.5), policy, policy
        ), carry

    monkeypatch.setattr(learner.search, "make", lambda *_: Search(lambda states: (), run))
    config = dataclasses.replace(CONFIG, learner=LearnerConfig(reanalyse=0.5, td_lambda=0.7))
    reanalyse = learner.make_reanalyse(ENV, networks.make(FORMS["mlp"], ENV), config)
    old = windows(short(), 2, td_lambda=0.7).value[0]
    played = jax.tree.map(lambda x: np.broadcast_to(x[:, 0][None], (4, *x[:, 0].shape)), short())
    renewed, value = jax.jit(reanalyse)(
        {"params": {}}, played, jnp.tile(jnp.asarray(old)[None], (4, 1)), jax.random.key(0)
    )
    again = dataclasses.replace(short(), value=np.asarray(fresh)[:, None])
    np.testing.assert_allclose(value[:2], np.tile(windows(again, 2, td_lambda=0.7).value[0], (2, 1)), rtol=1e-5)
    np.testing.assert_allclose(value[2:], np.tile(old, (2, 1)))
    chosen = np.where(np.asarray(played.moves[0]) == 8, 1.0, 0.0)
    np.testing.assert_allclose(renewed.weights[:2], np.tile(chosen, (2, 1, 1)))
    np.testing.assert_allclose(renewed.weights[2:], played.weights[2:])
    assert renewed.policy_weight[:, 0].tolist() == [0.5, 0.5, 1.0, 1.0]


def test_iterations_learn_and_resume_exactly():
    steps = iteration.make(CONFIG, ENV)

    def run(state, count):
        sums, metrics = {}, {}
        for _ in range(count):
            state, sums = steps.self_play(state)
            state, metrics = steps.learn(state)
        return state, iteration.averages(CONFIG, jax.device_get(sums), jax.device_get(metrics))

    state, _ = run(steps.init(np.int32(0)), 1)
    saved = jax.tree.map(np.array, state)
    whole, row = run(state, 2)
    restored = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), saved, steps.abstract)
    again, _ = run(restored, 2)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.array, whole), jax.tree.map(np.array, again))
    assert int(whole.train_state.step) > 0
    terms = {
        "policy_loss",
        "value_loss",
        "reward_loss",
        "to_play_loss",
        "consistency_loss",
        "reward_error",
        "latent_norm",
    }
    assert terms <= set(row)
    assert {f"unroll/value_error_{k}" for k in range(3)} <= set(row)


def test_a_model_of_one_game_is_learned():
    """Every game that is played alike: rewards, values, policies and who moves next are all said right in the end."""
    line = game((0, 3, 1, 4, 2), (0.0, 0.0, 0.0, 0.0, 1.0), (0, 1, 0, 1, 0), (0.0,) * 5)
    config = LearnerConfig(augment=False, td_lambda=1.0, lr=1e-2, warmup=0, value_loss="wdl", unroll=5)
    made = windows(line, 5, td_lambda=1.0)
    network = networks.make(dataclasses.replace(FORMS["mlp"], projection=0, hidden_dim=64), ENV)
    assert network.latent is not None
    optimizer = optax.adam(3e-3)
    params = jax.jit(network.init)(jax.random.key(0))["params"]
    function = network.latent

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            gradient = jax.grad(lambda p: muzero_loss(config, function, p, made)["loss"].mean())(params)
            changes, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, changes), state), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), None, 400)
        return params, muzero_loss(config, function, params, made)

    _, result = train(params)
    assert float(result["reward_error"].max()) < 0.2
    assert float(result["value_error"].max()) < 0.2
    assert float(result["to_play_loss"].max()) < 0.2


# Chance

CHANCE = NetworkConfig(kind="muzero_mlp", hidden_dim=8, latent_dim=4, value="categorical", support=3, codes=5)


def test_codes_of_a_window_are_learned_where_something_was_seen():
    """The code that the encoder finds likeliest teaches the afterstate, not where the game has ended; the latent that
    follows is made with it, and passes its gradient to the encoder."""
    whole = networks.make(CHANCE, ENV)
    network, params = whole.latent, lively(whole, 1.0)
    assert network is not None
    assert network.encode is not None
    assert network.settle is not None
    encode, settle = network.encode, network.settle
    played = jax.tree.map(lambda x: x[:, 0][None], short())
    config = LearnerConfig(augment=False, value_loss="categorical", codes_weight=0.0)

    @jax.jit
    def look(params):
        window = learner.make_window(ENV, config, played, jnp.zeros((1, 3)), jax.random.key(0), seen=True)
        window = window._replace(alive=jnp.array([[True, True, False]]))
        first, second = window.observation[:, 0], window.observation[:, 1]
        after = network.dynamics(params, network.represent(params, first), window.action[:, 0].astype(jnp.int32))
        logits = encode(params, first, second)
        code = jax.nn.one_hot(logits.argmax(-1), 5)
        said = network.predict(params, settle(params, after.latent, code))
        share = jax.nn.softmax(logits)  # of the one outcome that was seen: the mean of all
        far = jnp.square(share - code).sum() + (share * jnp.log(share * 5)).sum()
        expected = 0.1 * far - (jax.nn.log_softmax(jnp.asarray(after.codes)) * code).sum()

        def total(params):
            rows = muzero_loss(config, network, params, window)
            return rows["loss"].sum(), rows

        gradient, rows = jax.grad(total, has_aux=True)(params)
        return gradient, rows, said.value, expected

    gradient, rows, value, expected = jax.device_get(look(params))
    np.testing.assert_allclose(rows["codes_loss"][:, 0], [0.0, expected, 0.0], rtol=1e-4)
    np.testing.assert_allclose(rows["value_error"][1], np.abs(value), rtol=1e-3, atol=1e-5)
    assert np.any(gradient["coder"]["out"]["kernel"])


def test_search_with_learned_chance_is_an_expectation():
    """One action, two codes of known probability and known values, each seen: the root is worth what is expected."""

    def dynamics(params, latent, action):
        zero = jnp.zeros(len(action))
        return DynamicsOutput(latent, zero + 0.5, zero + 1, {}, jnp.zeros((len(action), 3)), jnp.log(
            jnp.tile(jnp.float32([[0.75, 0.25]]), (len(action), 1))
        ))  # fmt: skip

    def predict(params, latent):
        logits = jnp.where(jnp.arange(9) == 8, 30.0, 0.0)
        return Prediction(jnp.tile(logits[None], (len(latent), 1)), latent[:, 0], {"value": latent[:, 0]})

    def settle(params, latent, code):
        return code @ jnp.float32([[8.0], [-4.0]])

    latent = Latent(
        lambda params, observation: jnp.zeros((len(observation), 1)), dynamics, predict, num_codes=2, settle=settle
    )
    network = networks.Network(lambda key: {}, lambda *_: None, lambda x: x, lambda *_: None, latent=latent)  # pyright: ignore
    env = envs.make("2048", max_plies=8)
    text = "    .     .     .     .\n" * 3 + "    2     .     .     .\nply 0"
    state = jax.tree.map(lambda x: x[None], env.from_text(text))
    made = search.make(
        SearchConfig(simulations=6, max_considered=1, max_depth=2), _Nine(), models.make(_Nine(), network)
    )
    found, _ = jax.jit(lambda: made.run((), jax.random.split(jax.random.key(0), 1), state, (), jnp.zeros(1), False))()
    assert float(found.value[0]) == pytest.approx(0.5 + 0.75 * 8 - 0.25 * 4)


@dataclasses.dataclass(frozen=True)
class _Nine(type(envs.make("2048"))):
    """2048 with nine actions, all but the last illegal."""

    num_actions = 9

    def legal_actions(self, state):
        return jnp.arange(9) == 8
