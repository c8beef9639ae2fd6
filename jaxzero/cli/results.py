"""Commands that show runs: `report`, `compare`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from envs import suggest
from jaxzero.cli.options import Seed, Simulations, Step, compiles, whole
from jaxzero.messages import ConfigError
from jaxzero.runs.table import is_score


@compiles
def report(
    run: str,
    /,
    *,
    file: Path | None = None,
    games: Annotated[int, whole(0, 1000)] = 4,
    simulations: Simulations = None,
    opponent: str | None = None,
    step: Step = None,
    seed: Annotated[int, Seed] = 0,
) -> None:
    """Write a run as one HTML file that needs nothing else, and print its path: settings, learning curves, results,
    sample games to step through. A report that is there already is replaced.

    Parameters
    ----------
    run
        A run's folder, or its name.
    file
        The file; report.html in the run's folder if not given.
    games
        Sample games: half of them against itself.
    simulations
        Simulations a move in them; those of the run's evaluation if not given, 0 = raw policy.
    opponent
        Plays the other half; the strongest of the run's evaluation if not given, "" for none.
    step
        The checkpoint that plays; the newest if not given.
    seed
        Of random openings and dice.
    """
    from jaxzero import report as report_lib
    from jaxzero.runs import folder as folder_lib

    folder = folder_lib.find(run)

    options = report_lib.ReportOptions(games, simulations, opponent, step, seed)
    path, notices = report_lib.write(folder, file, options)
    for notice in notices:
        print(f"{folder}: {notice}", file=sys.stderr)
    print(path)


def compare(
    *names: str,
    key: Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable=())] = None,
    file: Path = Path("comparison.png"),
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Draw the curves of runs beside each other, by training time and by games played, and print the picture's path.

    Parameters
    ----------
    names
        Folders or names of runs.
    key
        One or more numbers of metrics.jsonl; the scores of all evaluations if not given.
    file
        The PNG file.
    overwrite
        Replace a file that is there.
    """
    from jaxzero import files, messages
    from jaxzero.runs import folder as folder_lib
    from jaxzero.runs import metrics, plot
    from jaxzero.runs.trouble import check_writable

    folders = [folder_lib.find(name) for name in names]
    names_of_runs = {folder.name for folder in folders}
    if len(names_of_runs) < 2 or len(names_of_runs) < len(names):
        raise ConfigError("compare: name two runs or more, of different names")
    rows = {}
    for folder in folders:
        rows[folder.name], skipped = metrics.examine(folder)
        if skipped:
            print(skipped, file=sys.stderr)
    known = {name: None for run in rows.values() for row in run for name in row}
    keys = key or [name for name in known if is_score(name)]
    if unknown := [name for name in keys if name not in known]:
        raise ConfigError(f"--key: {unknown[0]!r} is in none of these runs; {suggest(unknown[0], list(known))}")
    if not keys:
        raise ConfigError("compare: these runs have no evaluations yet; give a number of their metrics.jsonl as --key")
    check_writable(file.parent)
    files.check_target(file, "--file", overwrite)
    with messages.reported(file):
        plot.comparison(rows, keys, file)
    print(file)


def runs(root: Path | None = None, /) -> None:
    """List the runs of a folder: game, iterations done, training time, newest scores.

    Parameters
    ----------
    root
        The folder of the runs; the one that `jaxzero train` uses if not given.
    """
    import os

    import rich
    from rich.table import Column, Table

    from jaxzero.config import settings
    from jaxzero.runs import listing

    root = root or settings.root(os.environ)
    lines = listing.listed(root)
    if not lines:
        print(f"{root}: no runs there")
        return
    names = ("run", "game", "iterations", "time", "last row")
    table = Table(*(Column(name, no_wrap=True) for name in names), Column("scores", overflow="fold"), box=None)
    for line in lines:
        table.add_row(*line)
    rich.print(table)
