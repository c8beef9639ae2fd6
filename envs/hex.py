"""Hex on a rhombus of n × n cells. Player 0 joins top and bottom, player 1 left and right; a full board has one winner.

Rule difference: with the swap rule, action n² (`swap`) is player 1's other possible first reply. Other implementations
exchange the players' colours; here the stone becomes player 1's, mirrored at the main diagonal (row and column are
exchanged), and player 0 moves next. It has the same place relative to player 1's edges as before to player 0's, so both
players keep their number and their edges.

Action = row · n + column, written in TRMPH's coordinates: `a1` is the top left cell, letters are columns, numbers rows.

Each stone stores the label of its group, so a move compares labels with those of the at most 3 groups that it joins.
The edges are groups too: FIRST (top, left) and SECOND (bottom, right); whoever joins them has won. Any other group has
the number of its first pair of cells: cells 2k and 2k + 1 of a row are a pair. They are neighbours, so stones of one
player on both belong to one group, and no two groups of a player share a label. Labels depend on the position alone.
"""

import dataclasses
import functools
import string
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.backend import materialized
from envs.core import Env, Symmetry, appended, earned, identity_symmetry
from envs.host import parse_action
from envs.text import letters, named_board, numbers

FIRST, SECOND, PAIRS = 1, 2, 3  # labels of the two edges, and of the first pair of cells
AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 0), (1, -1), (0, -1))  # clockwise: each touches the next


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    groups: jax.Array  # i8[n²] (i16 from n = 16)  0 = empty, else the group's label, negative for player 1
    last: jax.Array  # i16[]  cell of the newest stone, -1 before the first: where a swap finds it
    plies: jax.Array  # i16[]  a swap is one
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


class Tables(NamedTuple):
    """Constants of the cells. Cell n² is off the board: it has no neighbours, and no group has its label."""

    near: np.ndarray  # i16[n² + 1, 6]  neighbours in the order of AROUND, n² beyond the edge
    label: np.ndarray  # [2, n² + 1]  label of a lone stone, by player
    mirrored: np.ndarray  # i16[n²]  the cell with row and column changed


@functools.cache
def tables(n: int) -> Tables:
    row, column = np.divmod(np.arange(n * n), n)
    near = np.full((n * n + 1, 6), n * n, np.int16)
    for i, (down, right) in enumerate(AROUND):
        r, c = row + down, column + right
        near[:-1, i] = np.where((r >= 0) & (r < n) & (c >= 0) & (c < n), r * n + c, n * n)
    pair = PAIRS + row * ((n + 1) // 2) + column // 2
    kind = np.int8 if pair.max() < 127 else np.int16
    lone = [np.select([along == 0, along == n - 1], [FIRST, SECOND], pair) for along in (row, column)]
    label = np.pad(np.array(lone), ((0, 0), (0, 1)), constant_values=np.iinfo(kind).max).astype(kind)
    return Tables(near, label, (column * n + row).astype(np.int16))


def place(n: int, groups: jax.Array, player: jax.Array, cell: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Adds a stone of `player` on an empty cell (n²: no stone). Returns the groups, and bool[]: edges joined."""
    table = tables(n)
    lone = jnp.asarray(table.label)[player, cell]
    around = groups.at[jnp.asarray(table.near)[cell]].get(mode="fill", fill_value=0)
    around = jnp.where(player == 0, around, -around)
    # The two cells of a pair here touch each other: own stones on both belong to one group.
    pairs = [jnp.maximum(around[i], around[i + 1]) for i in (0, 2, 4)]
    labels = materialized(jnp.stack([jnp.where(pair > 0, pair, lone) for pair in pairs] + [lone]))
    joined = (labels == FIRST).any() & (labels == SECOND).any()
    side = jnp.where(player == 0, 1, -1).astype(groups.dtype)
    label = labels.min() * side
    changed = functools.reduce(jnp.logical_or, [groups == labels[i] * side for i in range(3)])
    # The scatter keeps XLA from computing the groups again for each number of the observation.
    groups = jnp.where(changed, label, groups).at[cell].set(label, mode="drop", unique_indices=True)
    return groups, joined


def groups_of(n: int, own: np.ndarray, player: int) -> np.ndarray:
    """Labels [n²] of one player's stones bool[n²], 0 elsewhere. Once the edges are joined, both are FIRST."""
    table = tables(n)
    lone, none = table.label[player, :-1], table.label[player, -1]
    labels = np.where(own, lone, none)
    while True:
        spread = np.where(own, np.minimum(labels, np.append(labels, none)[table.near[:-1]].min(1)), none)
        if (spread == labels).all():
            break
        labels = spread
    if ((labels == FIRST) & (lone == SECOND)).any():
        labels[labels == SECOND] = FIRST
    return np.where(own, labels, 0)


def joins_edges(n: int, own: np.ndarray, player: int) -> bool:
    """Whether one player's stones, bool[n²], join that player's edges."""
    return bool(((groups_of(n, own, player) == FIRST) & (tables(n).label[player, :-1] == SECOND)).any())


def rotate(observation: jax.Array) -> jax.Array:
    return observation[::-1, ::-1]


@dataclasses.dataclass(frozen=True)
class Hex(Env):
    size: int = 11
    swap: bool = True

    name = "hex"
    marks = ("X (top to bottom)", "O (left to right)")

    def __post_init__(self) -> None:
        if not 3 <= self.size <= 19:
            raise ValueError(f"hex: size must be 3 to 19, got {self.size!r}")
        cells, swap = self.cells, self.swap
        facts = {"num_actions": cells + swap, "max_plies": cells + swap, "max_legal": cells}
        for fact, value in (facts | {"observation_shape": (self.size, self.size, 3 + swap)}).items():
            object.__setattr__(self, fact, value)  # the class is frozen

    @property
    def cells(self) -> int:
        return self.size**2

    def init(self, key: jax.Array) -> State:
        groups = jnp.zeros(self.cells, tables(self.size).label.dtype)
        return State(groups, jnp.int16(-1), jnp.int16(0), jnp.int8(0), jnp.bool(False), jnp.zeros(2, jnp.float32))

    def step(self, state: State, action: jax.Array) -> State:
        swapped = (action == self.cells) & ~state.terminated
        taken = jnp.asarray(tables(self.size).mirrored)[state.last]
        cell = jnp.where(state.terminated, self.cells, jnp.where(swapped, taken, action)).astype(jnp.int16)
        groups, won = place(self.size, jnp.where(swapped, 0, state.groups), state.player, cell)
        last = jnp.where(state.terminated, state.last, cell)
        plies = state.plies + ~state.terminated
        sign = jnp.where(jnp.arange(2, dtype=jnp.int8) == state.player, 1.0, -1.0).astype(jnp.float32)
        player = jnp.where(state.terminated, state.player, 1 - state.player).astype(jnp.int8)
        return State(groups, last, plies, player, state.terminated | won, jnp.where(won, sign, 0.0))

    def may_swap(self, state: State) -> jax.Array:
        """Whether player 1 is to reply to the first stone, bool[]."""
        return state.plies == 1

    def legal_actions(self, state: State) -> jax.Array:
        legal = state.terminated | (state.groups == 0)
        return appended(legal, state.terminated | self.may_swap(state)) if self.swap else legal

    def observe(self, state: State) -> jax.Array:
        """Planes: stones of the mover, of the other; the mover joins top and bottom; may swap (only with that rule).

        The board is not turned for player 1, because actions are not: a policy over cells sees each cell where its
        action is. The third plane says which edges the mover joins.
        """
        upright = state.player == 0
        mine = jnp.where(upright, state.groups, -state.groups)
        # One bit a plane: several times faster than stacking planes.
        planes = (mine > 0) | (mine < 0) << 1 | upright << 2 | self.may_swap(state) << 3
        bits = planes[:, None] >> np.arange(self.observation_shape[-1])[None] & 1
        return materialized(bits.astype(jnp.float32)).reshape(self.observation_shape)

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """Identity and the half turn. (The mirror at the diagonal would also exchange the players.)"""
        turned = np.arange(self.num_actions, dtype=np.int32)
        turned[: self.cells] = turned[: self.cells][::-1].copy()
        return identity_symmetry(self.num_actions), (rotate, turned)

    def action_to_str(self, state: State | None, action: int) -> str:
        if action == self.cells:
            return "swap"
        return f"{string.ascii_lowercase[action % self.size]}{action // self.size + 1}"

    def action_from_str(self, state: State, text: str) -> int:
        return parse_action(self, state, text)

    def to_text(self, state: State) -> str:
        """n rows of `X` (player 0), `O` and `.`, then the mover and the newest stone, as in `O e4` or `X -`."""
        marks = np.array([".", "X", "O"])[np.sign(np.asarray(state.groups))].reshape(self.size, self.size)
        newest = self.action_to_str(state, int(state.last)) if state.last >= 0 else "-"
        return "\n".join(["".join(row) for row in marks] + [f"{'XO'[int(state.player)]} {newest}"])

    def from_text(self, text: str) -> State:
        *rows, mover, newest = text.split() if len(text.split()) > 1 else ("", "")
        wrong = f"hex: {text!r} is no position of size {self.size}: "
        if len(rows) != self.size or any(len(row) != self.size for row in rows) or set("".join(rows)) - set("XO."):
            raise ValueError(f"{wrong}it begins with {self.size} rows of {self.size} characters X, O or '.'")
        if mover not in ("X", "O"):
            raise ValueError(f"{wrong}after the rows stands who is to move, X or O, not {mover!r}")
        board, player = "".join(rows), "XO".index(mover)
        stones = [np.array([cell == mark for cell in board]) for mark in "XO"]
        lead = int(stones[0].sum() - stones[1].sum())
        swapped = lead == player - 1 and self.swap and stones[1].any()
        if lead != player and not swapped:
            raise ValueError(f"{wrong}{stones[0].sum()} X and {stones[1].sum()} O, and {mover} to move")
        names = {self.action_to_str(None, cell): cell for cell in range(self.cells)}
        last = names.get(newest, -1)
        if (last >= 0 and not stones[1 - player][last]) or (last < 0 and (newest != "-" or set(board) != {"."})):
            raise ValueError(f"{wrong}the newest stone is one of the player who moved, '-' before the first")
        if joins_edges(self.size, stones[player], player) or joins_edges(
            self.size, stones[1 - player] & (np.arange(self.cells) != last), 1 - player
        ):
            raise ValueError(f"{wrong}it goes on after the edges were joined")
        over = joins_edges(self.size, stones[1 - player], 1 - player)
        groups = groups_of(self.size, stones[0], 0) - groups_of(self.size, stones[1], 1)
        plies = sum(int(own.sum()) for own in stones) + bool(swapped)
        kind = tables(self.size).label.dtype
        return State(
            jnp.array(groups, kind), jnp.int16(last), jnp.int16(plies), jnp.int8(player), jnp.bool(over),
            earned(over, 1 - player),
        )  # fmt: skip

    def to_board(self, state: State) -> str:
        """X joins top and bottom, O left and right."""
        return named_board(self.to_text(state).split()[: self.size], numbers(1, self.size), letters(self.size), skew=1)

    def to_svg(self, state: State, before: State | None = None) -> str:
        stones = np.sign(np.asarray(state.groups)).reshape(self.size, self.size)
        return rhombus_board(stones, divmod(int(state.last), self.size) if state.last >= 0 else None)


COLORS = ("#d8432f", "#2f6fd8")  # of the players and their edges
RADIUS = 24.0


def corner(row: float, column: float, k: int) -> str:
    """Corner k of a cell, clockwise from the top, in pixels."""
    x, y = center(row, column)
    angle = np.pi * (k / 3 - 0.5)
    return f"{x + RADIUS * np.cos(angle):.1f},{y + RADIUS * np.sin(angle):.1f}"


def center(row: float, column: float) -> tuple[float, float]:
    return np.sqrt(3) * RADIUS * (column + row / 2 + 1.5), 1.5 * RADIUS * (row + 1.5)


def rhombus_board(stones: np.ndarray, last: tuple[int, int] | None) -> str:
    """A slanted board [n, n] of hexagons: 1 = a stone of player 0, -1 of player 1, with coloured edges and names."""
    n = len(stones)
    shapes = []
    # Each edge is the zigzag of its cells' outer sides; corners of a cell: 0 top, 1, 2 right, 3 bottom, 4, 5 left.
    along = range(n)
    edges = [
        (0, [corner(0, i, k) for i in along for k in (5, 0)] + [corner(0, n - 1, 1)]),
        (0, [corner(n - 1, 0, 4)] + [corner(n - 1, i, k) for i in along for k in (3, 2)]),
        (1, [corner(0, 0, 5)] + [corner(i, 0, k) for i in along for k in (4, 3)]),
        (1, [corner(i, n - 1, k) for i in along for k in (1, 2)] + [corner(n - 1, n - 1, 3)]),
    ]
    for player, points in edges:
        shapes.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{COLORS[player]}" stroke-width="10" '
            'stroke-linejoin="round"/>'
        )
    for (r, c), stone in np.ndenumerate(stones):
        hexagon = " ".join(corner(r, c, k) for k in range(6))
        shapes.append(f'<polygon points="{hexagon}" fill="#f3eee2" stroke="#a69d8c" stroke-width="1.5"/>')
        x, y = center(r, c)
        if stone:
            fill = COLORS[0 if stone > 0 else 1]
            shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="16" fill="{fill}" stroke="#33302a"/>')
        if (r, c) == last:
            shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#fff"/>')
    names = [(center(-1.1, i + 0.45), string.ascii_lowercase[i]) for i in along]
    names += [(center(i, -0.95), str(i + 1)) for i in along]
    for (x, y), name in names:
        shapes.append(f'<text x="{x:.1f}" y="{y + 5:.1f}">{name}</text>')
    width, height = (float(edge) for edge in center(n, n - 0.75))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}"><g font-family="sans-serif" font-size="14" fill="#8a8272" text-anchor="middle">'
        f"{''.join(shapes)}</g></svg>"
    )
