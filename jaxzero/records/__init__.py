"""Game records in files. A new format is one file with `parse` and `dump`, and one line in `FORMATS`."""

import codecs
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from jaxzero import files
from jaxzero.records import jsonl, pgn, sgf, sgf_tree, trmph
from jaxzero.records.game import Game, Problem, Replayed, replay, replay_games

__all__ = [
    "FORMATS", "Format", "Game", "Problem", "Replayed", "format_of", "read", "replay", "replay_games", "suffixes",
    "write",
]  # fmt: skip


def utf8(data: bytes) -> str:
    """What is no UTF-8 stays recognisable, as surrogates, for the problem of its line."""
    return data.decode("utf-8", "surrogateescape")


class Format(NamedTuple):
    parse: Callable[[str, str], tuple[list[Game], list[Problem]]]  # (name of the file, text) -> sound games, problems
    dump: Callable[[Iterable[Game]], str]
    game: str = ""  # the one that it holds; "" = every game
    players: tuple[str, ...] = ()  # headers that name them
    decode: Callable[[bytes], str] = utf8  # without the mark of UTF-8 at the begin


FORMATS: dict[str, Format] = {
    ".trmph": Format(trmph.parse, trmph.dump, "hex"),
    ".sgf": Format(sgf.parse, sgf.dump, "go", ("PB", "PW"), sgf_tree.decode),
    ".pgn": Format(pgn.parse, pgn.dump, "chess", ("White", "Black"), pgn.decode),
    ".jsonl": Format(jsonl.parse, jsonl.dump, "", ("player_1", "player_2")),
}


def suffixes(game: str) -> list[str]:
    """Of the formats that hold a game."""
    return [suffix for suffix, form in FORMATS.items() if form.game in ("", game)]


def format_of(path: str | os.PathLike[str]) -> Format:
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
    return form.parse(str(path), text.replace("\r\n", "\n").replace("\r", "\n"))


def write(path: str | os.PathLike[str], games: Iterable[Game]) -> None:
    """Writes the whole file or, if interrupted, none of it.

    Raises:
        ValueError: a suffix that no format has, or a game that the format cannot hold.
    """
    text = format_of(path).dump(games)
    files.write(path, text.encode("utf-8", "backslashreplace"))  # surrogates, which JSON reads back
