"""A game beside another implementation of its rules: random games, compared ply by ply.

Letters: T plies, G games, A actions, P players.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

import envs
from envs.core import Env, random_action


class Judge(Protocol):
    """One game in another implementation, in our numbering of actions and outcomes."""

    def legal(self) -> set[int]: ...
    def player(self) -> int: ...
    def terminated(self) -> bool: ...
    def rewards(self) -> list[float]:
        """What the last move earned each player."""
        ...

    def play(self, action: int) -> None:
        """Raises RulesDifferError if the game goes on by other rules from here."""
        ...


class ChanceJudge(Judge, Protocol):
    """The same for a game with chance: an outcome follows a `play` that leaves one due."""

    def resolve(self, outcome: int) -> None: ...


class NoJudgeError(Exception):
    """Why a game cannot be compared."""


class RulesDifferError(Exception):
    """A known difference of the rules has come up: the rest of the game is not compared."""


class Play(NamedTuple):
    """Random games of ours, ply by ply; `due` and `outcome` are of the chance outcome after the action."""

    legal: Any  # bool[T, G, A]
    player: Any  # i8[T, G]
    terminated: Any  # bool[T, G]
    rewards: Any  # f32[T, G, P]  earned by the action of this ply
    action: Any  # i32[T, G]
    due: Any  # bool[T, G]
    outcome: Any  # i32[T, G]


class Compared(NamedTuple):
    games: int
    whole: int  # games compared to their end; in the others the rules came to differ
    plies: int


def judge_of(env: Env) -> Callable[..., Judge]:
    """What makes the other implementation of a registered game, to be given to `compare`; today that of open_spiel.

    Raises:
        NoJudgeError: none is known or installed, or it has not these options.
    """
    try:
        from envs.judges import open_spiel  # late: open_spiel is there for developers only
    except ImportError:
        raise NoJudgeError("open_spiel is not installed (pip install open_spiel)") from None
    if env.name not in open_spiel.JUDGES or type(env) is not envs.GAMES.get(env.name):
        raise NoJudgeError(f"no package with another implementation of {env.name} is known")
    return open_spiel.JUDGES[env.name](env)


@partial(jax.jit, static_argnums=(0, 1, 2))
def random_games(env: Env, count: int, plies: int, key: jax.Array) -> tuple[Any, Play]:
    """`count` games of uniformly random legal actions, `plies` plies each; after its end a game stands still.
    Returns their first positions [G, …] and the plies."""

    def ply(state, key):
        choose, chance = jax.random.split(key)
        legal = env.legal_actions(state)
        action = random_action(choose, legal)
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


def compare(env: Env, judge: Callable[..., Judge], count: int, seed: int = 0, batch: int = 250) -> Compared:
    """Plays `count` random games to the end beside `judge()`, or `judge(first position)` if the game has chance,
    comparing legal actions, mover, end and rewards at every ply.

    Raises:
        AssertionError: a difference, with the moves that lead to it.
    """
    whole = plies = 0
    for first in range(0, count, batch):
        key = jax.random.fold_in(jax.random.key(seed), first)
        starts, play = jax.device_get(random_games(env, min(batch, count - first), env.max_plies + 1, key))
        for game in range(play.action.shape[1]):
            start = [jax.tree.map(lambda leaf: leaf[game], starts)] if env.num_outcomes else []  # noqa: B023
            length, to_its_end = follow(jax.tree.map(lambda leaf: leaf[:, game], play), judge(*start))  # noqa: B023
            whole, plies = whole + to_its_end, plies + length
    return Compared(count, whole, plies)


def follow(play: Play, other: Judge) -> tuple[int, bool]:
    """Compares one game, whose arrays are [T, …]; returns the plies compared and whether that was the whole game."""
    line: list[int] = []
    for t in range(len(play.action)):
        assert bool(play.terminated[t]) == other.terminated(), f"end after {line}"
        if play.terminated[t]:
            return t, True
        assert play.player[t] == other.player(), f"player to move after {line}"
        legal = set(np.flatnonzero(play.legal[t]).tolist())
        assert legal == other.legal(), f"legal actions after {line}: {legal ^ other.legal()} differ"
        try:
            other.play(int(play.action[t]))
        except RulesDifferError:
            return t, False
        line.append(int(play.action[t]))
        assert play.rewards[t].tolist() == list(other.rewards()), f"rewards after {line}"
        if play.due[t]:
            other.resolve(int(play.outcome[t]))  # pyright: ignore[reportAttributeAccessIssue]
    raise AssertionError(f"a game is longer than max_plies: {line}")
