"""Games of open_spiel 2.0 as judges. Where its rules, numbers of actions or options differ is said in each class."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyspiel

from envs.backgammon import PASS, ROLLS
from envs.game_2048 import ACTIONS, exponents
from envs.judges import Judge, NoJudgeError, RulesDifferError


@functools.cache
def load(game: str, **options: Any) -> pyspiel.Game:
    return pyspiel.load_game(game, options)


class OpenSpiel:
    """A game whose actions are numbered as here. `limit` is ours: after so many plies nobody wins."""

    def __init__(self, game: str, limit: int, **options: Any):
        self.state = load(game, **options).new_initial_state()
        self.limit, self.plies = limit, 0

    def legal(self) -> set[int]:
        return set(self.state.legal_actions())

    def player(self) -> int:
        return self.state.current_player()

    def terminated(self) -> bool:
        return self.state.is_terminal() or self.plies >= self.limit

    def rewards(self) -> list[float]:
        return self.state.returns()  # nothing is earned before the end

    def play(self, action: int) -> None:
        self.plies += 1
        self.state.apply_action(action)


class Hex(OpenSpiel):
    """To swap is to exchange the players and the two directions: its board stays, only our names for it change."""

    def __init__(self, size: int, swap: bool, limit: int):
        super().__init__("hex", limit, board_size=size)
        self.size, self.swap, self.swapped = size, swap, False

    def named(self, cell: int) -> int:
        return cell % self.size * self.size + cell // self.size if self.swapped else cell

    def legal(self) -> set[int]:
        cells = {self.named(cell) for cell in self.state.legal_actions()}
        return cells | ({self.size**2} if self.swap and self.plies == 1 else set())

    def player(self) -> int:
        return self.state.current_player() ^ self.swapped

    def rewards(self) -> list[float]:
        return self.state.returns()[:: -1 if self.swapped else 1]

    def play(self, action: int) -> None:
        if action < self.size**2:
            return super().play(self.named(action))
        self.swapped, self.plies = True, self.plies + 1


class Breakthrough(OpenSpiel):
    """Its first player is black and moves down its board, ours moves up: ranks are counted from the other side. The
    numbering of actions differs too, so moves are compared as written."""

    def __init__(self, rows: int, columns: int, limit: int):
        super().__init__("breakthrough", limit, rows=rows, columns=columns)
        self.rows, self.columns = rows, columns
        self.known: dict[int, int] = {}

    def ours(self, action: int) -> int:
        """Our number of an action of theirs, read from its text as in `a7b6` or `a7b6*`."""
        text = self.state.action_to_string(action)
        column, rank, to = ord(text[0]) - ord("a"), int(text[1]), ord(text[2]) - ord("a")
        row = self.rows - rank  # from their top
        if self.player() == 0:  # black moves down: turn the rows round
            row = self.rows - 1 - row
        return (row * self.columns + column) * 3 + to - column + 1

    def legal(self) -> set[int]:
        self.known = {self.ours(action): action for action in self.state.legal_actions()}
        return set(self.known)

    def play(self, action: int) -> None:
        super().play(self.known[action])


class Go(OpenSpiel):
    """Its first point is the lower left corner, ours the upper left.

    It knows the simple ko; a move that repeats an older position, with the same player to move, ends its game as a
    draw. Ours goes on with `ko="simple"`, so that the comparison ends there. `ko="positional"` forbids a move that
    repeats the stones, whoever moves next (after a pass it may be the other player): so its boards are compared."""

    def __init__(self, size: int, komi: float, positional: bool, limit: int):
        super().__init__("go", limit, board_size=size, komi=komi, max_game_length=limit)
        self.size, self.positional = size, positional
        self.seen = {board_of(self.state)}

    def repeats(self, state: pyspiel.State) -> bool:
        """A stone ends its game only by a repetition or at the limit."""
        return state.is_terminal() and state.history()[-1] < self.size**2 and len(state.history()) < self.limit

    def legal(self) -> set[int]:
        moves = self.state.legal_actions()
        if self.positional:
            moves = [
                move for move in moves if move == self.size**2 or board_of(self.state.child(move)) not in self.seen
            ]
        return {turned(move, self.size) for move in moves}

    def play(self, action: int) -> None:
        super().play(turned(action, self.size))
        if self.repeats(self.state):
            raise RulesDifferError
        self.seen.add(board_of(self.state))


def board_of(state: pyspiel.State) -> str:
    """Its stones as text; the line before tells the mover and the length of the game."""
    return str(state).partition("\n")[2]


def turned(action: int, size: int) -> int:
    """An action with the rows of the board in the other order."""
    return action if action == size**2 else (size - 1 - action // size) * size + action % size


RAYS = [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)]
JUMPS = [(1, 2), (2, 1), (2, -1), (1, -2), (-1, -2), (-2, -1), (-2, 1), (-1, 2)]


def chess_action(origin: tuple[int, int], goal: tuple[int, int], promotion: str, white: bool) -> int:
    """The action of a move between squares (file, rank), from the description of the planes alone; `promotion` a
    letter of nbrq or none."""
    file, rank = origin[0], origin[1] if white else 7 - origin[1]
    files, ranks = goal[0] - origin[0], (goal[1] - origin[1]) * (1 if white else -1)
    square = 8 * rank + file
    if promotion not in ("", "q"):
        return 73 * square + 64 + 3 * "nbr".index(promotion) + files + 1
    if (files, ranks) in JUMPS:
        return 73 * square + 56 + JUMPS.index((files, ranks))
    distance = max(abs(files), abs(ranks))
    return 73 * square + 8 * (distance - 1) + RAYS.index((files // distance, ranks // distance))


class Chess(OpenSpiel):
    """Its actions are numbered otherwise. It ends games as ours does: the third repetition, 100 plies."""

    numbers: dict[tuple[int, bool], int] = {}  # by their number and whether white moves

    def __init__(self, limit: int):
        super().__init__("chess", limit)
        self.known: dict[int, int] = {}

    def ours(self, action: int, white: bool) -> int:
        if (action, white) in self.numbers:
            return self.numbers[action, white]
        state: Any = self.state
        move = pyspiel.chess.action_to_move(action, state.board())
        ends = (move.from_square.x, move.from_square.y), (move.to_square.x, move.to_square.y)
        kinds = {pyspiel.chess.PieceType.KNIGHT: "n", pyspiel.chess.PieceType.BISHOP: "b"}
        kinds[pyspiel.chess.PieceType.ROOK] = "r"
        return self.numbers.setdefault((action, white), chess_action(*ends, kinds.get(move.promotion_type, ""), white))

    def player(self) -> int:
        return 1 - self.state.current_player()  # its white is player 1

    def rewards(self) -> list[float]:
        return self.state.returns()[::-1]

    def legal(self) -> set[int]:
        white = self.player() == 0
        self.known = {self.ours(action, white): action for action in self.state.legal_actions()}
        return set(self.known)

    def play(self, action: int) -> None:
        super().play(self.known[action])


THEIRS = {"up": 0, "right": 1, "down": 2, "left": 3}


class Game2048(OpenSpiel):
    """Its game ends at the tile 2048, which random play does not reach, and it numbers moves otherwise. Its list of
    legal moves (2.0.2) leaves out merges of a tile that the last move made, so here a move is legal that changes its
    board; spawns, merges, points and the end are as ours."""

    def __init__(self, limit: int, start: Any):
        super().__init__("2048", limit)
        self.earned: list[float] = []
        for square, exponent in enumerate(np.asarray(exponents(start)).tolist()):
            if exponent:
                self.resolve(2 * square + exponent - 1)

    def legal(self) -> set[int]:
        return {a for a, name in enumerate(ACTIONS) if str(self.state.child(THEIRS[name])) != str(self.state)}

    def rewards(self) -> list[float]:
        return self.earned

    def play(self, action: int) -> None:
        super().play(THEIRS[ACTIONS[action]])
        self.earned = self.state.rewards()

    def resolve(self, outcome: int) -> None:
        self.state.apply_action(outcome)


DIGITS, BAR_DIGIT, PASS_DIGIT = 26, 24, 25  # an action is second · 26 + first, + 676 if the smaller die comes first


class Backgammon(OpenSpiel):
    """It plays two checkers with one action (of four equal dice, two and two). Its actions are taken apart into ours,
    in every order that it lists, so that legal sets are compared after each checker. Ours ends the game with the last
    checker borne off, and a pass after one checker of two is an action of its own."""

    def __init__(self, gammons: bool, limit: int, start: Any):
        scoring = "full_scoring" if gammons else "winloss_scoring"
        super().__init__("backgammon", limit, scoring_type=scoring, max_player_turns=100_000)
        self.most = 3 if gammons else 1
        self.passes = False
        self.roll(start.dice)

    def roll(self, dice: Any) -> None:
        """The first roll names the player who starts, too: ours is their X, who comes first in each pair."""
        wanted = f"(roll: {min(dice)}{max(dice)})"
        outcome = next(a for a, _ in self.state.chance_outcomes() if wanted in self.state.action_to_string(a))
        self.state.apply_action(outcome)
        self.dice = int(max(dice)), int(min(dice))
        self.next_move()

    def next_move(self) -> None:
        """Lists its legal actions by the checkers that they move."""
        self.played: tuple[int, ...] = ()
        self.lines: dict[tuple[int, ...], int] = {}
        if self.state.is_terminal() or self.state.is_chance_node():
            return
        for action in self.state.legal_actions():
            pair = action % (DIGITS * DIGITS)
            dice = self.dice if action < DIGITS * DIGITS else self.dice[::-1]
            digits = pair % DIGITS, pair // DIGITS
            moves = (self.move(digit, die) for digit, die in zip(digits, dice, strict=True) if digit != PASS_DIGIT)
            self.lines[tuple(moves)] = action

    def move(self, digit: int, die: int) -> int:
        index = 24 if digit == BAR_DIGIT else 23 - digit if self.state.current_player() == 0 else digit
        return 6 * index + die - 1

    def legal(self) -> set[int]:
        n = len(self.played)
        on = {line[n] for line in self.lines if len(line) > n and line[:n] == self.played}
        return {PASS} if self.passes or not on else on

    def player(self) -> int:
        return self.mover if self.passes else self.state.current_player()

    def rewards(self) -> list[float]:
        return [float(np.float32(points / self.most)) for points in self.state.returns()]

    def play(self, action: int) -> None:
        self.plies += 1
        if action == PASS:
            while not self.state.is_chance_node():  # the second half of four equal dice
                (only,) = self.state.legal_actions()
                assert only % (DIGITS * DIGITS) == PASS_DIGIT * (DIGITS + 1), "only one side must pass"
                self.state.apply_action(only)
            self.passes = False
            return
        self.mover = self.state.current_player()
        self.played += (action,)
        if any(len(line) > len(self.played) and line[: len(self.played)] == self.played for line in self.lines):
            return
        self.passes = len(self.played) == 1
        self.state.apply_action(self.lines[self.played])
        self.next_move()

    def resolve(self, outcome: int) -> None:
        self.roll(ROLLS[outcome])


def unless(reason: str | None, judge: Callable[..., Judge]) -> Callable[..., Judge]:
    if reason:
        raise NoJudgeError(f"open_spiel has no {reason}")
    return judge


JUDGES: dict[str, Callable[[Any], Callable[..., Judge]]] = {
    "tic_tac_toe": lambda env: partial(OpenSpiel, "tic_tac_toe", env.max_plies),
    "connect_four": lambda env: partial(OpenSpiel, "connect_four", env.max_plies),
    "othello": lambda env: unless(
        "board of that size" if env.size != 8 else None, partial(OpenSpiel, "othello", env.max_plies)
    ),
    "gomoku": lambda env: unless(
        "rule of exactly five" if env.exact_five else None, partial(OpenSpiel, "gomoku", env.max_plies, size=env.size)
    ),
    "hex": lambda env: partial(Hex, env.size, env.swap, env.max_plies),
    "breakthrough": lambda env: unless(
        "two rows of pieces on so few" if env.rows < 6 else None,
        partial(Breakthrough, env.rows, env.columns, env.max_plies),
    ),
    "go": lambda env: partial(Go, env.size, env.komi, env.ko == "positional", env.max_plies),
    "chess": lambda env: partial(Chess, env.max_plies),
    "2048": lambda env: partial(Game2048, env.max_plies),
    "backgammon": lambda env: partial(Backgammon, env.gammons, env.max_plies),
}
