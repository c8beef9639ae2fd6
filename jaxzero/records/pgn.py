"""PGN (Edwards 1994): records of chess. Of each game the main line is read, without comments and glyphs.

A `FEN` tag gives the first position. A result that the moves do not reach (resigned, agreed, out of time) is kept. The
rules are those of `envs.chess`, where nobody has to claim a draw: a game ends with the third repetition, with 50 moves
without capture or pawn move, with insufficient material and with ply 512. In a game that went on after that, the first
such move is a problem, and the game is left out.
"""

import dataclasses
import re
import textwrap
from collections.abc import Iterable, Iterator

import envs
from jaxzero.records import san
from jaxzero.records.game import Game, Problem, RecordError, Replayed, judge

TOKEN = re.compile(
    r"""\s*(?:
      (?P<comment>\{(?:(?!\n\[Event\s)[^}])*\}?|;[^\n]*|^%[^\n]*)  # one that is cut off ends where the next game begins
    | \[\s*(?P<tag>\w+)\s+"(?P<value>(?:\\.|[^"\\\n])*)"\s*\]
    | (?P<bracket>[()])
    | (?P<result>1-0|0-1|1/2-1/2|\*)
    | (?P<skip>\$\d+|[!?]+|\d+\.+|\d+(?=\s)|\.+)  # glyphs, numbers
    | (?P<word>[^\s{}()\[\];$!?]+)
    | (?P<other>\[[^\n]*|\S)
    )""",
    re.VERBOSE | re.MULTILINE,
)
RESULTS = {"1-0": (1.0, -1.0), "0-1": (-1.0, 1.0), "1/2-1/2": (0.0, 0.0), "*": None}
ROSTER = {"Event": "?", "Site": "?", "Date": "????.??.??", "Round": "?", "White": "?", "Black": "?"}
STANDARD = ("standard", "chess", "from position")  # values of `Variant`
WIDTH = 79
ESCAPED, PREFIX = re.compile(r'(["\\])'), r"\\\1"


@dataclasses.dataclass
class Record:
    """A game as written."""

    lines: list[int]  # of the first tag and of each move
    tags: dict[str, tuple[int, str]] = dataclasses.field(default_factory=dict)  # line and value
    words: list[str] = dataclasses.field(default_factory=list)  # moves
    result: str = ""
    depth: int = 0  # of variations
    broken: RecordError | None = None  # the first thing wrong

    def object(self, line: int, message: str) -> None:
        self.broken = self.broken or RecordError(line, len(self.words), message)


def parse(file: str, text: str) -> tuple[list[Game], list[Problem]]:
    """The sound records of a file, and what is wrong with the others."""
    entries: list[tuple[Record, Game]] = []
    problems: list[Problem] = []
    for record in split(text):
        try:
            entries.append((record, opening(record)))
        except RecordError as broken:
            problems.append(Problem(file, *broken.args))
    found = replayed(file, entries)
    problems += [x for x in found if isinstance(x, Problem)]
    return [x for x in found if isinstance(x, Game)], sorted(problems, key=lambda problem: problem.line)


def split(text: str) -> Iterator[Record]:
    """The records of a text. A game ends with its result; one that is cut off, where the tags of the next begin."""
    record, line, position = None, 1, 0
    for match in TOKEN.finditer(text):
        kind = match.lastgroup
        line, position = line + text.count("\n", position, match.start(kind or 0)), match.start(kind or 0)
        if kind == "value":
            if record and (record.words or record.depth or match["tag"] in record.tags):
                record.object(record.lines[-1], "the record is cut off")
                yield record
                record = None
            record = record or Record([line])
            record.tags[match["tag"]] = line, re.sub(r"\\(.)", r"\1", match["value"])
        elif kind != "comment" or match["comment"][0] == "{":
            record = record or Record([line])
            read_token(record, kind or "", match[kind or 0], line)
            if record.result:
                yield record
                record = None
    if record:
        record.object(record.lines[-1], "the record is cut off")
        yield record


def read_token(record: Record, kind: str, text: str, line: int) -> None:
    """Enters what stands between tags into the record."""
    if kind == "comment" and text[-1] != "}":
        record.object(line, "a comment is not closed")
    elif kind == "bracket":
        record.depth += 1 if text == "(" else -1
        if record.depth < 0:
            record.depth = 0
            record.object(line, "')' closes nothing")
    elif kind == "other":
        record.object(line, f"no PGN: {text[:30]!r}")
    elif kind == "result" and not record.depth:
        record.result = text
    elif kind == "word" and not record.depth:
        record.words.append(text)
        record.lines.append(line)


def opening(record: Record) -> Game:
    """The game without its moves."""
    if record.broken:
        raise record.broken
    tags = {name: value for name, (_, value) in record.tags.items()}
    if tags.get("Variant", "chess").lower() not in STANDARD:
        raise RecordError(record.tags["Variant"][0], 0, f"Variant {tags['Variant']!r} is another game than chess")
    if tags.get("Result", record.result) != record.result:
        said = f"the tag Result says {tags['Result']!r}, the moves end with {record.result}"
        raise RecordError(record.lines[-1], 0, said)
    start = tags.get("FEN")
    if start is None and tags.get("SetUp") == "1":
        raise RecordError(record.tags["SetUp"][0], 0, "SetUp is 1, but there is no FEN")
    if start is not None:
        try:
            over = bool(envs.make("chess").from_text(start).terminated)
        except ValueError as error:
            raise RecordError(record.tags["FEN"][0], 0, f"FEN: {error}") from error
        if over:
            raise RecordError(record.tags["FEN"][0], 0, f"FEN: the game is over in {start!r}")
    named = ("Result", "FEN", "SetUp")
    headers = {name: value for name, value in tags.items() if name not in named and value != ROSTER.get(name)}
    return Game("chess", {}, [], RESULTS[record.result], headers, start)


def replayed(file: str, entries: list[tuple[Record, Game]]) -> list[Game | Problem]:
    """The games with their moves, or what the rules object to."""
    found: dict[int, Game | Problem] = {}

    def choose(i: int, position: san.Position) -> int | None:
        record, game = entries[i]
        played = len(game.moves)
        if played == len(record.words):
            found[i] = judge(file, (record.lines, game), Replayed(played, position.over, position.result))
            return None
        try:
            if position.over:
                drawn = "drawn at once by third repetition, 50 moves, ply 512, insufficient material or stalemate"
                ended = "mate" if any(position.result) else drawn
                raise ValueError(f"{record.words[played]} is after the end of the game ({ended})")
            game.moves.append(san.read(record.words[played], position.moves).action)
        except ValueError as error:
            found[i] = Problem(file, record.lines[played + 1], played + 1, f"{position.label} {error}")
            return None
        return game.moves[-1]

    if entries:
        san.walk(entries[0][1].env, [game.start for _, game in entries], choose)  # pyright: ignore[reportArgumentType]
    return [found[i] for i in range(len(entries))]


def dump(games: Iterable[Game]) -> str:
    """The games as text of a file.

    Raises:
        ValueError: a game of another kind, or one that cannot have been played.
    """
    games = list(games)
    for game in games:
        if game.game != "chess":
            raise ValueError(f"PGN records hold chess, not {game.game}")
        if game.start is not None and len(game.start.split()) != 6:
            raise ValueError(f"PGN records begin with a FEN of 6 fields, not {game.start!r}")
        if bad := [name for name in game.headers if not re.fullmatch(r"\w+", name)]:
            raise ValueError(f"a tag of PGN is written with letters, digits and _, not {bad[0]!r}")
    return "\n".join(map(dump_game, games, movetexts(games)))


def movetexts(games: list[Game]) -> list[list[str]]:
    """Numbers, moves and result of each game."""
    texts: list[list[str]] = [[] for _ in games]
    played = [0] * len(games)

    def choose(i: int, position: san.Position) -> int | None:
        game, text, n = games[i], texts[i], played[i]
        if n:
            text[-1] += "#" if position.over and any(position.result) else "+" if position.checked else ""
        if n == len(game.moves):
            result = position.result if game.result is None and position.over else game.result
            if position.over and result != position.result:
                raise ValueError(f"game {i + 1} has the result {result}, its moves lead to {position.result}")
            text.append(next(name for name, rewards in RESULTS.items() if rewards == result))
            return None
        move = position.moves.get(game.moves[n])
        if not move:
            raise ValueError(f"game {i + 1}, {position.label}: action {game.moves[n]} is not legal here")
        text += [position.label] * (n == 0 or not position.label.endswith("...")) + [san.write(move, position.moves)]
        played[i] += 1
        return move.action

    for env in {game.env for game in games}:
        which = [i for i, game in enumerate(games) if game.env == env]
        san.walk(env, [games[i].start for i in which], lambda g, position: choose(which[g], position))  # noqa: B023 # pyright: ignore
    return texts


def dump_game(game: Game, moves: list[str]) -> str:
    tags = ROSTER | game.headers
    roster = {name: tags.pop(name) for name in ROSTER} | {"Result": moves[-1]}
    tags = roster | {name: value for name, value in tags.items() if name != "Result"}
    if game.start is not None:
        tags |= {"SetUp": "1", "FEN": game.start}
    lines = [f'[{name} "{ESCAPED.sub(PREFIX, " ".join(value.split()))}"]' for name, value in tags.items()]
    wrapped = textwrap.wrap(" ".join(moves), WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*lines, "", *wrapped, ""])
