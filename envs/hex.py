"""Hex on a rhombus of n × n cells. Player 0 joins top and bottom, player 1 left and right; a full board has one winner.

Action = row · n + column, written with TRMPH's coordinates: `a1` is the top left cell, letters are columns, numbers
rows. With the swap rule, action n² (`swap`) is player 1's other possible first reply: the stone on the board becomes
player 1's, mirrored at the main diagonal (row and column change places), and player 0 moves next. Mirrored it stands
to player 1's edges as it stood to player 0's, so each player keeps both number and edges.

Each stone carries the label of its group, so that a move is one comparison with the ≤ 3 groups that it joins, however
they wind. The edges are groups too: FIRST (top, left) and SECOND (bottom, right); whoever joins them has won.
Other groups are labelled by their smallest pair of neighbouring cells in a row: such cells, when one player owns both,
are one group, so that no two groups of a player share a label. Labels thus depend on the position alone.
"""

import dataclasses
import functools
import string
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import Env, Symmetry, identity_symmetry, parse_action

FIRST, SECOND, PAIRS = 1, 2, 3  # labels of the two edges, and of the first pair of cells
AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 0), (1, -1), (0, -1))  # each of these touches the next


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
    """Facts of the cells; cell n² is nowhere: it has no neighbours, and no group has its label."""

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
    """Adds a stone of `player` on an empty cell (n²: no stone) -> (groups, whether it joins the edges, bool[])."""
    table = tables(n)
    lone = jnp.asarray(table.label)[player, cell]
    around = groups.at[jnp.asarray(table.near)[cell]].get(mode="fill", fill_value=0)
    around = jnp.where(player == 0, around, -around)
    # cells of two are neighbours: own stones on both are of one group
    pairs = [jnp.maximum(around[i], around[i + 1]) for i in (0, 2, 4)]
    a, b, c = (jnp.where(pair > 0, pair, lone) for pair in pairs)
    first = (a == FIRST) | (b == FIRST) | (c == FIRST) | (lone == FIRST)
    second = (a == SECOND) | (b == SECOND) | (c == SECOND) | (lone == SECOND)
    label = jnp.minimum(jnp.minimum(a, b), jnp.minimum(c, lone))
    side = jnp.where(player == 0, 1, -1).astype(groups.dtype)
    changed = (groups == a * side) | (groups == b * side) | (groups == c * side) | (jnp.arange(n * n) == cell)
    return jax.lax.optimization_barrier(jnp.where(changed, label * side, groups)), first & second


def groups_of(n: int, own: np.ndarray, player: int) -> np.ndarray:
    """Labels of one player's stones, bool[n²] -> [n²], 0 elsewhere; once the edges are joined both are FIRST."""
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

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or not 3 <= self.size <= 19:
            raise ValueError(f"hex: size must be 3 to 19, got {self.size!r}")

    @property
    def cells(self) -> int:
        return self.size**2

    @property
    def num_actions(self) -> int:
        return self.cells + self.swap

    @property
    def max_plies(self) -> int:
        return self.cells + self.swap

    @property
    def max_legal(self) -> int:
        return self.cells

    @property
    def observation_shape(self) -> tuple[int, ...]:
        return (self.size, self.size, 3 + self.swap)

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
        """bool[]: player 1 is to reply to the first stone."""
        return state.plies == 1

    def legal_actions(self, state: State) -> jax.Array:
        legal = state.groups == 0
        if self.swap:
            legal = jnp.append(legal, self.may_swap(state))
        return state.terminated | legal

    def observe(self, state: State) -> jax.Array:
        """Planes: stones of the mover, of the other; the mover joins top and bottom; the mover may swap (with that rule).

        The board is not turned for player 1, because actions are not: a policy over cells sees each cell where its
        action is. The third plane says which edges the mover joins.
        """
        upright = state.player == 0
        mine = jnp.where(upright, state.groups, -state.groups)
        planes = [mine > 0, mine < 0, jnp.broadcast_to(upright, mine.shape)]
        if self.swap:
            planes.append(jnp.broadcast_to(self.may_swap(state), mine.shape))
        return jnp.stack(planes, -1).reshape(self.observation_shape).astype(jnp.float32)

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """Identity and the half turn. (The mirror at the diagonal also changes the players: no symmetry of one's own.)"""
        turned = np.arange(self.num_actions, dtype=np.int32)
        turned[: self.cells] = turned[: self.cells][::-1].copy()
        return identity_symmetry(self.num_actions), (rotate, turned)

    def action_to_str(self, state: State, action: int) -> str:
        if action == self.cells:
            return "swap"
        return f"{string.ascii_lowercase[action % self.size]}{action // self.size + 1}"

    def action_from_str(self, state: State, text: str) -> int:
        return parse_action(self, state, text)
