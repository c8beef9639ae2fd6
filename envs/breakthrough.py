"""Breakthrough, by the usual rules; capturing all pieces wins too. Captures are diagonal only.

The board is always seen by the mover, whose pieces move up: for player 1 it is turned upside down (columns stay), in
observation and actions alike, so that a convolutional policy sees one direction only.

Action = (row·columns + column)·3 + direction, of the square a piece leaves, row 0 on top as the mover sees it;
direction 0, 1, 2 = one row up and one column left, straight, one column right. Squares are written for both players as
player 0 sees them: a1 bottom left, `b2c3` a move.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import Env, Symmetry, earned, identity_symmetry
from envs.host import parse_action
from envs.svg import disc, dot, grid_board
from envs.text import letters, named_board, numbers, read_board, square_name, write_board


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    pieces: jax.Array  # u8[2, rows], u16 beyond 8 columns  of the mover and of the other, as the mover sees them
    last: jax.Array  # i16[]  the last action, as its mover saw it; -1 at the beginning (to show it)
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


def cells(rows: jax.Array, columns: int) -> jax.Array:
    """Rows of bits [rows] -> squares bool[rows, columns]."""
    return (rows[:, None] >> np.arange(columns, dtype=rows.dtype)[None]) & 1 == 1


def mirror(observation: jax.Array) -> jax.Array:
    return observation[:, ::-1]


@dataclasses.dataclass(frozen=True)
class Breakthrough(Env):
    """A piece on the far row wins, as does the capture of all pieces. There is no draw."""

    rows: int = 8
    columns: int = 8

    name = "breakthrough"
    marks = ("W (moves up)", "B (moves down)")

    def __post_init__(self):
        for option, least in (("rows", 4), ("columns", 2)):
            value = getattr(self, option)
            if not least <= value <= 16:
                raise ValueError(f"breakthrough: {option} is {least} to 16, not {value!r}")

    @property
    def num_actions(self) -> int:
        return self.rows * self.columns * 3

    @property
    def observation_shape(self) -> tuple[int, ...]:
        return self.rows, self.columns, 2

    @property
    def max_plies(self) -> int:
        """The two rows of pieces of a side can take rows - 2 and rows - 3 steps each without winning."""
        return 2 * self.columns * (2 * self.rows - 5) + 1

    @property
    def max_legal(self) -> int:
        return 2 * self.columns * 3

    @property
    def word(self) -> type[np.unsignedinteger]:
        return np.uint8 if self.columns <= 8 else np.uint16

    def init(self, key: jax.Array) -> State:
        row, full = np.arange(self.rows), (1 << self.columns) - 1
        pieces = jnp.array([np.where(row >= self.rows - 2, full, 0), np.where(row < 2, full, 0)], self.word)
        return State(pieces, jnp.int16(-1), jnp.int8(0), jnp.bool(False), jnp.zeros(2, jnp.float32))

    def step(self, state: State, action: jax.Array) -> State:
        live = ~state.terminated
        row, column = action // 3 // self.columns, action // 3 % self.columns
        one = jnp.asarray(1, self.word)
        source = one << column.astype(self.word)
        target = one << (column + action % 3 - 1).astype(self.word)
        here = jnp.where(np.arange(self.rows) == row, source, 0)
        there = jnp.where(np.arange(self.rows) == row - 1, target, 0)
        own, other = state.pieces[0] & ~here | there, state.pieces[1] & ~there
        won = live & ((own[0] != 0) | (other == 0).all())
        pieces = jnp.where(live, jnp.stack([other, own])[:, ::-1], state.pieces)
        sign = jnp.where(np.arange(2, dtype=np.int8) == state.player, 1.0, -1.0).astype(jnp.float32)
        last = jnp.where(live, action, state.last).astype(jnp.int16)
        player = jnp.where(live, 1 - state.player, state.player).astype(jnp.int8)
        return State(pieces, last, player, state.terminated | won, jnp.where(won, sign, 0.0))

    def legal_actions(self, state: State) -> jax.Array:
        own, other = jnp.pad(state.pieces, ((0, 0), (1, 0)))[:, :-1]  # on the row above
        board, first = (1 << self.columns) - 1, state.pieces[0]
        free = [~own << 1, ~(own | other), (~own & board) >> 1]
        moves = [cells(first & squares.astype(self.word), self.columns) for squares in free]
        edges = np.ones((self.rows, self.columns, 3), bool)
        edges[0], edges[:, 0, 0], edges[:, -1, 2] = False, False, False
        return state.terminated | (jnp.stack(moves, -1) & edges).reshape(-1)

    def observe(self, state: State) -> jax.Array:
        """Planes: pieces of the mover, pieces of the other; the mover's move up."""
        return jnp.stack([cells(pieces, self.columns) for pieces in state.pieces], -1).astype(jnp.float32)

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """Identity and the left-right mirror."""
        actions = np.arange(self.num_actions, dtype=np.int32).reshape(self.rows, self.columns, 3)
        return identity_symmetry(self.num_actions), (mirror, actions[:, ::-1, ::-1].reshape(-1))

    def squares(self, player: int, action: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """(row, column) left and reached by an action of `player`, row 0 on top as player 0 sees it."""
        (row, column), direction = divmod(action // 3, self.columns), action % 3
        if player == 0:
            return (row, column), (row - 1, column + direction - 1)
        return (self.rows - 1 - row, column), (self.rows - row, column + direction - 1)

    def written(self, player: int, action: int) -> str:
        return "".join(square_name(self.rows - 1 - row, column) for row, column in self.squares(player, action))

    def action_to_str(self, state: State, action: int) -> str:
        return self.written(int(state.player), action)

    def action_from_str(self, state: State, text: str) -> int:
        return parse_action(self, state, text)

    def to_text(self, state: State) -> str:
        """Rows of `W`, `B` and `.`, player 1's home row first, then who moves and the last move: `B a2a3`. W begins."""
        mine, yours = "WB" if state.player == 0 else "BW"
        own, other = (np.asarray(cells(pieces, self.columns)) for pieces in state.pieces)
        board = np.where(own, mine, np.where(other, yours, "."))
        last = [self.written(1 - int(state.player), int(state.last))] if state.last >= 0 else []
        return write_board(board if state.player == 0 else board[::-1], mine, *last)

    def from_text(self, text: str) -> State:
        board, words = read_board(
            self.name, text, (self.rows, self.columns), "WB.", (1, 2), "who moves and the last move if any"
        )
        if words[0] not in ("W", "B"):
            raise ValueError(f"breakthrough: W or B moves, not {words[0]!r}")
        player = "WB".index(words[0])
        mine, yours = "WB" if player == 0 else "BW"
        counts = {mark: (board == mark).sum() for mark in "WB"}
        if max(counts.values()) > 2 * self.columns:
            raise ValueError(f"breakthrough: {text!r} has more than {2 * self.columns} pieces of a side")
        board = board if player == 0 else board[::-1]
        if mine in board[0] or counts[yours] == 0:
            raise ValueError(f"breakthrough: {text!r} has {mine} to move, who has won")
        last = -1
        if words[1:]:
            others = range(self.num_actions)  # of the other player, who moved onto a piece from an empty square
            seen = board[::-1]  # as that player saw it
            known = {}
            for action in others:
                (row, column), (up, side) = self.squares(0, action)
                if up >= 0 and 0 <= side < self.columns and seen[row, column] == "." and seen[up, side] == yours:
                    known[self.written(1 - player, action)] = action
            if words[1] not in known:
                raise ValueError(f"breakthrough: {words[1]!r} cannot have been the last move")
            last = known[words[1]]
        weights = (1 << np.arange(self.columns))[None]
        pieces = jnp.array([((board == mark) * weights).sum(1) for mark in (mine, yours)], self.word)
        over = yours in board[-1] or counts[mine] == 0
        return State(pieces, jnp.int16(last), jnp.int8(player), jnp.bool(over), earned(over, 1 - player))

    def to_board(self, state: State) -> str:
        return named_board(self.to_text(state).split()[: self.rows], numbers(self.rows, 1), letters(self.columns))

    def to_svg(self, state: State, before: State | None = None) -> str:
        colors = {"W": "#f7f7f2", "B": "#33302a"}
        board = self.to_text(state).split()[: self.rows]
        shapes = [disc(r, c, colors[m]) for r, row in enumerate(board) for c, m in enumerate(row) if m != "."]
        if state.last >= 0:
            shapes += [dot(*square, "#e0483a") for square in self.squares(1 - int(state.player), int(state.last))]
        return grid_board(self.rows, self.columns, shapes, fill="#c9b48f", lines="#9a8459")
