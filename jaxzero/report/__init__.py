"""A run as one HTML file that needs nothing else: what was trained, how it went, how strong it is, games to step
through.

`contents` gathers the data, `samples` plays the games, `page.html`, `page.css` and `page.js` show them. All text
reaches the page as JSON and is set as text, never as markup; boards are images, which run no scripts.
"""

import html
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxzero import files, messages
from jaxzero.config import settings
from jaxzero.evaluation import analysis, players
from jaxzero.report import contents, samples
from jaxzero.runs import folder as folder_lib
from jaxzero.runs import metrics

HERE = Path(__file__).parent


class ReportOptions(NamedTuple):
    """Of the sample games; None takes the run's own."""

    games: int = 4
    simulations: int | None = None
    opponent: str | None = None  # "" for none
    step: int | None = None
    seed: int = 0


def write(folder: Path, file: Path | None, options: ReportOptions) -> tuple[Path, list[str]]:
    """Writes the report of a run, by default `report.html` in its folder, whole or not at all. Returns its path, and
    what the run lacks, a line each.

    Raises:
        ConfigError: no run, something in it that cannot be read, or a file that cannot be written.
    """
    file = file or folder / "report.html"
    files.check_target(file, "--file")
    data, notices = gather(folder, options)
    with messages.reported(file):
        files.write(file, page(data))
    return file, notices


def gather(folder: Path, options: ReportOptions) -> tuple[dict[str, Any], list[str]]:
    """All that the page shows, and what the run lacks."""
    config = settings.load(folder / folder_lib.CONFIG)
    rows, skipped = metrics.examine(folder)
    evaluations = contents.evaluations(folder)
    notices = [] if rows else ["metrics.jsonl is missing or empty: no curves"]
    notices += [skipped.removeprefix(f"{folder}/")] if skipped else []
    notices += [] if evaluations else ["no evaluations yet: no results against opponents"]
    loaded, played = None, {}
    if not list((folder / "checkpoints").glob("[0-9]*")):
        notices.append("no checkpoint yet: no sample games")
    else:
        loaded = folder_lib.load(folder, options.step)
        played = play(loaded, contents.results(evaluations), options)
    parameters = loaded and sum(np.size(x) for x in jax.tree.leaves(loaded.params))
    iterations = max((row["iteration"] for row in rows), default=0)
    data = {
        "title": folder.resolve().name,
        "game": contents.game_of(config.game),
        "notices": notices,
        "facts": contents.facts(config, rows, parameters, loaded and loaded.step),
        "settings": contents.changed_settings(config),
        "config": settings.dump(config),
        "iterations": iterations,
        "charts": contents.charts(rows),
        "elo": contents.elo(folder, iterations),
        "results": contents.results(evaluations),
        **played,
    }
    return data, notices


def play(loaded: folder_lib.Loaded, results: list[dict[str, Any]], options: ReportOptions) -> dict[str, Any]:
    """The sample games: against itself, and against the opponent that does best against the network."""
    env, config, params = loaded.env, loaded.config, loaded.params
    simulations = config.evaluation.simulations if options.simulations is None else options.simulations
    worst = min(results, key=lambda result: result["score"], default={"opponent": ""})["opponent"]
    opponent = worst if options.opponent is None else options.opponent
    analyse = analysis.make(env, loaded.network, config, simulations)
    reply, theirs = players.make_device_player(opponent, env, "--opponent") if opponent else (None, None)
    found = samples.play(
        env, lambda keys, states: analyse(params, keys, states),
        (lambda keys, states: reply(theirs, keys, states)) if reply else None,
        samples.seatings(env, options.games, opponent), config.evaluation.opening_plies, options.seed,
    )  # fmt: skip
    boards = contents.Boards(env)
    games = [contents.game(env, sample, boards) for sample in found]
    return {"games": games, "tags": list(boards.tags), "simulations": simulations}


def page(data: dict[str, Any]) -> str:
    """The file. JSON is written so that nothing in it can end the script element."""
    text = (HERE / "page.html").read_text(encoding="utf-8")
    parts = {
        "TITLE": html.escape(data["title"]),
        "STYLE": (HERE / "page.css").read_text(encoding="utf-8"),
        "DATA": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "SCRIPT": (HERE / "page.js").read_text(encoding="utf-8"),
    }
    before, *rest = text.split("{{")
    pieces = [part.split("}}", 1) for part in rest]
    return before + "".join(parts[name] + after for name, after in pieces)
