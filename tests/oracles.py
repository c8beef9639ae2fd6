"""What the conformance tests of games share: play beside another implementation.

Letters: T plies, G games, A actions, P players. `CONFORMANCE=1` (`make conformance`) makes tests go deep.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env

FULL = os.environ.get("CONFORMANCE") == "1"


def games(few: int, many: int = 10_000) -> int:
    """How many games to compare: `many` in a conformance run."""
    return many if FULL else few


class Oracle(Protocol):
    """One game in another implementation, in our numbering of actions and outcomes."""

    def legal(self) -> set[int]: ...
    def player(self) -> int: ...
    def terminated(self) -> bool: ...
    def rewards(self) -> list[float]:
        """What the last move earned each player."""
        ...

    def play(self, action: int) -> None: ...


class ChanceOracle(Oracle, Protocol):
    """The same for a game with chance: an outcome follows a `play` that leaves one due."""

    def resolve(self, outcome: int) -> None: ...


class Play(NamedTuple):
    """Random games of ours, ply by ply; `due` and `outcome` are of the chance outcome after the action."""

    legal: Any  # bool[T, G, A]
    player: Any  # i8[T, G]
    terminated: Any  # bool[T, G]
    rewards: Any  # f32[T, G, P]  earned by the action of this ply
    action: Any  # i32[T, G]
    due: Any  # bool[T, G]
    outcome: Any  # i32[T, G]


@partial(jax.jit, static_argnums=(0, 1, 2))
def random_games(env: Env, count: int, plies: int, key: jax.Array) -> tuple[Any, Play]:
    """`count` games of uniformly random legal actions, `plies` plies each; after its end a game stands still.
    Returns their first positions [G, …] and the plies."""

    def ply(state, key):
        choose, chance = jax.random.split(key)
        legal = env.legal_actions(state)
        action = jax.random.categorical(choose, jnp.where(legal, 0.0, -jnp.inf)).astype(jnp.int32)
        after, due, outcome = env.step(state, action), jnp.bool(False), jnp.int32(0)
        rewards = after.rewards
        if env.num_outcomes:
            due = after.chance
            outcome = jax.random.categorical(chance, env.outcome_logits(after)).astype(jnp.int32)
            after = env.resolve(after, outcome)
        return after, Play(legal, state.player, state.terminated, rewards, action, due, outcome)

    def game(key):
        begin, moves = jax.random.split(key)
        first = env.init(begin)
        return first, jax.lax.scan(ply, first, jax.random.split(moves, plies))[1]

    return jax.vmap(game, out_axes=(0, 1))(jax.random.split(key, count))


def compare(env: Env, oracle: Callable[..., Oracle], count: int, seed: int = 0, batch: int = 250) -> int:
    """Plays `count` random games to the end beside `oracle()`, or `oracle(first position)` if the game has chance,
    comparing legal actions, mover, end and rewards at every ply. Returns the number of plies compared."""
    compared = 0
    for first in range(0, count, batch):
        key = jax.random.fold_in(jax.random.key(seed), first)
        starts, play = jax.device_get(random_games(env, min(batch, count - first), env.max_plies + 1, key))
        for game in range(play.action.shape[1]):
            start = [jax.tree.map(lambda leaf: leaf[game], starts)] if env.num_outcomes else []  # noqa: B023
            compared += follow(jax.tree.map(lambda leaf: leaf[:, game], play), oracle(*start))  # noqa: B023
    return compared


def follow(play: Play, other: Oracle) -> int:
    """Compares one game, whose arrays are [T, …], ply by ply; returns its length."""
    line: list[int] = []
    for t in range(len(play.action)):
        assert bool(play.terminated[t]) == other.terminated(), f"end after {line}"
        if play.terminated[t]:
            return t
        assert play.player[t] == other.player(), f"player to move after {line}"
        legal = set(np.flatnonzero(play.legal[t]).tolist())
        assert legal == other.legal(), f"legal actions after {line}: {legal ^ other.legal()} differ"
        other.play(int(play.action[t]))
        line.append(int(play.action[t]))
        assert play.rewards[t].tolist() == list(other.rewards()), f"rewards after {line}"
        if play.due[t]:
            other.resolve(int(play.outcome[t]))  # pyright: ignore[reportAttributeAccessIssue]
    raise AssertionError(f"a game is longer than max_plies: {line}")
