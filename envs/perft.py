"""Perft: lines of play counted to a depth, the classic check of a game's rules.

`KNOWN` holds counts that others published; of games without chance only.
"""

from typing import Any

import jax
import numpy as np

from envs.core import Env
from envs.host import legal_actions_of_all, step_all

CHUNK = 4096  # positions stepped at once

# Lines of 1, 2, … plies from the first position of the game without options; a line that ends earlier is not counted.
KNOWN: dict[str, tuple[int, ...]] = {
    "tic_tac_toe": (9, 72, 504, 3_024, 15_120, 54_720, 148_176, 200_448, 127_872),
    "connect_four": (7, 49, 343, 2_401, 16_807, 117_649, 823_536, 5_673_234),
    "othello": (4, 12, 56, 244, 1_396, 8_200, 55_092, 390_216, 3_005_288),
    "chess": (20, 400, 8_902, 197_281, 4_865_609),
}


def perft(env: Env, state: Any, depth: int) -> int:
    """The number of lines of `depth` plies from one position; a line that ends earlier is not counted.

    The last ply is not played: its legal actions are counted.
    """
    layer, count = jax.tree.map(lambda leaf: np.asarray(leaf)[None], state), 1
    for ply in range(depth):
        children, count = [], 0
        for first in range(0, len(layer.terminated), CHUNK):
            part = jax.tree.map(lambda leaf: leaf[first : first + CHUNK], layer)  # noqa: B023
            legal = np.asarray(legal_actions_of_all(env, padded(part)))[: len(part.terminated)]
            rows, actions = np.nonzero(legal & ~part.terminated[:, None])
            count += len(rows)
            if ply < depth - 1:
                children += expand(env, part, rows, actions)
        if ply < depth - 1:
            layer = jax.tree.map(lambda *leaves: np.concatenate(leaves), *children)
    return count


def expand(env: Env, part: Any, rows: np.ndarray, actions: np.ndarray) -> list[Any]:
    """The positions after actions[i] in position rows[i], in chunks."""
    chunks = []
    for first in range(0, len(rows), CHUNK):
        here = rows[first : first + CHUNK]
        states = padded(jax.tree.map(lambda leaf: leaf[here], part))  # noqa: B023
        move = np.zeros(CHUNK, np.int32)
        move[: len(here)] = actions[first : first + CHUNK]
        after = jax.device_get(step_all(env, states, move))
        chunks.append(jax.tree.map(lambda leaf: leaf[: len(here)], after))  # noqa: B023
    return chunks


def padded(states: Any) -> Any:
    """The first position repeated until there are `CHUNK`: one shape, one compilation."""
    missing = CHUNK - len(states.terminated)
    return jax.tree.map(lambda leaf: np.concatenate([leaf, np.repeat(leaf[:1], missing, 0)]), states)
