"""Damaged, hostile, huge and odd files of game records: the sound games around a fault are read, what is wrong is said
briefly, the time is linear, and what is written is read again."""

import functools
import itertools
import json
import random
import string
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gauntlet import Case
from jaxzero import records
from jaxzero.records import Game

COUNT = 1200
FEW = 24
MOST = 300  # characters of a message
SLOWEST = 5.0  # seconds of the processor for a file of some 100 kB or less, far above what it takes
Random = random.Random

# Sound games, legal by their making: scattered points, none beside another; openings.


def go(draw: Random) -> Game:
    points = [5 * row + column for row in (0, 2, 4) for column in (0, 2, 4)]
    moves = draw.sample(points, draw.randint(0, 6)) + [25] * draw.choice([0, 0, 1])
    options = {"size": 5, "komi": draw.choice([0.0, 0.5, 6.5, 7.0, -5.5, 123.4375, 300.0])}
    options |= draw.choice([{}, {"ko": "positional"}])
    return Game("go", options, moves, draw.choice([None, (1.0, -1.0), (-1.0, 1.0), (0.0, 0.0)]), headers(draw))


def hex_game(draw: Random) -> Game:
    moves = draw.sample(range(25), draw.randint(0, 4))
    swap = draw.random() < 0.5
    if swap and len(moves) > 1 and draw.random() < 0.5:
        moves = [moves[0], 25]
    return Game("hex", {"size": 5, "swap": swap}, moves, draw.choice([None, (1.0, -1.0), (-1.0, 1.0)]))


def chess(draw: Random) -> Game:
    line = draw.choice(openings())
    moves = line[: draw.randint(0, len(line))]
    return Game("chess", {}, moves, draw.choice([None, (1.0, -1.0), (0.0, 0.0)]), headers(draw))


def tic_tac_toe(draw: Random) -> Game:
    result = draw.choice([None, (1.0, -1.0), (0.5, -0.5)])
    return Game("tic_tac_toe", {}, draw.sample(range(9), draw.randint(0, 4)), result, headers(draw))


LINES = ("1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 4. Ba4 Nf6 5. O-O *", "1. d4 d5 2. c4 e6 3. Nc3 Nf6 4. Bg5 Be7 5. e3 O-O *")


@functools.cache
def openings() -> list[list[int]]:
    text = "\n\n".join(f'[Event "x"]\n\n{line}' for line in LINES)
    return [game.moves for game in records.parse(records.FORMATS[".pgn"], [("", 1, text)])[0]]


KINDS: dict[str, list[Callable[[Random], Game]]] = {
    ".sgf": [go], ".trmph": [hex_game], ".pgn": [chess], ".jsonl": [tic_tac_toe, go, hex_game],
}  # fmt: skip
SUFFIXES = tuple(KINDS)
KEPT = {".sgf": ("PB", "PW", "EV", "PC", "RU"), ".trmph": (), ".pgn": ("White", "Black", "Event", "Site")}
NAMES = ("PB", "PW", "EV", "PC", "RU", "KM", "SZ", "FF", "GM", "AB", "HA", "RE", "CA", "White", "Black", "FEN", "SetUp")
NAMES += ("Event", "Site", "Result", "Variant", "player_1", "player_2", "x y", "")
WORDS = ("Żółw", "木谷", "[1d]", "a\\", "]", '"', "{", ";", "(;GM[1]", "[Event ", "\n(;GM[1]", "\n\n[Event", "1-0", "-")


def headers(draw: Random) -> dict[str, str]:
    names = draw.sample(NAMES, draw.choice([0, 0, 1, 3]))
    return {name: " ".join(draw.choices(WORDS, k=draw.randint(0, 3))) for name in names}


def games(draw: Random, suffix: str, count: int) -> list[Game]:
    return [draw.choice(KINDS[suffix])(draw) for _ in range(count)]


# What is looked at


class Read:
    """A file read under watch."""

    def __init__(self, path: Path, content: bytes):
        path.write_bytes(content)
        self.games: list[Game] = []
        began = time.process_time()
        try:
            self.games, problems = records.read(path)
            self.messages, self.raised = [str(problem) for problem in problems], ""
        except BaseException as error:  # whatever gets through is the fault
            if isinstance(error, KeyboardInterrupt):
                raise
            self.messages, self.raised = [], f"raised {type(error).__name__}: {str(error)[:200]}"
        self.seconds = time.process_time() - began
        self.place = len(str(path))

    @property
    def fault(self) -> str:
        if self.raised:
            return self.raised
        if bad := [text for text in self.messages if len(text) - self.place > MOST or not text.isprintable()]:
            return f"a message of {len(bad[0])} characters: {bad[0][:80]!r}"
        return f"took {self.seconds:.1f} s" if self.seconds > SLOWEST else ""


def damaged(draw: Random, path: Path) -> Case:
    """A record among sound ones, with some characters changed."""
    suffix = path.suffix
    before, middle, after = (games(draw, suffix, count) for count in (draw.randint(0, 2), 1, draw.randint(0, 2)))
    for game in (*before, *middle, *after):
        for name in set(game.headers) - {"White", "PB", "EV"}:
            del game.headers[name]
    form = records.FORMATS[suffix]
    parts = [form.dump(part).encode() if part else b"" for part in (before, middle, after)]
    if suffix == ".pgn":
        parts = [part + b"\n" if part else b"" for part in parts]
    text = mutated(draw, parts[1].strip(b"\n"))
    parts[1] = text + b"\n" * (len(parts[1]) - len(parts[1].rstrip(b"\n")))
    read = Read(path, b"".join(parts))
    fault = read.fault
    expected = [(game.moves, game.start) for game in (*before, *after)]
    found = [(game.moves, game.start) for game in read.games]
    a, b = len(before), len(after)
    if not fault and (found[:a] != expected[:a] or found[len(found) - b :] != expected[a:]):
        fault = f"lost a sound game beside: {len(found)} of {a + 1 + b} are read, problems {read.messages}"
    comment = {".trmph": b";", ".pgn": b"%;"}.get(suffix, b"")
    skipped = not text.strip() or text.strip()[0] in comment or not any(c in text for c in b";[")
    if not fault and len(found) == a + b and not read.messages and not skipped:
        fault = "lost a record without a word"
    return Case(f"{text!r}"[:400], fault)


PIECES = [bytes([c]) for c in b'()[];\\"{}#,:-.*%$! \t\n\r09aA\x00\x1b\x7f\x80\xc3\xff']
PIECES += ["é".encode(), b"NaN", b"-1", b"1e999", b"9" * 30, b"(;", b"\\]", b"[]", b"{}", b"null", b"swap", b"\xff\xfe"]


def mutated(draw: Random, text: bytes) -> bytes:
    for _ in range(draw.choice([1, 1, 1, 2, 5])):
        at = draw.randint(0, len(text))
        end = min(len(text), at + draw.choice([0, 1, 1, 3, 20]))
        piece = draw.choice([b"", text[at:end] * 2, draw.choice(PIECES), draw.choice(PIECES) * draw.randint(1, 9)])
        text = text[:at] + piece + text[end:]
    return text


WORST = {
    ".sgf": [
        "[", "C[", "(;C[x", "(", "(;", "(;GM[1]", "(;GM[1]C[\n", ")", ";", ";B", ";B[aa]", ";B[]", "a", " ", "\n", "\\",
        "(;FF[\n", "\n(", "\n;", "AB[aa:ss]", "AB[aa", "(;W[aa])", "(;W[aa]", "KM[9]", "CA[gbk]", "]", "SZ[9",
        "B[aa][bb]",
    ],
    ".trmph": ["#", "#5", "9", "a1", "#5,a1 ", " ", "swap", ";\n", "#5,a1\n", "http://", "#5,a1b\n"],
    ".pgn": [
        " ", "\n", "(", ")", "{", "}", "[", '[Event "', '[Event "x"]\n', "e4 ", "1. ", ".", "$1", "!", "\\", '"', "*",
        "* ", "1-0\n", ";", ";x\n", "%\n", "{(", "( {", "[x ", "e4(e4 ", "9", "a", "O-O-O-", "N", "x",
    ],
    ".jsonl": [
        "[", "{", '{"a":', '"', "9", "\\u", " ", "[[],", "{}\n", "[\n", "-", "1e", "null\n",
        '{"game":"x","moves":[]}\n',
    ],
}  # fmt: skip
BEGIN = {
    ".sgf": ["", "(;GM[1]SZ[9]", "(;GM[1]SZ[9];B[aa]", "(;C[", "(;GM[1]SZ["],
    ".trmph": ["", "#5,", "#5,a1 ", "#"],
    ".pgn": ["", "1. e4 ", '[Event "x"]\n\n', '[Event "x"]\n\n1. e4 {', '[Event "x"]\n[FEN "'],
    ".jsonl": ["", '{"game": "hex", "moves": [', '{"game": "', '{"game": "hex", "moves": [], "start": "'],
}  # fmt: skip


def repeated(draw: Random, path: Path) -> Case:
    """A pattern repeated, and twice as often: no more than about twice the time."""
    unit, begin = draw.choice(WORST[path.suffix]), draw.choice(BEGIN[path.suffix])
    unit = unit + draw.choice(["", "", draw.choice(WORST[path.suffix])])
    count = 12_000 // (1 if path.suffix == ".pgn" and unit.strip("\n*1-0 ") == "" else len(unit))
    once, twice = (Read(path, (begin + unit * n).encode()) for n in (count, 2 * count))
    fault = once.fault or twice.fault
    if not fault and twice.seconds > 3 * once.seconds + 0.5:
        fault = f"{count} times took {once.seconds:.2f} s, twice as many {twice.seconds:.2f} s"
    return Case(f"{begin!r} and {count} and {2 * count} times {unit!r}", fault)


def soup(draw: Random, path: Path) -> Case:
    """Tokens of the format in any order."""
    tokens = [token.encode() for token in WORST[path.suffix]] + PIECES
    text = b"".join(draw.choices(tokens, k=draw.choice([3, 30, 300])))
    text = draw.choice([b"", b"\xef\xbb\xbf", b"\xff\xfe"]) + text
    return Case(repr(text)[:400], Read(path, text).fault)


def written(draw: Random, path: Path) -> Case:
    """Games written and read again; what a format cannot hold it refuses by ValueError."""
    source = games(draw, draw.choice(SUFFIXES), draw.randint(1, 3))
    before = path.with_name("before.jsonl")
    what = f"{source}"[:400]
    try:
        if all(game.game in ("go", "hex", "chess") for game in source):  # as converted from JSON lines
            records.write(before, source)
            again, problems = records.read(before)
            if again != source or problems:
                return Case(what, f"JSON lines: {again} {problems}"[:500])
            source = again
        records.write(path, source)
    except ValueError:
        refused = {game.game for game in source} <= {records.FORMATS[path.suffix].game, ""}
        odd = any(not name.isidentifier() for game in source for name in game.headers)
        return Case(what, "refused" if refused and not odd else "")
    read = Read(path, path.read_bytes())
    fault = read.fault or "".join(read.messages)[:400]
    kept = KEPT.get(path.suffix)
    for wrote, found in itertools.zip_longest(source, read.games):
        if not fault and (wrote is None or found is None or unlike(wrote, found, kept)):
            fault = f"wrote {wrote}, read {found}"[:900]
    return Case(what, fault)


def unlike(wrote: Game, found: Game, kept: tuple[str, ...] | None) -> bool:
    if kept is None:
        return wrote != found
    same = all(getattr(wrote, name) == getattr(found, name) for name in ("game", "moves", "result", "start"))
    same &= wrote.options.items() <= found.options.items()

    def line(text: str) -> str:
        return " ".join(text.split())

    names = [name for name in kept if line(wrote.headers.get(name, "")) and name != "RU"]
    return not same or any(line(found.headers.get(name, "")) != line(wrote.headers[name]) for name in names)


DEEP = "[" * 50_000 + "]" * 50_000
WILD = [
    "NaN", "-Infinity", "1e400", "9" * 400, "-" + "9" * 5000, DEEP, '{"a":' * 3000 + "1" + "}" * 3000, "null", "true",
    '""', '"12"', "[]", "{}", "[1]", "[1, 1]", "[0.5, -0.5]", "[2, -2]", "[NaN, 1]", '["a", "b"]', "[true, false]",
    f"[{'9' * 400}, 0]", f"[{'9' * 400}]", '"\\ud800"', '"' + "x" * 20_000 + '"', "[-1]", "[0.0]", "1" + "0" * 9,
    '{"size": 1000000000}', '{"size": 1e9}', '{"size": true}', '{"komi": 1e308}', '{"size": "5"}', "[[0]]",
    '"no.py:make"', '"/etc/passwd.py:x"', '"pgx:"', '"hex\\u0000"', '"' + "a" * 5000 + '.py:f"', '{"": 1}',
]  # fmt: skip


def fields(draw: Random, path: Path) -> Case:
    """A line with a field of another kind, added, or twice, between sound ones."""
    path = path.with_suffix(".jsonl")
    first, middle, last = games(draw, ".jsonl", 3)
    sound = [records.FORMATS[".jsonl"].dump([game]) for game in (first, last)]
    content = {name: json.dumps(value) for name, value in vars(middle).items() if value is not None}
    pairs = list(content.items())
    for _ in range(draw.choice([1, 1, 2])):
        name = draw.choice([*vars(middle), "more"])
        value = draw.choice(WILD)
        pairs = [pair for pair in pairs if pair[0] != name or draw.random() < 0.2] + [(name, value)]
    line = "{" + ", ".join(f'"{name}": {value}' for name, value in pairs) + "}\n"
    read = Read(path, (sound[0] + line + sound[1]).encode())
    fault = read.fault
    if not fault and (read.games[:1] != [first] or read.games[-1:] != [last]):
        fault = f"lost a sound game beside: {read.games} {read.messages}"[:400]
    if not fault and len(read.games) + len(read.messages) != 3:
        fault = f"{len(read.games)} games and {read.messages} for three lines"
    return Case(line[:400], fault)


def trees(draw: Random, path: Path) -> Case:
    """Game trees as no program writes them, each on its line after a sound game."""
    path = path.with_suffix(".sgf")
    letters = string.ascii_letters + "[]();\\ \n:"
    values = (
        "",
        "aa",
        "tt",
        "aa:cc",
        "zz",
        "19",
        "9:9",
        "9:13",
        "375",
        "7,5",
        "nan",
        "1e9",
        "-5",
        "B+R",
        "Void",
        "gbk",
    )
    nodes = ""
    for _ in range(draw.randint(1, 8)):
        nodes += draw.choice([";", ";", "(;", ")", ""])
        name = draw.choice(
            ["B", "W", "AB", "AW", "AE", "PL", "SZ", "KM", "HA", "RE", "RU", "CA", "GM", "Black", "b", "X"]
        )
        value = draw.choice([*values, "".join(draw.choices(letters, k=draw.randint(0, 9)))])
        nodes += f"{name}[{value}]" * draw.choice([1, 1, 2])
    good = "(;GM[1]SZ[5];B[aa])"
    text = f"{good}\n(;GM[1]{nodes})\n{good}\n".encode(draw.choice(["utf-8", "latin-1"]))
    read = Read(path, text)
    fault = read.fault
    moves = [game.moves for game in read.games]
    if not fault and (moves[:1] != [[0]] or moves[-1:] != [[0]] or len(moves) < 2):
        fault = f"lost a sound game beside: {moves} {read.messages}"
    return Case(repr(text), fault)


TRIALS = (damaged, written, damaged, soup, fields, written, trees, repeated)


def trial(number: int, seed: int, folder: Path) -> Case:
    """One case; the same again for the same number and seed."""
    attempt, draw = TRIALS[number % len(TRIALS)], Random(seed)
    try:
        case = attempt(draw, folder / f"games{SUFFIXES[number // len(TRIALS) % len(SUFFIXES)]}")
    except ValueError as error:  # by a writer of sound games
        case = Case("", f"refused: {error}")
    return Case(f"trial({number}, {seed}): {attempt.__name__}: {case.what}", case.fault)


def attack(draw: Random, count: int, folder: Path) -> Iterator[Case]:
    for number in range(count):
        yield trial(number, draw.getrandbits(32), folder)
