"""Series of numbers out of the rows of a run, made fit to be drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]
POINTS = 300  # drawn in a line; a longer run is averaged down to them
NOISY = 30  # as many points are smoothed
LARGE = 1e15  # numbers that are no smaller, infinity and NaN among them, are not drawn


def known(row: Mapping[str, Any], key: str) -> bool:
    """Whether the row has a number there that can be drawn."""
    value = row.get(key)
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGE


def series(rows: Rows, key: str, over: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers `over` and `key` of the rows that have both."""
    pairs = [(row[over], row[key]) for row in rows if known(row, key) and known(row, over)]
    x, y = np.array(pairs, dtype=float).reshape(-1, 2).T
    return x, y


def thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS points, each the mean of its neighbours; the last stays where it is in x."""
    if len(x) <= POINTS:
        return x, y
    groups = np.array_split(np.arange(len(x)), POINTS)
    return np.array([x[group[-1]] for group in groups]), np.array([y[group].mean() for group in groups])


def smooth(y: np.ndarray) -> np.ndarray:
    """Centred moving average over 1/20 of the points. At both ends, where the window is one-sided, the line fitted to
    it: a mean would bend a steep beginning."""
    reach, here = len(y) // 40, np.arange(len(y))
    window = np.ones(2 * reach + 1)
    means = np.convolve(y, window, "same") / window.size
    for i in (*here[:reach], *here[len(y) - reach :]):
        near = slice(max(0, i - reach), i + reach + 1)
        means[i] = np.polyval(np.polyfit(here[near] - i, y[near], 1), 0)
    return means


RATED: dict[str, Any] = {"player": str, "run": str, "iteration": int, "elo": float, "interval": (float, float)}
"""Shape of a rating, a row of `jaxzero.evaluation.rate`; see `files.check_shape`."""


def elo_lines(rows: Rows) -> dict[str, Rows]:
    """Ratings (rows of `jaxzero.evaluation.rate`) of the checkpoints of each run at each number of simulations, by
    iteration; anchors are none."""
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (row["run"], row["iteration"])):
        if row["run"]:
            name = f"{row['run']}, {row['player'].partition(':')[2]} simulations"
            lines.setdefault(name, []).append(row)
    return dict(sorted(lines.items()))
