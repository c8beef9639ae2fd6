"""SGF (https://www.red-bean.com/sgf, FF[4]): records of Go. Of each game tree the main line is read.

Size and komi are those of the record. A komi written in hundredths, as Fox does (`KM[375]` are 3.75 stones, 7.5 points;
`KM[650]` 6.5 points), is read as meant; one beyond 361 points is a problem. Stones set up before the first move
(handicap, problems; `AB`, `AW`, `AE`) make the first position, with the player of `PL` or else of the first move to
move; as many Black moves in succession at the begin as `HA` says are handicap stones too. Stones set up later are a
problem. The first position counts as reached by moves: a handicap of 9 takes 17 plies of the move cap, and where the
player before has no stone, that player has passed.

An `RE` of a game that its moves do not end (given up, agreed) is its result. A game that they end has the result of our
rules, all stones alive, as records do not tell which ones the players took for dead; `RE` stays among the headers.
Passes after the end, with which some servers begin to count, are left out.

Positional superko is the `RU` of Tromp-Taylor, or `koPOSITIONAL` among rules as KataGo writes them; all other rules are
read as the simple ko, as no record shows more of them. What positions came before a first position is not known.

Each game of a file may have a character set of its own, `CA`; without a known one it is UTF-8 if that fits, else the
Latin-1 of FF[4].
"""

import dataclasses
import functools
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

import envs
from envs.go import Go
from envs.go_text import PLAYERS, vertex
from jaxzero.messages import shortened
from jaxzero.records.game import (
    Entry,
    Game,
    Problem,
    RecordError,
    Replayed,
    check_moves,
    first_state,
    judge,
    sift,
)  # fmt: skip
from jaxzero.records.sgf_tree import COLORS, HEADERS, SETUP, SPACE, Tree, trees

SIZE = re.compile(r"(\d{1,2})(?:\s*:\s*(\d{1,2}))?", re.ASCII)
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)", re.ASCII)
MOST_KOMI = 361  # points of the largest board
RESULT = re.compile(r"([BW])(?:lack|hite)?\+.*|(0|Draw|Jigo)", re.DOTALL | re.IGNORECASE)
HANDICAP = re.compile(r"[2-9]|[1-9][0-9]")
POSITIONAL = re.compile(r"tromp.?taylor|ko:?positional", re.IGNORECASE)
ESCAPED, PREFIX = re.compile(r"([]\\])"), r"\\\1"
LETTERS = "abcdefghijklmnopqrs"


def parse(file: str, text: str) -> tuple[list[Game], list[Problem]]:
    """The sound records of a file, and what is wrong with the others."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for tree in trees(text):
        try:
            entries.append(entry(tree))
        except RecordError as broken:
            problems.append(Problem(file, *broken.args))
    if text.strip() and not entries and not problems:
        problems.append(Problem(file, 1, 0, f"no SGF: {text.strip()[:30]!r}"))
    games, more = sift(file, entries, judged)
    return games, sorted(problems + more, key=lambda problem: problem.line)


def entry(tree: Tree) -> Entry:
    """The game as written, not yet replayed."""
    if tree.broken:
        raise tree.broken
    if tree.depth:
        tree.object(tree.end, "the record is cut off")
        raise tree.broken or AssertionError
    line, root = tree.line, tree.root
    if root.get("GM", "1").strip() != "1":
        raise RecordError(line, 0, f"GM[{root['GM']}] is another game than Go")
    try:
        options: dict[str, Any] = {"size": read_size(root.get("SZ", "19")), "komi": read_komi(root)}
        options |= {"ko": "positional"} if POSITIONAL.search(root.get("RU", "")) else {}
        size = options["size"]
    except ValueError as error:
        raise RecordError(line, 0, str(error)) from error
    mover, start, played = beginning(tree, size)
    try:
        if start is not None:
            start += unknown_past(start, options)
            first_state(envs.make("go", **options | {"komi": Go.komi}), start)
    except ValueError as error:
        raise RecordError(line, 0, f"the stones set up: {error}") from error
    for number, (here, color, point) in enumerate(played, 1):
        if color != (turn := COLORS[(mover + number - 1) % 2]):
            raise RecordError(here, number, f"{color}[{point}], and {turn} is to move")
    moves = [action(here, number, point, size) for number, (here, _, point) in enumerate(played, 1)]
    headers = {name: root[name] for name in HEADERS if name in root}
    lines = [line, *(here for here, _, _ in played)]
    return lines, Game("go", options, moves, read_result(root.get("RE", "")), headers, start)


def read_size(text: str) -> int:
    """Raises:
    ValueError: no size, or that of an oblong.
    """
    match = SIZE.fullmatch(text.strip())
    if not match or match[2] not in (None, match[1]) or not 5 <= int(match[1]) <= len(LETTERS):
        raise ValueError(f"SZ[{shortened(text, 20)}]: boards here are squares of 5 to {len(LETTERS)} lines")
    return int(match[1])


def read_komi(root: dict[str, str]) -> float:
    """Raises:
    ValueError: no number of points.
    """
    text = root.get("KM", "").strip().replace(",", ".") or "0"
    komi = float(text) if NUMBER.fullmatch(text) else np.inf
    if "." not in text and komi % 25 == 0 and (abs(komi) >= 100 or "fox" in root.get("AP", "").lower()):
        komi /= 100 if komi % 50 == 0 else 50  # hundredths of points, or of stones, where it has quarters
    if abs(komi) > MOST_KOMI:
        raise ValueError(f"KM[{shortened(text, 20)}] is no komi of up to {MOST_KOMI} points")
    return komi


def read_result(text: str) -> tuple[float, float] | None:
    """Rewards; None if it is not known, or nobody's."""
    match = RESULT.fullmatch(text.strip())
    return None if not match else (0.0, 0.0) if match[2] else (1.0, -1.0) if match[1] in "Bb" else (-1.0, 1.0)


def judged(file: str, entry: Entry, outcome: Replayed) -> Game | Problem:
    """As `judge`, but what follows two passes on real boards is no fault: more passes, and another count."""
    lines, game = entry
    passing = game.options["size"] ** 2
    if outcome.over and set(game.moves[outcome.played :]) <= {passing}:
        lines, game = lines[: outcome.played + 1], dataclasses.replace(game, moves=game.moves[: outcome.played])
        if has_stones(game, passing):
            game = dataclasses.replace(game, result=None)
    return judge(file, (lines, game), outcome)


def has_stones(game: Game, passing: int) -> bool:
    """Whether some stones may be taken for dead when the game is counted."""
    return game.start is not None or set(game.moves) != {passing}


def beginning(tree: Tree, size: int) -> tuple[int, str | None, list[tuple[int, str, str]]]:
    """The player who moves first; the first position, None for that of a new game; line, colour and point of moves."""
    board, named, first_node = ["."] * size**2, "", 0
    played: list[tuple[int, str, str]] = []
    for here, node, name, value in tree.steps:
        if name in COLORS:
            first_node = first_node or node
            played.append((here, name, value))
        elif name in SETUP:
            if played and node > first_node:
                raise RecordError(here, len(played), "stones are set up after the first move")
            for row in region(here, value, size):
                board[row] = SETUP[name] * len(board[row])
        elif not played:
            named = value[:1].upper()
            if named not in ("B", "W"):
                raise RecordError(here, 0, f"PL[{value}] is neither B nor W")
    if set(board) == {"."} and not named and len(stones := handicap(tree, played, size)) > 1:
        for point in stones:
            board[point] = PLAYERS[0]
        played, named = played[len(stones) :], "W"
    mover = COLORS.index(named or (played[0][1] if played else "B"))
    return mover, position(board, mover, size), played


def handicap(tree: Tree, played: list[tuple[int, str, str]], size: int) -> set[int]:
    """The points of handicap stones that are written as Black's first moves."""
    match = HANDICAP.fullmatch(tree.root.get("HA", "").strip())
    count = int(match[0]) if match else 0
    colors = [color for _, color, _ in played[: count + 1]]
    if count > 1 and colors[:1] == ["W"]:
        raise RecordError(tree.line, 0, f"HA[{count}], but no stones are set up")
    if count < 2 or colors[:count] != ["B"] * count or colors[count:] == ["B"]:
        return set()
    points = {action(here, 0, point, size) for here, _, point in played[:count]}
    return points if len(points) == count and size**2 not in points else set()


def position(board: list[str], mover: int, size: int) -> str | None:
    """As `env.from_text` reads it, after as few plies as there can have been."""
    black, white = (board.count(mark) for mark in PLAYERS)
    ply = max(2 * black - 1, 2 * white)
    ply += ply % 2 != mover
    if ply == 0:
        return None
    stones = [point for point, mark in enumerate(board) if mark == PLAYERS[1 - mover]]
    last = vertex(stones[0] if stones else size**2, size)  # not a pass if possible: a second one would end the game
    rows = ["".join(board[i : i + size]) for i in range(0, size**2, size)]
    return "\n".join([*rows, f"{PLAYERS[mover]} to move, ply {ply}, last {last}, ko -"])


def unknown_past(start: str, options: dict[str, Any]) -> str:
    """The line of earlier positions that superko asks for: none that could come again."""
    ply = int(start.rpartition(" to move, ply ")[2].partition(",")[0])
    return "\nhashes " + " ".join(["0" * 16] * ply) if options.get("ko") == "positional" else ""


def region(line: int, value: str, size: int) -> list[slice]:
    """The rows of points of `aa`, or of the rectangle `aa:cc`."""
    corners = [action(line, 0, corner, size) for corner in value.split(":")] if value.count(":") < 2 else []
    if not corners or size**2 in corners:
        raise RecordError(line, 0, f"[{value}] is no point of a board of size {size}")
    (top, left), (bottom, right) = divmod(corners[0], size), divmod(corners[-1], size)
    return [slice(row * size + left, row * size + right + 1) for row in range(top, bottom + 1)]


def action(line: int, number: int, point: str, size: int) -> int:
    """`aa` is the top left point, `` (and `tt` up to 19×19) a pass."""
    found = named_points(size).get(point)
    if found is None:
        raise RecordError(line, number, f"[{point}] is no point of a board of size {size}")
    return found


@functools.cache
def named_points(size: int) -> dict[str, int]:
    return {letters(point, size): point for point in range(size**2)} | {"": size**2, "tt": size**2}


def dump(games: Iterable[Game]) -> str:
    """The games as text of a file. Of a first position the stones and the mover are written.

    Raises:
        ValueError: a game of another kind or with a move cap of its own, or one that begins with a ko.
    """
    return "".join(map(dump_game, games))


def dump_game(game: Game) -> str:
    if game.game != "go":
        raise ValueError(f"SGF records hold Go, not {game.game}")
    env = game.env
    assert isinstance(env, Go)
    size = env.size
    check_moves(game, env)
    if abs(env.komi) > MOST_KOMI:
        raise ValueError(f"SGF records have a komi of up to {MOST_KOMI} points, not {env.komi}; choose .jsonl")
    if env.move_cap:
        raise ValueError("SGF records have no word for the move_cap of a game; choose .jsonl")
    if game.start is not None:
        first_state(env, game.start)
    mover, setup = dump_start(game.start, size)
    komi = np.format_float_positional(env.komi, trim="0")  # "375.0": 375 would be Fox's 7.5
    root = {"FF": "4", "CA": "UTF-8", "GM": "1", "SZ": str(size), "KM": komi} | dump_headers(game, setup)
    if (env.ko == "positional") != bool(POSITIONAL.search(root.get("RU", ""))):
        root["RU"] = "Tromp-Taylor" if env.ko == "positional" else "simple ko"
    properties = "".join(f"{name}[{ESCAPED.sub(PREFIX, value)}]" for name, value in root.items())
    points = ["" if move == size * size else letters(move, size) for move in game.moves]
    moves = [f";{COLORS[(mover + i) % 2]}[{point}]" for i, point in enumerate(points)]
    lines = ["".join(moves[i : i + 10]) for i in range(0, len(moves), 10)]
    return "\n".join([f"(;{properties}{setup}", *lines]) + ")\n"


def dump_headers(game: Game, setup: str) -> dict[str, str]:
    """Those that SGF has, with no others' meaning: `RE` is the result, `HA` needs stones."""
    found = {name: SPACE.sub(" ", game.headers[name]) for name in HEADERS if name in game.headers}
    if "AB" not in setup:
        found.pop("HA", None)
    passing = game.env.num_actions - 1
    counted = game.moves[-2:] == [passing] * 2 and has_stones(game, passing)  # the moves tell the result
    if read_result(found.get("RE", "")) != game.result and not (counted and "RE" in found):
        found.pop("RE", None)
        if game.result is not None:
            found["RE"] = "0" if game.result[0] == 0 else "B+" if game.result[0] > 0 else "W+"
    return found


def dump_start(start: str | None, size: int) -> tuple[int, str]:
    """The player who moves first, and the properties that set up a first position."""
    if start is None:
        return 0, ""
    *rows, status = start.split("\n")[: size + 1]
    if status.endswith(", over"):
        raise ValueError("SGF records cannot begin with the end of a game; choose .jsonl")
    if "ko -" not in status:
        raise ValueError(f"SGF records cannot begin with a ko, as in {status!r}")
    board, mover, setup = "".join(rows), PLAYERS.index(status[0]), ""
    for name, mark in SETUP.items():
        points = [f"[{letters(point, size)}]" for point, other in enumerate(board) if mark == other != "."]
        setup += name + "".join(points) if points else ""
    return mover, f"{setup}PL[{COLORS[mover]}]"


def letters(point: int, size: int) -> str:
    return LETTERS[point % size] + LETTERS[point // size]
