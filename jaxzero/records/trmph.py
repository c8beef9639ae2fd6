"""TRMPH: one game of Hex a line, `#13,a1b2c3… 1` or `http://www.trmph.com/hex/board#13,a1b2c3…`.

The number is the size, moves are column and row (`a1` = top left), `swap` is a move. After a space may stand who won:
`1` or `b` (blue, the first player, joins top and bottom), `2` or `r` (red). Without it the result is what the moves
reach, or unknown if they reach no end. Lines that are empty or begin with `;` are skipped.
"""

import re
from collections.abc import Iterable

import envs
from envs.hex import Hex
from jaxzero.records.game import Entry, Game, Problem, sift

LINE = re.compile(r"(?:https?://(?:www\.)?trmph\.com/hex/board)?#(\d+)(?:,(\S*))?(?:\s+(\S+))?")
MOVE = re.compile(r"(swap)|([a-s])([1-9]\d?)")
RESULTS = {"1": (1.0, -1.0), "b": (1.0, -1.0), "2": (-1.0, 1.0), "r": (-1.0, 1.0)}


def parse(file: str, text: str) -> tuple[list[Game], list[Problem]]:
    """The sound records of a file, and what is wrong with the others."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith(";"):
            found = parse_line(file, number, line.strip())
            if isinstance(found, Problem):
                problems.append(found)
            else:
                entries.append(([number] * (len(found.moves) + 1), found))
    games, more = sift(file, entries)
    return games, sorted(problems + more, key=lambda problem: problem.line)


def parse_line(file: str, number: int, line: str) -> Game | Problem:
    """The game as written, not yet replayed."""
    match = LINE.fullmatch(line)
    if not match:
        return Problem(file, number, 0, f"no TRMPH record such as '#11,a1b2 1': {line[:60]!r}")
    size, text, winner = int(match[1]), match[2] or "", match[3]
    try:
        envs.make("hex", size=size)
    except ValueError as error:
        return Problem(file, number, 0, str(error))
    if winner is not None and winner not in RESULTS:
        return Problem(file, number, 0, f"the winner is written {', '.join(RESULTS)}, not {winner!r}")
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
    return Game("hex", {"size": size, "swap": True}, moves, RESULTS[winner] if winner else None)


def dump(games: Iterable[Game]) -> str:
    """The games as lines of a file.

    Raises:
        ValueError: a game of another kind, or without the swap rule, as a record has no word for that.
    """
    lines = []
    for game in games:
        if game.game != "hex":
            raise ValueError(f"TRMPH records hold Hex, not {game.game}")
        env = game.env
        assert isinstance(env, Hex)
        if not env.swap:
            raise ValueError("TRMPH records are of Hex with the swap rule; choose .jsonl")
        if game.start is not None:
            raise ValueError("TRMPH records begin with the empty board")
        winner = "" if game.result is None else " 1" if game.result[0] > 0 else " 2"
        moves = "".join(env.action_to_str(None, action) for action in game.moves)
        lines.append(f"#{env.size},{moves}{winner}\n")
    return "".join(lines)
