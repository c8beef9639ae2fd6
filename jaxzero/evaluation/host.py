"""Matches with players outside of the device: all games advance together, those on the device in batches.

The openings, keys and moves of players on the device are those of `matches.play`.
Letters: G pairs of games; the 2G games stand in one row, those in which the agent is player 0 first.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env
from envs.core import advance_and_tell
from envs.host import legal_actions_of_all
from jaxzero.evaluation import matches
from jaxzero.evaluation.base import Contestant, HostPlayer, HostPositions, Player
from jaxzero.evaluation.exhaustive import batched, take
from jaxzero.evaluation.matches import MatchResult


def play(
    env: Env,
    agent: Contestant,
    opponent: Contestant,
    games: int,
    opening_plies: int,
    watch: matches.Watch | None = None,
) -> Callable[[jax.Array], MatchResult]:
    """A match `(key) -> MatchResult`, as `matches.play`; a game that a side gives up is lost for it."""
    pairs = matches.num_pairs(games)
    sides = [HostContestant(env, contestant, pairs) for contestant in (agent, opponent)]
    named = any(side.outside and side.outside.reads_moves for side in sides)

    def match(key: jax.Array) -> MatchResult:
        dealt = jax.device_get(deal(env, opening_plies, pairs, key))
        flat = jax.tree.map(lambda x: np.array(x).reshape(games, *x.shape[2:]), dealt._replace(first=()))
        states, keys, plies, lead, moves, chance, _ = flat
        names = name_openings(env, games, keys, plies, moves) if named else [[] for _ in range(games)]
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        mine = np.arange(games) // pairs  # the agent's player number
        signs, alive = 1 - 2 * mine, np.ones(games, bool)
        while (live := alive & ~states.terminated).any():
            legal = np.asarray(legal_actions_of_all(env, states))
            actions = np.full(games, -1, np.int32)
            for side, turns in zip(sides, (states.player == mine, states.player != mine), strict=True):
                if len(rows := np.flatnonzero(live & turns)):
                    actions[rows] = side.choose(take((states, keys, plies, legal), rows), [names[i] for i in rows], rng)
            given_up = np.flatnonzero(live & (actions < 0))
            alive[given_up] = False
            # A side that gives up has lost, whatever it had earned.
            lead[given_up] = np.where(states.player[given_up] == mine[given_up], -np.inf, np.inf)
            if named:
                name(env, names, states, actions)
            played = np.flatnonzero(actions >= 0)
            moves[played, plies[played]] = actions[played]
            states, gained, drawn = jax.device_get(advance(env, states, actions, keys, plies))
            if env.num_outcomes:
                chance[played, plies[played]] = drawn[played]
            lead, plies = lead + signs * gained, plies + (actions >= 0)
            if watch:
                watch(0, (~alive | states.terminated).sum(), plies.max())
        pair_up = lambda x: x.reshape(2, pairs, *x.shape[1:])  # noqa: E731
        outcomes = np.asarray(matches.decided(env, pair_up(lead)))
        return MatchResult(outcomes, pair_up(plies), pair_up(moves), pair_up(chance), dealt.first)

    return match


class HostContestant:
    """A contestant that chooses for any of the games."""

    def __init__(self, env: Env, contestant: Contestant, batch: int):
        player = contestant.player
        self.outside = player if isinstance(player, HostPlayer) else None
        self._env, self._batch = env, batch
        self._ask = None if isinstance(player, HostPlayer) else partial(jax.jit(asked(player)), contestant.params)

    def choose(self, games: Any, names: list[list[str]], rng: np.random.Generator) -> np.ndarray:
        """Actions i32 for the games (states, keys, plies, legal); -1 gives one up."""
        states, keys, plies, legal = games
        if self._ask:
            return batched(self._ask, self._batch, states, keys, plies)
        assert self.outside is not None
        chosen = self.outside.choose(HostPositions(states, legal, names), rng)
        return np.array([-1 if action is None else action for action in chosen], np.int32)


def asked(player: Player) -> Callable[..., jax.Array]:
    def ask(params: Any, states: Any, keys: jax.Array, plies: jax.Array) -> jax.Array:
        return player(params, matches.move_keys(jax.random.wrap_key_data(keys), plies)[:, 0], states)

    return ask


@partial(jax.jit, static_argnums=(0, 1, 2))
def deal(env: Env, opening_plies: int, pairs: int, key: jax.Array) -> matches.MatchState:
    dealt = matches.deal(env, opening_plies, pairs, key, jnp.arange(pairs))
    return dealt._replace(keys=jax.random.key_data(dealt.keys))


@partial(jax.jit, static_argnums=0)
def advance(
    env: Env, states: Any, actions: jax.Array, keys: jax.Array, plies: jax.Array
) -> tuple[Any, jax.Array, jax.Array]:
    """One ply of the games with an action that is not -1 -> states, what player 0 gained on the other, outcomes of
    chance."""
    chance = matches.move_keys(jax.random.wrap_key_data(keys), plies)[:, 1]
    after, drawn = jax.vmap(partial(advance_and_tell, env))(states, jnp.maximum(actions, 0), chance)

    def put(old, new):
        return jnp.where((actions >= 0).reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(put, states, after), jnp.where(actions >= 0, matches.gain(after), 0.0), drawn


def name_openings(env: Env, games: int, keys: Any, plies: np.ndarray, moves: np.ndarray) -> list[list[str]]:
    """The moves of the openings as text; in a game without chance, where all begin alike."""
    start = jax.device_get(env.init(jax.random.key(0)))
    states = jax.tree.map(lambda x: np.broadcast_to(x, (games, *np.shape(x))), start)
    names: list[list[str]] = [[] for _ in range(games)]
    for ply in range(plies.max(initial=0)):
        actions = np.where(ply < plies, moves[:, ply], -1).astype(np.int32)
        name(env, names, states, actions)
        states = jax.device_get(advance(env, states, actions, keys, plies)[0])
    return names


def name(env: Env, names: list[list[str]], states: Any, actions: np.ndarray) -> None:
    """Adds the moves that are about to be played."""
    for i in np.flatnonzero(actions >= 0):
        names[i].append(env.action_to_str(jax.tree.map(lambda x, i=i: x[i], states), int(actions[i])))
