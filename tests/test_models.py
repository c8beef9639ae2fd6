"""The simulator model: signs of values, terminal positions, legal actions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.core import random_opening, where
from jaxzero.models import simulator
from jaxzero.networks import Prediction

KEY = jax.random.key(0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pile:
    stones: jax.Array  # i32[]
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


@dataclasses.dataclass(frozen=True)
class Takeaway(envs.Env):
    """Take 1 to `num_actions` stones (action + 1); taking exactly two gives another turn. The last stone wins."""

    pile: int = 10
    num_actions: int = 3
    name = "takeaway"
    observation_shape = (2,)
    max_plies = 10
    max_legal = 3

    def init(self, key):
        return self.at(self.pile)

    def at(self, stones: int, player: int = 0) -> Pile:
        return Pile(jnp.int32(stones), jnp.int8(player), jnp.bool(stones == 0), jnp.zeros(2))

    def step(self, state, action):
        left = state.stones - action - 1
        player = jnp.where(action == 1, state.player, 1 - state.player)
        sign = jnp.where(jnp.arange(2) == state.player, 1.0, -1.0)
        after = Pile(left.astype(jnp.int32), player.astype(jnp.int8), left == 0, jnp.where(left == 0, sign, 0.0))
        return where(state.terminated, dataclasses.replace(state, rewards=jnp.zeros(2)), after)

    def legal_actions(self, state):
        return state.terminated | (jnp.arange(self.num_actions) < state.stones)

    def observe(self, state):
        return jnp.stack([state.stones, state.player]).astype(jnp.float32)


def constant(num_actions: int, value: float = 0.5):
    """An inference function: every position has the same value, and action a the logit a."""

    def infer(params, observation):
        count = observation.shape[0]
        logits = jnp.broadcast_to(jnp.arange(num_actions, dtype=jnp.float32), (count, num_actions))
        return Prediction(logits, jnp.full(count, value), {})

    return infer


def batch(*states):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def decide(env, state, action: int):
    """One decision of the model: ((reward, discount, value) as numbers, its logits, the state after)."""
    model = simulator.make(env, constant(env.num_actions))
    output, after = model.decision((), KEY, jnp.array([action]), batch(state))
    numbers = tuple(float(jnp.asarray(x)[0]) for x in (output.reward, output.discount, output.value))
    return numbers, np.asarray(output.prior_logits)[0], jax.tree.map(lambda x: x[0], after)


@pytest.mark.parametrize("player", [0, 1])
@pytest.mark.parametrize(
    ("stones", "action", "reward", "discount", "value"),
    [
        (5, 0, 0, -1, 0.5),  # the other player's turn
        (5, 1, 0, 1, 0.5),  # another turn
        (3, 2, 1, 0, 0),  # won with the last stones
        (2, 1, 1, 0, 0),  # won by a move that would give another turn
    ],
)
def test_a_game_with_extra_turns(player, stones, action, reward, discount, value):
    env = Takeaway()
    numbers, _, after = decide(env, env.at(stones, player), action)
    assert numbers == (reward, discount, value)
    assert int(after.stones) == stones - action - 1


@pytest.mark.parametrize(
    ("board", "move", "reward", "discount", "value"),
    [
        ("XX. OO. ...", "c3", 1, 0, 0),  # X wins
        ("XX. OO. X..", "c2", 1, 0, 0),  # O wins
        ("XOX XOO OX.", "c1", 0, 0, 0),  # full: a draw
        ("XX. OO. ...", "a1", 0, -1, 0.5),
        ("XX. OO. X..", "c3", 0, -1, 0.5),
    ],
)
def test_tic_tac_toe(board, move, reward, discount, value):
    env = envs.make("tic_tac_toe")
    state = env.from_text(board)
    numbers, _, _ = decide(env, state, env.action_from_str(state, move))
    assert numbers == (reward, discount, value)


@pytest.mark.parametrize(
    ("game", "board"),
    [
        ("tic_tac_toe", "XXX OO. ..."),
        ("tic_tac_toe", "XOX XOO OXX"),
        ("connect_four", "....... ....... X...... XO..... XO..... XO....."),
    ],
)
def test_terminal_nodes_stay_put(game, board):
    """Any action after the end of a game has reward 0 and discount 0 and keeps the position."""
    env = envs.make(game)
    state = env.from_text(board)
    for action in range(env.num_actions):
        numbers, _, after = decide(env, state, action)
        assert numbers == (0, 0, 0)
        assert env.to_text(after) == env.to_text(state)


@pytest.mark.parametrize("game", [name for name in envs.GAMES if envs.make(name).num_outcomes == 0])
def test_illegal_actions_are_masked_at_the_root_and_after_every_decision(game):
    """From random positions on, legal actions have the network's logits and the others the lowest finite value."""
    env = envs.make(game)
    model = simulator.make(env, constant(env.num_actions))
    keys = jax.random.split(KEY, 32)
    states, _ = jax.jit(jax.vmap(lambda key: random_opening(env, key, 20)))(keys)
    root = model.root((), states)
    np.testing.assert_array_equal(root.value, np.full(32, 0.5, np.float32))
    decision = jax.jit(model.decision)
    logits, masked = root.prior_logits, 0
    for _ in range(12):
        legal = np.asarray(jax.vmap(env.legal_actions)(states))
        expected = np.where(legal, np.arange(env.num_actions, dtype=np.float32), np.finfo(np.float32).min)
        np.testing.assert_array_equal(logits, expected)
        masked += (~legal).sum()
        output, states = decision((), KEY, jnp.argmax(logits, -1), states)
        logits = output.prior_logits
    assert masked > 0


def test_root_keeps_the_states():
    env = Takeaway()
    states = batch(env.at(1), env.at(7, 1))
    root = simulator.make(env, constant(3)).root((), states)
    assert root.embedding is states
