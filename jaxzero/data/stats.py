"""What a folder of games holds: games, positions, duplicates, results, lengths, openings, values against outcomes.

Letters: G games, D plies of an opening, T plies, N bins.
"""

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

import envs
from envs.core import begins_alike
from jaxzero.config.games import make_env
from jaxzero.config.schema import GameConfig
from jaxzero.data import keys, rules, shards
from jaxzero.data.stage import check_finished
from jaxzero.messages import ConfigError

DEPTH = 6  # plies of an opening
SAMPLE = 16_384  # games whose values are compared with their outcomes, at most
BINS = 20  # of values from -1 to 1
LEAST = 0.01  # share of the games that an opening needs to be told
BROAD = 8  # moves told of a position
UNKNOWN = 2


@dataclasses.dataclass(frozen=True)
class OpeningNode:
    """A move of the openings' tree."""

    move: str
    games: int
    score: float  # of the first player, 0 to 1, in games of known result; NaN if there are none
    replies: list["OpeningNode"]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Root values against what their movers earned, by bins of the value."""

    games: int
    positions: np.ndarray  # i64[N]
    value: np.ndarray  # f64[N]  mean, NaN in an empty bin
    outcome: np.ndarray  # f64[N]
    error: float  # mean |value - outcome|


@dataclasses.dataclass(frozen=True)
class Statistics:
    game: GameConfig
    games: int
    shards: int
    bytes: int
    positions: int
    duplicates: int
    results: dict[str, int]  # first, second, draw, unknown
    lengths: np.ndarray  # i64[longest + 1]  games of each length in plies
    openings: list[OpeningNode]  # none where games do not begin alike, or have chance
    values: Calibration | None

    @property
    def median(self) -> int:
        return int(np.searchsorted(np.cumsum(self.lengths), self.games / 2))


def examine(folder: Path, report: Callable[[int, int, int], None] = lambda *_: None) -> Statistics:
    """Reads a whole folder; only the beginnings of its games, and keys on disk, are held.

    Raises:
        ConfigError: no finished folder of games, an empty one, or a damaged shard.
    """
    check_finished(folder)
    game = shards.game_of(folder)
    env = make_env(game)
    paths = shards.shards(folder)
    total, done = sum(map(shards.count, paths)), 0
    if not total:
        raise ConfigError(f"{folder}: holds no games")
    openings, results, lengths = [], [], np.zeros(1, np.int64)
    sampled, every = [], max(1, -(-total // SAMPLE))
    columns = ["id", "start", "actions", "outcomes", "values", "result"]
    with tempfile.TemporaryDirectory(prefix="jaxzero-") as place:
        key_files = []
        for number, path in enumerate(paths):
            found = []
            for games in shards.read(path, columns):
                actions = rules.ragged(games.column("actions"))
                openings.append(beginnings(actions))
                results.append(winners(games))
                counted = np.bincount(actions.lengths, minlength=len(lengths))
                counted[: len(lengths)] += lengths
                lengths = counted
                found.append(keys.keys(games, env, False))
                sampled.append(games.take(pa.array(np.arange(-done % every, len(games), every))))
                done += len(games)
                report(done, total, done)
            key_files.append(Path(place) / f"{number}.npy")
            np.save(key_files[-1], np.concatenate([np.zeros(0, keys.KEY), *found]))
        different = int(keys.first_of_each(key_files).sum())
    winner = np.concatenate(results)
    names = {"first": 1, "second": -1, "draw": 0, "unknown": UNKNOWN}
    alike = begins_alike(env) and not env.num_outcomes
    return Statistics(
        game=game,
        games=total,
        shards=len(paths),
        bytes=sum(path.stat().st_size for path in paths),
        positions=int((lengths * np.arange(len(lengths))).sum()),
        duplicates=total - different,
        results={name: int((winner == number).sum()) for name, number in names.items()},
        lengths=lengths,
        openings=list(tree(env, np.concatenate(openings), winner)) if alike else [],
        values=calibration(env, pa.concat_tables(sampled)),
    )


def beginnings(actions: rules.Ragged) -> np.ndarray:
    """i16[G, D], -1 after the end of a game."""
    place = actions.offsets[:-1, None] + np.arange(DEPTH)
    there = np.arange(DEPTH) < actions.lengths[:, None]
    values = np.append(actions.values, -1).astype(np.int16)
    return np.where(there, values[np.where(there, place, -1)], -1)


def winners(games: pa.Table) -> np.ndarray:
    """i8[G]: 1 the first player, -1 the second, 0 a draw, UNKNOWN."""
    result = rules.ragged(games.column("result"))
    known = result.lengths > 0
    earned = np.append(result.values, 0)[np.where(known, result.offsets[:-1], -1)]
    return np.where(known, np.sign(earned), UNKNOWN).astype(np.int8)


def tree(env: envs.Env, openings: np.ndarray, winner: np.ndarray) -> Iterator[OpeningNode]:
    """The moves that are played in a share of LEAST of all games or more, the most frequent first."""
    step = jax.jit(env.step)

    def replies(state: Any, which: np.ndarray, ply: int) -> Iterator[OpeningNode]:
        if ply == DEPTH or bool(state.terminated):
            return
        moves, counts = np.unique(openings[which, ply], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        told = [i for i in order if moves[i] >= 0 and counts[i] >= max(2, LEAST * len(openings))]
        for i in told[:BROAD]:
            inner = which[openings[which, ply] == moves[i]]
            known = inner[winner[inner] != UNKNOWN]
            score = float((winner[known] + 1).mean() / 2) if len(known) else np.nan
            move = int(moves[i])
            after = jax.device_get(step(state, move))
            yield OpeningNode(
                env.action_to_str(state, move), int(counts[i]), score, list(replies(after, inner, ply + 1))
            )

    return replies(rules.first_state(env, None), np.arange(len(openings)), 0)


def calibration(env: envs.Env, games: pa.Table) -> Calibration | None:
    """None if no game has values and a result."""
    both = games.column("values").is_valid().to_numpy() & games.column("result").is_valid().to_numpy()
    games = games.filter(pa.array(both))
    values, result = rules.ragged(games.column("values")), rules.ragged(games.column("result"))
    actions = rules.ragged(games.column("actions"))
    fits = (values.lengths == actions.lengths) & (result.lengths == env.num_players)
    if not len(games) or not fits.all():
        return None
    mover = movers(env, games)
    game = np.repeat(np.arange(len(games)), actions.lengths)
    outcome = result.values.reshape(-1, env.num_players)[game, mover].astype(np.float64)
    searched = np.isfinite(values.values)
    if not searched.any():
        return None
    value, outcome = values.values[searched].astype(np.float64), outcome[searched]
    place = np.clip(((value + 1) / 2 * BINS).astype(int), 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        mean_value = np.bincount(place, value, BINS) / count
        mean_outcome = np.bincount(place, outcome, BINS) / count
    return Calibration(len(games), count, mean_value, mean_outcome, float(np.abs(value - outcome).mean()))


def movers(env: envs.Env, games: pa.Table) -> np.ndarray:
    """i8: who moves at each ply of each game, one game after the other."""
    actions, outcomes = rules.ragged(games.column("actions")), rules.ragged(games.column("outcomes"))
    starts = games.column("start").to_pylist()
    found = np.zeros(len(actions.values), np.int8)
    order = np.argsort(actions.lengths, kind="stable")
    size = min(rules.largest(env), 1024)
    for first in range(0, len(order), size):
        chosen = order[first : first + size]
        longest = int(actions.lengths[chosen[-1]])
        plies = 1 << max(8, longest.bit_length())
        moves = rules.matrix(actions, chosen, plies, size, env.num_actions, -1)
        chance = np.full_like(moves, -1)
        if env.num_outcomes:
            chance = rules.matrix(outcomes, chosen, plies, size, env.num_outcomes, -1)
        states = rules.first_states(env, [starts[i] for i in chosen], size)
        players = jax.device_get(_players(env, states, moves, chance, longest))
        for column, i in enumerate(chosen.tolist()):
            begin, end = actions.offsets[i : i + 2]
            found[begin:end] = players[: end - begin, column]
    return found


@functools.partial(jax.jit, static_argnums=0)
def _players(env: envs.Env, states: Any, actions: jax.Array, outcomes: jax.Array, longest: jax.Array) -> jax.Array:
    """First positions [G, …], actions and outcomes i32[T, G], -1 after the last -> who moves, i8[T, G]."""

    def move(state, action, outcome):
        after = env.step(state, jnp.maximum(action, 0))
        after = env.resolve(after, outcome) if env.num_outcomes else after
        return jax.tree.map(lambda new, old: jnp.where(action >= 0, new, old), after, state)

    def ply(t, carry):
        states, players = carry
        players = players.at[t].set(states.player)
        return jax.vmap(move)(states, actions[t], outcomes[t]), players

    return jax.lax.fori_loop(0, longest, ply, (states, jnp.zeros(actions.shape, jnp.int8)))[1]
