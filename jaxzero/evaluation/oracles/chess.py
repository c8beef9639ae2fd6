"""Chess positions with a forced mate in one or two moves; `benchmarks/chess_mates.py` writes the file.

A move has the value 1 if it mates in time and else 0, which stands for "not shown to win": the share of moves that
keep the value is the share of mates found.
"""

import pathlib
from typing import Any

import jax
import numpy as np

from envs import Env
from jaxzero.evaluation.oracles.judged import Judged

FILE = pathlib.Path(__file__).with_name("chess_mates.txt")


def read(env: Env) -> Judged:
    """The stored positions, their moves numbered by the game."""
    states: list[Any] = []
    values = []
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        _, moves, fen = line.split(" ", 2)
        state = jax.tree.map(np.asarray, env.from_text(fen))
        row = np.where(env.legal_actions(state), 0.0, np.nan)
        row[[env.action_from_str(state, move) for move in moves.split(",")]] = 1.0
        states.append(state)
        values.append(row)
    return Judged(jax.tree.map(lambda *x: np.stack(x), *states), np.stack(values))
