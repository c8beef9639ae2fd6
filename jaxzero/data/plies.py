"""Games of shards replayed by the rules on the device: all plies of many games in one scan.

Letters: G games, T plies, L legal-move slots, P players.
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from envs import Env, State
from envs.core import begins_alike
from jaxzero.data.rules import Ragged, ragged
from jaxzero.training.transitions import compact_policy


def by_ply(of: Ragged, plies: int, empty: Any) -> np.ndarray:
    """Ragged of at most T entries as columns [T, G]; `empty` after their ends."""
    lengths = of.lengths
    game = np.repeat(np.arange(len(lengths)), lengths)
    ply = np.arange(of.offsets[-1]) - np.repeat(of.offsets[:-1], lengths)
    found = np.full((plies, len(lengths)), empty, of.values.dtype)
    found[ply, game] = of.values
    return found


class Plies(NamedTuple):
    """What the rules say of games; what is after a game's last ply has no meaning."""

    state: State  # [T, G]  before the action
    moves: Any  # i16[T, G, L]  legal actions, -1 in unused slots
    reward: Any  # f32[T, G]  to the mover
    sound: Any  # bool[G]  all moves are legal, all outcomes of chance possible
    ended: Any  # bool[G]  the last move has ended the game
    earned: Any  # f32[G, P]  rewards of all plies


@partial(jax.jit, static_argnums=0)
def replay(env: Env, first: State, actions: jax.Array, outcomes: jax.Array, lengths: jax.Array) -> Plies:
    """Plays i32[T, G] actions, with the outcomes of chance after each (-1: none was due), from first positions [G]."""

    def ply(carry: Any, x: Any) -> Any:
        state, sound, earned = carry
        action, outcome, played = x
        legal = jax.vmap(env.legal_actions)(state)
        moves, _ = compact_policy(jnp.zeros(legal.shape), legal, env.max_legal)
        possible = jnp.take_along_axis(legal, action[:, None], 1)[:, 0] & ~state.terminated
        after = jax.vmap(env.step)(state, action)
        if env.num_outcomes:
            rolled = jnp.maximum(outcome, 0)
            logits = jnp.take_along_axis(jax.vmap(env.outcome_logits)(after), rolled[:, None], 1)[:, 0]
            possible &= jnp.where(after.chance, (outcome >= 0) & (logits > -jnp.inf), outcome < 0)
            after = jax.vmap(env.resolve)(after, rolled)
        reward = jnp.take_along_axis(after.rewards, state.player[:, None].astype(jnp.int32), 1)[:, 0]
        earned += jnp.where(played[:, None], after.rewards, 0)
        onward = jax.tree.map(partial(_select, played), after, state)
        return (onward, sound & (possible | ~played), earned), (state, moves, reward)

    count = len(lengths)
    played = jnp.arange(len(actions))[:, None] < lengths[None]
    begin = first, jnp.ones(count, bool), jnp.zeros((count, env.num_players))
    (last, sound, earned), (state, moves, reward) = jax.lax.scan(ply, begin, (actions, outcomes, played))
    return Plies(state, moves, reward, sound, last.terminated, earned)


def _select(condition: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where(condition.reshape(-1, *(1,) * (x.ndim - 1)), x, y)


def bucket(plies: int) -> int:
    """A length that is compiled in place of all slightly smaller ones."""
    step = max(8, (1 << plies.bit_length()) // 8)
    return -(-plies // step) * step


def start_replay(env: Env, games: pa.Table, size: int) -> tuple[Plies, np.ndarray]:
    """Begins to replay the games of a table, at most `size`, which is the number compiled for -> (plies on the device,
    games whose columns are such as a game has, bool[G])."""
    actions, outcomes = ragged(games.column("actions")), ragged(games.column("outcomes"))
    plausible = _inside(actions, 0, env.num_actions) & (actions.lengths > 0) & (actions.lengths <= env.max_plies)
    if env.num_outcomes:
        plausible &= _inside(outcomes, -1, env.num_outcomes) & (outcomes.lengths == actions.lengths)
    actions = cut(actions, np.minimum(actions.lengths, env.max_plies))
    length = bucket(int(actions.lengths.max(initial=1)))
    moves = np.zeros((length, size), np.int32)
    moves[:, : len(games)] = np.clip(by_ply(actions, length, 0), 0, env.num_actions - 1)
    chance = np.full((length, size), -1, np.int32)
    if env.num_outcomes:
        fitting = np.minimum(outcomes.lengths, length)
        chance[:, : len(games)] = by_ply(cut(outcomes, fitting), length, -1).clip(-1, env.num_outcomes - 1)
    lengths = np.zeros(size, np.int32)
    lengths[: len(games)] = actions.lengths
    first, known = first_states(env, games.column("start").to_pylist(), size)
    return replay(env, first, moves, chance, lengths), plausible & known


def _inside(of: Ragged, low: int, high: int) -> np.ndarray:
    """bool[G]: all entries of a list are in low … high - 1."""
    wrong = np.concatenate([[0], np.cumsum((of.values < low) | (of.values >= high))])
    return wrong[of.offsets[1:]] == wrong[of.offsets[:-1]]


def cut(of: Ragged, lengths: np.ndarray) -> Ragged:
    """The beginnings of lists."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    index = np.arange(ends[-1]) + np.repeat(of.offsets[:-1] - ends[:-1], lengths)
    return Ragged(of.values[index], ends)


def first_states(env: Env, starts: list[str | None], size: int) -> tuple[State, np.ndarray]:
    """First positions [size] of games, and which of them are known, bool[G]."""
    which = {start: number for number, start in enumerate(dict.fromkeys([None, *starts]))}
    found = [_first_state(env, start) for start in which]
    states = [_first_state(env, None)[0] if state is None else state for state, _ in found]
    index = np.zeros(size, np.int64)
    index[: len(starts)] = [which[start] for start in starts]
    known = np.array([known for _, known in found])[index[: len(starts)]]
    return jax.tree.map(lambda *leaves: np.stack(leaves)[index], *states), known


@lru_cache(1 << 14)
def _first_state(env: Env, start: str | None) -> tuple[State | None, bool]:
    if start is None:
        return jax.device_get(env.init(jax.random.key(0))), begins_alike(env)
    try:
        return jax.device_get(env.from_text(start)), True
    except Exception:  # the rules of one's own game may raise anything
        return None, False
