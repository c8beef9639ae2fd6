"""Game records in files. A new format is one file with `collect`, `sift` and `dump`, and one line in `FORMATS`."""

import codecs
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from jaxzero import files
from jaxzero.records import jsonl, pgn, sgf, trmph
from jaxzero.records.game import LINES, Game, Problem, Replayed, replay, replay_games, sift

__all__ = [
    "FORMATS",
    "Game",
    "Problem",
    "RecordFormat",
    "Replayed",
    "examine",
    "format_of",
    "parse",
    "read",
    "replay",
    "replay_games",
    "suffixes",
    "write",
]  # fmt: skip


def utf8(data: bytes) -> str:
    """What is no UTF-8 stays recognisable, as surrogates, for the problem of its line."""
    return data.decode("utf-8", "surrogateescape")


class RecordFormat(NamedTuple):
    # Name of the file, text, number of its first line -> records as written, problems.
    collect: Callable[..., tuple[list[Any], list[Problem]]]
    sift: Callable[[Sequence[Any]], list[Game | Problem]]  # each record replayed, or what the rules object to
    dump: Callable[[Iterable[Game]], str]
    begins: tuple[re.Pattern[bytes], ...] = LINES  # match the end of the text before a game, the surest first
    between: str = ""  # texts of games
    game: str = ""  # the one that it holds; "" = every game
    players: tuple[str, ...] = ()  # headers that name them
    ratings: tuple[str, ...] = ()  # headers of their ratings
    dates: tuple[str, ...] = ()  # headers of the day of the game, the first that is there
    decode: Callable[[bytes], str] = utf8  # without the mark of UTF-8 at the begin
    # (text, number of its first line) -> records of a plain form as columns, lines of another form.
    bulk: Callable[..., tuple[list[trmph.Columns], list[tuple[int, bytes]]]] | None = None


FORMATS: dict[str, RecordFormat] = {
    ".trmph": RecordFormat(trmph.collect, sift, trmph.dump, game="hex", bulk=trmph.bulk),
    ".sgf": RecordFormat(
        sgf.collect, sgf.sift, sgf.dump, sgf.BEGINS, "", "go", ("PB", "PW"), ("BR", "WR"), ("DT",), sgf.decode
    ),
    ".pgn": RecordFormat(
        pgn.collect, pgn.sift, pgn.dump, pgn.BEGINS, "\n", "chess", ("White", "Black"), ("WhiteElo", "BlackElo"),
        ("Date", "UTCDate"), pgn.decode,
    ),
    ".jsonl": RecordFormat(
        jsonl.collect, jsonl.sift, jsonl.dump, players=("player_1", "player_2"), ratings=("rating_1", "rating_2"),
        dates=("date",),
    ),
}  # fmt: skip


def suffixes(game: str) -> list[str]:
    """Of the formats that hold a game."""
    return [suffix for suffix, form in FORMATS.items() if form.game in ("", game)]


def format_of(path: str | os.PathLike[str]) -> RecordFormat:
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"{path}: unknown format {suffix!r} of game records; known: {', '.join(FORMATS)}")
    return FORMATS[suffix]


def read(path: str | os.PathLike[str]) -> tuple[list[Game], list[Problem]]:
    """Every record of a file that replays through the rules, and a problem for each that does not.

    Raises:
        ValueError: a suffix that no format has.
        OSError: no file that can be read.
    """
    form, data = format_of(path), pathlib.Path(path).read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as shells of Windows redirect
        data = data.decode("utf-16", "replace").encode()
    text = form.decode(data.removeprefix(codecs.BOM_UTF8))
    return parse(form, [(str(path), 1, text.replace("\r\n", "\n").replace("\r", "\n"))])


def parse(form: RecordFormat, texts: Iterable[tuple[str, int, str]]) -> tuple[list[Game], list[Problem]]:
    """The sound records of texts, each given with its file and the number of its first line, and what is wrong with
    the others, both in order."""
    games, problems = examine(form, texts)
    return [game for _, game in games], problems


def examine(
    form: RecordFormat, texts: Iterable[tuple[str, int, str]], **given: Any
) -> tuple[list[tuple[str, Game]], list[Problem]]:
    """`parse`, each game with its file; `given` are options of the game that the format does not tell."""
    entries, problems, order = [], [], {}
    for file, line, text in texts:
        found, wrong = form.collect(file, text, line, **given)
        entries += found
        problems += wrong
        order.setdefault(file, len(order))
    checked = form.sift(entries)
    games = [(entry.file, found) for entry, found in zip(entries, checked, strict=True) if isinstance(found, Game)]
    problems += [found for found in checked if isinstance(found, Problem)]
    return games, sorted(problems, key=lambda problem: (order[problem.file], problem.line))


def write(path: str | os.PathLike[str], games: Iterable[Game]) -> None:
    """Writes the whole file or, if interrupted, none of it.

    Raises:
        ValueError: a suffix that no format has, or a game that the format cannot hold.
    """
    text = format_of(path).dump(games)
    files.write(path, text.encode("utf-8", "backslashreplace"))  # surrogates, which JSON reads back
