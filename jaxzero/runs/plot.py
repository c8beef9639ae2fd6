"""The course of a run, or of several, in one picture."""

import io
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from jaxzero import files
from jaxzero.runs.curves import NOISY, Rows, elo_lines, known, series, smooth, thin
from jaxzero.runs.progress import short_number
from jaxzero.runs.table import is_score, text

# Okabe and Ito's colours, told apart by colour-blind readers too
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
STYLES, MARKERS = ("-", "--", ":"), ("o", "s", "^", "D", "v", "P", "X", "*")  # a marker also tells lone points apart
GREY, INK = "#B0B0B0", "#333333"


def learning_curve(rows: Rows, path: str | os.PathLike[str], title: str = "") -> None:
    """Draw the rows of a run over its training time into the PNG file `path`, which appears whole or not at all."""
    rows = [row for row in rows if known(row, "seconds")]
    figure = Figure(figsize=(12, 7.5), dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    figure.suptitle(title, x=0.012, ha="left", fontsize=14, fontweight="bold", color=INK, parse_math=False)
    panels = figure.subplots(2, 2, sharex=True)
    _evaluation(panels[0, 0], rows)
    _losses(panels[0, 1], rows)
    _self_play(panels[1, 0], rows)
    _outcomes(panels[1, 1], rows)
    _time_axes(panels[1], rows)
    _save(figure, path)


def _evaluation(axes: Axes, rows: Rows) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    names = dict.fromkeys(name for row in rows for name in row if is_score(name))
    solved = ("oracle/policy_moves", "oracle/search_moves")
    names |= dict.fromkeys(name for name in solved if any(name in row for row in rows))
    colours = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
    for number, name in enumerate(names):
        row = number // len(colours) % len(STYLES)
        x, y = _over_minutes(rows, name)
        _draw(axes, x, y, text(name), colours[number % len(colours)], STYLES[row], MARKERS[row])
    _finish(axes, "Evaluation score by opponent", *axes.get_legend_handles_labels())


def _losses(axes: Axes, rows: Rows) -> None:
    for name, colour in (("loss", GREY), ("policy_loss", BLUE), ("value_loss", RED)):
        _draw(axes, *_over_minutes(rows, name), text(name), colour)
    _finish(axes, "Losses", *axes.get_legend_handles_labels())


def _self_play(axes: Axes, rows: Rows) -> None:
    _draw(axes, *_over_minutes(rows, "value_error"), text("value_error"), PURPLE)
    axes.set_ylim(0, max(1, axes.get_ylim()[1]))
    right = axes.twinx()
    _draw(right, *_over_minutes(rows, "game_length"), f"{text('game_length')} (right)", GREEN)
    right.spines[:].set_visible(False)
    right.tick_params(colors=INK, length=0)
    (handles, labels), (more_handles, more_labels) = (each.get_legend_handles_labels() for each in (axes, right))
    right.set_yticks([]) if not more_labels else right.yaxis.set_major_locator(MaxNLocator(5))
    _finish(axes, "Self-play", handles + more_handles, labels + more_labels)


def _outcomes(axes: Axes, rows: Rows) -> None:
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    names = ("first_player_wins", "draws", "second_player_wins")
    rows = [row for row in rows if all(known(row, name) for name in names)]
    lines = [thin(*_over_minutes(rows, name)) for name in names]
    if rows:
        x = np.append(0, lines[0][0])  # a row tells of the time before it
        shares = [np.append(y[0], smooth(y)) for _, y in lines]
        axes.stackplot(x, shares, labels=[text(name) for name in names], colors=(SKY, "#E4E4E4", ORANGE), alpha=0.85)
    _finish(axes, "Outcomes of self-play", *axes.get_legend_handles_labels())


def _time_axes(panels: Sequence[Axes], rows: Rows) -> None:
    """Minutes along the bottom and, under each of them, the positions seen by then."""
    minutes, positions = (np.append(0, values) for values in _over_minutes(rows, "positions"))

    def label(minute: float, _: float) -> str:
        seen = short_number(np.interp(minute, minutes, positions))
        return f"{minute:g}\n{seen if positions.any() else ''}"

    last = max((row["seconds"] / 60 for row in rows), default=0)
    for axes in panels:
        axes.set_xlim(0, last or 1)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(label)
        axes.set_xlabel("minutes of training / positions seen", color=INK)


def _draw(
    axes: Axes, x: np.ndarray, y: np.ndarray, label: str, colour: str, style: str = "-", marker: str = "o"
) -> None:
    """A line; noisy ones are smoothed, with the points themselves pale behind. Nothing where there are no points."""
    if not len(x):
        return
    x, y = thin(x, y)
    if len(x) >= NOISY:
        axes.plot(x, y, color=colour, linewidth=1, alpha=0.3)
        y = smooth(y)
    axes.plot(
        x, y, style, color=colour, linewidth=2, marker=marker if len(x) < NOISY else "", markersize=4, label=label,
        clip_on=False,
    )  # fmt: skip


def _finish(axes: Axes, title: str, handles: list[Any], labels: list[str]) -> None:
    """The panel's frame, its title, and its legend between the two, where it never covers a line."""
    columns = 4
    lines = max(1, -(-len(labels) // columns))
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=8 + 17 * lines)
    _frame(axes)
    if labels:
        place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 1.0), "borderaxespad": 0.2}
        axes.legend(
            handles, labels, ncols=columns, frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4, **place
        )
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "nothing yet", transform=axes.transAxes, ha="center", va="center", color=GREY)


def _frame(axes: Axes) -> None:
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(colors=INK, length=0)


def _over_minutes(rows: Rows, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Minutes and values of the rows that have them."""
    seconds, values = series(rows, key, "seconds")
    return seconds / 60, values


def comparison(runs: Mapping[str, Rows], keys: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Draw numbers of the rows of several runs, by name, over training time and over games played, into the PNG file
    `path`, which appears whole or not at all. A run has a colour, a number a style, each line a marker."""
    figure = Figure(figsize=(12, 5), dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    panels = figure.subplots(1, 2, sharey=True)
    colours = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
    for axes, over, unit in ((panels[0], "seconds", "minutes of training"), (panels[1], "games", "games of self-play")):
        markers = itertools.cycle(MARKERS)
        for number, (name, rows) in enumerate(runs.items()):
            for key, style in zip(keys, itertools.cycle(STYLES), strict=False):
                x, y = series(rows, key, over)
                label = f"{name}: {text(key)}"
                x, colour = x / (60 if over == "seconds" else 1), colours[number % len(colours)]
                _draw(axes, x, y, label, colour, style, next(markers))
        axes.set_xlim(left=0)
        axes.set_xlabel(unit, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(lambda x, _: short_number(x) if x else "0")
        _frame(axes)
    panels[0].set_ylabel("value", color=INK)
    if all(map(is_score, keys)):
        panels[0].set_ylabel("evaluation score", color=INK)
        panels[0].set_ylim(-0.03, 1.03)
        panels[0].yaxis.set_major_formatter(PercentFormatter(1))
    handles, labels = panels[0].get_legend_handles_labels()
    place = {"loc": "outside upper left", "ncols": 3, "frameon": False, "fontsize": 9}
    figure.legend(handles, labels, labelcolor=INK, **place)
    _save(figure, path)


def elo_curve(rows: Rows, path: str | os.PathLike[str], title: str = "") -> None:
    """Draw ratings (rows of `jaxzero.evaluation.rate`) against iterations, with their 95 % intervals, anchors as
    lines, into the PNG file `path`, which appears whole or not at all."""
    figure = Figure(figsize=(9, 5.5), dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    axes = figure.subplots()
    colours = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
    for number, (name, own) in enumerate(elo_lines(rows).items()):
        x, elo = (np.array([row[key] for row in own], float) for key in ("iteration", "elo"))
        low, high = np.array([row["interval"] for row in own]).T
        axes.errorbar(
            x, elo, (np.maximum(elo - low, 0), np.maximum(high - elo, 0)), color=colours[number % len(colours)],
            linewidth=2, marker="o", markersize=4, elinewidth=1, capsize=2, label=name,
        )  # fmt: skip
    for row in rows:
        if not row["run"]:
            axes.axhline(row["elo"], color=GREY, linewidth=1, linestyle="--")
            place = {"xycoords": axes.get_yaxis_transform(), "va": "bottom", "ha": "right", "fontsize": 9}
            axes.annotate(row["player"], (1, row["elo"]), color=INK, **place)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("iteration", color=INK)
    _finish(axes, f"Elo, {title}", *axes.get_legend_handles_labels())
    _save(figure, path)


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    files.write(path, picture.getvalue())
