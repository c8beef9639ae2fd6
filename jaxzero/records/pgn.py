"""PGN (Edwards 1994): records of chess. Of each game the main line is read, without comments and glyphs.

A `FEN` tag gives the first position. A result that the moves do not reach (resigned, agreed, out of time) is kept. The
rules are those of `envs.chess`, where nobody has to claim a draw: a game ends with the third repetition, with 50 moves
without capture or pawn move, with insufficient material and with ply 512. In a game that went on after that, the first
such move is a problem, and the game is left out.

Besides what the standard demands, the forms that programs and people write are read: see `san` for moves; signs such as
`+-`; a result in the tag alone, if a blank line shows that the moves are complete; quotes in tags that are not escaped;
FENs without the last fields; characters of Windows-1252. A null move is no move of chess.
"""

import codecs
import dataclasses
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import envs
from envs.chess import Chess
from jaxzero.messages import shortened
from jaxzero.records import game as game_lib
from jaxzero.records import san
from jaxzero.records.game import Game, Problem, RecordError, Replayed, checked_game

NAME = "[A-Za-z0-9][A-Za-z0-9_+#=:-]*+"
TAG_BEGINS = rf'\[{NAME}[ \t]*+"'
# After the end of a line: a blank line, then a tag or the first move.
GAME_BEGINS = rf"[ \t]*+\n[ \t]*+(?:{TAG_BEGINS}|1\.(?!\s*+[.…]))"
# Every repetition is possessive or cannot overlap with what follows, so that reading takes linear time. Nothing but the
# end of the text is left unmatched: a search that starts anew in each of many spaces would be quadratic.
TOKEN = re.compile(
    rf"""[\s\ufeff\0]*+(?:
      # A comment that is not closed ends where the next game begins; a tag in a comment only seems to be one if the
      # comment is closed before another one is opened.
      (?P<comment>\{{[^}}\n]*+(?:\n(?!{TAG_BEGINS}|{GAME_BEGINS})[^}}\n]*+)*+
        (?:\}}|\n\[(?:[^{{}}\n]++|\n(?!{GAME_BEGINS}))*+\}})?|;[^\n]*|^%[^\n]*)
    # Quotes in a value need not be escaped: it ends with the one that a bracket follows.
    | \[[ \t]*+(?P<tag>{NAME})[ \t]*+"
        (?P<value>(?:[^"\\\n]|\\(?!"[ \t]*+\][ \t]*+$).|\\|"(?![ \t]*+\]))*+)"[ \t]*+\]
    | (?P<bracket>\(+|\)+)
    | (?P<skip>\$\d*|[!?]+|[.…]+|\d+(?:\s*+[.…]++)++|(?!0+\s)\d+(?=\s|\Z))  # glyphs, numbers of moves
    | (?P<word>\*|[^\s\ufeff\0{{}}()\[\];$!?*]+(?:\(=?[NBRQnbrq]\))?)
    | (?P<other>\[[^\n]*|[\]}}]+)
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.MULTILINE,
)
# Match the end of the text before a game, the surest first.
BEGINS = (
    re.compile(rb"(?:1-0|0-1|1/2(?:-1/2)?|\*)\s*+\n(?=[ \t]*+\[[A-Za-z0-9])"),
    re.compile(rb"\n[ \t]*+\n(?=[ \t]*+\[Event[ \t])"),
    re.compile(rb"[^]\s][ \t]*+\n[ \t]*+\n(?=[ \t]*+1\.(?!\s*+[.\xe2]))"),  # after moves, not after tags
)
NOISE = re.compile(rf"{san.SIGN}|[+#]+|e\.?p\.?|ch\.?|mate")  # between moves
RESULTS = {"1-0": (1.0, -1.0), "0-1": (-1.0, 1.0), "1/2-1/2": (0.0, 0.0), "*": None}
READ_RESULTS = RESULTS | {"1/2": RESULTS["1/2-1/2"]}
UNKNOWN = {"?": None, "": None}  # values of the tag
ROSTER = {"Event": "?", "Site": "?", "Date": "????.??.??", "Round": "?", "White": "?", "Black": "?"}
STANDARD = ("standard", "chess", "classical", "normal", "from position", "?", "")  # values of `Variant`
# Games of these are games of chess if their first position, which has to be given, is one of chess.
SHUFFLED = ("chess960", "chess 960", "fischerandom", "fischerrandom", "fischer random")
FIELDS = ("", "w", "-", "-", "0", "1")  # of a FEN that lacks the last ones
ROOK_FILES = str.maketrans("HAha", "KQkq")  # castling rights as Shredder writes them
LONGEST_FEN = 120  # characters; one without needless spaces has 94
DERIVED = ("Result", "FEN", "SetUp")  # tags that say what a `Game` says without headers
WIDTH = 79
ESCAPED, PREFIX = re.compile(r'(["\\])'), r"\\\1"
UNPRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # also every end of a line
SURROGATES = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass
class Record:
    """A game as written."""

    lines: list[int]  # of the first tag and of each move
    apart: bool  # after a blank line
    tags: dict[str, tuple[int, str]] = dataclasses.field(default_factory=dict)  # line and value
    words: list[str] = dataclasses.field(default_factory=list)  # moves, up to the first that no game can have
    result: str = ""
    depth: int = 0  # of variations
    moving: bool = False  # past the tags
    broken: RecordError | None = None  # the first thing wrong

    def object(self, line: int, message: str) -> None:
        self.broken = self.broken or RecordError(line, len(self.words), message)

    def ends_before(self, kind: str, match: re.Match[str], blank: bool) -> bool:
        """Whether a token belongs to the next game, though no result came. `blank`: after a blank line."""
        if kind == "value":
            name = match["tag"]
            again = self.broken or name in self.tags
            first = name in ("Event", next(iter(self.tags), ""))
            return bool(self.moving or (again and (first or blank)) or (name == "Event" and (blank or not self.apart)))
        return kind == "end" or (match["skip"] == "1." and blank and (self.moving or not self.tags))

    def closed(self, blank: bool) -> "Record":
        """Ends a record that has no result after its moves."""
        if not (blank and self.words and "Result" in self.tags and not self.depth):
            self.object(self.lines[-1], "the record is cut off")
        return self


def decode(data: bytes) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark; lines that are not UTF-8 are in Windows-1252,
    which holds the Latin-1 of the standard."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "".join(map(decode_line, data.splitlines(keepends=True)))


def decode_line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


class PgnEntry(NamedTuple):
    """A record as written, not yet replayed."""

    file: str
    record: Record
    game: Game  # without its moves


def collect(file: str, text: str, line: int = 1) -> tuple[list[PgnEntry], list[Problem]]:
    """The records of a text that begins in that line of the file, and what is wrong with the others."""
    entries: list[PgnEntry] = []
    problems: list[Problem] = []
    for record in split(re.sub("\r\n?", "\n", text), line):
        try:
            entries.append(PgnEntry(file, record, opening(record)))
        except RecordError as broken:
            problems.append(Problem(file, *broken.args))
    return entries, problems


def split(text: str, line: int = 1) -> Iterator[Record]:
    """The records of a text. A game ends with its result; one that is cut off, where the next begins."""
    record, begin, end, blank = None, 0, 0, True
    for match in TOKEN.finditer(text):
        kind = match.lastgroup or ""
        line += text.count("\n", begin, match.start(kind))
        begin = match.start(kind)
        blank |= text.count("\n", end, begin) > 1
        end = match.end()
        if record and record.ends_before(kind, match, blank):
            yield record.closed(blank)
            record = None
        if kind == "comment" and (match["comment"][0] != "{" or match["comment"][-1] == "}"):
            continue
        apart, blank = blank, False
        alone = record is None and match["word"] in READ_RESULTS  # after a result: no game, nothing is lost
        if alone or kind in ("skip", "end"):
            continue
        record = record or Record([line], apart)
        if kind == "value":
            record.tags[match["tag"]] = line, re.sub(r'\\(["\\])', r"\1", match["value"])
        else:
            read_token(record, kind, match[kind], line)
        if record.result:
            yield record
            record = None


def read_token(record: Record, kind: str, text: str, line: int) -> None:
    """Enters what is neither a tag nor to be skipped into the record."""
    record.moving |= text[0] != "["
    if kind == "comment":
        record.object(line, "a comment is not closed")
    elif kind == "bracket":
        record.depth += len(text) if text[0] == "(" else -len(text)
        if record.depth < 0:
            record.depth = 0
            record.object(line, "')' closes nothing")
    elif kind == "other":
        record.object(line, f"no PGN: {shortened(text, 30)!r}")
    elif not record.depth:
        text = text.translate(san.PLAIN)
        if text in READ_RESULTS:
            record.result = text
        elif not NOISE.fullmatch(text) and len(record.words) <= Chess.max_plies:
            record.words.append(text)
            record.lines.append(line)


def opening(record: Record) -> Game:
    """The game without its moves."""
    if record.broken:
        raise record.broken
    tags = {name: value for name, (_, value) in record.tags.items()}
    start = first_position(record, tags)
    headers = {name: value for name, value in tags.items() if name not in DERIVED and value != ROSTER.get(name)}
    return Game("chess", {}, [], result_of(record), headers, start, line=record.lines[0])


def result_of(record: Record) -> tuple[float, ...] | None:
    """What the tag and the end of the moves say together; either may leave it open."""
    ended = READ_RESULTS[record.result or "*"]
    if "Result" not in record.tags:
        return ended
    line, tag = record.tags["Result"]
    known = READ_RESULTS | UNKNOWN
    text = "".join(tag.translate(san.PLAIN).split())
    if text not in known:
        raise RecordError(line, 0, f"the tag Result says {shortened(tag)!r}, which is no result")
    if None not in (ended, known[text]) and ended != known[text]:
        raise RecordError(record.lines[-1], 0, f"the tag Result says {text!r}, the moves end with {record.result}")
    return known[text] if ended is None else ended


def first_position(record: Record, tags: dict[str, str]) -> str | None:
    """The FEN, with all of its fields."""
    variant = tags.get("Variant", "").lower()
    if variant not in STANDARD and not (variant in SHUFFLED and "FEN" in tags):
        shown = shortened(tags["Variant"])
        raise RecordError(record.tags["Variant"][0], 0, f"Variant {shown!r} is another game than chess")
    if "FEN" not in tags:
        if tags.get("SetUp") == "1":
            raise RecordError(record.tags["SetUp"][0], 0, "SetUp is 1, but there is no FEN")
        return None
    line, text = record.tags["FEN"]
    fields = text.split()
    if len(fields) > len(FIELDS) or len(text) > LONGEST_FEN:
        raise RecordError(line, 0, f"FEN: {shortened(text)!r} is too long for a position of {len(FIELDS)} fields")
    rows, mover, rights, passed, clock, number = (*fields, *FIELDS[len(fields) :])
    rights = "".join(sorted(rights.translate(ROOK_FILES), key="KQkq".find))
    start = " ".join([rows, mover, rights, passed, clock, "1" if number == "0" else number])
    try:
        over = bool(envs.make("chess").from_text(start).terminated)
    except ValueError as error:
        raise RecordError(line, 0, f"FEN: {shortened(str(error), 200)}") from error
    if over:
        raise RecordError(line, 0, f"FEN: the game is over in {start!r}")
    return start


def sift(entries: Sequence[PgnEntry]) -> list[Game | Problem]:
    """The games with their moves, or what the rules object to."""
    found: dict[int, Game | Problem] = {}

    def choose(i: int, position: san.SanPosition) -> int | None:
        file, record, game = entries[i]
        played = len(game.moves)
        if played == len(record.words):
            found[i] = checked_game(
                game_lib.Entry(file, record.lines, game), Replayed(played, position.over, position.result)
            )
            return None
        try:
            if position.over:
                drawn = "drawn at once by third repetition, 50 moves, ply 512, insufficient material or stalemate"
                ended = "mate" if any(position.result) else drawn
                raise ValueError(f"{shortened(record.words[played], 30)} is after the end of the game ({ended})")
            game.moves.append(san.read(record.words[played], position.moves).action)
        except ValueError as error:
            found[i] = Problem(file, record.lines[played + 1], played + 1, f"{position.label} {error}")
            return None
        return game.moves[-1]

    if entries:
        san.walk(entries[0].game.env, [entry.game.start for entry in entries], choose)  # pyright: ignore[reportArgumentType]
    return [found[i] for i in range(len(entries))]


def dump(games: Iterable[Game]) -> str:
    """The games as text of a file. Headers that say what the game itself says (`Result`, `FEN`, …) are left out.

    Raises:
        ValueError: a game of another kind, or one that cannot have been played.
    """
    games = list(games)
    for game in games:
        if game.game != "chess":
            raise ValueError(f"PGN records hold chess, not {shortened(game.game)}")
        if game.start is not None and len(game.start.split()) != len(FIELDS):
            raise ValueError(f"PGN records begin with a FEN of {len(FIELDS)} fields, not {shortened(game.start)!r}")
        if bad := [name for name in game.headers if not re.fullmatch(NAME, name)]:
            raise ValueError(f"a tag of PGN is written with A to Z, digits and _+#=:-, not {shortened(bad[0])!r}")
    return "\n".join(map(dump_game, games, movetexts(games)))


def movetexts(games: list[Game]) -> list[list[str]]:
    """Numbers, moves and result of each game."""
    texts: list[list[str]] = [[] for _ in games]
    played = [0] * len(games)

    def choose(i: int, position: san.SanPosition) -> int | None:
        game, text, n = games[i], texts[i], played[i]
        if n:
            text[-1] += "#" if position.over and any(position.result) else "+" if position.checked else ""
        elif position.over:
            raise ValueError(f"game {i + 1}: no game begins with {game.start!r}, which is over")
        if n == len(game.moves):
            result = position.result if game.result is None and position.over else game.result
            if position.over and result != position.result:
                raise ValueError(f"game {i + 1} has the result {result}, its moves lead to {position.result}")
            text.append(result_text(i, result))
            return None
        move = position.moves.get(game.moves[n])
        if not move:
            raise ValueError(f"game {i + 1}, {position.label}: action {game.moves[n]} is not legal here")
        text += [position.label] * (n == 0 or not position.label.endswith("...")) + [san.write(move, position.moves)]
        played[i] += 1
        return move.action

    for env in {game.env for game in games}:
        which = [i for i, game in enumerate(games) if game.env == env]
        # A longer game could not be read back.
        assert isinstance(env, Chess)
        strict = dataclasses.replace(env, max_plies=min(env.max_plies, Chess.max_plies))
        san.walk(strict, [games[i].start for i in which], lambda g, position: choose(which[g], position))  # noqa: B023
    return texts


def result_text(i: int, result: tuple[float, ...] | None) -> str:
    for text, rewards in RESULTS.items():
        if rewards == result:
            return text
    raise ValueError(f"game {i + 1} has the result {shortened(result)}, which is none of chess")


def dump_game(game: Game, moves: list[str]) -> str:
    tags = ROSTER | {name: value for name, value in game.headers.items() if kept(name, value)}
    roster = {name: tags.pop(name) for name in ROSTER} | {"Result": moves[-1]}
    tags = roster | tags
    if game.start is not None:
        tags |= {"SetUp": "1", "FEN": " ".join(game.start.split())}
    lines = [f'[{name} "{ESCAPED.sub(PREFIX, printed(value))}"]' for name, value in tags.items()]
    wrapped = textwrap.wrap(" ".join(moves), WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*lines, "", *wrapped, ""])


def kept(name: str, value: str) -> bool:
    return name not in DERIVED and (name != "Variant" or value.lower() in STANDARD)


def printed(value: str) -> str:
    return SURROGATES.sub("\ufffd", UNPRINTED.sub(" ", value))
