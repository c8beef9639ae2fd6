"""TRMPH: one game of Hex a line, `#13,a1b2c3… 1` or `http://www.trmph.com/hex/board#13,a1b2c3…`.

The number is the size, moves are column and row (`a1` = top left), `swap` is a move. After a space may stand who won:
`1` or `b` (blue, the first player, joins top and bottom), `2` or `r` (red). Without it the result is what the moves
reach, or unknown if they reach no end. Lines that are empty or begin with `;` are skipped.
"""

import re
from collections.abc import Iterable

import envs
from jaxzero.records.game import Game, Problem, Replayed, replay

LINE = re.compile(r"(?:https?://(?:www\.)?trmph\.com/hex/board)?#(\d+)(?:,(\S*))?(?:\s+(\S+))?")
MOVE = re.compile(r"(swap)|([a-s])([1-9]\d?)")
RESULTS = {"1": (1.0, -1.0), "b": (1.0, -1.0), "2": (-1.0, 1.0), "r": (-1.0, 1.0)}
Entry = tuple[int, Game]  # number of the line, and the game that it claims


def parse(file: str, text: str) -> tuple[list[Game], list[Problem]]:
    """The sound records of a file, and what is wrong with the others."""
    games: list[Entry] = []
    problems: list[Problem] = []
    entries: dict[tuple, list[Entry]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith(";"):
            entry = parse_line(file, number, line.strip())
            if isinstance(entry, Problem):
                problems.append(entry)
            else:
                entries.setdefault(tuple(entry.options.items()), []).append((number, entry))
    for same in entries.values():
        replayed = replay(same[0][1].env, [game.moves for _, game in same])
        for (number, game), outcome in zip(same, replayed, strict=True):
            checked = check(file, number, game, outcome)
            if isinstance(checked, Problem):
                problems.append(checked)
            else:
                games.append((number, checked))
    return [game for _, game in sorted(games, key=lambda entry: entry[0])], sorted(problems, key=lambda p: p.line)


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


def check(file: str, number: int, game: Game, outcome: Replayed) -> Game | Problem:
    """The game with the result of its replay, or what the rules object to."""
    if outcome.played < len(game.moves):
        move = name(game, game.moves[outcome.played])
        why = "after the end of the game" if outcome.over else "not legal here"
        return Problem(file, number, outcome.played + 1, f"{move} is {why}")
    if not outcome.over:
        return game  # given up, agreed, or still going on
    if game.result not in (None, outcome.result):
        winner = 1 if outcome.result[0] > 0 else 2
        return Problem(file, number, len(game.moves), f"the record names another winner than the moves: {winner}")
    return Game(game.game, game.options, game.moves, outcome.result, game.headers)


def name(game: Game, action: int) -> str:
    return game.env.action_to_str(None, action)


def dump(games: Iterable[Game]) -> str:
    """The games as lines of a file.

    Raises:
        ValueError: a game of another kind.
    """
    lines = []
    for game in games:
        if game.game != "hex":
            raise ValueError(f"TRMPH records hold Hex, not {game.game}")
        winner = "" if game.result is None else " 1" if game.result[0] > 0 else " 2"
        moves = "".join(name(game, action) for action in game.moves)
        lines.append(f"#{game.options.get('size', 11)},{moves}{winner}\n")
    return "".join(lines)
