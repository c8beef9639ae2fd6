"""Rules in plain Python, negamax over them, and players for tests of matches."""

import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
from nim import Nim

import envs

TIC_TAC_TOE, CONNECT_FOUR = envs.make("tic_tac_toe"), envs.make("connect_four")


# Plain-Python rules: `play(position, action) -> (position, winner or None, over)`; a position is (board, mover).


def line_of(board, mark, rows, columns, need):
    def run(r, c, dr, dc):
        cells = [(r + i * dr, c + i * dc) for i in range(need)]
        return all(0 <= y < rows and 0 <= x < columns and board[y * columns + x] == mark for y, x in cells)

    steps = ((0, 1), (1, 0), (1, 1), (1, -1))
    return any(run(r, c, *step) for r in range(rows) for c in range(columns) for step in steps)


class PythonTicTacToe:
    start = "." * 9, 0

    @staticmethod
    def moves(position):
        return [a for a in range(9) if position[0][a] == "."]

    @staticmethod
    def play(position, action):
        board, mover = position
        board = board[:action] + "XO"[mover] + board[action + 1 :]
        won = line_of(board, "XO"[mover], 3, 3, 3)
        return (board, 1 - mover), mover if won else None, won or "." not in board


class PythonConnectFour:
    start = "." * 42, 0

    @staticmethod
    def moves(position):
        return [a for a in range(7) if position[0][a] == "."]

    @staticmethod
    def play(position, action):
        board, mover = position
        cell = max(r * 7 + action for r in range(6) if board[r * 7 + action] == ".")
        board = board[:cell] + "XO"[mover] + board[cell + 1 :]
        won = line_of(board, "XO"[mover], 6, 7, 4)
        return (board, 1 - mover), mover if won else None, won or "." not in board


class PythonCountdown:
    """Take 1, 2 or 3 from a pile; taking 2 gives another turn; who takes the last wins."""

    start = 13, 0

    @staticmethod
    def moves(position):
        return [a for a in range(3) if a + 1 <= position[0]]

    @staticmethod
    def play(position, action):
        pile, mover = position
        pile -= action + 1
        return (pile, mover if action == 1 and pile else 1 - mover), mover if pile == 0 else None, pile == 0


@functools.cache
def move_values(rules, position, depth):
    """{action: value for the mover}, by negamax."""
    values = {}
    for action in rules.moves(position):
        after, winner, over = rules.play(position, action)
        if over or depth == 1:
            values[action] = 0 if winner is None else 1
        else:
            sign = 1 if after[1] == position[1] else -1
            values[action] = sign * max(move_values(rules, after, depth - 1).values())
    return values


def countdown(heap: int = 13, last: float = 1.0) -> Nim:
    """The game of `PythonCountdown`; actions 3 and 4 are never legal."""
    return Nim(heap, again=2, last=last, num_actions=5)


def stack(states):
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *states)  # jnp.stack compiles for long


def random_positions(env, rules, number, most, seed):
    """The same unfinished positions for both: stacked states and Python positions."""
    rng, step, found = random.Random(seed), jax.jit(env.step), []
    while len(found) < number:
        position, state = rules.start, env.init(jax.random.key(0))
        for _ in range(rng.randrange(most + 1)):
            action = rng.choice(rules.moves(position))
            (position, _, over), state = rules.play(position, action), step(state, jnp.int32(action))
            if over:
                break
        else:
            found.append((position, state))
    return stack([state for _, state in found]), [position for position, _ in found]


def same_key(player):
    """A player as a deterministic `act(states)`."""
    play = jax.jit(player)
    return lambda states: play(None, jnp.broadcast_to(jax.random.key(0), states.player.shape), states)


def in_order(env, order):
    """A player: the first legal action of a fixed order."""
    rank = np.argsort(order)

    def play(params, keys, states):
        legal = jax.vmap(env.legal_actions)(states)
        return jnp.argmin(jnp.where(legal, rank[None], 99), -1).astype(jnp.int32)

    return play
