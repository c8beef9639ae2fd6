"""What every format of game records shares: a game, a problem found in a file, and replay through the rules.

Letters: G games, T = the longest record that a game's rules allow, P players.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import envs

CHUNK = 256  # games replayed at once


@dataclasses.dataclass(frozen=True)
class Game:
    game: str  # a name in `envs.GAMES`
    options: dict[str, Any]  # of that game
    moves: list[int]  # actions
    result: tuple[float, ...] | None = None  # reward of each player, None if not known
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def env(self) -> envs.Env:
        return envs.make(self.game, **self.options)


@dataclasses.dataclass(frozen=True)
class Problem:
    file: str
    line: int  # from 1
    move: int  # from 1; 0 = not about a move
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" + (f", move {self.move}" if self.move else "")
        return f"{place}: {self.message}"


class Replayed(NamedTuple):
    played: int  # moves before the first illegal one; all of them in a sound record
    over: bool  # the game has ended
    result: tuple[float, ...]  # rewards summed over the moves played


@partial(jax.jit, static_argnums=0)
def follow(env: envs.Env, actions: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """actions i32[G, T], -1 after the last -> (moves played i32[G], over bool[G], rewards f32[G, P])."""

    def ply(carry, action):
        state, sound, played, rewards = carry
        sound &= (action >= 0) & ~state.terminated & env.legal_actions(state)[action]
        after = env.step(state, action)
        state = jax.tree.map(lambda new, old: jnp.where(sound, new, old), after, state)
        return (state, sound, played + sound, rewards + jnp.where(sound, after.rewards, 0)), None

    def game(moves):
        rewards = jnp.zeros(env.num_players, jnp.float32)
        carry = env.init(jax.random.key(0)), jnp.bool(True), jnp.int32(0), rewards
        state, _, played, rewards = jax.lax.scan(ply, carry, moves)[0]
        return played, state.terminated, rewards

    return jax.vmap(game)(actions)


def replay(env: envs.Env, games: list[list[int]]) -> list[Replayed]:
    """Plays records of a game without chance; a move may be any integer, and one after the end is illegal."""
    found = []
    for first in range(0, len(games), CHUNK):
        part = games[first : first + CHUNK]
        actions = np.full((CHUNK, env.max_plies + 1), -1, np.int32)
        for row, moves in zip(actions, part, strict=False):
            kept = [move if 0 <= move < env.num_actions else -1 for move in moves[: len(row)]]
            row[: len(kept)] = kept
        played, over, rewards = jax.device_get(follow(env, actions))
        found += [
            Replayed(int(n), bool(end), tuple(earned.tolist()))
            for n, end, earned, _ in zip(played, over, rewards, part, strict=False)
        ]
    return found
