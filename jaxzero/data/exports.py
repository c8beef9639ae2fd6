"""Shards of games -> records in a file, a row group at a time."""

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from jaxzero import files, messages, records
from jaxzero.config.schema import GameConfig
from jaxzero.data import pieces, shards
from jaxzero.data.stage import check_finished
from jaxzero.messages import ConfigError
from jaxzero.records import Game, RecordFormat

SHOWN = 10  # games that cannot be written, by name

log = logging.getLogger(__name__)


def run(folder: Path, out: Path, overwrite: bool = False,
        report: Callable[[int, int, int], None] = lambda *_: None) -> dict[str, int]:  # fmt: skip
    """Writes the games of a folder to a file, whole or not at all -> games written, games that its format cannot hold.

    Raises:
        ConfigError: a folder or file that cannot be used, or a format that does not hold the game.
    """
    check_finished(folder)
    game = shards.game_of(folder)
    form = format_for(out, game)
    files.check_target(out, "out", overwrite)
    paths = shards.shards(folder)
    total = sum(map(shards.count, paths))
    written, refused, done = 0, 0, 0
    draft = files.draft_of(out)
    try:
        with messages.reported(out), pa.output_stream(str(draft), compression=pieces.compression(out)) as file:
            for path in paths:
                for table in shards.read(path, ["id", "player", "start", "actions", "outcomes", "result", "headers"]):
                    texts, wrong = dumped(form, game, table)
                    for problem in wrong[: max(0, SHOWN - refused)]:
                        log.warning("%s: %s", path, problem)
                    refused += len(wrong)
                    for text in texts:
                        file.write((form.between * (written > 0) + text).encode("utf-8", "backslashreplace"))
                        written += 1
                    done += len(table)
                    report(done, total, done - refused)
        os.replace(draft, out)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return {"games": done - refused, "refused": refused}


def format_for(out: Path, game: GameConfig) -> RecordFormat:
    """Raises:
    ConfigError: no format of records, or one of another game.
    """
    try:
        form = records.format_of(pieces.unpacked(out))
    except ValueError as error:
        raise ConfigError(f"out: {error}") from error
    name = game.source or game.name
    if form.game not in ("", name):
        raise ConfigError(f"out: {out}: games of {name} are written as {' or '.join(records.suffixes(name))}")
    return form


def dumped(form: RecordFormat, game: GameConfig, table: pa.Table) -> tuple[list[str], list[str]]:
    """Texts of the games, of several together where that can be, and why others cannot be written."""
    rows = table.to_pylist()
    games = [record(game, form, row) for row in rows]
    try:
        return [form.dump(games)] if games else [], []
    except ValueError:
        texts, wrong = [], []
        for row, one in zip(rows, games, strict=True):
            try:
                texts.append(form.dump([one]))
            except ValueError as error:
                wrong.append(f"{row['id']}: {error}")
        return texts, wrong


def record(game: GameConfig, form: RecordFormat, row: dict[str, Any]) -> Game:
    """The game of a row; the player's name stands for both where no headers name them."""
    headers: dict[str, str] = dict(row["headers"] or ())
    if row["player"]:
        headers = {name: row["player"] for name in form.players} | headers
    result = None if row["result"] is None else tuple(row["result"])
    return Game(game.source or game.name, game.options, row["actions"], result, headers, row["start"], row["outcomes"])
