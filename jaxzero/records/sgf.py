"""SGF (https://www.red-bean.com/sgf, FF[4]): records of Go. Of each game tree the main line is read.

Komi and size are those of the record; an `RE` of a game that its moves do not end (given up, agreed) is kept. Setup
stones (handicap, problems) are refused: a game begins with the empty board.
"""

import re
from collections.abc import Iterable, Iterator

import envs
from jaxzero.records.game import Entry, Game, Problem, RecordError, sift

TOKEN = re.compile(r"\s*(?:([();])|([A-Za-z]+)((?:\s*\[(?:\\.|[^\]\\])*\])+))", re.DOTALL)
# A value, unless the root of another tree begins in it: then it was cut off.
BRACKET = re.compile(r"\[(?:\\.|(?!\n\s*\(\s*;\s*(?:FF|GM|SZ)\b)[^\]\\])*\]|\)|\((\s*;\s*(?:FF|GM|SZ)\b)?", re.DOTALL)
VALUE = re.compile(r"\[((?:\\.|[^\]\\])*)\]", re.DOTALL)
ESCAPED, PREFIX = re.compile(r"([]\\])"), r"\\\1"
RESULT = re.compile(r"([BW])\+.*|(0|Draw)", re.DOTALL)
LETTERS = "abcdefghijklmnopqrs"
HEADERS = ("PB", "PW", "BR", "WR", "DT", "EV", "RO", "RU", "PC", "RE")
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
    if not starts and text.strip():
        starts = [0]  # for `nodes` to object
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
        options = {"size": int(size), "komi": float(komi)}
        env = envs.make("go", **options)
    except ValueError as error:
        raise RecordError(line, 0, f"SZ[{size}] KM[{komi}]: {error}") from error
    moves, lines = [], [line]
    for here, properties in found:
        if set(properties) & {"AB", "AW", "AE"}:
            raise RecordError(here, len(moves), "stones are set up; a game begins with the empty board")
        for color in ("B", "W"):
            for value in properties.get(color, []):
                if color != "BW"[len(moves) % 2]:
                    raise RecordError(here, len(moves) + 1, f"{color}[{value}], and {'BW'[len(moves) % 2]} is to move")
                moves.append(action(here, len(moves) + 1, value.strip(), env.size))  # pyright: ignore
                lines.append(here)
    result = RESULT.fullmatch(first(root, "RE", "").strip())
    headers = {name: root[name][0] for name in HEADERS if name in root}
    rewards = None if not result else (0.0, 0.0) if result[2] else (1.0, -1.0) if result[1] == "B" else (-1.0, 1.0)
    return lines, Game("go", options, moves, rewards, headers)


def first(properties: dict[str, list[str]], name: str, otherwise: str) -> str:
    return properties.get(name, [otherwise])[0]


def action(line: int, number: int, point: str, size: int) -> int:
    """`aa` is the top left point, `` (and `tt` up to 19×19) a pass."""
    if point == "" or (point == "tt" and size <= 19):
        return size * size
    if len(point) != 2 or set(point) - set(LETTERS[:size]):
        raise RecordError(line, number, f"[{point}] is no point of a board of size {size}")
    return LETTERS.index(point[1]) * size + LETTERS.index(point[0])


def dump(games: Iterable[Game]) -> str:
    """The games as text of a file.

    Raises:
        ValueError: a game of another kind.
    """
    return "".join(map(dump_game, games))


def dump_game(game: Game) -> str:
    if game.game != "go":
        raise ValueError(f"SGF records hold Go, not {game.game}")
    if game.start is not None:
        raise ValueError("SGF records begin with the empty board here")
    size, komi = game.options.get("size", 9), game.options.get("komi", 7.5)
    root = {"FF": "4", "GM": "1", "SZ": str(size), "KM": f"{komi:g}"} | game.headers
    if game.result is not None:
        said = "0" if game.result[0] == 0 else "B+" if game.result[0] > 0 else "W+"
        root["RE"] = root.get("RE", said) if root.get("RE", "").startswith(said) else said
    properties = "".join(f"{name}[{ESCAPED.sub(PREFIX, value)}]" for name, value in root.items())
    points = ["" if move == size * size else LETTERS[move % size] + LETTERS[move // size] for move in game.moves]
    moves = [f";{'BW'[i % 2]}[{point}]" for i, point in enumerate(points)]
    lines = ["".join(moves[i : i + 10]) for i in range(0, len(moves), 10)]
    return "\n".join([f"(;{properties}", *lines]) + ")\n"
