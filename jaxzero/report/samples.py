"""Sample games: the network against itself and against an opponent, with what it thought at every ply.

Letters: G games, A actions.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from envs import Env
from jaxzero.evaluation.analysis import Analysis

MOST_PLIES = 400  # of a game; a longer one is cut
NETWORK, RANDOM = "network", "random opening"


class Ply(NamedTuple):
    """A position with the network's analysis of it, and the move played there; numpy, unbatched."""

    state: Any
    action: int
    by: str  # who chose it: the network, the opponent's name, the random opening
    analysis: Analysis


@dataclasses.dataclass
class Sample:
    seats: tuple[str, ...]  # who plays each player
    first: Any  # position
    plies: list[Ply] = dataclasses.field(default_factory=list)
    last: Any = None  # position
    totals: np.ndarray | None = None  # f64[P]  rewards of each player


def seatings(env: Env, games: int, opponent: str) -> list[tuple[str, ...]]:
    """Who sits where: half of the games against itself, then against the opponent, first and second in turns."""
    alone = (NETWORK,) * env.num_players
    if not opponent or env.num_players == 1:
        return [alone] * games
    against = games // 2
    seats = [tuple(NETWORK if i % env.num_players == p else opponent for p in range(env.num_players))
             for i in range(against)]  # fmt: skip
    return [alone] * (games - against) + seats


def play(
    env: Env,
    analyse: Callable[[jax.Array, Any], Analysis],
    reply: Callable[[jax.Array, Any], jax.Array] | None,
    seats: list[tuple[str, ...]],
    opening_plies: int,
    seed: int,
) -> list[Sample]:
    """Plays all the games at once.

    Args:
        analyse, reply: pure functions of (keys[G], states): the network, and the opponent's moves i32[G].
        seats: one entry a game, as `seatings` gives them.
        opening_plies: moves drawn at random first, so that games differ.
    """
    rng = np.random.default_rng(seed)
    streams = jax.random.split(jax.random.key(seed), len(seats))

    @jax.jit
    def think(keys, states):
        replies = reply(keys, states) if reply else None
        return analyse(keys, states), jax.vmap(env.legal_actions)(states), replies

    @jax.jit
    def advance(keys, states, actions):
        return jax.vmap(env.advance)(states, actions, keys)

    fold = jax.jit(jax.vmap(jax.random.fold_in, (0, None)))
    states = jax.device_get(jax.jit(jax.vmap(env.init))(fold(streams, 0)))
    samples = [Sample(who, row(states, i), last=row(states, i), totals=np.zeros(env.num_players))
               for i, who in enumerate(seats)]  # fmt: skip
    for ply in range(min(env.max_plies, MOST_PLIES)):
        if states.terminated.all():
            break
        analyses, legal, replies = jax.device_get(think(fold(streams, 2 * ply + 1), states))
        actions = np.array(analyses.action)
        for i in np.flatnonzero(~states.terminated).tolist():
            by = samples[i].seats[int(states.player[i])]
            if ply < opening_plies:
                by, actions[i] = RANDOM, rng.choice(np.flatnonzero(legal[i]))
            elif by != NETWORK:
                actions[i] = replies[i]
            samples[i].plies.append(Ply(row(states, i), int(actions[i]), by, row(analyses, i)))
        live = ~states.terminated
        states = jax.device_get(advance(fold(streams, 2 * ply + 2), states, actions))
        for i in np.flatnonzero(live).tolist():
            samples[i].last = row(states, i)
            samples[i].totals += states.rewards[i]
    return samples


def row(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], tree)
