"""Lane replay on the device: every game in play writes one slot a ply into its own lane of a ring.

Letters: T rows (plies) of the ring, B lanes (games at once), n plies of one chunk, N samples, L legal-move slots
(`env.max_legal`). Rows come first, so that a chunk is appended as one contiguous block.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from envs import Env, State
from jaxzero import targets


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slots:
    """One position played; leading axes [T, B] in the ring, [N] in a sample."""

    state: State  # compact game state
    action: jax.Array  # i16[]
    reward: jax.Array  # f32[]  to the mover
    end: jax.Array  # bool[]  the game ended with this ply
    value: jax.Array  # f32[]  root value of the search, mover's view
    moves: jax.Array  # i16[L]  legal actions; -1 in unused slots
    weights: jax.Array  # f16[L]  improved policy over `moves`
    policy_weight: jax.Array  # f16[]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Replay:
    slots: Slots  # [T, B]
    target: jax.Array  # f32[T, B]  value target (`targets.returns`), once the game has ended
    ready: jax.Array  # bool[T, B]  the target is known: may be sampled
    cursor: jax.Array  # i32[]  next row to be written


def rows(capacity: int, games: int, plies: int) -> int:
    """Rows of a ring that holds up to `capacity` positions: a multiple of the chunk, so that no chunk wraps."""
    return capacity // games // plies * plies


def init(env: Env, num_rows: int, games: int) -> Replay:
    state = jax.eval_shape(env.init, jax.random.key(0))
    shape = (num_rows, games)
    moves = (*shape, env.max_legal)
    slots = Slots(
        state=jax.tree.map(lambda x: jnp.zeros(shape + x.shape, x.dtype), state),
        action=jnp.zeros(shape, jnp.int16),
        reward=jnp.zeros(shape, jnp.float32),
        end=jnp.zeros(shape, bool),
        value=jnp.zeros(shape, jnp.float32),
        moves=jnp.full(moves, -1, jnp.int16),
        weights=jnp.zeros(moves, jnp.float16),
        policy_weight=jnp.zeros(shape, jnp.float16),
    )
    return Replay(slots, jnp.zeros(shape, jnp.float32), jnp.zeros(shape, bool), jnp.int32(0))


def compact_policy(policy: jax.Array, legal: jax.Array, max_legal: int) -> tuple[jax.Array, jax.Array]:
    """Policy [B, A] over legal moves [B, A] -> (moves i16[B, L], weights f16[B, L]); no legal move is dropped."""
    moves = legal_moves(legal, max_legal)
    used = moves < legal.shape[-1]
    weights = jnp.take_along_axis(policy, jnp.where(used, moves, 0), -1)
    return jnp.where(used, moves, -1).astype(jnp.int16), jnp.where(used, weights, 0.0).astype(jnp.float16)


def legal_moves(legal: jax.Array, most: int) -> jax.Array:
    """The actions of a mask [B, A] in ascending order, i32[B, most]; A in unused slots.

    The nth legal action is found by counting: which word of 32 actions holds it, then which half of the word, and so
    on. To sort thousands of actions takes many times as long on a CPU.
    """
    batch, actions = legal.shape
    bits = jnp.pad(legal, ((0, 0), (0, -actions % 32))).reshape(batch, -1, 32)
    word = (bits.astype(jnp.uint32) << jnp.arange(32, dtype=jnp.uint32)[None, None]).sum(-1, dtype=jnp.uint32)
    count = jax.lax.population_count(word).astype(jnp.int32)
    ends = jnp.cumsum(count, -1)  # legal actions up to and with each word
    ended = jnp.zeros((batch, most), jnp.int32).at[jnp.arange(batch)[:, None], ends].add(1, mode="drop")
    index = jnp.cumsum(ended, -1)  # of the word: as many as ended before
    inside = jnp.minimum(index, word.shape[1] - 1)
    word, before = (jnp.take_along_axis(x, inside, -1) for x in (word, ends - count))
    left, place = jnp.arange(most)[None] - before, jnp.zeros_like(inside)
    for half in (16, 8, 4, 2, 1):
        low = jax.lax.population_count((word >> place.astype(jnp.uint32)) & jnp.uint32(2**half - 1)).astype(jnp.int32)
        upper = left >= low
        left, place = jnp.where(upper, left - low, left), jnp.where(upper, place + half, place)
    return jnp.where(index == inside, 32 * inside + place, actions)


def append(
    replay: Replay, chunk: Slots, max_plies: int, td_lambda: float, td_steps: int = 0
) -> tuple[Replay, jax.Array]:
    """Writes n rows at the cursor and gives value targets (λ-returns, or returns of `td_steps` plies) to the games that
    ended in them.

    Returns the replay and bool[W, B], which of the last W = n + max_plies rows became ready, oldest first (see
    `recent`).
    """
    n, games = chunk.end.shape
    num_rows = replay.ready.shape[0]
    start = replay.cursor

    def write(ring, block):
        return jax.lax.dynamic_update_slice_in_dim(ring, block.astype(ring.dtype), start, 0)

    slots = jax.tree.map(write, replay.slots, chunk)
    ready = write(replay.ready, jnp.zeros((n, games), bool))
    cursor = (start + n) % num_rows
    where = recent(cursor, num_rows, n + max_plies)
    reward, mover, end, value = (x[where] for x in (slots.reward, slots.state.player, slots.end, slots.value))
    target, known = targets.returns(reward, mover, end, value, td_lambda)
    if td_steps:
        target = targets.n_step_returns(reward, mover, end, value, td_steps)
    known &= slots.moves[..., 0][where] >= 0  # rows of a new ring that were never written hold no move
    seen = ready[where]
    new = known & ~seen
    kept = replay.target.at[where].set(jnp.where(new, target, replay.target[where]), unique_indices=True)
    written = ready.at[where].set(seen | new, unique_indices=True)
    return Replay(slots, kept, written, cursor), new


def recent(cursor: jax.Array, num_rows: int, width: int) -> jax.Array:
    """i32[min(width, T)]: indices of the newest rows, oldest first."""
    width = min(width, num_rows)
    return (cursor - width + jnp.arange(width)) % num_rows


def sampleable(replay: Replay, window_rows: jax.Array) -> jax.Array:
    """bool[T, B]: the slots that may be sampled: ready and within the newest `window_rows` rows."""
    num_rows = replay.ready.shape[0]
    age = (replay.cursor - 1 - jnp.arange(num_rows)) % num_rows
    return replay.ready & (age < window_rows)[:, None]


def sampling_table(replay: Replay, allowed: jax.Array, priority: float = 0.0) -> jax.Array:
    """i32[T · B]: running sum of the slots' shares of a sample: 1 for those allowed (bool[T, B]), or with a priority
    |search value - target| ^ priority (Schrittwieser et al. 2020, appendix G; Schaul et al. 2016, equation 1), in whole
    numbers so that no sum is rounded: the largest error counts as often as an i32 allows, the smallest once."""
    share = allowed.astype(jnp.int32)
    if priority:
        error = jnp.where(allowed, jnp.abs(replay.slots.value - replay.target) ** priority, 0.0)
        levels = 2**30 // allowed.size
        share += jnp.where(allowed, error / jnp.maximum(error.max(), 1e-30) * levels, 0.0).astype(jnp.int32)
    return jnp.cumsum(share.reshape(-1), dtype=jnp.int32)


def sample(replay: Replay, table: jax.Array, key: jax.Array, count: int) -> tuple[Slots, jax.Array, jax.Array]:
    """`count` slots drawn by their shares with replacement, their targets f32[N] and the weights f32[N] that make up
    for unequal shares, at most 1 (Schaul et al. 2016, section 3.4, β = 1). The table must not be empty."""
    index, weight = draw(table, key, count)
    return *window(replay, index), weight


def sample_windows(
    replay: Replay, table: jax.Array, key: jax.Array, count: int, steps: int
) -> tuple[Slots, jax.Array, jax.Array]:
    """The same with the `steps` plies after each slot: slots and targets [N, steps + 1]. Beyond the end of a game they
    are those of the lane's next one, or older ones."""
    first, weight = draw(table, key, count)
    index = first[:, None] + jnp.arange(steps + 1)[None] * replay.ready.shape[1]
    return *window(replay, index % table.shape[0]), weight


def draw(table: jax.Array, key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    nth = jax.random.randint(key, (count,), 1, jnp.maximum(table[-1], 1) + 1)
    index = jnp.searchsorted(table, nth)
    share = table[index] - jnp.where(index > 0, table[index - 1], 0)
    return index, share.min() / share


def window(replay: Replay, index: jax.Array) -> tuple[Slots, jax.Array]:
    """Slots and targets by their numbers row · B + lane."""
    lanes = replay.ready.shape[1]

    def pick(ring: Any) -> Any:
        return ring[index // lanes, index % lanes]

    return jax.tree.map(pick, replay.slots), pick(replay.target)
