"""MuZero: value heads, targets, windows and the loss of an unroll, by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from jaxzero.config.schema import LearnerConfig
from jaxzero.networks import DynamicsOutput, Latent, MuZeroConvConfig, MuZeroMlpConfig, Prediction, values
from jaxzero.training import learner, losses, targets
from jaxzero.training import replay as replay_lib
from jaxzero.training.losses import Window, muzero_loss
from jaxzero.training.transitions import Transition, compact_policy

ENV = envs.make("tic_tac_toe")
FORMS = {
    "mlp": MuZeroMlpConfig(hidden_dim=16, latent_dim=8, value="wdl", projection=4),
    "conv": MuZeroConvConfig(channels=4, blocks=1, value="categorical", support=2, projection=4),
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
        found, target, _ = replay_lib.source(ring, jnp.int32(count + 4)).draw(
            jnp.int32(0), jax.random.key(0), 64, steps
        )
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
    config = LearnerConfig(value_weight=0.25, reward_weight=2.0, to_play_weight=0.5)
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
