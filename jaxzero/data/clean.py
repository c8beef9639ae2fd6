"""Folders of games -> one folder without games that the rules forbid and without duplicates, in chunks of equal size.

Three passes: each shard is checked and its games get keys; the keys are compared; what is kept is copied. The keys of a
shard that are written, and chunks that are, are not made again by a command that goes on.
"""

import functools
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

import envs
from jaxzero import files, messages
from jaxzero.config.games import make_env
from jaxzero.data import keys, rules, shards
from jaxzero.data import workers as workers_lib
from jaxzero.data.imports import PROBLEMS, SHOWN
from jaxzero.data.stage import Stage, check_finished
from jaxzero.messages import ConfigError

KEYS = "keys"  # folder, while the stage is at work

log = logging.getLogger(__name__)
Report = Callable[[int, int, int], None]  # (work done, all work, games kept)


class ShardSource(NamedTuple):
    path: Path  # of a shard
    prefix: str  # of the names of its games
    games: int


def run(folders: Sequence[Path], out: Path, symmetric: bool = False, chunk: int = 100_000, overwrite: bool = False,
        report: Report = lambda *_: None, workers: int = 0) -> dict[str, int]:  # fmt: skip
    """Writes the games of folders to a new one: sound ones, each once, `chunk` a shard -> counts. `workers`: processes,
    0 = as many as are worth it.

    Raises:
        ConfigError: folders of several games, or one that cannot be used.
    """
    env = common_game(folders, out)
    sources = find(folders)
    asked = {
        "command": "clean", "folders": list(map(str, folders)), "symmetric": symmetric, "chunk": chunk,
        "shards": [[str(source.path), source.path.stat().st_size] for source in sources],
    }  # fmt: skip
    stage = Stage(out, asked, overwrite)
    if stage.counts is not None:
        return stage.counts
    shards.create(out, shards.game_of(folders[0]))
    work = out / KEYS
    with messages.reported(work):
        work.mkdir(exist_ok=True)
    total = sum(source.games for source in sources)
    lacking = [number for number in range(len(sources)) if not key_file(work, number).exists()]
    done = total - sum(sources[number].games for number in lacking)
    workers = workers or workers_lib.count(sum(sources[number].path.stat().st_size for number in lacking))
    one = functools.partial(check_shard, env, sources, work, symmetric)
    for number, _ in workers_lib.ordered(one, lacking, 1 if shards.game_of(out).source else workers):
        done += sources[number].games
        report(done, 2 * total, 0)
    problems = told(out, work, len(sources))
    first = keys.first_of_each([key_file(work, number) for number in range(len(sources))])
    with messages.reported(out):
        for number, rows in enumerate(copied(sources, work, first, out, chunk)):
            report(total + sum(source.games for source in sources[: number + 1]), 2 * total, rows)
    with messages.reported(work):
        shutil.rmtree(work)
    counts = {
        "games": int(first.sum()), "read": total, "illegal": problems, "duplicates": total - problems - int(first.sum())
    }  # fmt: skip
    stage.finish(counts)
    return counts


def common_game(folders: Sequence[Path], out: Path) -> envs.Env:
    """Raises:
    ConfigError: no folders, unfinished ones, or of several games.
    """
    if not folders:
        raise ConfigError("clean: name one folder or more")
    for folder in folders:
        check_finished(folder)
        if folder.resolve() == out.resolve():
            raise ConfigError(f"out: {out}: is read; choose another folder")
    games = [shards.game_of(folder) for folder in folders]
    for folder, game in zip(folders, games, strict=True):
        if game != games[0] and make_env(game) != make_env(games[0]):
            raise ConfigError(
                f"{folder}: holds games of {game.source or game.name} {game.options or ''}, {folders[0]} those of "
                f"{games[0].source or games[0].name} {games[0].options or ''}; clean them apart"
            )
    return make_env(games[0])


def find(folders: Sequence[Path]) -> list[ShardSource]:
    """All shards; games of several folders get names that begin with their folder's."""
    names = [folder.resolve().name for folder in folders]
    distinct = len(set(names)) == len(names)
    found = []
    for number, (folder, name) in enumerate(zip(folders, names, strict=True)):
        prefix = "" if len(folders) == 1 else f"{name}/" if distinct else f"{number}/"
        found += [ShardSource(path, prefix, shards.count(path)) for path in shards.shards(folder)]
    return found


# First pass: keys


def key_file(work: Path, number: int) -> Path:
    return work / f"{number:06d}.npy"


def row_file(work: Path, number: int) -> Path:
    return work / f"{number:06d}.rows.npy"


def problem_file(work: Path, number: int) -> Path:
    return work / f"{number:06d}.txt"


def check_shard(env: envs.Env, sources: Sequence[ShardSource], work: Path, symmetric: bool, number: int) -> None:
    """Writes the rows of a shard's sound games, their keys, and what is wrong with the others."""
    source = sources[number]
    at, sound, found, problems = 0, [], [], []
    for games in shards.read(source.path, ["id", "start", *rules.LISTS]):
        wrong = rules.faults(env, games)
        names = games.column("id").to_pylist() if wrong else []
        problems += [f"{source.path}: {names[row]}: {wrong[row]}\n" for row in sorted(wrong)]
        rows = np.setdiff1d(np.arange(len(games)), list(wrong))
        sound.append(at + rows)
        found.append(keys.keys(games.take(pa.array(rows)), env, symmetric))
        at += len(games)
    with messages.reported(work):
        files.write(problem_file(work, number), "".join(problems).encode(errors="backslashreplace"))
        save(row_file(work, number), np.concatenate([np.zeros(0, np.int64), *sound]).astype(np.uint32))
        save(key_file(work, number), np.concatenate([np.zeros(0, keys.KEY), *found]))  # the last: it marks all as done


def save(path: Path, array: np.ndarray) -> None:
    draft = files.draft_of(path)
    with draft.open("wb") as file:
        np.save(file, array)
    draft.replace(path)


def told(out: Path, work: Path, count: int) -> int:
    """Collects what is wrong with games in one file, logs the first -> games."""
    number = 0
    with messages.reported(out), (out / PROBLEMS).open("wb") as file:
        for source in range(count):
            for line in problem_file(work, source).read_bytes().splitlines(keepends=True):
                file.write(line)
                number += 1
                if number <= SHOWN:
                    log.warning("%s", line.decode().rstrip())
    if number > SHOWN:
        log.warning("%d illegal games are named in %s", number, out / PROBLEMS)
    return number


# Last pass: chunks


def copied(sources: Sequence[ShardSource], work: Path, first: np.ndarray, out: Path, chunk: int) -> Iterator[int]:
    """Writes the games that are to be kept; after each source, how many there are so far."""
    chunks, begin = Chunks(out, chunk), 0
    for number, source in enumerate(sources):
        rows = np.load(row_file(work, number))
        chosen = rows[first[begin : begin + len(rows)]]
        begin += len(rows)
        if chunks.has(len(chosen)):
            chunks.games += len(chosen)
        else:
            for games in taken(source, chosen):
                chunks.append(games)
        yield chunks.games
    chunks.finish()


class Chunks:
    """Shards of `size` games. Those that are there already are whole, and stay."""

    def __init__(self, out: Path, size: int):
        self.out, self.size, self.games, self.ready = out, size, 0, 0
        while chunk_file(out, self.ready).exists():
            self.ready += 1
        self._writer: shards.Writer | None = None

    def has(self, count: int) -> bool:
        """Whether so many games more are there already."""
        return self.games + count <= self.ready * self.size

    def append(self, games: pa.Table) -> None:
        while len(games):
            number, place = divmod(self.games, self.size)
            part = games.slice(0, self.size - place)
            games = games.slice(len(part))
            self.games += len(part)
            if number >= self.ready:
                self._writer = self._writer or shards.Writer(chunk_file(self.out, number))
                self._writer.append(part)
                if self.games % self.size == 0:
                    self.finish()

    def finish(self) -> None:
        if self._writer:
            self._writer.finish()
            self._writer = None


def chunk_file(out: Path, number: int) -> Path:
    return out / f"{number:06d}.parquet"


def taken(source: ShardSource, rows: np.ndarray) -> Iterator[pa.Table]:
    """The games of those rows."""
    at = 0
    for games in shards.read(source.path):
        low, high = np.searchsorted(rows, [at, at + len(games)])
        at += len(games)
        yield renamed(games.take(pa.array(rows[low:high] - (at - len(games)))), source.prefix)


def renamed(games: pa.Table, prefix: str) -> pa.Table:
    if not prefix:
        return games
    place = games.column_names.index("id")
    names = pa.array([prefix + name for name in games.column("id").to_pylist()], pa.string())
    return games.set_column(place, "id", names)
