"""TRMPH: one game of Hex a line, `#13,a1b2c3… 1` or `http://www.trmph.com/hex/board#13,a1b2c3…`.

The number is the size, moves are column and row (`a1` = top left), `swap` is a move. After a space may stand who won:
`1` or `b` (blue, the first player, joins top and bottom), `2` or `r` (red). Without it the result is what the moves
reach, or unknown if they reach no end. Lines that are empty or begin with `;` are skipped.

TRMPH does not say whether the swap rule holds; here it does, as where these records come from. A game without it ends
its line with `; swap = false`, a comment for others: `#13,a1b2c3 1 ; swap = false`.
"""

import re
from collections.abc import Iterable

import envs
from envs.hex import Hex
from jaxzero.records.game import Entry, Game, Problem, check_moves, sift

LINE = re.compile(r"(?:https?://(?:www\.)?trmph\.com/hex/board)?#(\d+)(?:,([^\s;]*))?(?:\s+([^\s;]+))?", re.ASCII)
MOVE = re.compile(r"(swap)|([a-s])([1-9]\d?)", re.ASCII)
WITHOUT_SWAP = " ; swap = false"
RESULTS = {"1": (1.0, -1.0), "b": (1.0, -1.0), "2": (-1.0, 1.0), "r": (-1.0, 1.0)}


def parse(file: str, text: str) -> tuple[list[Game], list[Problem]]:
    """The sound records of a file, and what is wrong with the others."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for number, line in enumerate(map(str.strip, text.split("\n")), 1):
        if line and not line.startswith(";"):
            found = parse_line(file, number, line)
            if isinstance(found, Problem):
                problems.append(found)
            else:
                entries.append(([number] * (len(found.moves) + 1), found))
    games, more = sift(file, entries)
    return games, sorted(problems + more, key=lambda problem: problem.line)


def parse_line(file: str, number: int, line: str) -> Game | Problem:
    """The game as written, not yet replayed."""
    swap = not line.endswith(WITHOUT_SWAP)
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
    return Game("hex", {"size": size, "swap": swap}, moves, RESULTS[winner] if winner else None)


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
