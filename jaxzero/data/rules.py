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
from envs.core import begins_alike
from jaxzero.messages import shortened
from jaxzero.records.game import first_state, follow, loosened

SIZES = (16, 256, 1024, 4096)  # games replayed at once
STATES = 1 << 24  # bytes of their states, at most


PLIES = ("outcomes", "values", "policy_sizes", "policy_trained")  # columns of one entry for each move
LISTS = ("actions", *PLIES, "policy_actions", "policy_weights", "result")


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


class ReplayedGames(NamedTuple):
    played: np.ndarray  # i32[G]  moves before the first illegal one; all of them in a sound game
    over: np.ndarray  # bool[G]  the game has ended
    rewards: np.ndarray  # f32[G, P]  summed over the moves played


def replay_table(env: envs.Env, games: pa.Table) -> ReplayedGames:
    """Replays the games of a table with the columns `start`, `actions`, `outcomes`.

    Raises:
        ValueError: a first position that is none.
    """
    known = games.column("outcomes").null_count < len(games)
    outcomes = ragged(games.column("outcomes")) if known else None
    return replay(env, ragged(games.column("actions")), outcomes, games.column("start").to_pylist())


def replay(
    env: envs.Env, actions: Ragged, outcomes: Ragged | None = None, starts: Sequence[str | None] = ()
) -> ReplayedGames:
    """Plays games from new games, or from positions in the words of `env.to_text`, with the outcomes of chance after
    each move.

    Raises:
        ValueError: a first position that is none.
    """
    count = len(actions.lengths)
    starts = starts or [None] * count
    found = ReplayedGames(
        np.zeros(count, np.int32), np.zeros(count, bool), np.zeros((count, env.num_players), np.float32)
    )
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


def faults(env: envs.Env, games: pa.Table) -> dict[int, str]:
    """What is wrong with games, by their row: with the rules, or between the columns of one game."""
    lengths = {name: ragged(games.column(name)).lengths for name in LISTS}
    given = {name: games.column(name).is_valid().to_numpy() for name in LISTS}
    plies, wrong = lengths["actions"], {}

    def object_to(rows: np.ndarray, why: str) -> None:
        for row in np.flatnonzero(rows).tolist():
            wrong.setdefault(row, why)

    object_to(given["outcomes"] != (env.num_outcomes > 0), "outcomes are for games with chance, and needed there")
    for name in PLIES:
        object_to(given[name] & (lengths[name] != plies), f"{name} are not one for each move")
    sizes, chosen = ragged(games.column("policy_sizes")), ragged(games.column("policy_actions"))
    entries = sums(sizes)
    for name in ("policy_actions", "policy_weights"):
        object_to(entries != lengths[name], f"{name} are not as many as policy_sizes tells")
    strange = (chosen.values < 0) | (chosen.values >= env.num_actions)
    object_to(sums(Ragged(strange, chosen.offsets)) > 0, "a policy has an action that the game has not")
    object_to(given["result"] & (lengths["result"] != env.num_players), f"result is not {env.num_players} numbers")

    starts = games.column("start").to_pylist()
    for row, start in enumerate(starts):
        if start is None and begins_alike(env):
            continue
        try:
            first_state(env, start if start is not None else "")
        except Exception as error:  # the rules of one's own game may raise anything
            wrong.setdefault(row, f"start: {shortened(str(error))}")
            starts[row] = None
    actions, outcomes = ragged(games.column("actions")), ragged(games.column("outcomes"))
    found = replay(env, actions, outcomes if env.num_outcomes else None, starts)
    for row in np.flatnonzero(found.played < plies).tolist():
        ply = int(found.played[row])
        move = int(actions.values[actions.offsets[row] + ply])
        why = "after the end of the game" if found.over[row] else "not legal, or its outcome is impossible"
        wrong.setdefault(row, f"move {ply + 1}, action {move}, is {why}")
    results = games.column("result").to_pylist()
    for row in np.flatnonzero(found.over).tolist():
        earned = found.rewards[row].tolist()
        if results[row] not in (None, earned):
            wrong.setdefault(row, f"the result is {results[row]}, the moves lead to {earned}")
    return wrong


def sums(lists: Ragged) -> np.ndarray:
    """i64[G]: the sum of each list."""
    total = np.concatenate([[0], np.cumsum(lists.values, dtype=np.int64)])
    return total[lists.offsets[1:]] - total[lists.offsets[:-1]]
