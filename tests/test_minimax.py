"""Compares minimax with plain Python and with exact values of small games; forced wins."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.core import random_opening
from jaxzero import search
from jaxzero.models import simulator
from jaxzero.networks import Prediction
from jaxzero.search import MinimaxConfig, minimax

SIZE = 509  # rows of the network's table
KEY = jax.random.key(0)
TIC_TAC_TOE, CONNECT_FOUR = envs.make("tic_tac_toe"), envs.make("connect_four")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Heap:
    left: jax.Array  # i32[]
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


@dataclasses.dataclass(frozen=True)
class Nim(envs.Env):
    """Take one, two or three; taking two gives another turn. The player who takes the last wins."""

    name = "nim"
    num_actions = 3
    observation_shape = (13, 2)
    max_plies = 12
    max_legal = 3

    def init(self, key):
        return Heap(jnp.int32(12), jnp.int8(0), jnp.bool(False), jnp.zeros(2))

    def step(self, state, action):
        left = jnp.where(state.terminated, 0, state.left - action - 1)
        stays = state.terminated | ((action == 1) & (left > 0))
        won = jnp.where(jnp.arange(2) == state.player, 1.0, -1.0) * ((left == 0) & ~state.terminated)
        return Heap(left, jnp.where(stays, state.player, 1 - state.player).astype(jnp.int8), left == 0, won)

    def legal_actions(self, state):
        return (jnp.arange(3) < state.left) | state.terminated

    def observe(self, state):
        return jnp.zeros((13, 2)).at[state.left, state.player.astype(jnp.int32)].set(1.0)


def table(env: envs.Env, seed: int) -> tuple[jax.Array, jax.Array]:
    """Random logits [SIZE, A] and values [SIZE]."""
    logits, value = jax.random.split(jax.random.key(seed))
    return jax.random.normal(logits, (SIZE, env.num_actions)), jax.random.uniform(value, (SIZE,), minval=-1, maxval=1)


def look_up(params, observation):
    flat = observation.reshape(len(observation), -1).astype(jnp.int32)
    row = (flat * (1 + jnp.arange(flat.shape[1]) ** 2)[None]).sum(-1) % SIZE
    return Prediction(params[0][row], params[1][row], {})


def run(env: envs.Env, params, states, temperature: float = 0.0, **settings):
    made = search.make(MinimaxConfig(**settings), env, simulator.make(env, look_up))
    keys = jax.random.split(KEY, len(states.player))

    @jax.jit
    def find(params, states):
        return made.run(params, keys, states, made.init(states), jnp.full(len(keys), temperature), False)[0]

    return jax.device_get(find(params, states))


def positions(env: envs.Env, count: int, plies: int):
    keys = jax.random.split(jax.random.key(1), count)
    return jax.jit(jax.vmap(lambda key: random_opening(env, key, plies)[0]))(keys)


def one(states, i: int):
    return jax.tree.map(lambda x: x[i], states)


class Plain:
    """Minimax of one position at a time. The sign of a value depends on the player to move, not on a discount."""

    def __init__(self, env: envs.Env, params):
        self.step, self.legal = jax.jit(env.step), jax.jit(env.legal_actions)
        self.ask = jax.jit(lambda state: look_up(params, env.observe(state)[None]))

    def moves(self, state: Any, widths: tuple[int, ...]) -> dict[int, tuple[float, int]]:
        """{action: (value to the mover, leaves)} of the likeliest actions."""
        logits = np.asarray(self.ask(state).logits[0])
        likeliest = sorted(np.flatnonzero(self.legal(state)).tolist(), key=lambda a: -logits[a])[: widths[0]]
        return {action: self.evaluate(state, self.step(state, action), widths[1:]) for action in likeliest}

    def evaluate(self, state: Any, after: Any, widths: tuple[int, ...]) -> tuple[float, int]:
        reward = float(after.rewards[int(state.player)])
        if after.terminated:
            return reward, 1
        sign = 1 if int(after.player) == int(state.player) else -1
        if not widths:
            return reward + sign * float(self.ask(after).value[0]), 1
        replies = self.moves(after, widths).values()
        return reward + sign * max(value for value, _ in replies), sum(leaves for _, leaves in replies)


@pytest.mark.parametrize(("env", "plies", "widths"), [
    (TIC_TAC_TOE, 7, (13, 8)), (TIC_TAC_TOE, 4, (3, 2, 4)), (CONNECT_FOUR, 20, (4, 3)), (Nim(), 6, (3, 2, 3, 1)),
    (Nim(), 4, (2,)),
], ids=str)  # fmt: skip
def test_minimax_is_that_of_plain_python(env, plies, widths):
    states, params = positions(env, 12, plies), table(env, 3)
    result = run(env, params, states, widths=widths, value_temperature=0.5)
    plain = Plain(env, params)
    for i in range(12):
        moves = plain.moves(one(states, i), widths)
        values = {action: value for action, (value, _) in moves.items()}
        best = max(values.values())
        assert result.value[i] == pytest.approx(best, abs=1e-6)
        assert values[int(result.action[i])] == pytest.approx(best, abs=1e-6)
        assert result.qvalues[i][list(values)] == pytest.approx(np.array(list(values.values())), abs=1e-6)
        assert {a: n for a, n in enumerate(result.visits[i]) if n} == {a: leaves for a, (_, leaves) in moves.items()}
        weights = {action: math.exp(value / 0.5) for action, value in values.items()}
        expected = np.zeros(env.num_actions)
        expected[list(weights)] = np.array(list(weights.values())) / sum(weights.values())
        np.testing.assert_allclose(result.policy[i], expected, atol=1e-6)


LINES = ["012", "345", "678", "036", "147", "258", "048", "246"]


@functools.cache
def solve(board: str) -> int:
    """The exact value of tic-tac-toe to the side to move."""
    mover, other = "XO" if board.count("X") == board.count("O") else "OX"
    if any(all(board[int(i)] == other for i in line) for line in LINES):
        return -1
    empty = [i for i, mark in enumerate(board) if mark == "."]
    return max((-solve(board[:i] + mover + board[i + 1 :]) for i in empty), default=0)


def test_full_widths_give_exact_values():
    states = positions(TIC_TAC_TOE, 60, 8)
    boards = [TIC_TAC_TOE.to_text(one(states, i)).replace("\n", "") for i in range(60)]
    near = [i for i, board in enumerate(boards) if board.count(".") <= 4]
    assert len(near) > 20
    states = jax.tree.map(lambda x: x[np.array(near)], states)
    result = run(TIC_TAC_TOE, table(TIC_TAC_TOE, 0), states, widths=(4, 3, 2, 1))
    expected = [solve(boards[i]) for i in near]
    assert set(expected) == {-1, 0, 1}
    np.testing.assert_array_equal(result.value, expected)


@pytest.mark.parametrize(("game", "widths", "board", "move"), [
    ("tic_tac_toe", (9,), "XX. OO. ...", "c3"),  # a win in 1
    ("tic_tac_toe", (9, 8, 7), "XXO O.. ...", "b2"),  # a win in 3
    ("connect_four", (7,), "....... ....... ....... O...... O...... OXXX...", "5"),
    ("connect_four", (7, 7, 7), "....... ....... ....... ....... ..O.... O.XX...", "5"),
])  # fmt: skip
def test_forced_wins(game, widths, board, move):
    env = envs.make(game)
    state = env.from_text(board)
    zeros = jnp.zeros((SIZE, env.num_actions)), jnp.zeros(SIZE)
    result = run(env, zeros, jax.tree.map(lambda x: x[None], state), widths=widths)
    assert env.action_to_str(state, int(result.action[0])) == move
    assert result.value[0] == 1


def test_many_leaves_are_looked_at_in_parts(monkeypatch):
    states, params = positions(CONNECT_FOUR, 11, 20), table(CONNECT_FOUR, 1)
    whole = run(CONNECT_FOUR, params, states, widths=(5, 4))
    monkeypatch.setattr(minimax, "LEAVES", 90)
    parts = run(CONNECT_FOUR, params, states, widths=(5, 4))
    jax.tree.map(np.testing.assert_array_equal, parts, whole)


def test_moves_are_drawn_from_the_softmax_of_values():
    """At temperature t the moves of one position follow softmax(values / (value_temperature · t))."""
    count, t, heat = 4000, 2.0, 0.4
    state = one(positions(CONNECT_FOUR, 1, 10), 0)
    params = table(CONNECT_FOUR, 2)
    states = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), state)
    result = run(CONNECT_FOUR, params, states, temperature=t, widths=(4, 2), value_temperature=heat)
    moves = Plain(CONNECT_FOUR, params).moves(state, (4, 2))
    weights = np.zeros(7)
    for action, (value, _) in moves.items():
        weights[action] = math.exp(value / (heat * t))
    expected = count * weights / weights.sum()
    drawn = np.bincount(result.action, minlength=7)
    assert not drawn[expected == 0].any()
    kept = expected > 0
    assert ((drawn[kept] - expected[kept]) ** 2 / expected[kept]).sum() < 20  # chi square, 3 degrees of freedom
