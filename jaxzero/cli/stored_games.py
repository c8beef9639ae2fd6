"""Commands on games on disk: `jaxzero data generate`, `import`, `export`, `clean`, `verify`, `stats`."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Literal

import rich
from cyclopts import Parameter

from jaxzero.cli.notices import notices
from jaxzero.cli.options import Seed, compiles, whole
from jaxzero.cli.stages import Flag, Plies, Workers, bar, check_extra, rate


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
    from jaxzero.data import picture, shards
    from jaxzero.data import stats as stats_lib

    shards.game_of(folder)
    file = file or folder / "stats.png"
    files.check_target(file, "--file")
    with bar("stats") as report:
        found = stats_lib.examine(folder, report)
    rich.print(picture.shown(found))
    picture.draw(found, file)
    print(file)
