"""Rules of some games for exported networks, in PyTorch alone: no JAX is needed. `play_torch.py` plays by them.

A game of your own needs the methods and attributes of `Game` alone; its positions need `player` and `result`. Actions,
observations and names are those of the `envs` that networks are trained on.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, -1), (-1, 0), (-1, -1), (-1, 1))  # the second four are opposite


class Position(NamedTuple):
    board: bytes  # rows from the top; 0 = empty, 1 = player 0's, 2 = player 1's
    player: int = 0  # who moves next, 0 or 1
    result: int | None = None  # 1: player 0 has won, -1: player 1, 0: drawn, None: the game goes on


class Game:
    """Rules on a board; action = row · columns + column."""

    def __init__(self, rows: int, columns: int, extra: str = "", upward: bool = False):
        """`extra` names an action after those of the cells; with `upward` the rows are counted from the bottom."""
        if type(rows) is not int or type(columns) is not int or not 3 <= min(rows, columns) <= max(rows, columns) <= 26:
            raise ValueError("a board has 3 to 26 rows and columns")  # named by letters
        self.rows, self.columns, self.cells, self.extra, self.upward = rows, columns, rows * columns, extra, upward
        self.num_actions = self.cells + bool(extra)
        self.observation_shape = (rows, columns, 2)
        self.rays = [[tuple(self.ray(cell, *step)) for step in DIRECTIONS] for cell in range(self.cells)]

    def ray(self, cell: int, down: int, right: int) -> Iterator[int]:
        row, column = divmod(cell, self.columns)
        while 0 <= (row := row + down) < self.rows and 0 <= (column := column + right) < self.columns:
            yield row * self.columns + column

    def start(self) -> Position:
        return Position(bytes(self.cells))

    def legal(self, position: Position) -> list[int]:
        """Legal actions, in order, of a game that goes on."""
        return [cell for cell, stone in enumerate(position.board) if not stone]

    def play(self, position: Position, action: int) -> Position:
        raise NotImplementedError

    def observe(self, positions: Sequence[Position]) -> Tensor:
        """What the network sees, f32[N, *observation_shape]: stones of the mover, stones of the other."""
        boards = torch.frombuffer(bytearray(b"".join(p.board for p in positions)), dtype=torch.uint8)
        boards = boards.view(-1, self.rows, self.columns)
        mine = torch.tensor([p.player + 1 for p in positions], dtype=torch.uint8)[:, None, None]
        return torch.stack([boards == mine, boards == 3 - mine], -1).float()

    def name(self, action: int) -> str:
        if action == self.cells:
            return self.extra
        row, column = divmod(action, self.columns)
        return f"{chr(ord('a') + column)}{self.rows - row if self.upward else row + 1}"

    def show(self, position: Position) -> str:
        marks = [".XO"[stone] for stone in position.board]
        lines = []
        for row in range(self.rows):
            label = self.rows - row if self.upward else row + 1
            lines.append(f"{label:2} " + " ".join(marks[row * self.columns : (row + 1) * self.columns]))
        return "\n".join([*lines, "   " + " ".join(chr(ord("a") + column) for column in range(self.columns))])


class InARow(Game):
    """`length` in a row win; if `exact`, a longer row does not."""

    def __init__(self, rows: int, columns: int, length: int, exact: bool = False):
        super().__init__(rows, columns, upward=True)
        self.length, self.exact = length, exact

    def play(self, position: Position, action: int) -> Position:
        board, stone = bytearray(position.board), position.player + 1
        board[action] = stone
        runs = [len([*itertools.takewhile(lambda c: board[c] == stone, ray)]) for ray in self.rays[action]]
        rows = [1 + runs[i] + runs[i + 4] for i in range(4)]
        won = self.length in rows if self.exact else max(rows) >= self.length
        result = (1 - 2 * position.player) if won else None if 0 in board else 0
        return Position(bytes(board), 1 - position.player, result)


class ConnectFour(InARow):
    """Action = column; columns are written 1 to 7."""

    def __init__(self) -> None:
        super().__init__(6, 7, 4)
        self.num_actions = self.columns

    def legal(self, position: Position) -> list[int]:
        return [column for column in range(self.columns) if not position.board[column]]

    def play(self, position: Position, action: int) -> Position:
        row = position.board[action :: self.columns].count(0) - 1
        return super().play(position, row * self.columns + action)

    def name(self, action: int) -> str:
        return str(action + 1)

    def show(self, position: Position) -> str:
        *rows, _ = super().show(position).split("\n")
        return "\n".join([row[3:] for row in rows] + ["1 2 3 4 5 6 7"])


class Othello(Game):
    """Nobody may pass who can place a disc. The game ends when neither can; more discs win."""

    def __init__(self, size: int = 8):
        super().__init__(size, size, "pass")

    def start(self) -> Position:
        board, middle = bytearray(self.cells), self.rows // 2
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            board[(middle - 1 + row) * self.columns + middle - 1 + column] = 1 if row != column else 2
        return Position(bytes(board))

    def flips(self, board: Sequence[int], cell: int, stone: int) -> list[int]:
        turned: list[int] = []
        for ray in self.rays[cell]:
            run = [*itertools.takewhile(lambda c: board[c] == 3 - stone, ray)]
            if len(run) < len(ray) and board[ray[len(run)]] == stone:
                turned += run
        return turned

    def places(self, board: Sequence[int], stone: int) -> list[int]:
        return [cell for cell in range(self.cells) if not board[cell] and self.flips(board, cell, stone)]

    def legal(self, position: Position) -> list[int]:
        return self.places(position.board, position.player + 1) or [self.cells]

    def play(self, position: Position, action: int) -> Position:
        board, stone = bytearray(position.board), position.player + 1
        if action < self.cells:
            for cell in (action, *self.flips(board, action, stone)):
                board[cell] = stone
        over = not self.places(board, 1) and not self.places(board, 2)
        lead = board.count(1) - board.count(2)
        return Position(bytes(board), 1 - position.player, (lead > 0) - (lead < 0) if over else None)


class Hex(Game):
    """Player 0 joins top and bottom, player 1 left and right. `swap`, as player 1's first reply, makes the stone on the
    board player 1's, mirrored at the main diagonal."""

    def __init__(self, size: int = 11, swap: bool = True):
        super().__init__(size, size, "swap" if swap else "")
        self.observation_shape = (size, size, 3 + bool(swap))

    def may_swap(self, position: Position) -> bool:
        return bool(self.extra) and position.player == 1 and position.board.count(0) == self.cells - 1

    def legal(self, position: Position) -> list[int]:
        return super().legal(position) + [self.cells] * self.may_swap(position)

    def play(self, position: Position, action: int) -> Position:
        board, stone = bytearray(position.board), position.player + 1
        if action == self.cells:
            row, column = divmod(board.index(1), self.columns)
            board, action = bytearray(self.cells), column * self.columns + row
        board[action] = stone
        group, ends = [action], set()
        for cell in group:  # grows while it is walked
            ends.add(divmod(cell, self.columns)[position.player])
            near = [ray[0] for i, ray in enumerate(self.rays[cell]) if ray and i not in (2, 6)]
            group += [c for c in near if board[c] == stone and c not in group]
        won = {0, self.rows - 1} <= ends
        return Position(bytes(board), 1 - position.player, (1 - 2 * position.player) if won else None)

    def observe(self, positions: Sequence[Position]) -> Tensor:
        """As above; the mover joins top and bottom; may swap (only with that rule)."""
        facts = torch.tensor([[p.player == 0, self.may_swap(p)][: 1 + bool(self.extra)] for p in positions])
        facts = facts[:, None, None].expand(-1, self.rows, self.columns, -1)
        return torch.cat([super().observe(positions), facts], -1)

    def show(self, position: Position) -> str:
        *rows, letters = super().show(position).split("\n")
        return "\n".join([letters] + [" " * i + row for i, row in enumerate(rows)])


GAMES: dict[str, Callable[..., Game]] = {
    "tic_tac_toe": lambda: InARow(3, 3, 3),
    "connect_four": ConnectFour,
    "gomoku": lambda size=15, exact_five=False: InARow(size, size, 5, exact_five),
    "othello": Othello,
    "hex": Hex,
}
