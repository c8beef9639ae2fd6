"""The values between self-play and learning: a transition, a chunk of transitions, a source of batches.

Letters: B lanes (games at once), n plies of a chunk, A actions, L legal-move slots (`env.max_legal`), N samples, K
plies after each of them.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from envs import State
from jaxzero.search.slots import compact


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Transition:
    """One ply of a game. Leading axes are [n, B] in a chunk, [T, B] in the replay, [N, K + 1] in a sample."""

    state: State  # compact game state before the action
    action: jax.Array  # i16[]
    reward: jax.Array  # f32[]  to the mover
    end: jax.Array  # bool[]  the game ended with this ply
    value: jax.Array  # f32[]  root value of the search, mover's view
    moves: jax.Array  # i16[L]  legal actions; -1 in unused slots
    weights: jax.Array  # f16[L]  improved policy over `moves`
    policy_weight: jax.Array  # f16[]  0: the policy is not trained on
    outcome: jax.Array | None = (
        None  # i16[]  of chance, after the action; -1: none was due. None: not kept, or no chance
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Chunk:
    """n plies of every lane, in order. When a game ends, its lane starts a new one."""

    transitions: Transition  # [n, B]
    game: jax.Array  # i32[n, B]  which game of its lane, from 0
    ply: jax.Array  # i32[n, B]  plies of that game before this one, its random opening included


class BatchSource(NamedTuple):
    """Finished play to draw batches from on this device: the replay, or another store."""

    available: jax.Array  # i32[]  positions that may be drawn
    draw: Callable[[jax.Array, jax.Array, int, int], tuple[Transition, jax.Array, jax.Array]]
    """`draw(update, key, N, K) -> (transitions [N, K + 1], value targets f32[N, K + 1], weights f32[N])`: N positions
    and the K plies after each, for an update of this iteration, i32[]."""


def from_batches(played: Transition, target: jax.Array) -> BatchSource:
    """Batches given as transitions [U, N, …] and value targets f32[U, N], one an update; K is 0."""

    def draw(update: jax.Array, key: jax.Array, count: int, steps: int):
        del key
        assert (count, steps) == (target.shape[1], 0)
        chosen, value = jax.tree.map(lambda x: x[update][:, None], (played, target))
        return chosen, value, jnp.ones(count)

    return BatchSource(jnp.int32(target.shape[1]), draw)


def mix(first: BatchSource, second: BatchSource, count: int) -> BatchSource:
    """Batches whose first `count` positions are of the first source; the second must have enough for a whole batch."""

    def draw(update: jax.Array, key: jax.Array, whole: int, steps: int):
        keys = jax.random.split(key)
        drawn = first.draw(update, keys[0], count, steps), second.draw(update, keys[1], whole - count, steps)
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *drawn)

    return BatchSource(second.available, draw)


def compact_policy(policy: jax.Array, legal: jax.Array, max_legal: int) -> tuple[jax.Array, jax.Array]:
    """Policy [B, A] over legal moves [B, A] -> (moves i16[B, L], weights f16[B, L]); no legal move is dropped."""
    weights, moves = compact(policy, legal, max_legal)
    used = weights > -jnp.inf
    return jnp.where(used, moves, -1).astype(jnp.int16), jnp.where(used, weights, 0.0).astype(jnp.float16)
