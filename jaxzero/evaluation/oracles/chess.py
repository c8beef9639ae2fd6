"""Chess positions with a forced mate in one or two moves; `benchmarks/chess_mates.py` writes the file.

A move has the value 1 if it mates in time and else 0, which stands for "not shown to win": the share of moves that
keep the value is the share of mates found.
"""

import pathlib
from functools import partial

import jax
import numpy as np

from envs import Env
from envs.host import legal_actions_of_all
from jaxzero.evaluation.exhaustive import BATCH, batched
from jaxzero.evaluation.oracles.solved_positions import SolvedPositions

FILE = pathlib.Path(__file__).with_name("chess_mates.txt")


def read(env: Env) -> SolvedPositions:
    """The stored positions, their moves numbered by the game."""
    rows = [line.split(" ", 2) for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    single = [jax.tree.map(np.asarray, env.from_text(fen)) for _, _, fen in rows]
    states = jax.tree.map(lambda *x: np.stack(x), *single)
    values = np.where(batched(partial(legal_actions_of_all, env), BATCH, states), 0.0, np.nan)
    for (_, moves, _), state, row in zip(rows, single, values, strict=True):
        names = {env.action_to_str(state, int(action)): action for action in np.flatnonzero(~np.isnan(row))}
        row[[names[move] for move in moves.split(",")]] = 1.0
    return SolvedPositions(states, values)
