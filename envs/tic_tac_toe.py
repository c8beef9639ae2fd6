"""Tic-tac-toe, by the usual rules. Action = 3·row + column; squares are written a1 (bottom left) to c3."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import Env, Symmetry, earned, square_symmetries
from envs.host import parse_action
from envs.svg import cross, grid_board, ring, shade
from envs.text import changed, named_board

SQUARES = [f"{column}{row}" for row in "321" for column in "abc"]
LINES = np.array([0b111, 0b111000, 0b111000000, 0b1001001, 0b10010010, 0b100100100, 0b100010001, 0b1010100], np.uint16)
FULL = 0b111111111


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    stones: jax.Array  # u16[2]  bit a: that player has a stone on square a
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


def has_line(stones: jax.Array) -> jax.Array:
    return ((stones & LINES) == LINES).any()


def cells(stones: jax.Array) -> jax.Array:
    """Stones u16[] as bits -> squares bool[9]."""
    return (stones >> np.arange(9, dtype=np.uint16)) & 1 == 1


@dataclasses.dataclass(frozen=True)
class TicTacToe(Env):
    name = "tic_tac_toe"
    marks = ("X", "O")
    num_actions = 9
    observation_shape = (3, 3, 2)
    max_plies = 9
    max_legal = 9

    def init(self, key: jax.Array) -> State:
        return State(jnp.zeros(2, jnp.uint16), jnp.int8(0), jnp.bool(False), jnp.zeros(2, jnp.float32))

    def step(self, state: State, action: jax.Array) -> State:
        bit = jnp.where(state.terminated, 0, jnp.uint16(1) << action.astype(jnp.uint16))
        stones = state.stones.at[state.player].set(state.stones[state.player] | bit)
        won = has_line(stones[state.player]) & ~state.terminated
        over = state.terminated | won | ((stones[0] | stones[1]) == FULL)
        sign = jnp.where(jnp.arange(2, dtype=jnp.int8) == state.player, 1.0, -1.0).astype(jnp.float32)
        player = jnp.where(state.terminated, state.player, 1 - state.player).astype(jnp.int8)
        return State(stones, player, over, jnp.where(won, sign, 0.0))

    def legal_actions(self, state: State) -> jax.Array:
        return state.terminated | ~cells(state.stones[0] | state.stones[1])

    def observe(self, state: State) -> jax.Array:
        """Planes: stones of the mover, stones of the other."""
        planes = jnp.stack([cells(state.stones[state.player]), cells(state.stones[1 - state.player])], -1)
        return planes.reshape(3, 3, 2).astype(jnp.float32)

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """The eight symmetries of the square."""
        return square_symmetries(3)

    def action_to_str(self, state: State, action: int) -> str:
        return SQUARES[action]

    def action_from_str(self, state: State, text: str) -> int:
        return parse_action(self, state, text)

    def to_text(self, state: State) -> str:
        """Three rows of `X`, `O` and `.`, top row first; X moves first."""
        marks = np.where(cells(state.stones[0]), "X", np.where(cells(state.stones[1]), "O", "."))
        return "\n".join("".join(row) for row in marks.reshape(3, 3))

    def from_text(self, text: str) -> State:
        board = "".join(text.split())
        if len(board) != 9 or set(board) - set("XO."):
            raise ValueError(f"tic_tac_toe: a position is 3 rows of 3 characters X, O or '.', got {text!r}")
        count = board.count("X") - board.count("O")
        if count not in (0, 1):
            raise ValueError(f"tic_tac_toe: {text!r} has {board.count('X')} X and {board.count('O')} O; X moves first")
        bits = [sum(1 << i for i, mark in enumerate(board) if mark == player) for player in "XO"]
        stones = jnp.array(bits, jnp.uint16)
        lines = [bool(has_line(stones[player])) for player in (0, 1)]
        if (lines[0] and count == 0) or (lines[1] and count == 1):
            raise ValueError(f"tic_tac_toe: {text!r} goes on after a line was complete")
        over = any(lines) or "." not in board
        return State(stones, jnp.int8(count), jnp.bool(over), earned(int(lines[0]) - int(lines[1])))

    def to_board(self, state: State) -> str:
        return named_board(self.to_text(state).split(), "321", "abc")

    def to_svg(self, state: State, before: State | None = None) -> str:
        marks = self.to_text(state).split()
        new = changed(marks, self.to_text(before).split()) if before is not None else []
        return grid_board(3, 3, [*(shade(r, c, "#f3d98b") for r, c in new)] + [
            cross(r, c, "#1f6fb2") if mark == "X" else ring(r, c, "#c2452d")
            for r, row in enumerate(marks) for c, mark in enumerate(row) if mark != "."
        ])  # fmt: skip
