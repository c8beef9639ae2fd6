"""Hex solved by search over bitboards, up to 4 × 4: who wins after each move. Bit i of a board is cell i.

Solver(4, swap=True).move_values(0, 0, player=0)   # {0: -1, 1: -1, …}: 1 = the mover wins after that move
"""

import functools

import numpy as np

from envs.hex import State


class HexSolver:
    """Values of moves on one board; positions once searched are remembered."""

    def __init__(self, size: int, swap: bool = False):
        if not 2 <= size <= 4:
            raise ValueError(f"the Hex solver takes boards of size 2 to 4, not {size}")
        self.size, self.swap = size, swap
        self.full = (1 << size * size) - 1
        column = sum(1 << row * size for row in range(size))
        row = (1 << size) - 1
        self.not_left, self.not_right = self.full & ~column, self.full & ~(column << size - 1)
        self.edges = (row, row << size * (size - 1)), (column, column << size - 1)  # (first, second) of each player
        middle = (size - 1) / 2
        cells = range(size * size)
        self.order = sorted(cells, key=lambda a: abs(a // size - middle) + abs(a % size - middle))  # strong moves first
        self.joined = functools.cache(self.joined)
        self.wins = functools.cache(self.wins)

    def neighbours(self, stones: int) -> int:
        """The stones and all cells beside them."""
        n, left, right = self.size, stones & self.not_left, stones & self.not_right
        return (
            stones | left >> 1 | right << 1 | stones >> n | stones << n | right >> n - 1 | left << n - 1
        ) & self.full

    def joined(self, stones: int, player: int) -> bool:
        """Whether the stones join the player's edges."""
        first, second = self.edges[player]
        reached = stones & first
        while (wider := self.neighbours(reached) & stones) != reached:
            reached = wider
        return reached & second != 0

    def wins(self, mine: int, theirs: int, player: int) -> bool:
        """Whether `player`, who is to move and owns `mine`, wins; the game is not over."""
        free = [1 << cell for cell in self.order if not (mine | theirs) >> cell & 1]
        if any(self.joined(mine | bit, player) for bit in free):
            return True
        threats = [bit for bit in free if self.joined(theirs | bit, 1 - player)]
        if threats:
            free = threats[:1]  # of two threats the other one remains
        return len(threats) < 2 and any(not self.wins(theirs, mine | bit, 1 - player) for bit in free)

    def move_values(self, first: int, second: int, player: int) -> dict[int, int]:
        """The value for the mover, 1 or -1, of each legal action, swap (size²) included; boards of players 0 and 1."""
        mine, theirs = (first, second) if player == 0 else (second, first)
        values = {}
        for cell in range(self.size**2):
            if (first | second) >> cell & 1:
                continue
            after = mine | 1 << cell
            if self.joined(after, player):
                lost = False
            elif self.swap and not first | second:  # the reply may be a swap
                lost = max(self.move_values(after, 0, 1).values()) > 0
            else:
                lost = self.wins(theirs, after, 1 - player)
            values[cell] = -1 if lost else 1
        if self.swap and player == 1 and not second and first.bit_count() == 1:
            row, column = divmod(first.bit_length() - 1, self.size)
            values[self.size**2] = -1 if self.wins(0, 1 << column * self.size + row, 0) else 1
        return values

    def state_values(self, state: State) -> dict[int, int]:
        """`move_values` of a live position of `envs.hex`."""
        signs = np.sign(np.asarray(state.groups)).tolist()
        first, second = (sum(1 << cell for cell, sign in enumerate(signs) if sign == side) for side in (1, -1))
        return self.move_values(first, second, int(state.player))
