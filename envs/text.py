"""Boards as text, for games with stones on squares. Rows are written top row first."""

import string
from collections.abc import Sequence

import numpy as np


def square_name(row: int, column: int) -> str:
    """`a1` is column 0 of row 0; a game that counts rows from the bottom reverses `row` first."""
    return f"{string.ascii_lowercase[column]}{row + 1}"


def write_board(board: np.ndarray, *words: str) -> str:
    """Marks [rows, columns] and a last line of words."""
    return "\n".join(["".join(row) for row in board] + [" ".join(words)] * bool(words))


def named_board(rows: Sequence[Sequence[str]], left: Sequence[str], columns: Sequence[str], skew: int = 0) -> str:
    """A board for display: rows named on the left, columns below. With `skew` each row is shifted that much further to
    the right, and columns are named above."""
    width, margin = max(map(len, columns)) + 1, max(map(len, left))

    def line(name: str, marks: Sequence[str], shift: int) -> str:
        return " " * shift + f"{name:>{margin}} " + "".join(f"{mark:>{width}}" for mark in marks)

    lines = [line(name, row, i * skew) for i, (name, row) in enumerate(zip(left, rows, strict=True))]
    names = line("", columns, 0)
    return "\n".join([names, *lines] if skew else [*lines, names])


def letters(n: int) -> str:
    return string.ascii_lowercase[:n]


def numbers(first: int, last: int) -> list[str]:
    """`first` to `last`, up or down."""
    step = 1 if last >= first else -1
    return [str(i) for i in range(first, last + step, step)]


def read_board(
    game: str, text: str, shape: tuple[int, int], marks: str, words: Sequence[int] = (0,), then: str = ""
) -> tuple[np.ndarray, list[str]]:
    """The marks [rows, columns] of a written board, and the words that follow it.

    Args:
        words: how many words may follow.
        then: what they are, for the message.

    Raises:
        ValueError: the text is no such board.
    """
    lines = text.split()
    board, rest = lines[: shape[0]], lines[shape[0] :]
    square = len(board) == shape[0] and all(len(row) == shape[1] for row in board)
    if not square or set("".join(board)) - set(marks) or len(rest) not in words:
        size = f"{shape[0]} rows of {shape[1]} characters {' '.join(marks)}"
        raise ValueError(f"{game}: a position is {size}{then and ', then ' + then}; got {text!r}")
    return np.array([list(row) for row in board]), rest


def changed(board: Sequence[str], before: Sequence[str]) -> list[tuple[int, int]]:
    """(row, column) of the squares where two written boards differ."""
    pairs = enumerate(zip(board, before, strict=True))
    return [(r, c) for r, rows in pairs for c, (mark, old) in enumerate(zip(*rows, strict=True)) if mark != old]
