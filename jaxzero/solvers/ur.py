"""The Royal Game of Ur with 1 to 3 pieces a side, solved by value iteration in numpy; the limit of plies is left out.

A side stands in one of C ways (its squares, and how many wait): 16, 122 or 592 of them with 1, 2 or 3 pieces. One
table of 2·C² + 1 numbers holds all that a move can lead to, as the probability that who moves wins:

    entry i·C + j         standing in way i against j, they are to roll (a rosette)
    entry C² + j·C + i    the other is: one less entry j·C + i
    entry 2·C²            -1: not a move

Pieces that are home stay there, so only positions with the same numbers of them at home lead to each other, and the
game is solved from its end. The rules are written anew here, so that `envs.ur` can be tested by them.

Letters: C ways, N positions, K pieces a side.
"""

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np

MOST = 3
HOME = 15
ROLLS = np.array([1, 4, 6, 4, 1]) / 16
TOLERANCE = 1e-12  # a probability changes by no more in the last sweep


@dataclasses.dataclass(frozen=True)
class Solution:
    """What `solve` gives. Probabilities are of a win of the player to move, when both play their best."""

    pieces: int
    numbers: np.ndarray  # i64[K + 1, 2^15]  number of a way, by how many wait and the set of squares; -1 none
    moved: np.ndarray  # i64[K, 4, C]  way after that piece (in the env's order) moved by 1 to 4; -1 not a move
    target: np.ndarray  # i64[K, 4, C]  where it lands
    hit: np.ndarray  # i64[16, C]  way after the other landed on that square
    table: np.ndarray  # f64[2·C² + 1]  see above

    def wins(self) -> np.ndarray:
        """f64[C, C]: to roll in one way against another; without meaning where both stand on one shared square."""
        ways = self.hit.shape[1]
        return self.table[: ways**2].reshape(ways, ways)

    def entries(self, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """Ways of the mover and the other, i64[N] -> entries by action (last: to pass) and roll, i64[K + 1, 5, N]."""
        ways, moved, target = self.hit.shape[1], self.moved[..., mine], self.target[..., mine]
        hit = self.hit[target, theirs]
        again = np.isin(target, (4, 8, 14))
        illegal = (moved < 0) | ((target == 8) & (hit != theirs))
        entries = np.full((self.pieces + 1, 5, len(mine)), 2 * ways**2)
        entries[:-1, 1:] = np.where(again, moved * ways + hit, ways**2 + hit * ways + moved)
        entries[:-1, 1:][illegal] = 2 * ways**2
        stuck = (entries == 2 * ways**2).all(0)
        entries[-1] = np.where(stuck, ways**2 + theirs * ways + mine, 2 * ways**2)
        return entries

    def action_values(self, states: Any) -> np.ndarray:
        """Decisions of `envs.ur`, a batch -> f64[N, K + 1], the probability after each action; NaN is not legal."""
        entries = self.entries(*self.ways(states))[:, np.asarray(states.roll), np.arange(len(states.roll))].T
        return np.where(self.table[entries] < 0, np.nan, self.table[entries])

    def win_probability(self, states: Any) -> np.ndarray:
        """States of `envs.ur`, a batch -> f64[N]; a draw counts half. As a value in [-1, 1] it is 2·p - 1."""
        mine, theirs = self.ways(states)
        ended = np.where(theirs == self.numbers[0, 0], 0.0, 0.5)
        decided = np.nan_to_num(self.action_values(states)).max(-1)
        return np.where(states.terminated, ended, np.where(states.chance, self.wins()[mine, theirs], decided))

    def ways(self, states: Any) -> tuple[np.ndarray, np.ndarray]:
        """Of the mover and of the other, i64[N]."""
        ways = self.numbers[np.asarray(states.waiting), np.asarray(states.path)]
        return ways[:, 0], ways[:, 1]


@functools.cache
def solve(pieces: int) -> Solution:
    """Takes 0.1, 0.3 and 4 seconds of one core with 1, 2 and 3 pieces.

    Raises:
        ValueError: more than 3 pieces.
    """
    if pieces not in range(1, MOST + 1):
        raise ValueError(f"the solver of ur takes 1 to {MOST} pieces, not {pieces!r}")
    ways, solution = rules(pieces)
    home = np.array([pieces - wait - len(squares) for squares, wait in ways])
    walked = np.array([sum(squares) for squares, _ in ways])
    mine, theirs = (side.reshape(-1) for side in np.indices((len(ways), len(ways))))
    most, least = np.maximum(home[mine], home[theirs]), np.minimum(home[mine], home[theirs])
    open_positions = ~np.isnan(solution.table[: len(mine)]) & (most < pieces)
    for phase in sorted(itertools.combinations_with_replacement(range(pieces), 2), key=sum, reverse=True):
        here = np.flatnonzero(open_positions & (least == phase[0]) & (most == phase[1]))
        progress = walked[mine[here]] + walked[theirs[here]]
        iterate(solution, [here[progress == p] for p in np.unique(progress)[::-1]])
    return solution


def iterate(solution: Solution, blocks: list[np.ndarray]) -> None:
    """Solves the positions of these entries, where moves lead to what is solved already, or back to them.

    They come by the squares walked, most first: only a hit leads from a block to a later one, so that one sweep
    carries values far; changes shrink by a third from sweep to sweep.
    """
    table, ways = solution.table, solution.hit.shape[1]
    moves = [solution.entries(*np.divmod(block, ways)) for block in blocks]
    change = 1.0
    while change > TOLERANCE:
        change = 0.0
        for block, entries in zip(blocks, moves, strict=True):
            wins = ROLLS @ table[entries].max(0)
            change = max(change, np.abs(wins - table[block]).max())
            table[block], table[ways**2 + block] = wins, 1 - wins


def rules(pieces: int) -> tuple[list[tuple[tuple[int, ...], int]], Solution]:
    """All ways (squares, how many wait), and the unsolved game."""
    ways = [
        (squares, wait)
        for count in range(pieces + 1)
        for squares in itertools.combinations(range(1, HOME), count)
        for wait in range(pieces - count + 1)
    ]
    number = {way: i for i, way in enumerate(ways)}
    numbers = np.full((pieces + 1, 1 << HOME), -1)
    moved, target = np.full((2, pieces, 4, len(ways)), -1)
    hit = np.repeat(np.arange(len(ways))[None], HOME + 1, 0)
    for i, (squares, wait) in enumerate(ways):
        numbers[wait, sum(1 << square for square in squares)] = i
        for square in set(squares) & set(range(5, 13)):
            hit[square, i] = number[tuple(s for s in squares if s != square), wait + 1]
        starts = ([0] if wait else []) + list(squares)
        for start, roll in itertools.product(starts, range(1, 5)):
            rest, end = [s for s in squares if s != start], start + roll
            piece = 0 if start == 0 else wait + squares.index(start)
            if end <= HOME and end not in rest:
                way = tuple(sorted([*rest, end] if end < HOME else rest)), wait - (start == 0)
                moved[piece, roll - 1, i], target[piece, roll - 1, i] = number[way], end
    shared = np.array([sum(1 << square for square in squares if 5 <= square <= 12) for squares, _ in ways])
    wins = np.where(np.bitwise_and.outer(shared, shared) == 0, 0.5, np.nan)  # a guess to begin with
    wins[numbers[0, 0]], wins[:, numbers[0, 0]] = np.nan, 0  # all home: has won, never rolls again
    table = np.concatenate([wins.reshape(-1), 1 - wins.reshape(-1), [-1]])
    return ways, Solution(pieces, numbers, moved, target, hit, table)
