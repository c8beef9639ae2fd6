"""SGF (https://www.red-bean.com/sgf, FF[4]): records of Go. Of each game tree the main line is read.

Komi and size are those of the record; an `RE` of a game that its moves do not end (given up, agreed) is kept. Stones
set up before the first move (handicap, problems; `AB`, `AW`, `AE`) make the first position, with the player of `PL` or
else of the first move to move; stones set up later are a problem. The first position counts as reached by moves: a
handicap of 9 takes 17 plies of the move cap, and where the player before has no stone, that player has passed.

Positional superko is the `RU` of Tromp-Taylor, or `koPOSITIONAL` among rules as KataGo writes them; all other rules are
read as the simple ko, as no record shows more of them. What positions came before a first position is not known.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import envs
from envs.go import Go
from envs.go_text import PLAYERS, vertex
from jaxzero.records.game import Entry, Game, Problem, RecordError, sift

TOKEN = re.compile(r"\s*(?:([();])|([A-Za-z]+)((?:\s*\[(?:\\.|[^\]\\])*\])+))", re.DOTALL)
# A value, unless the root of another tree begins in it: then it was cut off.
BRACKET = re.compile(r"\[(?:\\.|(?!\n\s*\(\s*;\s*(?:FF|GM|SZ)\b)[^\]\\])*\]|\)|\((\s*;\s*(?:FF|GM|SZ)\b)?", re.DOTALL)
VALUE = re.compile(r"\[((?:\\.|[^\]\\])*)\]", re.DOTALL)
ESCAPED, PREFIX = re.compile(r"([]\\])"), r"\\\1"
RESULT = re.compile(r"([BW])\+.*|(0|Draw)", re.DOTALL)
POSITIONAL = re.compile(r"tromp.?taylor|ko:?positional", re.IGNORECASE)
LETTERS = "abcdefghijklmnopqrs"
HEADERS = ("PB", "PW", "BR", "WR", "DT", "EV", "RO", "RU", "PC", "HA", "RE")
COLORS = "BW"
SETUP = {"AB": "X", "AW": "O", "AE": "."}
Node = tuple[int, dict[str, list[str]]]  # line, properties


def parse(file: str, text: str) -> tuple[list[Game], list[Problem]]:
    """The sound records of a file, and what is wrong with the others."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for line, tree in trees(text):
        try:
            entries.append(entry(line, nodes(line, tree)))
        except RecordError as broken:
            problems.append(Problem(file, *broken.args))
    games, more = sift(file, entries)
    return games, sorted(problems + more, key=lambda problem: problem.line)


def trees(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each game tree; one that is cut off ends where the next begins (a root says FF, GM or SZ)."""
    starts, depth = [], 0
    for bracket in BRACKET.finditer(text):
        if bracket[0].startswith("("):
            begins = depth == 0 or bracket[1]
            starts += [bracket.start()] * bool(begins)
            depth = 1 if begins else depth + 1
        elif bracket[0] == ")":
            depth = max(0, depth - 1)
    if not text.strip():
        return
    starts = starts or [0]  # for `nodes` to object
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        yield text.count("\n", 0, start) + 1, text[start:end]


def nodes(line: int, tree: str) -> list[Node]:
    """The nodes of the main line."""
    found: list[Node] = []
    position, depth, on_main_line = 0, 0, True
    while depth or not position:
        match = TOKEN.match(tree, position)
        here = line + tree.count("\n", 0, position)
        if not match:
            rest = tree[position:].strip()
            raise RecordError(
                here, sum(map(moves_in, found)), f"no SGF: {rest[:30]!r}" if rest else "the record is cut off"
            )
        mark, name, values = match.groups()
        if not position and mark != "(":
            raise RecordError(here, 0, f"no SGF: {tree.strip()[:30]!r}")
        here = line + tree.count("\n", 0, match.start(1) if mark else match.start(2))
        if mark == "(":
            depth += 1
        elif mark == ")":
            depth, on_main_line = depth - 1, False
        elif mark == ";":
            if on_main_line:
                found.append((here, {}))
        elif on_main_line:
            if not found:
                raise RecordError(here, 0, f"a property before the first node: {name!r}")
            name = "".join(filter(str.isupper, name))  # FF[3] has small letters in between
            found[-1][1].setdefault(name, []).extend(re.sub(r"\\(.)", r"\1", v[1]) for v in VALUE.finditer(values))
            found[-1] = (here if name in ("B", "W") else found[-1][0], found[-1][1])
        position = match.end()
    return found


def moves_in(node: Node) -> int:
    return ("B" in node[1]) + ("W" in node[1])


def entry(line: int, found: list[Node]) -> Entry:
    """The game as written, not yet replayed."""
    root = found[0][1] if found else {}
    if root.get("GM", ["1"])[0].strip() != "1":
        raise RecordError(line, 0, f"GM[{root['GM'][0]}] is another game than Go")
    size = first(root, "SZ", "19").split(":")[0].strip()
    komi = first(root, "KM", "0").strip() or "0"
    try:
        options: dict[str, Any] = {"size": int(size), "komi": float(komi)}
        options |= {"ko": "positional"} if POSITIONAL.search(first(root, "RU", "")) else {}
        env = envs.make("go", **options)
    except ValueError as error:
        raise RecordError(line, 0, f"SZ[{size}] KM[{komi}]: {error}") from error
    mover, start = beginning(found, int(size))
    try:
        if start is not None:
            start += unknown_past(start, options)
            env.from_text(start)
    except ValueError as error:
        raise RecordError(line, 0, f"the stones set up: {error}") from error
    moves, lines = [], [line]
    for here, properties in found:
        for color in COLORS:
            for value in properties.get(color, []):
                turn = COLORS[(mover + len(moves)) % 2]
                if color != turn:
                    raise RecordError(here, len(moves) + 1, f"{color}[{value}], and {turn} is to move")
                moves.append(action(here, len(moves) + 1, value.strip(), int(size)))
                lines.append(here)
    result = RESULT.fullmatch(first(root, "RE", "").strip())
    headers = {name: root[name][0] for name in HEADERS if name in root}
    rewards = None if not result else (0.0, 0.0) if result[2] else (1.0, -1.0) if result[1] == "B" else (-1.0, 1.0)
    return lines, Game("go", options, moves, rewards, headers, start)


def beginning(found: list[Node], size: int) -> tuple[int, str | None]:
    """The player who moves first, and the first position, None for that of a new game."""
    board, named, played = ["."] * size**2, "", 0
    for here, properties in found:
        if played and properties.keys() & SETUP.keys():
            raise RecordError(here, played, "stones are set up after the first move")
        for name, mark in SETUP.items():
            for value in properties.get(name, []):
                for point in region(here, value.strip(), size):
                    board[point] = mark
        if "PL" in properties and not played:
            named = first(properties, "PL", "").strip()[:1].upper()
            if named not in ("B", "W"):
                raise RecordError(here, 0, f"PL[{properties['PL'][0]}] is neither B nor W")
        played += moves_in((here, properties))
    if not named and set(board) != {"."}:
        named = next((color for _, properties in found for color in COLORS if color in properties), "")
    mover = COLORS.index(named or "B")
    return mover, position(board, mover, size)


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


def first(properties: dict[str, list[str]], name: str, otherwise: str) -> str:
    return properties.get(name, [otherwise])[0]


def region(line: int, value: str, size: int) -> list[int]:
    """The points of `aa`, or of the rectangle `aa:cc`."""
    corners = [action(line, 0, corner, size) for corner in value.split(":")]
    if len(corners) > 2 or size**2 in corners:
        raise RecordError(line, 0, f"[{value}] is no point of a board of size {size}")
    (top, left), (bottom, right) = divmod(corners[0], size), divmod(corners[-1], size)
    return [row * size + column for row in range(top, bottom + 1) for column in range(left, right + 1)]


def action(line: int, number: int, point: str, size: int) -> int:
    """`aa` is the top left point, `` (and `tt` up to 19×19) a pass."""
    if point == "" or (point == "tt" and size <= 19):
        return size * size
    if len(point) != 2 or set(point) - set(LETTERS[:size]):
        raise RecordError(line, number, f"[{point}] is no point of a board of size {size}")
    return LETTERS.index(point[1]) * size + LETTERS.index(point[0])


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
    if env.move_cap:
        raise ValueError("SGF records have no word for the move_cap of a game; choose .jsonl")
    mover, setup = dump_start(game.start, size)
    root = {"FF": "4", "GM": "1", "SZ": str(size), "KM": f"{env.komi:.15g}"} | game.headers
    if (env.ko == "positional") != bool(POSITIONAL.search(root.get("RU", ""))):
        root["RU"] = "Tromp-Taylor" if env.ko == "positional" else "simple ko"
    if game.result is not None:
        said = "0" if game.result[0] == 0 else "B+" if game.result[0] > 0 else "W+"
        root["RE"] = root.get("RE", said) if root.get("RE", "").startswith(said) else said
    properties = "".join(f"{name}[{ESCAPED.sub(PREFIX, value)}]" for name, value in root.items())
    points = ["" if move == size * size else written(move, size) for move in game.moves]
    moves = [f";{COLORS[(mover + i) % 2]}[{point}]" for i, point in enumerate(points)]
    lines = ["".join(moves[i : i + 10]) for i in range(0, len(moves), 10)]
    return "\n".join([f"(;{properties}{setup}", *lines]) + ")\n"


def dump_start(start: str | None, size: int) -> tuple[int, str]:
    """The player who moves first, and the properties that set up a first position."""
    if start is None:
        return 0, ""
    *rows, status = start.split("\n")[: size + 1]
    if "ko -" not in status:
        raise ValueError(f"SGF records cannot begin with a ko, as in {status!r}")
    board, mover, setup = "".join(rows), PLAYERS.index(status[0]), ""
    for name, mark in SETUP.items():
        points = [f"[{written(point, size)}]" for point, other in enumerate(board) if mark == other != "."]
        setup += name + "".join(points) if points else ""
    return mover, f"{setup}PL[{COLORS[mover]}]"


def written(point: int, size: int) -> str:
    return LETTERS[point % size] + LETTERS[point // size]
