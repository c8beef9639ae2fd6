"""Gomoku, freestyle: five or more in a row win, without the opening restrictions of Renju or swap rules.

Action = row·size + column, row 0 on top; squares are written a1 from the bottom. A player's stones are one word a row,
bit c = column c. Five in a row in any direction are found by shifts and slices.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import Env, Symmetry, earned, square_symmetries
from envs.host import parse_action
from envs.svg import disc, dot, grid_board
from envs.text import letters, named_board, numbers, read_board, square_name, write_board


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    stones: jax.Array  # u16[2, size], u32 beyond 16 columns  of the mover and of the other; bit c of row r
    last: jax.Array  # i16[]  the last action, -1 at the beginning (to show it)
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


def shifted(rows: jax.Array, down: int, right: int) -> jax.Array:
    """The board [size] moved so that the stone on (r + down, c + right) is on (r, c); edges bring in empty squares."""
    rows = rows >> right if right >= 0 else rows << -right
    return jnp.pad(rows, (max(-down, 0), max(down, 0)))[max(down, 0) :][: rows.shape[0]] if down else rows


def has_five(rows: jax.Array, exact: bool) -> jax.Array:
    """Whether one player's stones [size] have five or more in a row; with `exact`, a row of exactly five."""
    found = jnp.zeros_like(rows)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        twos = rows & shifted(rows, down, right)
        five = twos & shifted(twos, 2 * down, 2 * right) & shifted(rows, 4 * down, 4 * right)
        if exact:
            five = five & ~shifted(rows, 5 * down, 5 * right) & ~shifted(rows, -down, -right)
        found = found | five
    return (found != 0).any()


def cells(rows: jax.Array) -> jax.Array:
    """Rows [size] of bits -> squares bool[size, size]."""
    return (rows[:, None] >> np.arange(rows.shape[0], dtype=rows.dtype)[None]) & 1 == 1


@dataclasses.dataclass(frozen=True)
class Gomoku(Env):
    """Five in a row win. With `exact_five` a longer row wins for neither player. A full board is a draw."""

    size: int = 15
    exact_five: bool = False

    name = "gomoku"
    marks = ("X", "O")

    def __post_init__(self):
        if not 5 <= self.size <= 19:
            raise ValueError(f"gomoku: size is 5 to 19, not {self.size!r}")

    @property
    def num_actions(self) -> int:
        return self.size**2

    max_plies = max_legal = num_actions  # pyright: ignore[reportAssignmentType]

    @property
    def observation_shape(self) -> tuple[int, ...]:
        return self.size, self.size, 2

    @property
    def word(self) -> type[np.unsignedinteger]:
        return np.uint16 if self.size <= 16 else np.uint32

    def init(self, key: jax.Array) -> State:
        stones = jnp.zeros((2, self.size), self.word)
        return State(stones, jnp.int16(-1), jnp.int8(0), jnp.bool(False), jnp.zeros(2, jnp.float32))

    def step(self, state: State, action: jax.Array) -> State:
        live = ~state.terminated
        row, column = action // self.size, action % self.size
        here = live & (np.arange(self.size) == row)
        own = state.stones[0] | jnp.where(here, jnp.asarray(1, self.word) << column.astype(self.word), 0)
        other = state.stones[1]
        won = live & has_five(own, self.exact_five)
        over = state.terminated | won | ((own | other) == (1 << self.size) - 1).all()
        stones = jnp.where(live, jnp.stack([other, own]), state.stones)
        sign = jnp.where(np.arange(2, dtype=np.int8) == state.player, 1.0, -1.0).astype(jnp.float32)
        last = jnp.where(live, action, state.last).astype(jnp.int16)
        player = jnp.where(live, 1 - state.player, state.player).astype(jnp.int8)
        return State(stones, last, player, over, jnp.where(won, sign, 0.0))

    def legal_actions(self, state: State) -> jax.Array:
        return state.terminated | ~cells(state.stones[0] | state.stones[1]).reshape(-1)

    def observe(self, state: State) -> jax.Array:
        """Planes: stones of the mover, stones of the other."""
        return jnp.stack([cells(state.stones[0]), cells(state.stones[1])], -1).astype(jnp.float32)

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """The eight symmetries of the square."""
        return square_symmetries(self.size)

    def action_to_str(self, state: State | None, action: int) -> str:
        row, column = divmod(action, self.size)
        return square_name(self.size - 1 - row, column)

    def action_from_str(self, state: State, text: str) -> int:
        return parse_action(self, state, text)

    def to_text(self, state: State) -> str:
        """Rows of `X`, `O` and `.`, top row first, then the last move if any. X moves first."""
        mine, yours = "XO" if state.player == 0 else "OX"
        own, other = (np.asarray(cells(stones)) for stones in state.stones)
        board = np.where(own, mine, np.where(other, yours, "."))
        return write_board(board, *([self.action_to_str(state, int(state.last))] if state.last >= 0 else []))

    def from_text(self, text: str) -> State:
        board, words = read_board(self.name, text, (self.size, self.size), "XO.", (0, 1), "the last move if any")
        crosses, noughts = (board == "X").sum(), (board == "O").sum()
        if crosses - noughts not in (0, 1):
            raise ValueError(f"gomoku: {text!r} has {crosses} X and {noughts} O; X moves first")
        mine, yours = "XO" if crosses == noughts else "OX"
        weights = (1 << np.arange(self.size))[None]
        stones = jnp.array([((board == mark) * weights).sum(1) for mark in (mine, yours)], self.word)
        if has_five(stones[0], self.exact_five):
            raise ValueError(f"gomoku: {text!r} goes on after five in a row")
        known = {self.action_to_str(None, int(a)): int(a) for a in np.flatnonzero(board.reshape(-1) == yours)}
        if words and words[0] not in known:
            raise ValueError(f"gomoku: the last move {words[0]!r} is no square with a stone of {yours}")
        last = known[words[0]] if words else -1
        won, player = bool(has_five(stones[1], self.exact_five)), int(crosses - noughts)
        over = won or "." not in board
        return State(stones, jnp.int16(last), jnp.int8(player), jnp.bool(over), earned(won, 1 - player))

    def to_board(self, state: State) -> str:
        return named_board(self.to_text(state).split()[: self.size], numbers(self.size, 1), letters(self.size))

    def to_svg(self, state: State, before: State | None = None) -> str:
        colors = {"X": "#1c1c1c", "O": "#f7f7f2"}
        board = self.to_text(state).split()[: self.size]
        shapes = [disc(r, c, colors[m]) for r, row in enumerate(board) for c, m in enumerate(row) if m != "."]
        if state.last >= 0:
            shapes.append(dot(*divmod(int(state.last), self.size), "#e0483a"))
        return grid_board(self.size, self.size, shapes, fill="#dcb97a", lines="#a5844c")
