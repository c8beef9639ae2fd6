"""What a report shows, as JSON-ready data that page.js draws."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from envs import Env
from jaxzero import files
from jaxzero.config import settings
from jaxzero.config.schema import Config, GameConfig
from jaxzero.report.samples import RANDOM, Ply, Sample
from jaxzero.runs import folder as folder_lib
from jaxzero.runs.curves import NOISY, RATED, Rows, elo_lines, known, series, smooth, thin
from jaxzero.runs.progress import duration, short_number

CANDIDATES = 5  # moves shown in a position
SHOWN = RATED | {"games": int, "score": float, "gain?": {"elo": float, "interval": (float, float)}}
SIDE = {"games": int, "wins": int, "draws": int, "losses": int, "score": float}
RESULT = SIDE | {"interval": (float, float), "as_first": SIDE, "as_second": SIDE}
EVALUATED = {"iteration": int, "results": {str: RESULT}}  # shapes of files, see `files.check_shape`
METRIC = "metric/"  # begins the names of what a function of the user's own measures


@dataclasses.dataclass(frozen=True)
class Panel:
    """A chart: `keys` of the rows with their names; `percent` of shares."""

    title: str
    keys: Mapping[str, str]
    percent: bool = False


PANELS = (
    Panel("Right moves, by the solver", {
        "oracle/policy_moves": "policy", "oracle/search_moves": "search",
    }, percent=True),
    Panel("Error of the value, by the solver", {
        "oracle/policy_value_error": "network", "oracle/search_value_error": "search",
    }),
    Panel("Score of the latest network against the best", {"promotion/score": "score"}, percent=True),
    Panel("Losses", {
        "loss": "total", "policy_loss": "policy", "value_loss": "value", "reward_loss": "reward",
        "to_play_loss": "who moves next", "consistency_loss": "consistency",
    }),
    Panel("Value of the search against the outcome", {"value_error": "mean error", "value_correlation": "correlation"}),
    Panel("Entropy of the policy targets", {"policy_entropy": "entropy in nats"}),
    Panel("Outcomes of self-play", {
        "first_player_wins": "first player wins", "draws": "draws", "second_player_wins": "second player wins",
    }, percent=True),
    Panel("Points of a game of self-play", {"points": "points"}),
    Panel("Length of self-play games", {"game_length": "plies"}),
    Panel("Throughput per second", {"positions_per_s": "positions played", "samples_per_s": "samples learned"}),
    Panel("Learning rate", {"lr": "learning rate"}),
)  # fmt: skip


def charts(rows: Rows) -> list[dict[str, Any]]:
    """Those that have anything to show, over the iterations."""
    scores = {key: key.split("/", 1)[1].removesuffix("/score") for row in rows for key in row if is_score(key)}
    own = sorted({key for row in rows for key in row if key.startswith(METRIC)})
    panels = [Panel("Evaluation score by opponent", scores, percent=True), *PANELS]
    panels += [Panel(key.removeprefix(METRIC), {key: "own metric"}) for key in own]
    found = [
        {"title": panel.title, "percent": panel.percent, "lines": lines}
        for panel in panels
        if (lines := [line for key, name in panel.keys.items() if (line := curve(rows, key, name))])
    ]
    return found


def elo(folder: Path, last: int) -> dict[str, Any]:
    """What `jaxzero rate` found: the rows of all players, strongest first, and lines for a chart: of each run and, up
    to iteration `last`, of each anchor. Empty if it was not run.

    Raises:
        ConfigError: ratings that cannot be read.
    """
    content = files.read_json(folder / folder_lib.RATINGS, {"ratings": [SHOWN]})
    rows = content["ratings"] if content else []
    lines: list[dict[str, Any]] = []
    for name, own in elo_lines(rows).items():
        low, high = zip(*(row["interval"] for row in own), strict=True)
        x, y = [row["iteration"] for row in own], [row["elo"] for row in own]
        lines.append({"name": name, "x": x, "y": y, "low": low, "high": high})
    lines += [
        {"name": row["player"], "x": [0, last], "y": [row["elo"]] * 2, "flat": True} for row in rows if not row["run"]
    ]
    return {"rows": rows, "lines": lines} if rows else {}


def is_score(key: str) -> bool:
    return key.startswith("eval/") and key.endswith("/score")


def curve(rows: Rows, key: str, name: str) -> dict[str, Any] | None:
    """{"name", "x", "y"} and, of noisy ones, "raw", of which y is the moving average; None without points."""
    x, y = thin(*series(rows, key, "iteration"))
    if not len(x):
        return None
    line = {"name": name, "x": short(x), "y": short(y)}
    return line | {"raw": line["y"], "y": short(smooth(y))} if len(x) >= NOISY else line


def short(numbers: np.ndarray) -> list[float]:
    return [float(f"{number:.5g}") for number in numbers]


def facts(config: Config, rows: Rows, parameters: int | None, step: int | None) -> list[tuple[str, str]]:
    """The run in a few words and numbers."""
    last = rows[-1] if rows else {}
    numbers = {key: last[key] for key in ("seconds", "games", "positions", "updates") if known(last, key)}
    seconds, positions = numbers.get("seconds"), numbers.get("positions")
    machines = dict.fromkeys(row["device"] for row in rows if isinstance(row.get("device"), str))
    told = {
        "iterations": f"{last['iteration']:,} of {config.iterations:,}" if last else None,
        "training time": duration(seconds) if seconds else None,
        "hardware": "; ".join(machines) or None,
        "games": count(numbers.get("games")),
        "positions": count(positions),
        "positions per second": count(round(positions / seconds)) if positions and seconds else None,
        "updates": count(numbers.get("updates")),
        "parameters": count(parameters),
        "checkpoint shown": f"iteration {step:,}" if step is not None else None,
    }
    return [(name, value) for name, value in told.items() if value is not None]


def game_of(game: GameConfig) -> str:
    options = ", ".join(f"{name} = {value}" for name, value in game.options.items())
    return (game.source or game.name) + (f" ({options})" if options else "")


def count(number: float | None) -> str | None:
    return None if number is None else f"{number:,}" if number < 1_000_000 else short_number(number)


def changed_settings(config: Config) -> list[tuple[str, str, str]]:
    """Name, value and default of the settings that are not the default."""
    return [
        (name, settings.toml(value), settings.toml(field.default))
        for name, field in settings.fields().items()
        if name not in ("name", "root") and (value := settings.value_of(config, name)) != field.default
    ]


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """`evaluations/iteration_N/results.json` by N.

    Raises:
        ConfigError: one that cannot be read.
    """
    found = sorted(folder.glob("evaluations/iteration_*/results.json"), key=lambda file: iteration_of(file.parent.name))
    return [content for file in found if (content := files.read_json(file, EVALUATED))]


def iteration_of(name: str) -> int:
    number = name.removeprefix("iteration_")
    return int(number) if number.isdecimal() else -1


def results(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest result against each opponent."""
    newest = {name: {**result, "opponent": name, "iteration": each["iteration"]}
              for each in found for name, result in each["results"].items()}  # fmt: skip
    return list(newest.values())


class Boards:
    """Pictures as lists of numbers: most of a board is as in the position before, so each tag is stored once."""

    def __init__(self, env: Env):
        self.env, self.tags = env, {}

    def add(self, state: Any, before: Any) -> list[int]:
        """A position; `before`, the one before it, tells what has changed."""
        return [self.tags.setdefault(tag, len(self.tags)) for tag in self.env.to_svg(state, before).split("<")]


def game(env: Env, sample: Sample, boards: Boards) -> dict[str, Any]:
    """A sample game; values are as player 0 sees them, those of candidates as the mover does."""
    points = env.num_players == 1
    states = [ply.state for ply in sample.plies] + [sample.last]
    drawn = [boards.add(state, before) for state, before in zip(states, [None, *states], strict=False)]
    plies = [ply_data(env, ply, board) for ply, board in zip(sample.plies, drawn, strict=False)]
    over = bool(sample.last.terminated)
    return {
        "seats": sample.seats,
        "result": ending(sample, points, over),
        "plies": plies,
        "last": {"board": drawn[-1], "text": "the end" if over else f"cut after {len(plies)} plies"},
        "range": None if points else [-1, 1],
    }


def ending(sample: Sample, points: bool, over: bool) -> str:
    assert sample.totals is not None
    if not over:
        return f"not finished after {len(sample.plies)} plies"
    if points:
        return f"{sample.totals[0]:,.0f} points"
    if (sample.totals == sample.totals[0]).all():
        return "draw"
    best = int(sample.totals.argmax())
    return f"player {best + 1} wins ({sample.seats[best]})"


def ply_data(env: Env, ply: Ply, board: list[int]) -> dict[str, Any]:
    analysis, player = ply.analysis, int(ply.state.player)
    order = np.lexsort((-analysis.prior, -analysis.visits))[:CANDIDATES]
    candidates = [
        a for a in order if analysis.visits[a] > 0 or (analysis.prior[a] > 1e-4 and not analysis.visits.any())
    ]
    return {
        "board": board,
        "player": player,
        "by": ply.by,
        "move": env.action_to_str(ply.state, ply.action),
        "value": round(float(analysis.value) * (1 if player == 0 else -1), 4),
        "candidates": [
            [env.action_to_str(ply.state, int(a)), int(analysis.visits[a]), round(float(analysis.prior[a]), 4),
             round(float(analysis.qvalues[a]), 3)]
            for a in candidates
        ],
        "forced": ply.by == RANDOM,
    }  # fmt: skip
