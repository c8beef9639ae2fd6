"""Tic-tac-toe solved by negamax over sets of squares; bit a of a set is square a."""

import functools
from typing import Any

import numpy as np

LINES = [sum(1 << square for square in line) for line in (
    (0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6),
)]  # fmt: skip
FULL = (1 << 9) - 1


@functools.cache
def move_values(mine: int, theirs: int) -> dict[int, int]:
    """The value for the mover, who owns `mine`, of each move of a live position: 1 won, 0 drawn, -1 lost."""
    values = {}
    for square in range(9):
        if not (mine | theirs) >> square & 1:
            stones = mine | 1 << square
            if any(stones & line == line for line in LINES):
                values[square] = 1
            elif stones | theirs == FULL:
                values[square] = 0
            else:
                values[square] = -max(move_values(theirs, stones).values())
    return values


def state_values(state: Any) -> dict[int, int]:
    """`move_values` of a live position of `envs.tic_tac_toe`."""
    stones, player = np.asarray(state.stones).tolist(), int(state.player)
    return move_values(stones[player], stones[1 - player])
