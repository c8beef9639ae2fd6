"""Game records in files. A new format is one file with `parse` and `dump`, and one line in `FORMATS`."""

import os
import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from jaxzero.records import jsonl, pgn, sgf, trmph
from jaxzero.records.game import Game, Problem, Replayed, replay, replay_games

__all__ = [
    "FORMATS", "Format", "Game", "Problem", "Replayed", "format_of", "read", "replay", "replay_games", "suffixes",
    "write",
]  # fmt: skip


class Format(NamedTuple):
    parse: Callable[[str, str], tuple[list[Game], list[Problem]]]  # (name of the file, text) -> sound games, problems
    dump: Callable[[Iterable[Game]], str]
    game: str = ""  # the one that it holds; "" = every game
    players: tuple[str, ...] = ()  # headers that name them


FORMATS: dict[str, Format] = {
    ".trmph": Format(trmph.parse, trmph.dump, "hex"),
    ".sgf": Format(sgf.parse, sgf.dump, "go", ("PB", "PW")),
    ".pgn": Format(pgn.parse, pgn.dump, "chess", ("White", "Black")),
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
    """
    text = pathlib.Path(path).read_text(encoding="utf-8-sig", errors="replace")
    return format_of(path).parse(str(path), text)


def write(path: str | os.PathLike[str], games: Iterable[Game]) -> None:
    """Writes the whole file or, if interrupted, none of it.

    Raises:
        ValueError: a suffix that no format has, or a game that the format cannot hold.
    """
    text = format_of(path).dump(games)
    path = pathlib.Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
