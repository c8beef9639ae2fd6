"""Backgammon without a doubling cube. Dice are chance outcomes; a turn is one to four actions of one checker each.

Rule differences: open_spiel plays two checkers with one action; here each is an action of its own, as is a pass after
one of them. A game of `max_plies` actions is a draw.

Points are numbered as the mover counts them: checkers go down from 24 to 1 and then off, and enter from the bar, 25.
Action = 6 · (point - 1) + die - 1 moves a checker from that point (25: the bar) by that die; action 150 passes, legal
only when nothing moves. The turn goes on until no die is left or the player passes. Of two different dice both are
played if that is possible, else the larger if that is possible: the first action of a turn must leave the second one
possible. (Four equal dice need no such care: a move never takes another move away, so any order plays as many.)
Player 0 begins, with a first roll of two different dice. Outcomes are the 21 rolls, `ROLLS`.

The winner earns 1, or with `gammons` a third of 1, of 2 for a gammon (the loser has borne nothing off), or of 3 for a
backgammon (and has a checker on the bar or in the winner's home).

Checkers are counted in binary across four words: bit p - 1 of word k is bit k of the number of checkers on point p. A
few operations on words read, or add to, all points at once.
"""

import dataclasses
import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import Env, earned, where
from envs.host import parse_action
from envs.svg import CELL, cell_center, disc, dot

BAR = 24  # index of the bar; a point's index is its number - 1
PASS = 150
CHECKERS = 15
POINTS = (1 << 24) - 1
HOME = (1 << 6) - 1
START = {24: 2, 13: 5, 8: 3, 6: 5}
ROLLS = np.array([(a, b) for a, b in itertools.product(range(1, 7), repeat=2) if a >= b], np.uint8)  # [21, 2]
LOG_ODDS = np.log(np.where(ROLLS[:, 0] == ROLLS[:, 1], 1 / 36, 2 / 36)).astype(np.float32)
FIRST_ROLLS = np.flatnonzero(ROLLS[:, 0] != ROLLS[:, 1])

Side = jax.Array  # u32[4]  checkers of one player, as that player counts the points


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    mover: jax.Array  # u32[4]  checkers of `player`: bit k of the number on point p in bit p - 1 of word k, 25 the bar
    other: jax.Array  # u32[4]  those of the other, as the other counts the points
    dice: jax.Array  # u8[2]  still to be played, the larger first; 0 none
    left: jax.Array  # u8[]  moves left in this turn; equal dice stand for that many
    plies: jax.Array  # u16[]  actions played
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]
    chance: jax.Array  # bool[]


def side(counts: dict[int, int]) -> np.ndarray:
    """Packs the numbers of checkers by point into a `Side` u32[4]."""
    return np.array([sum((n >> k & 1) << p - 1 for p, n in counts.items()) for k in range(4)], np.uint32)


def occupied(checkers: Side) -> jax.Array:
    """The points with a checker, one bit each."""
    return checkers[0] | checkers[1] | checkers[2] | checkers[3]


def blocked(other: Side) -> jax.Array:
    """The points, as the mover counts them, where the other has two checkers or more."""
    return turned_round(other[1] | other[2] | other[3])


def turned_round(points: jax.Array) -> jax.Array:
    """Points 1–24 as the other player counts them; the bar is dropped."""
    points = points << 8
    for width, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF)):
        points = (points & mask) << width | points >> width & mask
    return points << 16 | points >> 16


def added(checkers: Side, point: jax.Array) -> Side:
    """One checker more on `point` (one bit, or 0: nowhere)."""
    words = []
    for k in range(4):
        words.append(checkers[k] ^ point)
        point = checkers[k] & point
    return jnp.stack(words)


def removed(checkers: Side, point: jax.Array) -> Side:
    """One checker less on `point` (one bit, or 0: nowhere)."""
    words = []
    for k in range(4):
        words.append(checkers[k] ^ point)
        point = ~checkers[k] & point
    return jnp.stack(words)


def number(checkers: Side) -> jax.Array:
    """i32[]: checkers on the board and the bar."""
    return (jax.lax.population_count(checkers).astype(jnp.int32) << np.arange(4, dtype=np.int32)).sum(dtype=jnp.int32)


def highest(points: jax.Array) -> jax.Array:
    """x with only its highest bit; 0 for 0."""
    for shift in (1, 2, 4, 8, 16):
        points |= points >> shift
    return points ^ points >> 1


def movable(mine: jax.Array, block: jax.Array, die: jax.Array) -> jax.Array:
    """The points of `mine` (those with a checker) from which `die` u32[] may be played, one bit each."""
    inside = mine & ~(block << die) & ~((jnp.uint32(1) << die) - 1)
    exact = mine & jnp.uint32(1) << die - 1
    off = jnp.where(mine >> die == 0, highest(mine), exact)
    off = jnp.where(mine & ~HOME == 0, off, 0)
    return (inside | off) & jnp.where(mine >> BAR == 0, POINTS, 1 << BAR).astype(jnp.uint32)


def followed(mover: Side, block: jax.Array, die: jax.Array, second: jax.Array) -> jax.Array:
    """The points from which `die` may be played so that `second` can be played next."""
    mine = occupied(mover)
    several = mover[1] | mover[2] | mover[3]
    first = movable(mine, block, die)
    point = jnp.uint32(1) << np.arange(BAR + 1, dtype=np.uint32)
    after = mine & ~(point & ~several) | point >> die
    return first & jnp.where(movable(after, block, second) != 0, point, 0).sum(dtype=jnp.uint32)


def sources(state: State) -> tuple[jax.Array, jax.Array]:
    """The points from which the larger and the smaller die may be played, one bit each."""
    mine, block = occupied(state.mover), blocked(state.other)
    large, small = (state.dice[i].astype(jnp.uint32) for i in (0, 1))
    either = movable(mine, block, large), movable(mine, block, small)
    both = followed(state.mover, block, large, small), followed(state.mover, block, small, large)
    choice = large != small
    care = choice & (both[0] | both[1] != 0)
    first = jnp.where(care, both[0], either[0])
    second = jnp.where(care, both[1], jnp.where(choice & (either[0] != 0), 0, either[1]))
    return first, second


@dataclasses.dataclass(frozen=True)
class Backgammon(Env):
    """`gammons=False`: every win counts 1."""

    gammons: bool = True
    max_plies: int = 1024

    name = "backgammon"
    marks = ("X", "O")
    num_actions = PASS + 1
    observation_shape = (208,)
    max_legal = 30
    num_outcomes = len(ROLLS)

    def __post_init__(self):
        if not 1 <= self.max_plies < 1 << 16:
            raise ValueError(f"backgammon: max_plies is 1 to 65535, got {self.max_plies}")

    def init(self, key: jax.Array) -> State:
        first = (jax.random.uniform(key) * len(FIRST_ROLLS)).astype(jnp.int32)
        begin = jnp.asarray(side(START))
        dice = jnp.asarray(ROLLS[FIRST_ROLLS])[first]
        no = jnp.bool(False)
        return State(begin, begin, dice, jnp.uint8(2), jnp.uint16(0), jnp.int8(0), no, jnp.zeros(2), no)

    def step(self, state: State, action: jax.Array) -> State:
        passes = action == PASS
        die = (action % 6 + 1).astype(jnp.uint32)
        source = jnp.where(passes, 0, jnp.uint32(1) << (action // 6).astype(jnp.uint32))
        target = source >> die
        hit = turned_round(target) & occupied(state.other)
        mover = added(removed(state.mover, source), target)
        other = added(removed(state.other, hit), jnp.where(hit != 0, 1 << BAR, 0).astype(jnp.uint32))
        won = occupied(mover) == 0
        plies = state.plies + jnp.uint16(1)
        over = won | (plies >= self.max_plies)
        done = passes | (state.left == 1) | over
        left = jnp.where(done, 0, state.left - 1).astype(jnp.uint8)
        rest = jnp.where(state.dice[0] == die, state.dice[1], state.dice[0])
        dice = jnp.where(done, 0, jnp.stack([rest, rest])).astype(jnp.uint8)
        points = self.points(other)
        rewards = jnp.where(won, jnp.where(jnp.arange(2) == state.player, points, -points), 0)
        turn = done & ~over
        player = jnp.where(turn, 1 - state.player, state.player).astype(jnp.int8)
        mover, other = jnp.where(turn, other, mover), jnp.where(turn, mover, other)
        after = State(mover, other, dice, left, plies, player, over, rewards, turn)
        return where(state.terminated, dataclasses.replace(state, rewards=jnp.zeros(2)), after)

    def points(self, loser: Side) -> jax.Array:
        """f32[]: what the winner earns."""
        if not self.gammons:
            return jnp.float32(1)
        gammon = number(loser) == CHECKERS
        return (1 + gammon + (gammon & (occupied(loser) >> 18 != 0))).astype(jnp.float32) * np.float32(1 / 3)

    def legal_actions(self, state: State) -> jax.Array:
        large, small = sources(state)
        dice = np.arange(1, 7, dtype=np.uint8)
        by_die = jnp.where(state.dice[0] == dice, large, 0) | jnp.where(state.dice[1] == dice, small, 0)
        moves = (by_die[None] >> np.arange(BAR + 1, dtype=np.uint32)[:, None] & 1 == 1).reshape(PASS)
        return state.terminated | jnp.append(moves, large | small == 0)

    def outcome_logits(self, state: State) -> jax.Array:
        return jnp.asarray(LOG_ODDS)

    def resolve(self, state: State, outcome: jax.Array) -> State:
        dice = jnp.asarray(ROLLS)[outcome]
        left = jnp.where(dice[0] == dice[1], 4, 2).astype(jnp.uint8)
        return where(state.chance, dataclasses.replace(state, dice=dice, left=left, chance=jnp.bool(False)), state)

    def observe(self, state: State) -> jax.Array:
        """Points as the mover counts them. Mover's 25 points × 4 numbers, where n checkers are n ≥ 1, n ≥ 2, n ≥ 3,
        (n - 3) / 2 (the bar last); the same of the other, whose bar is last too; checkers borne off by each, / 15;
        for each die 1–6 the times it may still be played, / 4."""
        index = np.arange(BAR + 1, dtype=np.uint32)
        bits = jnp.stack([state.mover, state.other])[:, :, None] >> index[None, None] & 1  # [2, 4, 25]
        n = (bits << np.arange(4, dtype=np.uint32)[None, :, None]).sum(1).astype(jnp.float32)
        n = n.at[1, :BAR].set(n[1, :BAR][::-1])
        steps = [(n >= k).astype(jnp.float32) for k in (1, 2, 3)]
        planes = jnp.stack([*steps, jnp.maximum(n - 3, 0) / 2], -1)
        off = (CHECKERS - n.sum(1)) * np.float32(1 / CHECKERS)
        faces = np.arange(1, 7, dtype=np.uint8)
        equal = state.dice[0] == state.dice[1]
        times = jnp.where(equal, state.left, 1) * (state.dice[:, None] == faces[None]).any(0)
        return jnp.concatenate([planes.reshape(200), off, times.astype(jnp.float32) / 4])

    def action_to_str(self, state: State, action: int) -> str:
        """`13/8`, `bar/21`, `6/off`; `4/off(6)` with a die larger than needed; `pass`."""
        if action == PASS:
            return "pass"
        point, die = action // 6 + 1, action % 6 + 1
        source = "bar" if point == BAR + 1 else str(point)
        if point > die:
            return f"{source}/{point - die}"
        return f"{source}/off" + (f"({die})" if point < die else "")

    def action_from_str(self, state: State, text: str) -> int:
        return parse_action(self, state, text)

    def to_text(self, state: State) -> str:
        """Checkers of player 0, of player 1, as `point:number`, each as that player counts; then who moves what."""
        sides = (state.mover, state.other) if state.player == 0 else (state.other, state.mover)
        lines = [f"{i}: " + " ".join(f"{p}:{n}" for p, n in counts(s).items()) for i, s in enumerate(sides)]
        due = "over" if state.terminated else "rolls" if state.chance else f"has {moves_left(state)}"
        return "\n".join([*(line.strip() for line in lines), f"{state.player} {due} ply {state.plies}"])

    def from_text(self, text: str) -> State:
        stones = r"((?:\s+\d{1,2}:\d{1,2})*)\s+"
        match = re.fullmatch(rf"0:{stones}1:{stones}([01]) (?:(over|rolls)|has ([1-6]+)) ply (\d{{1,5}})", text.strip())
        if not match:
            raise ValueError(f"backgammon: a position is '0: 24:2 …', '1: 24:2 …', '0 has 52 ply 0', got {text!r}")
        sides = [{int(p): int(n) for p, n in (item.split(":") for item in match[i].split())} for i in (1, 2)]
        player, due, dice, plies = int(match[3]), match[4], match[5] or "", int(match[6])
        for points in sides:
            if set(points) - set(range(1, 26)) or 0 in points.values() or sum(points.values()) > CHECKERS:
                raise ValueError(f"backgammon: a side has up to 15 checkers on points 1 to 25 (the bar), got {points}")
        if both := [p for p in range(1, 25) if p in sides[0] and 25 - p in sides[1]]:
            raise ValueError(f"backgammon: both sides have checkers on point {both[0]} in {text!r}")
        if len(dice) > 4 or (len(set(dice)) > 1 and (len(dice) > 2 or dice[0] < dice[1])):
            raise ValueError(f"backgammon: {dice!r} are no dice of a turn (two, the larger first, or up to four equal)")
        if plies > self.max_plies or (due == "over") != (plies == self.max_plies or not all(sides)):
            raise ValueError(f"backgammon: over or not? {text!r}")
        mover, other = (jnp.asarray(side(sides[i])) for i in (player, 1 - player))
        pair = jnp.array([int(dice[0]), int(dice[-1 if len(dice) == 2 else 0])] if dice else [0, 0], jnp.uint8)
        points = 0 if sides[player] else self.points(other)
        flags = jnp.bool(due == "over"), earned(points, player), jnp.bool(due == "rolls")
        return State(mover, other, pair, jnp.uint8(len(dice)), jnp.uint16(plies), jnp.int8(player), *flags)

    def to_board(self, state: State) -> str:
        """The points twice numbered, as X (player 0) and as O counts them."""
        sides = (state.mover, state.other) if state.player == 0 else (state.other, state.mover)
        own = [counts(checkers) for checkers in sides]

        def mark(point: int) -> str:
            x, o = own[0].get(point, 0), own[1].get(25 - point, 0)
            return f"X{x}" if x else f"O{o}" if o else "."

        def line(name: str, cells: list[Any]) -> str:
            halves = ["".join(f"{cell:>4}" for cell in half) for half in (cells[:6], cells[6:])]
            return f"{name:>4}{halves[0]}  |{halves[1]}"

        upper, lower = list(range(13, 25)), list(range(12, 0, -1))
        lines = [line("X:", upper), line("O:", lower), line("", [mark(p) for p in upper]), ""]
        lines += [line("", [mark(p) for p in lower]), line("X:", lower), line("O:", upper)]
        off = [CHECKERS - sum(side.values()) for side in own]
        lines += [
            f"{name}: {side.get(25, 0)} on the bar, {n} off" for name, side, n in zip("XO", own, off, strict=True)
        ]
        due = "" if state.terminated or state.chance else f"{'XO'[int(state.player)]} has {moves_left(state)}"
        return "\n".join([*lines, due]).rstrip()

    def to_svg(self, state: State, before: State | None = None) -> str:
        """As player 0 sees it, moving from the upper right to the lower right and off; 0 is light."""
        sides, old = ((s.mover, s.other) if s.player == 0 else (s.other, s.mover) for s in (state, before or state))
        shapes = [f'<path d="{triangle(point)}" fill="{("#b9805a", "#efe2c4")[point % 2]}"/>' for point in range(1, 25)]
        for player in (0, 1):
            here, was = ({0: CHECKERS - sum(n.values())} | n for n in (counts(sides[player]), counts(old[player])))
            for point, n in here.items():
                place = point if player == 0 or point in (0, 25) else 25 - point
                shapes += stack(player, place, n, new=n > was.get(point, 0)) if n else []
        dice = "" if state.terminated or state.chance else moves_left(state)
        for i, die in enumerate(dice):
            x, y = cell_center(5, 10 - (len(dice) + 1) // 2 + i)
            shapes.append(
                f'<rect x="{x - 16:g}" y="{y - 16:g}" width="32" height="32" rx="5" fill="{FILL[state.player]}" '
                f'stroke="#33302a"/>{label(x, y, die, FILL[1 - state.player])}'
            )
        width, height = 14 * CELL, 11 * CELL
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 -4 {width + 8} {height + 8}" width="{width + 8}" '
            f'height="{height + 8}"><rect width="{width}" height="{height}" rx="6" fill="#d9c49a" stroke="#6b6457" '
            f'stroke-width="3"/><path d="M{6 * CELL} 0h{CELL}v{height}h-{CELL}zm{7 * CELL} 0h{CELL}v{height}h-{CELL}z" '
            f'fill="#a88a62"/>{"".join(shapes)}</svg>'
        )


FILL = ("#fbf7ee", "#3a2f2a")


def counts(checkers: Side) -> dict[int, int]:
    """Numbers of checkers by point, the highest point first; host side."""
    words = [int(word) for word in np.asarray(checkers)]
    by_point = {p: sum((word >> p - 1 & 1) << k for k, word in enumerate(words)) for p in range(25, 0, -1)}
    return {p: n for p, n in by_point.items() if n}


def moves_left(state: State) -> str:
    large, small = (str(int(die)) for die in state.dice)
    return large + small if large != small else large * int(state.left)


def column(point: int) -> int:
    """The column of the drawing: 1–12 from right to left, 13–24 back again; the bar (25) and off (0) beside them."""
    if point in (0, 25):
        return 13 if point == 0 else 6
    place = 12 - point if point <= 12 else point - 13
    return place + (place >= 6)


def triangle(point: int) -> str:
    x, up = column(point) * CELL, point <= 12
    return f"M{x} {11 * CELL if up else 0}h{CELL}l{-CELL / 2:g} {-5 * CELL if up else 5 * CELL}z"


def stack(player: int, point: int, n: int, new: bool) -> list[str]:
    """Up to five checkers; of more, the number is written on the last. A dot where one is new."""
    low = (point <= 12) if 0 < point < 25 else (player == (1 if point == 25 else 0))
    rows = [10 - i if low else i for i in range(min(n, 5))]
    shapes = [disc(row, column(point), FILL[player]) for row in rows]
    shapes += [label(*cell_center(rows[-1], column(point)), str(n), FILL[1 - player])] if n > 5 else []
    return shapes + [dot(rows[-1 - (n > 5)], column(point), "#e0483a")] * new


def label(x: float, y: float, text: str, fill: str) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="middle" dy="0.35em" font-family="sans-serif" '
        f'font-weight="bold" font-size="18" fill="{fill}">{text}</text>'
    )
