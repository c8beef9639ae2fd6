"""The statistics of a folder of games as tables for a terminal, and as a picture."""

import io
import itertools
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter
from rich.console import Group
from rich.table import Column, Table
from rich.tree import Tree

from jaxzero import files, messages
from jaxzero.data.stats import OpeningNode, Statistics
from jaxzero.runs.plot import BLUE, GREY, INK, ORANGE, SKY

WINNERS = {"first": "first player wins", "draw": "draws", "second": "second player wins", "unknown": "unknown"}
SHADES = {"first": SKY, "draw": "#E4E4E4", "second": ORANGE, "unknown": GREY}


# Terminal


def shown(stats: Statistics) -> Group:
    """All numbers as tables, the openings as a tree."""
    facts = Table(Column(style="bold"), Column(justify="right"), show_header=False)
    facts.add_row("game", f"{stats.game.source or stats.game.name} {stats.game.options or ''}")
    facts.add_row("games", f"{stats.games:,}")
    facts.add_row("shards", f"{stats.shards:,} ({stats.bytes / 2**20:,.1f} MiB)")
    facts.add_row("positions", f"{stats.positions:,}")
    facts.add_row("duplicate games", f"{stats.duplicates:,} ({stats.duplicates / stats.games:.1%})")
    for name, count in stats.results.items():
        facts.add_row(WINNERS[name], f"{count:,} ({count / stats.games:.1%})")
    there = np.flatnonzero(stats.lengths)
    facts.add_row("plies, least", f"{there[0]:,}")
    facts.add_row("plies, median", f"{stats.median:,}")
    facts.add_row("plies, mean", f"{stats.positions / stats.games:,.1f}")
    facts.add_row("plies, most", f"{there[-1]:,}")
    parts: list[Table | Tree] = [facts]
    if stats.openings:
        root = Tree("openings: share of all games, score of the first player")
        _grow(root, stats.openings, stats.games)
        parts.append(root)
    if stats.values:
        parts.append(_values(stats))
    return Group(*parts)


def _grow(branch: Tree, openings: list[OpeningNode], games: int) -> None:
    for opening in openings:
        score = "" if np.isnan(opening.score) else f"  {opening.score:.1%}"
        _grow(branch.add(f"{opening.move}  {opening.games / games:.1%}{score}"), opening.replies, games)


def _values(stats: Statistics) -> Table:
    found = stats.values
    assert found
    title = f"root values against outcomes ({found.games:,} games), mean |difference| {found.error:.3f}"
    table = Table("value", *(Column(name, justify="right") for name in ("outcome", "positions")), title=title)
    for value, outcome, count in zip(found.value, found.outcome, found.positions, strict=True):
        if count:
            table.add_row(f"{value:+.2f}", f"{outcome:+.2f}", f"{count:,}")
    return table


# Picture


def draw(stats: Statistics, path: Path) -> None:
    """Writes a PNG file, whole or not at all."""
    figure = Figure(figsize=(12, 7.5), dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    title = f"{stats.game.source or stats.game.name}: {stats.games:,} games, {stats.positions:,} positions"
    figure.suptitle(title, x=0.012, ha="left", fontsize=14, fontweight="bold", color=INK, parse_math=False)
    panels = figure.subplots(2, 2)
    _lengths(panels[0, 0], stats)
    _results(panels[0, 1], stats)
    _openings(panels[1, 0], stats)
    _calibration(panels[1, 1], stats)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    with messages.reported(path):
        files.write(path, content.getvalue())


def _lengths(axes: Axes, stats: Statistics) -> None:
    there = np.flatnonzero(stats.lengths)
    width = max(1, -(-(there[-1] - there[0] + 1) // 60))
    first = there[0] - there[0] % width
    edges = np.arange(first, there[-1] + width + 1, width)
    counts = [stats.lengths[a:b].sum() / stats.games for a, b in itertools.pairwise(edges)]
    axes.bar(edges[:-1], counts, width=width * 0.92, align="edge", color=BLUE)
    axes.axvline(stats.median, color=INK, linewidth=1)
    axes.annotate(f" median {stats.median}", (stats.median, 1), xycoords=("data", "axes fraction"), va="top", color=INK)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("plies", color=INK)
    _finish(axes, "Lengths: share of games")


def _results(axes: Axes, stats: Statistics) -> None:
    names = list(WINNERS)
    shares = [stats.results[name] / stats.games for name in names]
    bars = axes.barh([WINNERS[name] for name in names], shares, color=[SHADES[name] for name in names])
    axes.bar_label(bars, [f"{share:.1%}" for share in shares], padding=4, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, max(shares) * 1.15)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    _finish(axes, "Results: share of games")


def _openings(axes: Axes, stats: Statistics) -> None:
    lines = [(f"{a.move} {b.move}", b) for a in stats.openings for b in a.replies]
    lines = sorted(lines or [(a.move, a) for a in stats.openings], key=lambda line: -line[1].games)[:12]
    if not lines:
        return _nothing(axes, "Openings", "games do not begin alike, or none is frequent")
    shares = [opening.games / stats.games for _, opening in lines]
    bars = axes.barh([name for name, _ in lines], shares, color=BLUE)
    scores = ["" if np.isnan(opening.score) else f"{opening.score:.0%}" for _, opening in lines]
    axes.bar_label(bars, scores, padding=4, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, max(shares) * 1.15)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    return _finish(axes, "Frequent openings: share of games; score of the first player")


def _calibration(axes: Axes, stats: Statistics) -> None:
    found = stats.values
    if not found:
        return _nothing(axes, "Root values against outcomes", "no values")
    there = found.positions > 0
    axes.plot([-1, 1], [-1, 1], color=GREY, linewidth=1)
    sizes = 12 + 150 * found.positions[there] / found.positions.max()
    axes.scatter(found.value[there], found.outcome[there], s=sizes, color=BLUE, zorder=3, clip_on=False)
    axes.set_xlim(-1.05, 1.05)
    axes.set_ylim(-1.05, 1.05)
    axes.set_xlabel("root value, to the mover", color=INK)
    axes.set_ylabel("mean outcome", color=INK)
    return _finish(axes, f"Root values against outcomes: mean |difference| {found.error:.3f}")


def _nothing(axes: Axes, title: str, why: str) -> None:
    _finish(axes, title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=GREY)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(colors=INK, length=0)
