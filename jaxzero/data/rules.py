"""Games of shards replayed by the rules, thousands at once.

Letters: G games, T plies, P players.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import envs
from jaxzero.records.game import first_state, follow, loosened

SIZES = (16, 256, 4096)  # games replayed at once
STATES = 1 << 24  # bytes of their states, at most


class Ragged(NamedTuple):
    """A column of lists."""

    values: np.ndarray
    offsets: np.ndarray  # i64[G + 1]

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


def ragged(column: pa.ChunkedArray) -> Ragged:
    """A column of lists, null taken for an empty one."""
    array = column.combine_chunks()
    array = pc.fill_null(array, pa.scalar([], array.type)) if array.null_count else array
    offsets = array.offsets.to_numpy().astype(np.int64)
    return Ragged(array.flatten().to_numpy(zero_copy_only=False), offsets - offsets[0])


class Replayed(NamedTuple):
    played: np.ndarray  # i32[G]  moves before the first illegal one; all of them in a sound game
    over: np.ndarray  # bool[G]  the game has ended
    rewards: np.ndarray  # f32[G, P]  summed over the moves played


def replay_table(env: envs.Env, games: pa.Table) -> Replayed:
    """Replays the games of a table with the columns `start`, `actions`, `outcomes`.

    Raises:
        ValueError: a first position that is none.
    """
    known = games.column("outcomes").null_count < len(games)
    outcomes = ragged(games.column("outcomes")) if known else None
    return replay(env, ragged(games.column("actions")), outcomes, games.column("start").to_pylist())


def replay(
    env: envs.Env, actions: Ragged, outcomes: Ragged | None = None, starts: Sequence[str | None] = ()
) -> Replayed:
    """Plays games from new games, or from positions in the words of `env.to_text`, with the outcomes of chance after
    each move.

    Raises:
        ValueError: a first position that is none.
    """
    count = len(actions.lengths)
    starts = starts or [None] * count
    found = Replayed(np.zeros(count, np.int32), np.zeros(count, bool), np.zeros((count, env.num_players), np.float32))
    loose, numbers = loosened(env)
    order = np.argsort(actions.lengths, kind="stable")  # alike in length, so that few plies are idle
    most = largest(env)
    at = 0
    while at < len(order):
        size = next((size for size in SIZES if size >= len(order) - at), SIZES[-1])
        chosen = order[at : at + min(size, most)]
        at += len(chosen)
        size = min(size, most)
        longest = int(min(env.max_plies, actions.lengths[chosen[-1]])) + 1
        plies = 1 << max(8, longest.bit_length())  # few lengths, as each is compiled
        moves = matrix(actions, chosen, plies, size, env.num_actions, -1)
        chance = np.full((plies, size), -1, np.int32)
        if outcomes:
            chance = matrix(outcomes, chosen, plies, size, env.num_outcomes, env.num_outcomes)
        options = {name: np.full(size, value, np.float32) for name, value in numbers.items()}
        states = first_states(env, [starts[i] for i in chosen], size)
        result = jax.device_get(follow(loose, options, states, moves, chance, longest))
        for whole, part in zip(found, result, strict=True):
            whole[chosen] = part[: len(chosen)]
    return found


@functools.lru_cache(32)
def largest(env: envs.Env) -> int:
    """Games replayed at once."""
    state = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(first_state(env, None)))
    return max((size for size in SIZES if size * state <= STATES), default=SIZES[0])


def matrix(lists: Ragged, chosen: np.ndarray, plies: int, size: int, bound: int, strange: int) -> np.ndarray:
    """The beginnings of lists as columns of i32[plies, size], -1 after their ends, `strange` for values that are not in
    -1 … bound - 1."""
    lengths = np.minimum(lists.lengths[chosen], plies)
    column = np.repeat(np.arange(len(chosen)), lengths)
    row = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    values = lists.values[np.repeat(lists.offsets[:-1][chosen], lengths) + row]
    found = np.full((plies, size), -1, np.int32)
    found[row, column] = np.where((values >= -1) & (values < bound), values, strange)
    return found


def first_states(env: envs.Env, starts: list[str | None], size: int) -> Any:
    """First positions [size, …], those of `starts` before others that are not used."""
    which = {start: number for number, start in enumerate(dict.fromkeys(starts))}
    states = [first_state(env, start) for start in which]
    index = np.zeros(size, np.int64)
    index[: len(starts)] = [which[start] for start in starts]
    return jax.tree.map(lambda *leaves: np.stack(leaves)[index], *states)
