"""Replay on the device: a ring of rows, one row a ply, in which each lane of self-play has its own column.

Letters: T rows (plies) of the ring, B lanes (games at once), n plies of one chunk, W newest rows, N samples, K plies
after each of them. Rows come first, so that a chunk is written as one contiguous block.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from envs import Env
from jaxzero.config.schema import ReplayConfig
from jaxzero.training.transitions import BatchSource, Transition


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Replay:
    transitions: Transition  # [T, B]
    target: jax.Array  # f32[T, B]  value target, once it is known
    ready: jax.Array  # bool[T, B]  the target is known: may be sampled
    cursor: jax.Array  # i32[]  next row to be written


def rows(capacity: int, games: int, plies: int) -> int:
    """Rows of a ring that holds up to `capacity` positions: a multiple of the chunk, so that no chunk wraps."""
    return capacity // games // plies * plies


def init(env: Env, num_rows: int, games: int) -> Replay:
    state = jax.eval_shape(env.init, jax.random.key(0))
    shape = (num_rows, games)
    moves = (*shape, env.max_legal)
    transitions = Transition(
        state=jax.tree.map(lambda x: jnp.zeros(shape + x.shape, x.dtype), state),
        action=jnp.zeros(shape, jnp.int16),
        reward=jnp.zeros(shape, jnp.float32),
        end=jnp.zeros(shape, bool),
        value=jnp.zeros(shape, jnp.float32),
        moves=jnp.full(moves, -1, jnp.int16),
        weights=jnp.zeros(moves, jnp.float16),
        policy_weight=jnp.zeros(shape, jnp.float16),
    )
    return Replay(transitions, jnp.zeros(shape, jnp.float32), jnp.zeros(shape, bool), jnp.int32(0))


def add(replay: Replay, played: Transition) -> Replay:
    """Writes the n rows of a chunk over the oldest ones. None of them has a target yet."""
    start, num_rows = replay.cursor, replay.ready.shape[0]

    def write(ring: jax.Array, block: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(ring, block.astype(ring.dtype), start, 0)

    kept = jax.tree.map(write, replay.transitions, dataclasses.replace(played, outcome=None))
    ready = write(replay.ready, jnp.zeros(played.end.shape, bool))
    return Replay(kept, replay.target, ready, (start + len(played.end)) % num_rows)


def newest(replay: Replay, width: int) -> Transition:
    """The newest min(`width`, T) rows, oldest first. In a new ring the first ones may never have been written."""
    rows = recent(replay.cursor, replay.ready.shape[0], width)
    return jax.tree.map(lambda ring: ring[rows], replay.transitions)


def label(replay: Replay, target: jax.Array, known: jax.Array) -> tuple[Replay, jax.Array]:
    """Writes targets f32[W, B] into the newest W rows, where they are `known` bool[W, B] and not written yet.

    Returns the replay and which positions became ready, bool[W, B].
    """
    rows = recent(replay.cursor, replay.ready.shape[0], len(target))
    seen = replay.ready[rows]
    written = replay.transitions.moves[..., 0][rows] >= 0  # a row that was never written holds no move
    new = known & written & ~seen
    kept = replay.target.at[rows].set(jnp.where(new, target, replay.target[rows]), unique_indices=True)
    ready = replay.ready.at[rows].set(seen | new, unique_indices=True)
    return dataclasses.replace(replay, target=kept, ready=ready), new


def recent(cursor: jax.Array, num_rows: int, width: int) -> jax.Array:
    """i32[min(width, T)]: indices of the newest rows, oldest first."""
    width = min(width, num_rows)
    return (cursor - width + jnp.arange(width)) % num_rows


def window_rows(config: ReplayConfig, positions: jax.Array, games: int) -> jax.Array:
    """Rows of the newest positions that are sampled (KataGo, Wu 2019, appendix C: grows sublinearly), i32[]."""
    grown = config.window * jnp.maximum(positions / config.window, 1.0) ** config.growth
    return jnp.ceil(jnp.minimum(grown, config.capacity) / games).astype(jnp.int32)


def source(replay: Replay, rows: jax.Array, priority: float = 0.0) -> BatchSource:
    """Batches from the newest `rows` i32[] rows."""
    allowed = sampleable(replay, rows)
    table = sampling_table(replay, allowed, priority)
    return BatchSource(allowed.sum(), lambda update, key, count, steps: sample(replay, table, key, count, steps))


def sampleable(replay: Replay, window_rows: jax.Array) -> jax.Array:
    """bool[T, B]: the positions that may be sampled: ready and within the newest `window_rows` rows."""
    num_rows = replay.ready.shape[0]
    age = (replay.cursor - 1 - jnp.arange(num_rows)) % num_rows
    return replay.ready & (age < window_rows)[:, None]


def sampling_table(replay: Replay, allowed: jax.Array, priority: float = 0.0) -> jax.Array:
    """i32[T · B]: running sum of the positions' shares of a sample.

    A share is 1 where allowed (bool[T, B]), or with a priority |search value - target| ^ priority (Schrittwieser et al.
    2020, appendix G; Schaul et al. 2016, equation 1), in whole numbers so that no sum is rounded: the largest error
    counts as often as an i32 allows, the smallest once.
    """
    share = allowed.astype(jnp.int32)
    if priority:
        error = jnp.where(allowed, jnp.abs(replay.transitions.value - replay.target) ** priority, 0.0)
        levels = 2**30 // allowed.size
        share += jnp.where(allowed, error / jnp.maximum(error.max(), 1e-30) * levels, 0.0).astype(jnp.int32)
    return jnp.cumsum(share.reshape(-1), dtype=jnp.int32)


def sample(
    replay: Replay, table: jax.Array, key: jax.Array, count: int, steps: int = 0
) -> tuple[Transition, jax.Array, jax.Array]:
    """`count` positions drawn by their shares with replacement, and the K = `steps` plies after each.

    Beyond the end of a game these are plies of the lane's next one, or older ones. The table must not be empty.

    Returns:
        Transitions [N, K + 1], their targets f32[N, K + 1], and the weights f32[N] that make up for unequal shares, at
        most 1 (Schaul et al. 2016, section 3.4, β = 1).
    """
    nth = jax.random.randint(key, (count,), 1, jnp.maximum(table[-1], 1) + 1)
    first = jnp.searchsorted(table, nth)
    share = table[first] - jnp.where(first > 0, table[first - 1], 0)
    lanes = replay.ready.shape[1]
    index = (first[:, None] + jnp.arange(steps + 1)[None] * lanes) % table.shape[0]

    def pick(ring: Any) -> Any:
        return ring[index // lanes, index % lanes]

    return jax.tree.map(pick, replay.transitions), pick(replay.target), share.min() / share
