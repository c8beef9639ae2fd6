"""Exact solvers, to measure players by. A new one is one file and one line in `SOLVERS`.

`solve = make(env)`; then `solve(states) -> f64[N, A]`: for numpy states of live positions, a batch, the value in
[-1, 1] of each action for who moves, when both play their best; NaN where it is not legal.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from envs import Env
from jaxzero.solvers import connect_four, hex, tic_tac_toe, ur

Solve = Callable[[Any], np.ndarray]


def one_by_one(num_actions: int, state_values: Callable[[Any], dict[int, int]]) -> Solve:
    """A solver of batches from one of single positions."""

    def solve(states: Any) -> np.ndarray:
        values = np.full((len(states.player), num_actions), np.nan)
        for i, row in enumerate(values):
            for action, value in state_values(jax.tree.map(lambda x, i=i: x[i], states)).items():
                row[action] = value
        return values

    return solve


def solve_ur(env: Any) -> Solve:
    solution = ur.solve(env.pieces)
    return lambda states: 2 * solution.action_values(states) - 1


SOLVERS: dict[str, Callable[[Any], Solve]] = {  # by game
    "tic_tac_toe": lambda env: one_by_one(9, tic_tac_toe.state_values),
    "connect_four": lambda env: one_by_one(7, connect_four.ConnectFourSolver().state_values),
    "hex": lambda env: one_by_one(env.num_actions, hex.HexSolver(env.size, env.swap).state_values),
    "ur": solve_ur,
}


def make(env: Env) -> Solve:
    """The solver of a game.

    Raises:
        ValueError: there is none, or it does not take the game's size.
    """
    if env.name not in SOLVERS:
        raise ValueError(f"no solver of {env.name}; there are solvers of {', '.join(SOLVERS)}")
    return SOLVERS[env.name](env)
