"""Solved Connect Four positions; `benchmarks/connect_four_oracle.py` says how they were chosen, and writes the file.

A line is `<moves so far> <value of each column> <half, r or b>`: columns are 1 to 7; the values are + = - for a game
that the player to move then wins, draws or loses, and . for a full column.
"""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env
from envs.connect_four import ConnectFour
from jaxzero.evaluation.oracles.solved_positions import SolvedPositions

FILE = pathlib.Path(__file__).with_name("connect_four.txt")
HALVES = {"r": "random", "b": "partly_best"}
LAST_PLY = 33


class StoredPositions(NamedTuple):
    """N positions with the value of every move."""

    states: Any  # Connect Four states, [N]
    moves: list[str]  # the moves that led there, columns 1 to 7
    values: np.ndarray  # i8[N, 7]  1, 0, -1 for the player to move; -2 = column full
    halves: np.ndarray  # str[N]  "random" or "partly_best"

    @property
    def preserving(self) -> np.ndarray:
        """bool[N, 7]: moves that keep the position's value."""
        return self.values == self.values.max(1, keepdims=True)


def read(file: pathlib.Path = FILE) -> StoredPositions:
    """The stored positions, replayed by the game's own rules."""
    lines = [line.split(" ") for line in file.read_text().splitlines() if not line.startswith("#")]
    moves = [line[0] for line in lines]
    values = np.array([[".-=+".index(value) - 2 for value in line[1]] for line in lines], np.int8)
    plies = np.full((len(moves), LAST_PLY), -1, np.int32)
    for row, text in zip(plies, moves, strict=True):
        row[: len(text)] = [int(column) - 1 for column in text]
    return StoredPositions(replay(jnp.asarray(plies)), moves, values, np.array([HALVES[line[2]] for line in lines]))


@jax.jit
@jax.vmap
def replay(moves: jax.Array) -> Any:
    """The position after `moves` i32[plies]; -1 = no more moves."""
    env = ConnectFour()

    def play(state, move):
        return jax.tree.map(lambda new, old: jnp.where(move >= 0, new, old), env.step(state, move), state), None

    return jax.lax.scan(play, env.init(jax.random.key(0)), moves)[0]


def positions(env: Env) -> SolvedPositions:
    """The stored positions, as the oracle of training takes them."""
    stored = read()
    return SolvedPositions(jax.device_get(stored.states), np.where(stored.values == -2, np.nan, stored.values))
