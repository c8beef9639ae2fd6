"""Connect Four, 6 rows × 7 columns. The usual rules, without differences.

Action = column; columns are written 1 to 7. A player's stones are seven bytes, one for each column; bit r is row r from
the bottom. Four in a row in any direction are found by three shifts or slices.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import Env, Symmetry, earned, identity_symmetry
from envs.host import parse_action
from envs.svg import disc, dot, grid_board
from envs.text import changed, named_board, numbers

ROWS, COLUMNS = 6, 7
FULL = (1 << ROWS) - 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    stones: jax.Array  # u8[2, 7]  per player and column: bit r set = a stone on row r (0 = bottom)
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


def has_four(stones: jax.Array) -> jax.Array:
    """Whether the columns u8[7] of one player have four in a row, bool[]."""
    vertical = stones & stones >> 1 & stones >> 2 & stones >> 3
    a, b, c, d = stones[:4], stones[1:5], stones[2:6], stones[3:]
    level = a & b & c & d
    rising = a & b >> 1 & c >> 2 & d >> 3
    falling = d & c >> 1 & b >> 2 & a >> 3
    return (vertical != 0).any() | ((level | rising | falling) != 0).any()


def cells(stones: jax.Array) -> jax.Array:
    """Columns u8[7, …] -> cells bool[6, 7, …], top row first."""
    rows = np.arange(ROWS - 1, -1, -1, dtype=np.uint8).reshape(ROWS, *[1] * stones.ndim)
    return stones[None] >> rows & 1 == 1


def mirror(observation: jax.Array) -> jax.Array:
    return observation[:, ::-1]


@dataclasses.dataclass(frozen=True)
class ConnectFour(Env):
    name = "connect_four"
    marks = ("X", "O")
    num_actions = COLUMNS
    observation_shape = (ROWS, COLUMNS, 2)
    max_plies = ROWS * COLUMNS
    max_legal = COLUMNS

    def init(self, key: jax.Array) -> State:
        return State(jnp.zeros((2, 7), jnp.uint8), jnp.int8(0), jnp.bool(False), jnp.zeros(2, jnp.float32))

    def step(self, state: State, action: jax.Array) -> State:
        here = (jnp.arange(COLUMNS) == action) & ~state.terminated
        taken = state.stones[0] | state.stones[1]
        # A column is 0…01…1, so + 1 sets the next row.
        placed = jnp.where(here, taken + 1, 0)
        mine = jnp.where(state.player == 0, state.stones[0], state.stones[1]) | placed
        stones = jnp.where(jnp.arange(2, dtype=jnp.int8)[:, None] == state.player, mine[None], state.stones)
        won = has_four(mine) & ~state.terminated
        over = state.terminated | won | ((stones[0] | stones[1]) == FULL).all()
        sign = jnp.where(jnp.arange(2, dtype=jnp.int8) == state.player, 1.0, -1.0).astype(jnp.float32)
        player = jnp.where(state.terminated, state.player, 1 - state.player).astype(jnp.int8)
        return State(stones, player, over, jnp.where(won, sign, 0.0))

    def legal_actions(self, state: State) -> jax.Array:
        return state.terminated | ((state.stones[0] | state.stones[1]) != FULL)

    def observe(self, state: State) -> jax.Array:
        """Planes, top row first: stones of the mover, stones of the other."""
        stones = jnp.where(state.player == 0, state.stones, state.stones[::-1])
        return cells(stones.T).astype(jnp.float32)

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """Identity and the left-right mirror."""
        return identity_symmetry(COLUMNS), (mirror, np.arange(COLUMNS - 1, -1, -1, dtype=np.int32))

    def action_to_str(self, state: State, action: int) -> str:
        return str(action + 1)

    def action_from_str(self, state: State, text: str) -> int:
        return parse_action(self, state, text)

    def to_text(self, state: State) -> str:
        """Six rows of `X`, `O` and `.`, top row first; X moves first."""
        marks = np.where(cells(state.stones[0]), "X", np.where(cells(state.stones[1]), "O", "."))
        return "\n".join("".join(row) for row in marks)

    def from_text(self, text: str) -> State:
        rows = text.split()
        if len(rows) != ROWS or any(len(row) != COLUMNS for row in rows) or set("".join(rows)) - set("XO."):
            raise ValueError(f"connect_four: a position is 6 rows of 7 characters X, O or '.', got {text!r}")
        crosses, noughts = text.count("X"), text.count("O")
        if crosses - noughts not in (0, 1):
            raise ValueError(f"connect_four: {text!r} has {crosses} X and {noughts} O; X moves first")
        board = np.array([list(row) for row in rows[::-1]])  # bottom row first
        if ((board[:-1] == ".") & (board[1:] != ".")).any():
            raise ValueError(f"connect_four: {text!r} has a stone above an empty square")
        weights = (1 << np.arange(ROWS))[:, None]
        stones = jnp.array([((board == mark) * weights).sum(0) for mark in "XO"], jnp.uint8)
        fours = [bool(has_four(stones[player])) for player in (0, 1)]
        if (fours[0] and crosses == noughts) or (fours[1] and crosses > noughts):
            raise ValueError(f"connect_four: {text!r} goes on after four in a row")
        over = any(fours) or "." not in text
        return State(stones, jnp.int8(crosses - noughts), jnp.bool(over), earned(int(fours[0]) - int(fours[1])))

    def to_board(self, state: State) -> str:
        return named_board(self.to_text(state).split(), [""] * ROWS, numbers(1, COLUMNS))

    def to_svg(self, state: State, before: State | None = None) -> str:
        colors = {"X": "#f2c230", "O": "#d8432f", ".": "#f4f6fb"}
        marks = self.to_text(state).split()
        shapes = [disc(r, c, colors[mark], "#1b2f66") for r, row in enumerate(marks) for c, mark in enumerate(row)]
        if before is not None:
            shapes += [dot(r, c, "#1b2f66") for r, c in changed(marks, self.to_text(before).split())]
        return grid_board(ROWS, COLUMNS, shapes, fill="#3c64c4")
