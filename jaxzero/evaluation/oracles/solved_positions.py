"""Positions with the truth about them, and how near a player comes to it. Letters: N positions, A actions."""

from typing import Any, NamedTuple

import numpy as np


class SolvedPositions(NamedTuple):
    """N live positions and the value in [-1, 1] of each action for who moves, when both then play their best."""

    states: Any  # numpy, [N]
    values: np.ndarray  # f64[N, A]  NaN where it is not legal

    @property
    def best(self) -> np.ndarray:
        """f64[N]: the value of the positions."""
        return np.nanmax(self.values, 1)


def compare(positions: SolvedPositions, actions: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Of the actions i[N] and values f[N] that a player finds: "moves", the share that keep the position's value, and
    "value_error", the mean distance from it."""
    played = positions.values[np.arange(len(actions)), actions]
    return {
        "moves": float(np.mean(played >= positions.best - 1e-6)),
        "value_error": float(np.mean(np.abs(values - positions.best))),
    }
