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

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import envs
from envs.go import Go
from envs.go_text import PLAYERS, vertex
from jaxzero.messages import shortened
from jaxzero.records import game as game_lib
from jaxzero.records.charsets import charset, decoded
from jaxzero.records.game import (
    Entry,
    Game,
    Problem,
    RecordError,
    Replayed,
    check_moves,
    checked_game,
    first_state,
)  # fmt: skip
from jaxzero.records.sgf_points import LETTERS, action, letters, region

# Possessive quantifiers (`*+`) keep all this linear. A value that the text ends in lacks its bracket.
VALUE = re.compile(r"\[((?:[^]\\]++|\\.)*+)(?:]|\\?\Z)", re.DOTALL)
TOKEN = re.compile(
    r"""((?:\s*+;[BW]\[[a-z]{,2}])++) | \s*+(?:  # moves and nothing else, which most of a file is; or one token:
      (;?)\s*+([A-Za-z]++)((?:\s*+\[(?:[^]\\]++|\\.)*+(]|\\?\Z))++)  # begin of a node, name, values, closing
    | ([();])
    | [A-Za-z]++ | \S | \Z
    )""",
    re.DOTALL | re.VERBOSE,
)
TREE = re.compile(r"\((?=\s*+;)")
ROOTS = ("FF", "GM", "SZ", "CA")  # properties by which the root of a tree is known
ROOT = re.compile(rf"\((?=\s*+;\s*+(?:{'|'.join(ROOTS)})\b)")
ROOT_LINE = re.compile(r"^[ \t]*+" + ROOT.pattern, re.MULTILINE)  # a value that reaches one was cut off
# Match the end of the text before a game, the surest first.
BEGINS = (
    re.compile(ROOT_LINE.pattern.join(("(?=", ")")).encode(), re.MULTILINE),
    re.compile(rb"\)\s*+(?=\(\s*+;\s*+(?:FF|GM|SZ|CA)\b)"),
)
SIZE = re.compile(r"(\d{1,2})(?:\s*:\s*(\d{1,2}))?", re.ASCII)
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)", re.ASCII)
MOST_KOMI = 361  # points of the largest board
RESULT = re.compile(r"([BW])(?:lack|hite)?\+.*|(0|Draw|Jigo)", re.DOTALL | re.IGNORECASE)
HANDICAP = re.compile(r"[2-9]|[1-9][0-9]")
POSITIONAL = re.compile(r"tromp.?taylor|ko:?positional", re.IGNORECASE)
ESCAPE, ESCAPED, PREFIX = re.compile(r"\\(?:\n|(.))"), re.compile(r"([]\\])"), r"\\\1"
SPACE = re.compile(r"[\t-\r]")  # in a line of text, each is a space
HEADERS = ("PB", "PW", "BR", "WR", "DT", "EV", "RO", "RU", "PC", "HA", "RE")
COLORS = "BW"
SETUP = {"AB": "X", "AW": "O", "AE": "."}
STEPS = (*COLORS, *SETUP, "PL")
DECLARED = re.compile(r"CA\s*+\[([^]]{,40})")


def decode(data: bytes) -> str:
    """The text of a file, each game in its own character set."""
    view = data.decode("latin-1")  # no character set in use hides the brackets of trees
    if not {charset(name) for name in set(DECLARED.findall(view))} - {"", "utf_8"}:
        with contextlib.suppress(UnicodeError):
            return data.decode()
    found = list(trees(view))
    begins = [0, *(tree.start for tree in found[1:]), len(data)]
    sets = [charset(tree.root.get("CA", "")) for tree in found] or [""]
    return "".join(decoded(data[a:b], name) for (a, b), name in zip(pairwise(begins), sets, strict=True))


@dataclasses.dataclass
class GameTree:
    """A game tree as far as it is read."""

    start: int  # index of its bracket
    line: int
    end: int  # line of what was read last
    root: dict[str, str] = dataclasses.field(default_factory=dict)  # the first value of each property
    steps: list[tuple[int, int, str, str]] = dataclasses.field(default_factory=list)  # line, node, name of STEPS, value
    nodes: int = 0  # of the main line
    depth: int = 1  # brackets that are open
    main: bool = True  # still on the main line
    broken: RecordError | None = None  # the first thing wrong

    def object(self, line: int, message: str) -> None:
        self.broken = self.broken or RecordError(line, sum(step[2] in COLORS for step in self.steps), message)

    def play(self, line: int, moves: str) -> None:
        """Enters nodes of the main line with a move each."""
        for self.end, text in enumerate(moves.split("\n"), line):
            for move in text.split(";")[1:]:
                self.nodes += 1
                self.steps.append((self.end, self.nodes, move[0], move[2:].rstrip()[:-1]))

    def add(self, line: int, name: str, values: str) -> None:
        """Enters a property of the main line."""
        name = name if name.isupper() else "".join(filter(str.isupper, name))  # FF[3] has small letters in between
        if name in STEPS:
            self.steps += [(line, self.nodes, name, plain(value).strip()) for value in VALUE.findall(values)]
        if self.nodes == 1 and name not in self.root and (value := VALUE.search(values)):
            self.root[name] = SPACE.sub(" ", plain(value[1]))


def plain(value: str) -> str:
    return ESCAPE.sub(r"\1", value) if "\\" in value else value


def collect(file: str, text: str, line: int = 1) -> tuple[list[Entry], list[Problem]]:
    """The records of a text that begins in that line of the file, and what is wrong with the others."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for tree in trees(text, line):
        try:
            entries.append(Entry(file, *entry(tree)))
        except RecordError as broken:
            problems.append(Problem(file, *broken.args))
    if text.strip() and not entries and not problems:
        problems.append(Problem(file, line, 0, f"no SGF: {text.strip()[:30]!r}"))
    return entries, problems


def sift(entries: Sequence[Entry]) -> list[Game | Problem]:
    return game_lib.sift(entries, checked)


def trees(text: str, line: int = 1) -> Iterator[GameTree]:
    """Every game tree. One that is cut off ends where the next begins (a root says FF, GM, SZ or CA)."""
    tree, stray, counted = None, False, 0
    roots = [match.end() - 1 for match in ROOT_LINE.finditer(text)]
    for begin, end in pairwise(sorted({0, *roots, len(text)})):
        for match in TOKEN.finditer(text, begin, end):
            moves, semicolon, name, values, closing, mark = match.groups()
            at = match.start(3) if name else match.end() - len(match[0].lstrip())
            line += text.count("\n", counted, at)
            counted = at
            if mark == "(" and (ROOT if tree else TREE).match(text, at):
                if tree:
                    yield tree
                tree, stray = GameTree(at, line, line), False
            elif tree is None:
                if (semicolon or moves or name in (*ROOTS, "KM", *HEADERS)) and not stray:  # the brackets are lost
                    yield GameTree(at, line, line, broken=RecordError(line, 0, f"no SGF: {match[0].strip()[:30]!r}"))
                    stray = True
            elif moves:
                if tree.main:
                    tree.play(line, moves.strip())
            elif name:
                tree.end = line
                if tree.main:
                    tree.nodes += bool(semicolon)
                    if closing != "]":
                        tree.object(line, f"no SGF: {text[at : min(end, at + 30)].strip()!r}")
                    tree.add(line, name, values)
            elif mark:
                tree.end = line
                tree.depth += {"(": 1, ")": -1}.get(mark, 0)
                tree.nodes += mark == ";" and tree.main
                tree.main &= mark != ")"
                if not tree.depth:
                    yield tree
                    tree = None
            elif at < end:
                tree.end = line
                tree.object(line, f"no SGF: {text[at : min(end, at + 30)].strip()!r}")
        if tree:
            yield tree
        tree = None


def entry(tree: GameTree) -> tuple[list[int], Game]:
    """Lines of the record's begin and of each move, and the game as written, not yet replayed."""
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
    return lines, Game("go", options, moves, read_result(root.get("RE", "")), headers, start, line=line)


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


def checked(entry: Entry, outcome: Replayed) -> Game | Problem:
    """As `checked_game`, but what follows two passes on real boards is no fault: more passes, and another count."""
    file, lines, game = entry
    passing = game.options["size"] ** 2
    if outcome.over and set(game.moves[outcome.played :]) <= {passing}:
        lines, game = lines[: outcome.played + 1], dataclasses.replace(game, moves=game.moves[: outcome.played])
        if has_stones(game, passing):
            game = dataclasses.replace(game, result=None)
    return checked_game(Entry(file, lines, game), outcome)


def has_stones(game: Game, passing: int) -> bool:
    """Whether some stones may be taken for dead when the game is counted."""
    return game.start is not None or set(game.moves) != {passing}


def beginning(tree: GameTree, size: int) -> tuple[int, str | None, list[tuple[int, str, str]]]:
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


def handicap(tree: GameTree, played: list[tuple[int, str, str]], size: int) -> set[int]:
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
