"""TRMPH: one game of Hex a line, `#13,a1b2c3… 1` or `http://www.trmph.com/hex/board#13,a1b2c3…`.

The number is the size, moves are column and row (`a1` = top left), `swap` is a move. After a space may stand who won:
`1` or `b` (blue, the first player, joins top and bottom), `2` or `r` (red). Without it the result is what the moves
reach, or unknown if they reach no end. Lines that are empty or begin with `;` are skipped.

TRMPH does not say whether the swap rule holds; here it does, as where these records come from. A game without it ends
its line with `; swap = false`, a comment for others: `#13,a1b2c3 1 ; swap = false`.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

import envs
from envs.hex import Hex
from jaxzero.records.game import Entry, Game, Problem, check_moves

LINE = re.compile(r"(?:https?://(?:www\.)?trmph\.com/hex/board)?#(\d+)(?:,([^\s;]*))?(?:\s+([^\s;]+))?", re.ASCII)
PLAIN = re.compile(rb"#(\d\d?),((?:[a-s][1-9]\d?|swap)*+)(?: ([12br]))?")  # what most lines are
MOVE = re.compile(r"(swap)|([a-s])([1-9]\d?)", re.ASCII)
WITHOUT_SWAP = " ; swap = false"
RESULTS = {"1": (1.0, -1.0), "b": (1.0, -1.0), "2": (-1.0, 1.0), "r": (-1.0, 1.0)}
WINNERS = {None: np.nan} | {name.encode(): result[0] for name, result in RESULTS.items()}


def collect(file: str, text: str, line: int = 1, **given: Any) -> tuple[list[Entry], list[Problem]]:
    """The records of a text that begins in that line of the file, and what is wrong with the others; `given` are
    options of the game that TRMPH does not tell."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for number, words in enumerate(map(str.strip, text.split("\n")), line):
        if words and not words.startswith(";"):
            found = parse_line(file, number, words, **given)
            if isinstance(found, Problem):
                problems.append(found)
            else:
                entries.append(Entry(file, [number] * (len(found.moves) + 1), found))
    return entries, problems


class Columns(NamedTuple):
    """Records with the same options as columns, not yet replayed."""

    options: dict[str, Any]
    lines: np.ndarray  # i64[G]
    moves: np.ndarray  # i16, of all records, one after the other
    offsets: np.ndarray  # i64[G + 1]
    winners: np.ndarray  # f32[G]  what the first player has earned, NaN = not known


def bulk(data: bytes, line: int = 1, **given: Any) -> tuple[list[Columns], list[tuple[int, bytes]]]:
    """The same records as those of `collect`, a hundred times faster -> (records of one form, numbers of the lines that
    have another, with their texts)."""
    alike: dict[bytes, list[tuple[int, re.Match[bytes]]]] = {}
    others = []
    for number, words in enumerate(data.split(b"\n"), line):
        if match := PLAIN.fullmatch(words):
            alike.setdefault(match[1], []).append((number, match))
        elif words and not words.isspace():
            others.append((number, words))
    found = []
    for size, records in alike.items():
        if 3 <= int(size) <= 19:
            columns, strange = converted(int(size), records, given.get("swap", True))
            found.append(columns)
            others += strange
        else:
            others += [(number, match[0]) for number, match in records]
    return found, sorted(others)


def converted(
    size: int, records: list[tuple[int, re.Match[bytes]]], swap: bool
) -> tuple[Columns, list[tuple[int, bytes]]]:
    """Records of one size as columns; those with moves off the board apart."""
    text = np.frombuffer(b",".join([match[2] for _, match in records]) + b",,,", np.uint8)
    digit = (text >= ord("0")) & (text <= ord("9"))
    swaps = (text[:-1] == ord("s")) & (text[1:] == ord("w"))
    begins = np.flatnonzero((~digit[:-1] & digit[1:]) | swaps)  # of moves
    one, two = text[begins + 1].astype(np.int16) - ord("0"), text[begins + 2].astype(np.int16) - ord("0")
    column, row = text[begins].astype(np.int16) - ord("a"), np.where(digit[begins + 2], 10 * one + two, one) - 1
    moves = np.where(swaps[begins], size * size, row * size + column).astype(np.int16)
    ends = np.cumsum([match.end(2) - match.start(2) + 1 for _, match in records]) - 1
    offsets = np.concatenate([[0], np.searchsorted(begins, ends)])
    off = ~swaps[begins] & (np.maximum(column, row) >= size)
    strange = np.unique(np.searchsorted(offsets, np.flatnonzero(off), side="right") - 1)
    kept = np.ones(len(records), bool)
    kept[strange] = False
    lengths = np.diff(offsets)
    columns = Columns(
        {"size": size, "swap": swap},
        np.array([number for number, _ in records])[kept],
        moves[np.repeat(kept, lengths)],
        np.concatenate([[0], np.cumsum(lengths[kept])]),
        np.array([WINNERS[match[3]] for _, match in records], np.float32)[kept],
    )
    return columns, [(records[i][0], records[i][1][0]) for i in strange]


def parse_line(file: str, number: int, line: str, swap: bool = True) -> Game | Problem:
    """The game as written, not yet replayed."""
    swap &= not line.endswith(WITHOUT_SWAP)
    match = LINE.fullmatch(line.removesuffix(WITHOUT_SWAP))
    if not match:
        return Problem(file, number, 0, f"no TRMPH record such as '#11,a1b2 1': {line[:60]!r}")
    if len(match[1]) > 9:
        return Problem(file, number, 0, f"a size of {len(match[1])} digits")
    size, text, winner = int(match[1]), match[2] or "", match[3]
    try:
        envs.make("hex", size=size, swap=swap)
    except ValueError as error:
        return Problem(file, number, 0, str(error))
    if winner is not None and winner not in RESULTS:
        return Problem(file, number, 0, f"the winner is written {', '.join(RESULTS)}, not {winner[:30]!r}")
    moves, position = [], 0
    while position < len(text):
        move = MOVE.match(text, position)
        if not move:
            return Problem(
                file, number, len(moves) + 1, f"no move, or a truncated one: {text[position : position + 8]!r}"
            )
        column, row = ord(move[2] or "a") - ord("a"), int(move[3] or 1) - 1
        if max(column, row) >= size:
            return Problem(file, number, len(moves) + 1, f"{move[0]} is off the board of size {size}")
        moves.append(size * size if move[1] else row * size + column)
        position = move.end()
    return Game("hex", {"size": size, "swap": swap}, moves, RESULTS[winner] if winner else None, line=number)


def dump(games: Iterable[Game]) -> str:
    """The games as lines of a file.

    Raises:
        ValueError: a game of another kind, one that does not begin with the empty board, or a move that Hex has not.
    """
    lines = []
    for game in games:
        if game.game != "hex":
            raise ValueError(f"TRMPH records hold Hex, not {game.game}")
        env = game.env
        assert isinstance(env, Hex)
        check_moves(game, env)
        if game.start is not None:
            raise ValueError("TRMPH records begin with the empty board")
        if game.result is not None and not game.result[0]:
            raise ValueError("Hex has no draws")
        winner = "" if game.result is None else " 1" if game.result[0] > 0 else " 2"
        moves = "".join(env.action_to_str(None, action) for action in game.moves)
        lines.append(f"#{env.size},{moves}{winner}{'' if env.swap else WITHOUT_SWAP}\n")
    return "".join(lines)
