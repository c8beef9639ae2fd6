"""Commands on games and positions on disk: `jaxzero data`."""

import contextlib
import dataclasses
import re
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import rich
from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from jaxzero.cli.notices import notices
from jaxzero.cli.options import Seed, compiles, whole
from jaxzero.messages import ConfigError

data = App(name="data", help="Games and positions on disk, stage by stage.", help_format="plaintext")

Flag = Annotated[bool, Parameter(negative=())]
Plies = whole(0, 65_536)
Workers = Annotated[int, whole(0, 1024)]


def check_extra() -> None:
    """Raises:
    ConfigError: the libraries for games on disk are not installed.
    """
    if lacking := [name for name in ("pyarrow",) if not find_spec(name)]:
        raise ConfigError(f"data: needs {lacking[0]}; pip install 'jaxzero[data]'")


@contextlib.contextmanager
def bar(what: str, unit: str = "games") -> Iterator[Callable[[int, int, int], None]]:
    """A progress bar on stderr, told of what is done, of how much, and what was counted."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, TextColumn(f"{{task.fields[counted]:,}} {unit}"), console=Console(stderr=True), transient=True,
             disable=not sys.stderr.isatty()) as shown:  # fmt: skip
        task = shown.add_task(what, counted=0)
        yield lambda done, total, counted: shown.update(task, completed=done, total=total, counted=counted)


def rate(count: int, began: float, unit: str = "games") -> str:
    seconds = time.perf_counter() - began
    return f"{seconds:.1f} s, {count / max(seconds, 1e-3):,.0f} {unit}/s"


def bytes_of(text: str) -> int:
    """The bytes of a text such as 512MiB or 2GB.

    Raises:
        ConfigError: it is none.
    """
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)\s*([kMGT]?)(i?)B?", text)
    if not found:
        raise ConfigError(f"--memory: {text!r} is no size; give one such as 512MiB or 2GB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " kMGT".index(found[2] or " "))


@data.command
@compiles
def generate(
    player: str,
    /,
    *,
    out: Path,
    games: Annotated[int, whole(1, 10**9)] = 1000,
    game: str = "",
    options: Annotated[dict[str, str] | None, Parameter(negative=())] = None,
    seed: Annotated[int, Seed] = 0,
    at_once: Annotated[int, whole(1, 65_536)] = 256,
    opening_plies: Annotated[int | None, Plies] = None,
    shard: Annotated[int, whole(1, 10**6)] = 4096,
    worker: str = "1/1",
) -> None:
    """Play games and write each down as it ends: moves, root values, policies, result.

    Game K of a seed is always the same game. Killed, the same command goes on; asked for more games, it plays those
    that are missing. Several commands may share a folder: give each its --worker.

    Parameters
    ----------
    player
        RUN[@STEP][:SIMULATIONS], a preset (its untrained network), or with --game a player on the device as a
        teacher: minimax:DEPTH (expectations in games of chance), mcts:SIMULATIONS, greedy or random.
    out
        The folder of games.
    games
        Games of all workers, those that are there included.
    game
        The game of a teacher: a registered one, or FILE.py:FUNCTION for one of your own.
    options
        Options of the game, such as --options.size 7.
    seed
        Seed of every random choice.
    at_once
        Games played in parallel.
    opening_plies
        Each game starts after 0 to this many random plies, which are not trained on; selfplay.opening_plies of the
        run or preset if not given.
    shard
        Games of a shard.
    worker
        I/N: play every N-th shard, beginning with the I-th.
    """
    check_extra()
    from jaxzero.config.schema import GameConfig
    from jaxzero.data import generate as generate_lib
    from jaxzero.data import imports, players, shards

    work = generate_lib.work_of(games, seed, shard, worker)
    own = ".py:" in game
    asked = GameConfig("" if own else game, game if own else "", imports.read_options(options or {})) if game else None
    env, config, who, settings = players.make(player, asked, seed)
    plies = settings.selfplay.opening_plies if opening_plies is None else opening_plies
    playing = dataclasses.replace(settings.selfplay, games=at_once, opening_plies=plies)
    generate_lib.check(env, playing)
    shards.create(out, config)
    began, first, done = time.perf_counter(), None, 0
    with bar("generate", "games") as report:
        for progress in generate_lib.generate(env, who, dataclasses.replace(settings, selfplay=playing), out, work):
            first = progress.done if first is None else first
            done = progress.done
            report(done, progress.games, done)
    played = done - (first or 0)
    print(f"{out}: {done:,} games, {played:,} of them new; {rate(played, began)}")


@data.command(name="import")
def import_(
    *paths: Path,
    out: Path,
    game: str = "",
    options: Annotated[dict[str, str] | None, Parameter(negative=())] = None,
    size: Annotated[int | None, whole(1, 1000)] = None,
    min_rating: Annotated[int | None, whole(0, 100_000)] = None,
    after: str = "",
    before: str = "",
    min_plies: Annotated[int, Plies] = 0,
    max_plies: Annotated[int | None, Plies] = None,
    result: Annotated[
        list[Literal["first", "second", "draw", "unknown"]] | None,
        Parameter(consume_multiple=True, negative_iterable=()),
    ] = None,
    workers: Workers = 0,
    overwrite: Flag = False,
) -> None:
    """Read games from records: PGN (chess), SGF (Go), TRMPH (Hex) and JSON lines (any game), also compressed (.gz,
    .zst), of any size.

    Every game is replayed by the rules. A broken one is named by file and line, in the folder's problems.txt too, and
    left out. Killed, the same command goes on.

    Parameters
    ----------
    paths
        Files, and folders, in which all files of records are read.
    out
        The new folder of games.
    game
        The game; that of the files' format, or of their first game, if not given.
    options
        Options of the game, such as --options.komi 7.5; those of the first game that is read if not given. Games of
        other options are counted and left out. --options.swap false: Hex without the swap rule, of which TRMPH does not
        tell.
    size
        The same as --options.size.
    min_rating
        Least rating of both players.
    after
        A day, such as 2024-01-31: games of that day or later.
    before
        A day: games of earlier days.
    min_plies
        Least length of a game.
    max_plies
        Largest length of a game.
    result
        One or more of first, second (the player who wins), draw, unknown.
    workers
        Processes; 0: one for each core, at most 8, for files of 32 MiB or more.
    overwrite
        Delete a folder of games that is there.
    """
    check_extra()
    from jaxzero.data import imports
    from jaxzero.data.filters import Filter

    given = (options or {}) | ({} if size is None else {"size": str(size)})
    chosen = Filter(min_rating, after, before, min_plies, max_plies, tuple(result or ()))
    wanted = imports.Import(game, imports.read_options(given), chosen)
    began = time.perf_counter()
    with notices("jaxzero.data"), bar("import") as report:
        counts = imports.run(paths, out, wanted, overwrite, report, workers)
    print(f"{out}: {imports.describe(counts)}; {rate(counts['games'], began)}")


@data.command
def export(folder: Path, /, *, out: Path, overwrite: Flag = False) -> None:
    """Write the games of a folder to one file of records.

    Parameters
    ----------
    folder
        A folder of games.
    out
        The file: .pgn (chess), .sgf (Go), .trmph (Hex) or .jsonl (any game), with .gz or .zst compressed.
    overwrite
        Replace a file that is there.
    """
    check_extra()
    from jaxzero.data import exports

    began = time.perf_counter()
    with notices("jaxzero.data"), bar("export") as report:
        counts = exports.run(folder, out, overwrite, report)
    refused = f"; {counts['refused']:,} cannot be written in this format" * bool(counts["refused"])
    print(f"{out}: {counts['games']:,} games{refused}; {rate(counts['games'], began)}")


@data.command
def clean(
    *folders: Path,
    out: Path,
    symmetric: Flag = False,
    chunk: Annotated[int, whole(1, 10**9)] = 100_000,
    workers: Workers = 0,
    overwrite: Flag = False,
) -> None:
    """Combine folders of games into one: each game once, without those that the rules forbid. Killed, the same command
    goes on.

    Parameters
    ----------
    folders
        Folders of games of one game.
    out
        The new folder.
    symmetric
        Games that a symmetry of the board turns into each other are the same too; not those with chance, or from a
        first position of their own.
    chunk
        Games of a shard.
    workers
        Processes; 0: one for each core, at most 8, for folders of 32 MiB or more.
    overwrite
        Delete a folder of games that is there.
    """
    check_extra()
    from jaxzero.data import clean as clean_lib

    began = time.perf_counter()
    with notices("jaxzero.data"), bar("clean") as report:
        counts = clean_lib.run(folders, out, symmetric, chunk, overwrite, report, workers)
    print(
        f"{out}: {counts['games']:,} of {counts['read']:,} games; {counts['duplicates']:,} duplicates, "
        f"{counts['illegal']:,} illegal; {rate(counts['read'], began)}"
    )


@data.command
def verify(folder: Path, /) -> int:
    """Compare the shards of a folder of games, or the chunks of one of positions, with their digests. Each that is
    damaged or missing is named on a line; exit status 1 if there are any.

    Parameters
    ----------
    folder
        A folder of games or positions.
    """
    check_extra()
    from jaxzero.data import positions, shards

    of_positions = (folder / positions.SHARED).exists()
    damage = 0
    for path, problem in (positions if of_positions else shards).verify(folder):
        print(f"{path}: {problem}", flush=True)
        damage += 1
    if damage:
        return 1
    if of_positions:
        opened = positions.open_folder(folder)
        print(f"{folder}: {len(opened.paths)} chunks, {opened.total:,} positions, all sound")
    else:
        paths = shards.shards(folder)
        print(f"{folder}: {len(paths)} shards, {sum(map(shards.count, paths)):,} games, all sound")
    return 0


@data.command
def stats(folder: Path, /, *, file: Path | None = None) -> None:
    """Show what a folder of games holds: games, positions, duplicates, results, lengths, openings as a tree, root
    values against outcomes; and draw it.

    Parameters
    ----------
    folder
        A folder of games.
    file
        The picture, a PNG file; stats.png in the folder if not given. One that is there already is replaced.
    """
    check_extra()
    from jaxzero import files
    from jaxzero.data import picture
    from jaxzero.data import stats as stats_lib
    from jaxzero.data.stage import check_finished

    check_finished(folder)
    file = file or folder / "stats.png"
    files.check_target(file, "--file")
    with bar("stats") as report:
        found = stats_lib.examine(folder, report)
    rich.print(picture.shown(found))
    picture.draw(found, file)
    print(file)


@data.command
@compiles
def convert(
    *folders: Path,
    out: Path,
    select: str = "all",
    from_ply: Annotated[int, Plies] = 0,
    label: str = "outcome",
    policy: str = "search",
    overwrite: Flag = False,
) -> None:
    """Turn the games of folders into positions to train on. Killed, the same command goes on.

    Games are replayed by the rules; those with an illegal move are left out and counted. Plies of a random opening
    are never trained on.

    Parameters
    ----------
    folders
        Folders of games of one game.
    out
        The new folder of positions.
    select
        Plies of each game: all, final (before the last move), penultimate, or every:K.
    from_ply
        Leave out the first so many plies of each game.
    label
        Value target: outcome, lambda:X (the λ-return of training), steps:N (N-step return) or value (the root value
        of the search or teacher that played). Games whose end is not known have positions with `value` only.
    policy
        Policy target: search (the search's policy, where one was written down), played (the move played), or soft:EPS
        (the move played, of which EPS is spread evenly over the legal moves).
    overwrite
        Delete a folder that is there.
    """
    check_extra()
    from jaxzero.data import convert as convert_lib

    conversion = convert_lib.Conversion(select, from_ply, label, policy)
    began = time.perf_counter()
    with bar("convert", "positions") as report:
        counts = convert_lib.run(folders, out, conversion, overwrite, report)
    left_out = [
        f"{counts[name]:,} {what}"
        for name, what in (
            ("illegal", "illegal games"), ("unfinished", "unfinished games"),
            ("unlabelled", "positions without a root value"),
        )
        if counts[name]
    ]  # fmt: skip
    without = f", without {', '.join(left_out)}" if left_out else ""
    print(
        f"{out}: {counts['positions']:,} positions of {counts['games']:,} games{without}; "
        f"{rate(counts['positions'], began, 'positions')}"
    )


@data.command
def shuffle(
    *folders: Path,
    out: Path,
    seed: Annotated[int, Seed] = 0,
    memory: str = "1GiB",
    remove: Annotated[bool, Parameter(negative="--keep")] = False,
    overwrite: Flag = False,
) -> None:
    """Write the positions of folders into one, in random order. Killed, the same command goes on; the order depends on
    the seed and the input alone.

    Besides the input it takes as much disk as the input, and one chunk more.

    Parameters
    ----------
    folders
        Folders of positions of one game.
    out
        The new folder.
    seed
        Seed of the order.
    memory
        Memory that may be used, such as 512MiB. Less than 1GiB makes more, smaller chunks, in another order.
    remove
        Delete the positions of the input once the output is complete.
    overwrite
        Delete a folder that is there.
    """
    check_extra()
    from jaxzero.data import shuffle as shuffle_lib

    size, began = bytes_of(memory), time.perf_counter()
    with bar("shuffle", "positions") as report:
        counts = shuffle_lib.run(folders, out, seed, size, remove, overwrite, report)
    used = sum(path.stat().st_size for path in out.iterdir()) / 1e9
    print(
        f"{out}: {counts['positions']:,} positions in {counts['chunks']} chunks, {used:.2f} GB; "
        f"{rate(counts['positions'], began, 'positions')}"
    )
