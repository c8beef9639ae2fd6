"""The Royal Game of Ur by Finkel's rules: 1 to 7 pieces a side, four binary dice, a path of 14 squares.

Squares 1-4, 13 and 14 are a player's own, 5-12 are shared. A player rolls the number of marked tips of four dice and
moves one piece exactly so far: a waiting piece comes in on the square of its roll, a piece goes home from the square
its roll before 15. A piece may not land on one of its own side; on one of the other side it sends that back to wait,
but on 8 it may not. Landing on a rosette (4, 8, 14) gives another turn. Who can move must; who cannot passes. Who
has brought all pieces home has won. After `max_plies` plies (moves and passes of both) the game is a draw: random
play of 7 pieces takes 156 plies, the longest of 100,000 games 267.

Pieces are numbered by progress: waiting ones first, then from the rear, those at home last. Action i moves piece i (of
those waiting only piece 0 may), action `pieces` passes. Moves are written from-to: `0-3`, `5-9`, `12-home`, `pass`.
"""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import Env, earned, where
from envs.host import parse_action
from envs.svg import CELL, cell_center, disc, dot, grid_board

MOST = 7  # pieces a side
HOME = 15
PATH = 0x7FFE  # sets of squares: bit s = square s, 1 to 14
SHARED = 0x1FE0
ROSETTES = 1 << 4 | 1 << 8 | 1 << 14
SAFE = 1 << 8
UP_TO = np.array([(2 << square) - 1 for square in range(HOME)], np.uint16)  # squares 0 to s
ROLLS = np.array([1, 4, 6, 4, 1], np.float32) / 16  # chances of 0 to 4

WOOD, SAND, ROSE, INK = "#7a5a3c", "#ecdfc3", "#b4503c", "#2a2622"
COLORS = {"X": ("#fffdf6", INK), "O": (INK, "#fffdf6")}  # fill, line
POOLS = r"{0}: (?P<{0}wait>\d) waiting, (?P<{0}home>\d) home"
TEXT = re.compile(
    rf"(?P<X4>[X.*]{{4}}) (?P<X2>[X.*]{{2}}) {POOLS.format('X')} (?P<shared>[XO.*]{{8}}) "
    rf"(?P<O4>[O.*]{{4}}) (?P<O2>[O.*]{{2}}) {POOLS.format('O')} "
    r"(?P<mover>[XO]) (?P<turn>rolled (?P<roll>[0-4])|rolls|lost|drew) at ply (?P<plies>0|[1-9]\d{0,4})"
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    path: jax.Array  # u16[2]  bit s = a piece on square s of the path: the mover's, then the other's
    waiting: jax.Array  # u8[2]  pieces not yet on the path, in the same order; what is left is home
    roll: jax.Array  # u8[]  0 while it is due
    plies: jax.Array  # u16[]
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]
    chance: jax.Array  # bool[]


def landings(state: State) -> jax.Array:
    """u16[], the set of squares on which the mover may land with the roll; bit 15 is home."""
    sources = state.path[0] | (state.waiting[0] > 0)
    taken = state.path[0] | state.path[1] & SAFE | 1  # with 1: a roll of 0 leads nowhere
    return sources << state.roll & ~taken  # what would go beyond home falls out of the 16 bits


def square_of(state: State, piece: jax.Array) -> jax.Array:
    """u16[], where the mover's piece of this number is: 0 waiting, 1 to 14, 15 home (or no such piece)."""
    up_to = state.waiting[0] + jax.lax.population_count(state.path[0] & UP_TO).astype(jnp.uint8)  # pieces there, u8[15]
    return (up_to <= piece).sum(dtype=jnp.uint16)


def movable(state: State, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which of the mover's pieces would land on each of the sets u16[n], bool[n, 7]; and their squares, u16[7]."""
    place = jax.vmap(square_of, (None, 0))(state, jnp.arange(MOST, dtype=jnp.uint8))
    alike = (place == 0) & (np.arange(MOST) > 0)  # of the pieces that wait only the first may move
    return ((targets >> state.roll)[:, None] >> place[None] & 1 == 1) & ~alike[None], place


class Side(NamedTuple):
    """A player's pieces, on the host."""

    marks: str  # squares 1 to 14 as this player walks them: X, O, `*` an empty rosette, `.` another empty square
    waiting: int
    home: int


def sides_of(state: State, pieces: int) -> list[Side]:
    """Those of player 0 (X) and player 1 (O)."""
    order = slice(None, None, -1 if state.player else 1)
    path, waiting = np.asarray(state.path)[order].tolist(), np.asarray(state.waiting)[order].tolist()
    sides = []
    for mark, rival, own, other, wait in zip("XO", "OX", path, path[::-1], waiting, strict=True):
        signs = [(own, mark), (other & SHARED, rival), (ROSETTES, "*"), (PATH, ".")]
        marks = "".join(next(sign for squares, sign in signs if squares >> s & 1) for s in range(1, HOME))
        sides.append(Side(marks, wait, pieces - wait - own.bit_count()))
    return sides


@dataclasses.dataclass(frozen=True)
class Ur(Env):
    pieces: int = MOST
    max_plies: int = 512

    name = "ur"
    marks = ("X", "O")
    observation_shape = (150,)
    num_outcomes = 5

    def __post_init__(self):
        if self.pieces not in range(1, MOST + 1):
            raise ValueError(f"ur: pieces is 1 to {MOST}, got {self.pieces!r}")
        if self.max_plies not in range(1, 1 << 16):
            raise ValueError(f"ur: max_plies is 1 to {(1 << 16) - 1}, got {self.max_plies!r}")

    @property
    def num_actions(self) -> int:
        return self.pieces + 1

    @property
    def max_legal(self) -> int:
        return self.pieces

    def init(self, key: jax.Array) -> State:
        roll = jax.lax.population_count(jax.random.bits(key, (), jnp.uint8) & 15)  # the four dice
        waiting = jnp.full(2, self.pieces, jnp.uint8)
        no = jnp.bool(False)
        return State(jnp.zeros(2, jnp.uint16), waiting, roll, jnp.uint16(0), jnp.int8(0), no, jnp.zeros(2), no)

    def step(self, state: State, action: jax.Array) -> State:
        source = jnp.uint16(1) << square_of(state, action.astype(jnp.uint8)) & (PATH | 1)  # nothing for a pass
        target = source << state.roll
        hit = state.path[1] & target & SHARED
        path = jnp.stack([(state.path[0] & ~source | target) & PATH, state.path[1] & ~hit])
        waiting = state.waiting - jnp.stack([source == 1, False]) + jnp.stack([False, hit > 0])
        won = (path[0] == 0) & (waiting[0] == 0)
        plies = state.plies + jnp.uint16(1)
        over = won | (plies >= self.max_plies)
        again = target & ROSETTES > 0
        path, waiting = (jnp.where(again, sides, sides[::-1]) for sides in (path, waiting))
        player = jnp.where(again, state.player, 1 - state.player)
        sign = jnp.where(np.arange(2, dtype=np.int8) == state.player, 1.0, -1.0)
        after = State(path, waiting, jnp.uint8(0), plies, player, over, jnp.where(won, sign, 0.0), ~over)
        return where(state.terminated, dataclasses.replace(state, rewards=jnp.zeros(2)), after)

    def legal_actions(self, state: State) -> jax.Array:
        moves = movable(state, landings(state)[None])[0][0, : self.pieces]
        return state.terminated | jnp.append(moves, ~moves.any())

    def observe(self, state: State) -> jax.Array:
        """150 numbers in the mover's view; the mover's pieces are in the order of the actions:

        0-104    where each is, [7, 15] one-hot over waiting and squares 1 to 14; nothing at home
        105-118  squares 1 to 14 with a piece of the other
        119-123  the roll, one-hot; nothing while it is due
        124-131  which may move, and last whether the mover must pass
        132-138  which may send back a piece of the other
        139-145  which may land on a rosette
        146-149  shares: pieces of the mover at home, of the other at home, of the other waiting; plies played
        """
        targets = landings(state)
        sets = jnp.stack([targets, targets & state.path[1] & SHARED, targets & ROSETTES])
        (moves, hits, rosettes), place = movable(state, sets)
        where_each = place[:, None] == np.arange(HOME)[None]
        theirs = state.path[1] & np.array([1 << square for square in range(1, HOME)], np.uint16) > 0
        roll = (state.roll == np.arange(5)) & ~state.chance
        flags = [where_each.reshape(-1), theirs, roll, moves, ~moves.any(keepdims=True), hits, rosettes]
        home = self.pieces - state.waiting - jax.lax.population_count(state.path).astype(jnp.uint8)
        shares = jnp.append(home, state.waiting[1]) / self.pieces
        return jnp.concatenate([*flags, shares, state.plies[None] / self.max_plies])

    def outcome_logits(self, state: State) -> jax.Array:
        return jnp.log(ROLLS)

    def resolve(self, state: State, outcome: jax.Array) -> State:
        roll = jnp.where(state.chance, outcome, state.roll).astype(jnp.uint8)
        return dataclasses.replace(state, roll=roll, chance=jnp.bool(False))

    def action_to_str(self, state: State, action: int) -> str:
        if action == self.pieces:
            return "pass"
        start = int(square_of(state, jnp.uint8(action)))
        target = start + int(state.roll)
        return f"{start}-{'home' if target == HOME else target}"

    def action_from_str(self, state: State, text: str) -> int:
        return parse_action(self, state, text)

    def to_text(self, state: State) -> str:
        """The board and the turn. X (above) and O come in on the fourth square of their row, walk left, then right,
        then left; `*` is an empty rosette.

            *..X  *.  X: 4 waiting, 1 home
            .X.*O...
            *...  OO  O: 4 waiting, 0 home
            X rolled 2 at ply 31

        Other turns: `X rolls at ply 31` (the roll is due), `O lost at ply 154`, `O drew at ply 512`.
        """
        sides = sides_of(state, self.pieces)
        lines = [
            f"{side.marks[3::-1]}  {side.marks[:11:-1]}  {name}: {side.waiting} waiting, {side.home} home"
            for name, side in zip("XO", sides, strict=True)
        ]
        turn = f"{'XO'[int(state.player)]} {self.turn(state, sides)} at ply {state.plies}"
        return "\n".join([lines[0], sides[0].marks[4:12], lines[1], turn])

    def turn(self, state: State, sides: list[Side]) -> str:
        if state.terminated:
            return "lost" if self.pieces in [side.home for side in sides] else "drew"
        return "rolls" if state.chance else f"rolled {state.roll}"

    def from_text(self, text: str) -> State:
        found = TEXT.fullmatch(" ".join(text.split()))
        if found is None:
            raise ValueError(
                f"ur: a position is three rows of the board and a line as 'X rolls at ply 0', got {text!r}"
            )
        sides = {}
        for name in "XO":
            marks = found[name + "4"][::-1] + found["shared"] + found[name + "2"][::-1]
            sides[name] = Side(marks, int(found[name + "wait"]), int(found[name + "home"]))
        mover, turn, plies = "XO".index(found["mover"]), found["turn"], int(found["plies"])
        self.check(sides, found["mover"], turn.split()[0], plies)
        order = slice(None, None, -1 if mover else 1)
        path = [sum((mark == name) << s for s, mark in enumerate(side.marks, 1)) for name, side in sides.items()]
        return State(
            jnp.array(path[order], jnp.uint16),
            jnp.array([side.waiting for side in sides.values()][order], jnp.uint8),
            jnp.uint8(found["roll"] or 0),
            jnp.uint16(plies),
            jnp.int8(mover),
            jnp.bool(turn in ("lost", "drew")),
            earned(turn == "lost", 1 - mover),
            jnp.bool(turn == "rolls"),
        )

    def check(self, sides: dict[str, Side], mover: str, turn: str, plies: int) -> None:
        """Raises ValueError if no game comes to this position."""
        walked = 0
        for name, side in sides.items():
            for square, mark in enumerate(side.marks, 1):
                if mark in "*." and (mark == "*") != bool(ROSETTES >> square & 1):
                    raise ValueError(f"ur: square {square} of {name} is drawn {mark!r}; * are the empty rosettes")
                walked += square * (mark == name)
            walked += HOME * side.home
            count = side.waiting + side.marks.count(name) + side.home
            if count != self.pieces:
                raise ValueError(f"ur: {name} has {count} pieces, not {self.pieces}")
        winner = next((name for name, side in sides.items() if side.home == self.pieces), None)
        turns = ["lost"] if winner else ["rolled", "rolls"] if plies < self.max_plies else ["drew"]
        if mover == winner or turn not in turns:
            raise ValueError(f"ur: in this position at ply {plies} it cannot be that {mover} {turn}")
        if walked > 4 * plies or plies > self.max_plies or (mover == "O" and plies == 0):
            raise ValueError(f"ur: no game comes to this position in {plies} plies with {mover} to move")

    def to_board(self, state: State) -> str:
        """As `to_text`, with the numbers of the squares."""
        sides, own = sides_of(state, self.pieces), [4, 3, 2, 1, "", "", 14, 13]

        def line(cells: Iterable[Any]) -> str:
            return "".join(f"{cell:>3}" for cell in cells)

        upper, lower = (
            line([*side.marks[3::-1], "", "", *side.marks[:11:-1]])
            + f"   {name}: {side.waiting} waiting, {side.home} home"
            for side, name in zip(sides, "XO", strict=True)
        )
        turn = self.to_text(state).split("\n")[-1]
        return "\n".join([line(own), upper, line(sides[0].marks[4:12]), line(range(5, 13)), lower, line(own), turn])

    def to_svg(self, state: State, before: State | None = None) -> str:
        """X has the upper row and light pieces; the gaps before 1 and after 14 count who waits and who is home."""
        sides = sides_of(state, self.pieces)
        shapes = [f'<rect x="1" y="1" width="{8 * CELL - 2}" height="{4 * CELL - 2}" rx="5" fill="{WOOD}"/>']
        shapes += {
            cell(i, s): tile(*cell(i, s), bool(ROSETTES >> s & 1)) for i in (0, 1) for s in range(1, HOME)
        }.values()
        old = sides if before is None else sides_of(before, self.pieces)
        for i, (name, side, was) in enumerate(zip("XO", sides, old, strict=True)):
            shapes += [disc(*cell(i, s), *COLORS[name]) for s, mark in enumerate(side.marks, 1) if mark == name]
            pairs = enumerate(zip(side.marks, was.marks, strict=True), 1)
            shapes += [dot(*cell(i, s), ROSE) for s, (mark, past) in pairs if mark == name != past]
            for square, count, word in ((0, side.waiting, "start"), (HOME, side.home, "home")):
                row, column = cell(i, square)
                shapes += [disc(row, column, *COLORS[name])] if count else []
                shapes += [words(row - 0.08, column, str(count), 19, COLORS[name][1])] if count else []
                shapes.append(words(row + 0.2, column, word, 10, COLORS[name][1] if count else SAND))
        turn = self.turn(state, sides)
        shapes += [disc(3, 0, *COLORS["XO"[int(state.player)]]), words(3, 0.7, turn, 19, SAND, "start")]
        shapes += [die(3, 4 + i, i < int(state.roll)) for i in range(4)] if turn.startswith("rolled") else []
        return grid_board(4, 8, shapes)


def cell(player: int, square: int) -> tuple[int, int]:
    """Row and column of a square; 0 and 15 are in the gaps."""
    if 5 <= square <= 12:
        return 1, square - 5
    return 2 * player, 4 - square if square < 5 else 20 - square


def tile(row: int, column: int, rosette: bool) -> str:
    x, y = cell_center(row, column)
    petal = f'<ellipse rx="{0.45 * CELL:g}" ry="{0.1 * CELL:g}" transform="rotate({{}})"/>'
    petals = "".join(map(petal.format, range(0, 180, 45))) if rosette else ""
    half = CELL / 2 - 1
    square = f'<rect x="{-half:g}" y="{-half:g}" width="{2 * half:g}" height="{2 * half:g}" rx="4" fill="{SAND}"/>'
    return f'<g transform="translate({x:g} {y:g})" fill="{ROSE}">{square}{petals}</g>'


def words(row: float, column: float, text: str, size: int, fill: str, anchor: str = "middle") -> str:
    x, y = (column + 0.5) * CELL, (row + 0.5) * CELL + 0.35 * size
    style = f'font-family="sans-serif" font-size="{size}" text-anchor="{anchor}" fill="{fill}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{text}</text>'


def die(row: int, column: int, marked: bool) -> str:
    """A four-faced die seen from above, its upper tip marked or not."""
    x, y = cell_center(row, column)
    edges = f'<path d="M0 -17L18 14H-18ZM0 3V-17M0 3L18 14M0 3L-18 14" fill="{INK}" stroke="#6b6457"/>'
    tip = f'<circle cy="3" r="6" fill="{SAND}"/>' if marked else ""
    return f'<g transform="translate({x:g} {y:g})">{edges}{tip}</g>'
