"""The perfect player: plays by an exact solver, all moves that keep the game's value being equally likely."""

from collections.abc import Sequence

import numpy as np

from envs import Env
from jaxzero import solvers
from jaxzero.evaluation.base import HostPlayer, HostPositions


class Perfect(HostPlayer):
    """Raises:
    ValueError: there is no solver of the game, or not of its size.
    """

    def __init__(self, env: Env):
        self._solve = solvers.make(env)

    def choose(self, positions: HostPositions, rng: np.random.Generator) -> Sequence[int | None]:
        values = self._solve(positions.states)
        best = values >= np.nanmax(values, 1, keepdims=True) - 1e-9
        return [int(rng.choice(np.flatnonzero(row))) for row in best]
