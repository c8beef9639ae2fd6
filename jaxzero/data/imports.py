"""Records in files -> shards of games. Files are read piece by piece, and several pieces are checked together."""

import collections
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

import envs
from jaxzero import files, messages, records
from jaxzero.config import settings
from jaxzero.config.games import make_env
from jaxzero.config.schema import GameConfig
from jaxzero.data import pieces as pieces_lib
from jaxzero.data import rules, shards
from jaxzero.data import workers as workers_lib
from jaxzero.data.filters import Filter
from jaxzero.data.pieces import START, Piece, Place
from jaxzero.data.stage import Stage
from jaxzero.messages import ConfigError, shortened
from jaxzero.records import Game, Problem, RecordFormat, trmph

SHARD = 16_384  # games of a shard, or up to a piece more
PROBLEMS = "problems.txt"
SHOWN = 10  # problems that are logged; the file has all
MOST_OTHERS = 20  # other options of games that are counted apart

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Import:
    """What to read."""

    game: str = ""  # "" = that of the files' format, or of the first game
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # those not given are the first game's
    filter: Filter = dataclasses.field(default_factory=Filter)


class RecordFile(NamedTuple):
    path: Path
    form: RecordFormat
    size: int


class Read(NamedTuple):
    """What a batch of pieces holds."""

    games: pa.Table
    problems: list[Problem]
    found: int  # sound games
    others: dict[str, int]  # games of other options


Report = Callable[[int, int, int], None]  # (bytes read, bytes of all files, games)


def run(paths: Sequence[Path], out: Path, wanted: Import, overwrite: bool = False,
        report: Report = lambda *_: None, workers: int = 0) -> dict[str, Any]:  # fmt: skip
    """Writes the sound games of files, and of all in folders, to a new folder -> counts. `workers`: processes, 0 = as
    many as are worth it.

    Raises:
        ConfigError: files or a folder that cannot be used, an unknown game or option; no game at all.
    """
    wanted.filter.check()
    sources = find(paths)
    target = Target(wanted, sources)
    asked = dataclasses.asdict(wanted) | {"command": "import", "files": [[str(s.path), s.size] for s in sources]}
    stage = Stage(out, asked, overwrite)
    if stage.counts is not None:
        return stage.counts
    work = GrowingFolder(stage, target)
    place = work.state["place"]
    total = sum(source.size for source in sources)
    parts = batches(sources, place[0], Place(*place[1:]))
    for batch, read in read_batches(parts, target, workers or workers_lib.count(total)):
        work.add(read)
        last = batch[-1]
        work.state["place"] = [last.number, *last.piece.end]
        work.save_if_full()
        done = sum(source.size for source in sources[: last.number]) + min(last.piece.end.offset, last.source.size)
        report(done, total, work.state["counts"]["games"])
    return work.finish()


def find(paths: Sequence[Path]) -> list[RecordFile]:
    """The files of records among files and folders.

    Raises:
        ConfigError: a file that is not there or of no known format, or a folder without any.
    """
    found = []
    for path in paths:
        if path.is_dir():
            inner = [p for p in sorted(path.rglob("*")) if pieces_lib.unpacked(p).suffix.lower() in records.FORMATS]
            inner = [p for p in inner if p.is_file()]
            if not inner:
                raise ConfigError(f"{shortened(str(path), 200)}: holds no files of {', '.join(records.FORMATS)}")
            found += inner
        else:
            found.append(path)
    sources = []
    for path in found:
        try:
            form = records.format_of(pieces_lib.unpacked(path))
            files.check_regular(path)
            sources.append(RecordFile(path, form, path.stat().st_size))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        except OSError as error:
            raise ConfigError(files.unusable(path, error)) from error
    if not sources:
        raise ConfigError("import: name one file or more")
    return sources


class Target:
    """The game of the folder: what is given of it, and once the first sound game has been read, all of it."""

    def __init__(self, wanted: Import, sources: Sequence[RecordFile]):
        """Raises:
        ConfigError: an unknown game or option, or files of several games.
        """
        games = sorted({source.form.game for source in sources} - {""})
        if len(games) > 1:
            raise ConfigError(f"import: these files hold {' and '.join(games)}; import each game into its own folder")
        self.name = wanted.game or "".join(games)
        if games and self.name != games[0]:
            raise ConfigError(f"game: these files hold {games[0]}, not {shortened(self.name)}")
        if wanted.options and not self.name:
            raise ConfigError("options: belong to --game; give it too, or leave them out")
        self.filter = wanted.filter
        self.given: dict[str, Any] = {}  # options
        self.config: GameConfig | None = None
        self.env: envs.Env | None = None
        if self.name:
            env = make_env(self._config(wanted.options))
            self.given = {name: getattr(env, name, value) for name, value in wanted.options.items()}
        self._known: dict[str, envs.Env] = {}

    def _config(self, options: dict[str, Any]) -> GameConfig:
        own = ".py:" in self.name
        return GameConfig("" if own else self.name, self.name if own else "", options)

    def fits(self, game: str, options: dict[str, Any]) -> bool:
        """Whether games with these options belong to the folder; the first that may be does."""
        if game != (self.name or game):
            return False
        key = f"{game} {options}"
        if key not in self._known:
            self._known[key] = Game(game, options, []).env
        env = self._known[key]
        if self.env is None and all(getattr(env, name, None) == value for name, value in self.given.items()):
            self.name, self.env = game, env
            self.config = self._config(options)
        return env == self.env

    def restore(self, name: str, options: dict[str, Any]) -> None:
        self.name = name
        self.fits(name, options)


class FilePart(NamedTuple):
    """A piece of a file."""

    number: int  # of the file
    source: RecordFile
    piece: Piece


def batches(sources: Sequence[RecordFile], number: int, begin: Place) -> Iterator[list[FilePart]]:
    """Pieces of files of one format, from a place on: a block of bytes or more, so that small files are checked
    together."""
    batch, size = [], 0
    for at, source in enumerate(sources[number:], number):
        if batch and batch[0].source.form is not source.form:
            yield batch
            batch, size = [], 0
        for piece in pieces_lib.pieces(source.path, source.form.begins, begin):
            batch.append(FilePart(at, source, piece))
            size += len(piece.data)
            if size >= pieces_lib.BLOCK // 2:
                yield batch
                batch, size = [], 0
        begin = START
    if batch:
        yield batch


class Group(NamedTuple):
    """Sound games of one game with the same options."""

    game: str
    options: dict[str, Any]
    places: np.ndarray  # i64[G, 2]  number of the file, line
    games: pa.Table


def read_batches(
    parts: Iterator[list[FilePart]], target: Target, workers: int
) -> Iterator[tuple[list[FilePart], Read]]:
    """Each batch with what it holds, in order."""
    for batch in parts:
        yield batch, read_batch(batch, target)
        if target.env:
            break  # from here on nothing changes it
    if ".py:" in target.name:  # other processes do not know its class
        workers = 1
    yield from workers_lib.ordered(functools.partial(read_batch, target=target), parts, workers)


def read_batch(batch: list[FilePart], target: Target) -> Read:
    """The games of a batch that belong to the folder, in their order, and what is wrong with others."""
    form = batch[0].source.form
    given = {"swap": target.given["swap"]} if form.bulk and "swap" in target.given else {}
    numbers = {str(part.source.path): part.number for part in batch}
    problems, groups, texts = [], [], []
    for part in batch:
        file, piece = str(part.source.path), part.piece
        if piece.problem:
            problems.append(Problem(file, piece.begin.line, 0, piece.problem))
        elif form.bulk:
            columns, rest = form.bulk(piece.data, piece.begin.line, **given)
            for some in columns:
                group, unsound = checked(form.game, some, part)
                groups.append(group)
                lines = piece.data.split(b"\n") if len(unsound) else []
                rest += [(n, lines[n - piece.begin.line]) for n in unsound.tolist()]
            texts += [(file, n, form.decode(text)) for n, text in sorted(rest)]
        else:
            texts.append((file, piece.begin.line, form.decode(piece.data)))
    parsed, wrong = records.examine(form, texts, **given)
    problems = sorted(problems + wrong, key=lambda problem: (numbers[problem.file], problem.line))
    return chosen(groups + grouped(parsed, numbers), problems, target, form)


def checked(game: str, columns: trmph.Columns, part: FilePart) -> tuple[Group, np.ndarray]:
    """Replays records -> those that are sound, the lines of the others."""
    env = make_env(GameConfig(game, options=columns.options))
    lists = rules.Ragged(columns.moves, columns.offsets)
    found = rules.replay(env, lists)
    said, earned = columns.winners, found.rewards[:, 0]
    sound = (found.played == lists.lengths) & (~found.over | np.isnan(said) | (earned == said))
    result = np.where(found.over, earned, said)
    known = {
        "id": pa.array([f"{part.source.path}:{line}" for line in columns.lines.tolist()]),
        "actions": pa.ListArray.from_arrays(pa.array(columns.offsets, pa.int32()), pa.array(columns.moves)),
        "result": pa.ListArray.from_arrays(
            pa.array(np.arange(len(result) + 1) * 2, pa.int32()),
            pa.array(np.stack([result, -result], 1).ravel(), pa.float32()),
            mask=pa.array(np.isnan(result)),
        ),
    }
    table = shards.table(known).filter(pa.array(sound))
    places = np.stack([np.full(len(sound), part.number), columns.lines], 1)
    return Group(game, columns.options, places[sound], table), columns.lines[~sound]


def grouped(games: list[tuple[str, Game]], numbers: dict[str, int]) -> list[Group]:
    alike: dict[str, list[tuple[str, Game]]] = {}
    for file, game in games:
        alike.setdefault(f"{game.game} {game.options}", []).append((file, game))
    groups = []
    for some in alike.values():
        names = collections.Counter()
        rows = []
        for file, game in some:
            names[name := f"{file}:{game.line}"] += 1
            rows.append(row(game, name + (f".{names[name]}" if names[name] > 1 else "")))
        places = np.array([(numbers[file], game.line) for file, game in some])
        groups.append(Group(some[0][1].game, some[0][1].options, places, shards.rows(rows)))
    return groups


def row(game: Game, name: str) -> dict[str, Any]:
    return {
        "id": name, "start": game.start, "actions": game.moves, "outcomes": game.outcomes, "result": game.result,
        "headers": list(game.headers.items()),
    }  # fmt: skip


def chosen(groups: list[Group], problems: list[Problem], target: Target, form: RecordFormat) -> Read:
    """Those of the folder's game that pass the filter, in order."""
    groups.sort(key=lambda group: tuple(group.places[0]) if len(group.places) else ())
    found, others, fitting = 0, collections.Counter(), []
    for group in groups:
        found += len(group.games)
        if len(group.games) and target.fits(group.game, group.options):
            fitting.append(group)
        elif len(group.games):
            others[f"{group.game} {group.options}"] += len(group.games)
    games = shards.SCHEMA.empty_table()
    if fitting:
        places = np.concatenate([group.places for group in fitting])
        order = np.lexsort((places[:, 1], places[:, 0]))
        games = pa.concat_tables([group.games for group in fitting]).take(pa.array(order))
        games = games.filter(pa.array(target.filter.keep(games, form)))
    return Read(games, problems, found, dict(others))


class GrowingFolder:
    """The folder as it grows."""

    def __init__(self, stage: Stage, target: Target):
        self.stage, self.target, self.folder = stage, target, stage.folder
        counts = {"games": 0, "filtered": 0, "broken": 0, "others": {}}
        fresh = {"place": [0, *START], "shard": 0, "problems": 0, "game": "", "options": {}, "counts": counts}
        self.state: dict[str, Any] = stage.state or fresh
        if self.state["game"]:
            target.restore(self.state["game"], self.state["options"])
        with messages.reported(self.folder):
            self._problems = (self.folder / PROBLEMS).open("ab")
            self._problems.truncate(self.state["problems"])
        self._writer: shards.Writer | None = None

    def add(self, read: Read) -> None:
        counts = self.state["counts"]
        others = sum(read.others.values())
        counts["games"] += len(read.games)
        counts["filtered"] += read.found - others - len(read.games)
        for problem in read.problems:
            counts["broken"] += 1
            if counts["broken"] <= SHOWN:
                log.warning("%s", problem)
            elif counts["broken"] == SHOWN + 1:
                log.warning("more broken games are named in %s", self.folder / PROBLEMS)
            with messages.reported(self.folder):
                self._problems.write(f"{problem}\n".encode(errors="backslashreplace"))
        for name, count in read.others.items():
            if name in counts["others"] or len(counts["others"]) < MOST_OTHERS:
                counts["others"][name] = counts["others"].get(name, 0) + count
            else:
                counts["others"]["more"] = counts["others"].get("more", 0) + count
        if self.target.config and not self.state["game"]:
            self.state |= {"game": self.target.name, "options": self.target.config.options}
            shards.create(self.folder, self.target.config)
        if len(read.games):
            self._writer = self._writer or shards.Writer(self.folder / f"{self.state['shard']:06d}.parquet")
            self._writer.append(read.games)

    def save_if_full(self) -> None:
        if self._writer and self._writer.games >= SHARD:
            self._save()

    def _save(self) -> None:
        if self._writer:
            self._writer.finish()
            self._writer = None
            self.state["shard"] += 1
        with messages.reported(self.folder):
            self._problems.flush()
        self.state["problems"] = self._problems.tell()
        self.stage.save(self.state)

    def finish(self) -> dict[str, Any]:
        """Raises:
        ConfigError: no game was read.
        """
        self._save()
        self._problems.close()
        counts = self.state["counts"]
        if not counts["games"]:
            raise ConfigError(
                f"import: no game was read; {counts['broken']} are broken (see {self.folder / PROBLEMS}), "
                f"{counts['filtered']} left out by filters, {sum(counts['others'].values())} of other options"
            )
        self.stage.finish(counts)
        return counts


def read_options(texts: dict[str, str]) -> dict[str, Any]:
    """Options of a game as the command line gives them."""
    return settings.build(settings.read_options({"game.options": texts})).game.options if texts else {}


def describe(counts: dict[str, Any]) -> str:
    others = "".join(f"; {count:,} games of {name}" for name, count in counts["others"].items())
    return f"{counts['games']:,} games, {counts['filtered']:,} left out by filters, {counts['broken']:,} broken{others}"
