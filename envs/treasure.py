"""A grid for one player: walk over a square board and pick up as much treasure as the moves allow.

Actions 0 left, 1 up, 2 right, 3 down, legal where they stay on the board. The walker begins anywhere. Corners hold 3,
the middles of the sides 1; what is entered is earned, once. The game ends after `moves` moves. To take the nearest
treasure first is not best.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import Env, Symmetry, direction_symmetries, where
from envs.host import parse_action
from envs.svg import cell_center, disc, dot, grid_board

ACTIONS = ("left", "up", "right", "down")
ROW_STEP, COLUMN_STEP = np.array([0, -1, 0, 1], np.int8), np.array([-1, 0, 1, 0], np.int8)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    moves: jax.Array  # u8[]  made so far
    row: jax.Array  # i8[]
    column: jax.Array  # i8[]
    left: jax.Array  # u8[]  bit i: treasure i of `Treasure.places` is there
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[1]


@dataclasses.dataclass(frozen=True)
class Treasure(Env):
    size: int = 5
    moves: int = 14

    name = "treasure"
    num_actions = 4
    num_players = 1
    max_legal = 4

    def __post_init__(self):
        if self.size not in (3, 5, 7, 9):
            raise ValueError(f"treasure: size is 3, 5, 7 or 9, got {self.size}")
        if not 1 <= self.moves <= 99:
            raise ValueError(f"treasure: moves is 1 to 99, got {self.moves}")

    @property
    def max_plies(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.moves

    @property
    def observation_shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (self.size, self.size, 3)

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns i8[8] of the treasures: four corners, then four sides."""
        last, half = self.size - 1, self.size // 2
        return np.array([0, 0, last, last, 0, half, half, last], np.int8), np.array(
            [0, last, 0, last, half, 0, last, half], np.int8
        )

    def init(self, key: jax.Array) -> State:
        row, column = jax.random.randint(key, (2,), 0, self.size, jnp.int8)
        return State(jnp.uint8(0), row, column, jnp.uint8(255), jnp.int8(0), jnp.bool(False), jnp.zeros(1))

    def step(self, state: State, action: jax.Array) -> State:
        row = state.row + jnp.asarray(ROW_STEP)[action]
        column = state.column + jnp.asarray(COLUMN_STEP)[action]
        rows, columns = self.places
        there = (state.left >> np.arange(8, dtype=np.uint8)) & 1 == 1
        found = there & (rows == row) & (columns == column)
        earned = (found * np.array([3] * 4 + [1] * 4, np.float32)).sum()
        taken = (found * (1 << np.arange(8))).sum().astype(jnp.uint8)
        moves = state.moves + jnp.uint8(1)
        after = State(moves, row, column, state.left & ~taken, state.player, moves >= self.moves, earned[None])
        return where(state.terminated, dataclasses.replace(state, rewards=jnp.zeros(1)), after)

    def legal_actions(self, state: State) -> jax.Array:
        row, column = state.row + ROW_STEP, state.column + COLUMN_STEP
        inside = (row >= 0) & (row < self.size) & (column >= 0) & (column < self.size)
        return state.terminated | inside

    def observe(self, state: State) -> jax.Array:
        """Planes: the walker, the treasures that are left (1 and 1/3), the share of the moves that is left."""
        rows, columns = self.places
        there = ((state.left >> np.arange(8, dtype=np.uint8)) & 1).astype(jnp.float32)
        worth = (
            jnp.zeros((self.size, self.size)).at[rows, columns].set(there * np.array([1] * 4 + [1 / 3] * 4, np.float32))
        )
        walker = jnp.zeros((self.size, self.size)).at[state.row, state.column].set(1.0)
        share = 1 - state.moves.astype(jnp.float32) / self.moves
        return jnp.stack([walker, worth, jnp.full_like(worth, share)], -1)

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """The eight of the square."""
        return direction_symmetries()

    def action_to_str(self, state: State, action: int) -> str:
        return ACTIONS[action]

    def action_from_str(self, state: State, text: str) -> int:
        return parse_action(self, state, text)

    def to_text(self, state: State) -> str:
        """The walker's row and column from the top left, the treasures left as eight bits (corners, then sides, row
        by row), the moves made."""
        return f"at {state.row} {state.column} left {int(state.left):08b} moves {state.moves}"

    def from_text(self, text: str) -> State:
        match = re.fullmatch(r"at (\d) (\d) left ([01]{8}) moves (\d{1,2})", text.strip())
        if not match:
            raise ValueError(f"treasure: a position is such as 'at 2 2 left 11111111 moves 0', got {text!r}")
        row, column, left, moves = int(match[1]), int(match[2]), int(match[3], 2), int(match[4])
        if max(row, column) >= self.size or moves > self.moves:
            raise ValueError(f"treasure: {text!r} is off the board or after the last move")
        over = jnp.bool(moves == self.moves)
        return State(
            jnp.uint8(moves), jnp.int8(row), jnp.int8(column), jnp.uint8(left), jnp.int8(0), over, jnp.zeros(1)
        )

    def to_board(self, state: State) -> str:
        """The walker is `@`, treasures are what they hold."""
        cells = np.full((self.size, self.size), ".", "<U2")
        for i, place in enumerate(zip(*self.places, strict=True)):
            if int(state.left) >> i & 1:
                cells[place] = "3" if i < 4 else "1"
        here = int(state.row), int(state.column)
        cells[here] = "@" + cells[here].strip(".")
        board = "\n".join("".join(f"{cell:>3}" for cell in row) for row in cells)
        return f"{board}\nmoves left: {self.moves - int(state.moves)}"

    def to_svg(self, state: State, before: State | None = None) -> str:
        rows, columns = self.places
        shapes = [disc(int(state.row), int(state.column), "#1f6fb2")]
        shapes += [] if before is None else [dot(int(before.row), int(before.column), "#1f6fb2")]
        for i, (row, column) in enumerate(zip(rows, columns, strict=True)):
            if int(state.left) >> i & 1:
                x, y = cell_center(int(row), int(column))
                shapes.append(f'<circle cx="{x:g}" cy="{y:g}" r="{12 if i < 4 else 7}" fill="#d9a521"/>')
        return grid_board(self.size, self.size, shapes)
