"""Othello on 8 × 8 or 6 × 6, by the usual rules: only who cannot place a disc passes.

Action = row·size + column, row 0 on top, where a1 is; size² is the pass. A player's discs are a set of bits
(`envs.bits`). Runs of the other player's discs in a direction are found by shifts of the whole board, in steps that
double.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from envs import backend
from envs.backend import materialized
from envs.bits import bit, joined, packed, split, with_64_bits
from envs.core import Env, Symmetry, earned, square_symmetries
from envs.host import parse_action
from envs.svg import disc, dot, grid_board
from envs.text import letters, named_board, numbers, read_board, square_name, write_board


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    discs: jax.Array  # u32[2, 2]  of the mover and of the other: bit b of word w set = a disc on square 32·w + b
    last: jax.Array  # i8[]  the last action, -1 at the beginning (to show it)
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


def directions(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Four directions as shifts u64[4], each used both ways, and the squares u64[4] where a disc can be outflanked
    along each. A run inside these squares cannot wrap around an edge.
    """
    inner = np.zeros(size, bool)
    inner[1:-1] = True
    across, down = np.broadcast_to(inner, (size, size)), np.broadcast_to(inner[:, None], (size, size))
    squares = [packed(line.reshape(-1)) for line in (across, down, across & down, across & down)]
    return np.array([1, size, size - 1, size + 1], np.uint64), np.array(squares)


def ways(start: jax.Array, other: jax.Array, inner: jax.Array, n: jax.Array):
    """For both ways of a direction: the other's discs in a run from `start`, and the squares one step beyond them."""
    through = other & inner
    for shift in (jnp.left_shift, jnp.right_shift):
        run = through & shift(start, n)
        run |= through & shift(run, n)
        pairs = through & shift(through, n)
        # Runs of up to 2, 4, 6 discs; no more fit between two others.
        for _ in range(2):
            run |= pairs & shift(run, 2 * n)
        yield run, shift(run, n)


def gathered(size: int, found) -> jax.Array:
    """The union u64[] of found(shift, inner squares) over the four directions.

    A loop on a CPU: XLA there copies a chain of integer operations into every use of its result, once for each square
    of a mask, but computes a loop once. On accelerators the loop is unrolled.
    """
    shifts, inner = directions(size)

    def turn(i, sofar):
        return sofar | found(jnp.asarray(shifts)[i], jnp.asarray(inner)[i])

    return jax.lax.fori_loop(0, 4, turn, jnp.uint64(0), unroll=backend.accelerated() or None)


def moves(own: jax.Array, other: jax.Array, size: int) -> jax.Array:
    """u64[], squares where the owner of `own` may place a disc."""

    def found(n, inner):
        (_, high), (_, low) = ways(own, other, inner, n)
        return high | low

    return gathered(size, found) & empty(own, other, size)


def empty(own: jax.Array, other: jax.Array, size: int) -> jax.Array:
    return ~(own | other) & packed(np.ones(size * size, bool))


def stuck(one: jax.Array, two: jax.Array, size: int) -> jax.Array:
    """bool[]: neither side can place a disc."""

    def found(n, inner):
        ends = [end for pair in ((one, two), (two, one)) for _, end in ways(*pair, inner, n)]
        return functools.reduce(jnp.bitwise_or, ends)

    return gathered(size, found) & empty(one, two, size) == 0


def flips(placed: jax.Array, own: jax.Array, other: jax.Array, size: int) -> jax.Array:
    """Discs that turn over when `placed`, one square or none, is played."""

    def found(n, inner):
        up, down = (jnp.where(end & own != 0, run, 0) for run, end in ways(placed, other, inner, n))
        return up | down

    return gathered(size, found)


@with_64_bits
def finished(discs: jax.Array, size: int) -> jax.Array:
    """bool[]: neither side can place a disc on u32[2, 2]."""
    one, two = joined(discs)
    return stuck(one, two, size)


def cells(boards: jax.Array, size: int) -> jax.Array:
    """u32[…, 2] -> bool[size², …].

    Uses bytes and masks in three dimensions, ten times faster on a CPU than 32 shifts of each word.
    """
    many = boards.shape[:-1]
    rows = jnp.moveaxis(jax.lax.bitcast_convert_type(boards, jnp.uint8).reshape(*many, 8), -1, 0)
    bits = (1 << np.arange(8)).astype(np.uint8).reshape(1, 8, *[1] * len(many))
    return (rows[:, None] & bits != 0).reshape(64, *many)[: size * size]


@dataclasses.dataclass(frozen=True)
class Othello(Env):
    """A player who can place a disc may not pass. The game ends when neither can; the player with more discs wins."""

    size: int = 8

    name = "othello"
    marks = ("X", "O")

    def __post_init__(self):
        if self.size not in (6, 8):
            raise ValueError(f"othello: size is 6 or 8, not {self.size!r}")

    @property
    def num_actions(self) -> int:
        return self.size**2 + 1

    @property
    def observation_shape(self) -> tuple[int, ...]:
        return self.size, self.size, 2

    @property
    def max_plies(self) -> int:
        """All squares but four get filled; no game has two passes in a row, or one at its start or end."""
        return 2 * self.max_legal - 1

    @property
    def max_legal(self) -> int:
        return self.size**2 - 4

    def init(self, key: jax.Array) -> State:
        middle = self.size // 2
        diagonal = np.zeros((2, self.size, self.size), bool)
        diagonal[0, [middle - 1, middle], [middle, middle - 1]] = True
        diagonal[1, [middle - 1, middle], [middle - 1, middle]] = True
        discs = jnp.asarray(split(packed(diagonal.reshape(2, -1))))
        return State(discs, jnp.int8(-1), jnp.int8(0), jnp.bool(False), jnp.zeros(2, jnp.float32))

    @with_64_bits
    def step(self, state: State, action: jax.Array) -> State:
        live = ~state.terminated
        own, other = joined(state.discs)
        placed = jnp.where(live & (action < self.size**2), bit(action), 0)
        turned = flips(placed, own, other, self.size)
        own, other = own | placed | turned, other & ~turned
        over = stuck(own, other, self.size)

        discs = jnp.where(live, jnp.stack([other, own]), jnp.stack([own, other]))
        count = jax.lax.population_count(own).astype(jnp.int32) - jax.lax.population_count(other).astype(jnp.int32)
        lead = jnp.sign(count) * (1 - 2 * state.player)  # of player 0
        rewards = jnp.where(live & over, lead, 0).astype(jnp.float32) * np.array([1, -1], np.float32)
        last = jnp.where(live, action, state.last).astype(jnp.int8)
        player = jnp.where(live, 1 - state.player, state.player).astype(jnp.int8)
        return State(split(discs), last, player, over, rewards)

    @with_64_bits
    def legal_actions(self, state: State) -> jax.Array:
        own, other = joined(state.discs)
        found = moves(own, other, self.size)
        action = np.arange(self.num_actions, dtype=np.uint64)
        legal = jnp.where(action < self.size**2, found >> action & 1 == 1, found == 0)
        return materialized(state.terminated | legal)

    def observe(self, state: State) -> jax.Array:
        """Planes: discs of the mover, discs of the other."""
        return cells(state.discs, self.size).reshape(self.observation_shape).astype(jnp.float32)

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """The four symmetries of the square that keep the first position. The others exchange its colours, and lead to
        positions that never occur."""
        eight = square_symmetries(self.size, extra_actions=1)
        return tuple(eight[i] for i in (0, 2, 5, 7))

    def action_to_str(self, state: State | None, action: int) -> str:
        return "pass" if action == self.size**2 else square_name(*divmod(action, self.size))

    def action_from_str(self, state: State, text: str) -> int:
        return parse_action(self, state, text)

    def to_text(self, state: State) -> str:
        """Rows of `X`, `O` and `.`, top row first, then who moves and the last move: `O d3`. X moves first."""
        own, other = (np.asarray(cells(discs, self.size)) for discs in state.discs)
        mine, yours = "XO" if state.player == 0 else "OX"
        board = np.where(own, mine, np.where(other, yours, ".")).reshape(self.size, self.size)
        last = [self.action_to_str(state, int(state.last))] if state.last >= 0 else []
        return write_board(board, mine, *last)

    def from_text(self, text: str) -> State:
        board, words = read_board(
            self.name, text, (self.size, self.size), "XO.", (1, 2), "who moves and the last move if any"
        )
        if words[0] not in ("X", "O"):
            raise ValueError(f"othello: X or O moves, not {words[0]!r}")
        mine, yours = words[0], "O" if words[0] == "X" else "X"
        middle = slice(self.size // 2 - 1, self.size // 2 + 1)
        if (board[middle, middle] == ".").any():
            raise ValueError(f"othello: {text!r} has an empty square among the four in the middle")
        last = -1
        if words[1:]:
            known = {self.action_to_str(None, int(a)): int(a) for a in np.flatnonzero(board.reshape(-1) == yours)}
            known["pass"] = self.size**2
            if words[1] not in known:
                raise ValueError(f"othello: the last move {words[1]!r} is no square with a disc of {yours}")
            last = known[words[1]]
        discs = jnp.asarray(split(packed(np.array([board == mark for mark in (mine, yours)]).reshape(2, -1))))
        over = finished(discs, self.size)
        lead = np.sign(int((board == "X").sum()) - int((board == "O").sum())) * bool(over)
        return State(discs, jnp.int8(last), jnp.int8("XO".index(mine)), over, earned(lead))

    def to_board(self, state: State) -> str:
        return named_board(self.to_text(state).split()[: self.size], numbers(1, self.size), letters(self.size))

    def to_svg(self, state: State, before: State | None = None) -> str:
        colors = {"X": "#1c1c1c", "O": "#f4f4f0"}
        board = self.to_text(state).split()[: self.size]
        shapes = [disc(r, c, colors[m]) for r, row in enumerate(board) for c, m in enumerate(row) if m != "."]
        if 0 <= state.last < self.size**2:
            shapes.append(dot(*divmod(int(state.last), self.size), "#e0483a"))
        return grid_board(self.size, self.size, shapes, fill="#3f9161", lines="#2b6e48")
