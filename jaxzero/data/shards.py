"""Shards: games on disk, one row a game.

A folder of games holds
    games.json      what all its games share: {"version": 1, "game": …, "options": {…}}
    NAME.parquet    a finished shard; it is written whole and never changes
    NAME.json       its {"games": …, "bytes": …, "digest": BLAKE2b}, written just before it
    NAME.open       games of a shard that is not finished, appended to as games end: Arrow record batches with checksums

A process that is killed leaves at most a torn batch at the end of an open shard; readers stop before it. Two processes
never write to the same shard, so they share a folder without locks. A finished shard takes the place of the open one
of its name.
"""

import contextlib
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from jaxzero import files, messages
from jaxzero.config.schema import GameConfig
from jaxzero.messages import ConfigError, shortened

SHARED = "games.json"
VERSION = 1
ROW_GROUP = 1024  # games; readers hold a row group at a time

HEADER = struct.Struct("<II")  # before each batch of an open shard: its bytes and their CRC-32

SCHEMA = pa.schema(
    [
        ("id", pa.string()),  # unique in a folder
        ("player", pa.string()),  # who played: the spec of a player or the name of a run; "" if unknown
        ("step", pa.int32()),  # iteration of the network that played, -1 if none
        ("digest", pa.string()),  # of that network's parameters, "" if none
        ("seed", pa.int64()),  # with `index` it fixes the game; -1 if unknown
        ("index", pa.int64()),  # number of the game under that seed; -1 if unknown
        ("start", pa.string()),  # first position in the words of `env.to_text`; null: a new game
        ("opening", pa.int16()),  # random plies at the beginning, which are not trained on
        ("actions", pa.list_(pa.int16())),
        ("outcomes", pa.list_(pa.int16())),  # of chance after each action, -1: none was due; null: no chance
        ("values", pa.list_(pa.float32())),  # root value of each ply, to its mover; NaN: not searched; null: none known
        ("policy_sizes", pa.list_(pa.int16())),  # entries of each ply's policy; null: no policies
        ("policy_actions", pa.list_(pa.int16())),  # of all plies, one after the other
        ("policy_weights", pa.list_(pa.float16())),
        ("policy_trained", pa.list_(pa.float16())),  # weight of each ply's policy in the loss; null: 1
        ("result", pa.list_(pa.float32())),  # rewards of each player summed over the game; null: not known
        ("headers", pa.map_(pa.string(), pa.string())),  # such as names, ratings and dates of players
    ]
)


class ShardError(ConfigError):
    """A shard or a folder of games that cannot be used; one line that names it and says what to do."""


class Damage(NamedTuple):
    """What is wrong with a file."""

    path: Path
    problem: str


# The folder


def create(folder: Path, game: GameConfig) -> None:
    """Makes a folder for games, or checks that the one there holds the same game.

    Raises:
        ShardError: it holds another game, or cannot be made.
    """
    shared = {"version": VERSION, "game": game.source or game.name, "options": game.options}
    if (folder / SHARED).exists():
        there = game_of(folder)
        if (there.source, there.name, there.options) != (game.source, game.name, game.options):
            raise ShardError(
                f"{folder}: holds games of {there.source or there.name} {there.options or ''}, not of "
                f"{game.source or game.name} {game.options or ''}; choose another folder"
            )
        return
    with messages.reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files.write(folder / SHARED, json.dumps(shared) + "\n")


def game_of(folder: Path) -> GameConfig:
    """The game of a folder.

    Raises:
        ShardError: no folder of games, or one of another version.
    """
    shared = files.read_json(folder / SHARED, {"version": int, "game": str}) if folder.is_dir() else None
    if shared is None:
        raise ShardError(f"{shortened(str(folder), 200)}: no folder of games (no {SHARED})")
    if shared["version"] != VERSION:
        raise ShardError(f"{folder}: games of version {shared['version']}; this jaxzero reads version {VERSION}")
    own, options = ".py:" in shared["game"], shared.get("options", {})
    if not isinstance(options, dict):
        raise ShardError(f"{folder / SHARED}: options is not an object; restore the file")
    return GameConfig("" if own else shared["game"], shared["game"] if own else "", options)


def shards(folder: Path) -> list[Path]:
    """The shards of a folder, finished and open, by name; an open one that has been finished is left out."""
    finished = {path.stem: path for path in folder.glob("*.parquet")}
    opened = {path.stem: path for path in folder.glob("*.open")}
    return [path for _, path in sorted((opened | finished).items())]


# Writing


class Open:
    """An open shard that games are appended to, each batch whole or not at all; a context manager.

    `index` are the indices of the games that it held already, from an earlier process.
    """

    def __init__(self, folder: Path, name: str):
        self.path = folder / f"{name}.open"
        with messages.reported(self.path):
            self._file = self.path.open("ab")
        kept = list(_placed_batches(self.path))
        self.indices = {index for batch, _ in kept for index in batch.column("index").to_pylist()}
        self._file.truncate(kept[-1][1] if kept else 0)

    def append(self, table: pa.Table) -> None:
        """Raises:
        ConfigError: it cannot be written, such as on a full disk.
        """
        if not len(table):
            return
        columns = [pa.concat_arrays(column.chunks) for column in table.select(SCHEMA.names).columns]
        content = pa.RecordBatch.from_arrays(columns, schema=SCHEMA).serialize()
        with messages.reported(self.path):
            self._file.write(HEADER.pack(len(content), zlib.crc32(content)))
            self._file.write(content)
            self._file.flush()
        self.indices.update(table.column("index").to_pylist())

    def finish(self) -> Path:
        """Makes it a finished shard, its games ordered by index."""
        self.close()
        table = pa.Table.from_batches(_batches(self.path), SCHEMA).sort_by("index")
        path = write(self.path.with_suffix(".parquet"), table)
        self.path.unlink()
        return path

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "Open":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Writer:
    """Writes a finished shard as its games come, whole or not at all: zstd, page checksums, row groups of `ROW_GROUP`
    games, of which one is held. A context manager; what it has not finished is left out.

    Raises:
        ConfigError: it cannot be written.
    """

    def __init__(self, path: Path):
        self.path, self.games = path, 0
        self._draft = files.draft_of(path)
        self._held = SCHEMA.empty_table()
        with messages.reported(path):
            self._file = pq.ParquetWriter(self._draft, SCHEMA, compression="zstd", write_page_checksum=True)

    def append(self, games: pa.Table) -> None:
        self.games += len(games)
        # One piece, so that the file does not depend on the sizes of what comes.
        self._held = pa.concat_tables([self._held, games.select(SCHEMA.names).cast(SCHEMA)]).combine_chunks()
        while len(self._held) >= ROW_GROUP:
            self._write(self._held.slice(0, ROW_GROUP))
            self._held = self._held.slice(ROW_GROUP)

    def _write(self, games: pa.Table) -> None:
        with messages.reported(self.path):
            self._file.write_table(games, ROW_GROUP)

    def finish(self) -> Path:
        if len(self._held):
            self._write(self._held)
        with messages.reported(self.path):
            self._file.close()
            facts = {"games": self.games, "bytes": self._draft.stat().st_size, "digest": digest(self._draft)}
            files.write(self.path.with_suffix(".json"), json.dumps(facts) + "\n")
            os.replace(self._draft, self.path)
        return self.path

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(Exception):
            self._file.close()
        with contextlib.suppress(OSError):
            self._draft.unlink()


def write(path: Path, games: pa.Table) -> Path:
    """Writes a finished shard of these games (see `Writer`)."""
    with Writer(path) as writer:
        writer.append(games)
        return writer.finish()


# Reading


def read(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The games of a shard, at most a row group at a time.

    Raises:
        ShardError: it is damaged, truncated or no shard.
    """
    files.check_regular(path)
    if path.suffix == ".open":
        for batch in _batches(path):
            yield pa.Table.from_batches([batch], SCHEMA).select(columns or SCHEMA.names)
        return
    schema = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
    with _damage(path), pq.ParquetFile(path, page_checksum_verification=True) as shard:
        for group in range(shard.num_row_groups):
            yield shard.read_row_group(group, columns).cast(schema)


def count(path: Path) -> int:
    """Games of a shard, without reading those of a finished one.

    Raises:
        ShardError: it is damaged.
    """
    if path.suffix == ".open":
        return sum(batch.num_rows for batch in _batches(path))
    files.check_regular(path)
    with _damage(path):
        return pq.read_metadata(path).num_rows


def verify(folder: Path) -> Iterator[Damage]:
    """Compares all shards of a folder with their digests -> those that are missing or damaged.

    An open shard whose end is torn, as a killed process leaves it, is named too: its other games are sound.
    """
    game_of(folder)
    there = {path.stem: path for path in shards(folder)}
    told = {path.stem for path in folder.glob("*.json")} - {Path(SHARED).stem}
    for name in sorted(told - there.keys()):
        yield Damage(folder / f"{name}.parquet", "is missing")
    for name, path in there.items():
        if problem := _problem(path, known=name in told):
            yield Damage(path, problem)


def _problem(path: Path, known: bool) -> str:
    """What is wrong with a shard, "" if nothing."""
    try:
        if path.suffix == ".open":
            torn = path.stat().st_size - max((end for _, end in _placed_batches(path)), default=0)
            return f"its last {torn} bytes are torn; the games before are sound" if torn else ""
        if not known:
            return "has no digest"
        facts = files.read_json(path.with_suffix(".json"), {"games": int, "bytes": int, "digest": str})
        if facts is None:
            return "has no digest"
        files.check_regular(path)
        if facts["bytes"] != path.stat().st_size:
            return f"has {path.stat().st_size} bytes in place of {facts['bytes']}"
        return "" if facts["digest"] == digest(path) else "differs from its digest"
    except (ConfigError, OSError) as error:
        return str(error)


def digest(path: Path) -> str:
    """BLAKE2b of a file, as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Makes whatever Arrow raises on a damaged file a ShardError."""
    try:
        yield
    except Exception as error:
        raise ShardError(f"{path}: damaged ({shortened(str(error), 120)}); move it aside or restore it") from error


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    return (batch for batch, _ in _placed_batches(path))


def _placed_batches(path: Path) -> Iterator[tuple[pa.RecordBatch, int]]:
    """The whole batches of an open shard, each with the number of bytes up to its end; a torn one at the end is left
    out. Nothing is given to Arrow before its checksum is compared: it may crash on damaged bytes.

    Raises:
        ShardError: a batch differs from its checksum.
    """
    files.check_regular(path)
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + HEADER.size <= size:
            length, checksum = HEADER.unpack(file.read(HEADER.size))
            place += HEADER.size + length
            if place > size:
                return
            content = file.read(length)
            if zlib.crc32(content) != checksum:
                raise ShardError(f"{path}: a batch before byte {place} differs from its checksum; move the file aside")
            yield pa.ipc.read_record_batch(pa.py_buffer(content), SCHEMA), place


# Rows

UNKNOWN = {"player": "", "step": -1, "digest": "", "seed": -1, "index": -1, "opening": 0, "headers": []}


def rows(games: Sequence[dict[str, Any]]) -> pa.Table:
    """A table of games given as dicts of columns; those left out are unknown (see `SCHEMA`)."""
    return pa.Table.from_pylist([UNKNOWN | game for game in games], SCHEMA)


def table(columns: dict[str, pa.Array]) -> pa.Table:
    """A table of games given as columns; those left out are unknown (see `SCHEMA`)."""
    count = len(next(iter(columns.values())))
    unknown = {
        field.name: pa.repeat(pa.scalar(UNKNOWN.get(field.name), field.type), count)
        for field in SCHEMA
        if field.name not in columns
    }
    return pa.table(unknown | columns).select(SCHEMA.names).cast(SCHEMA)
