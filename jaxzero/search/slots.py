"""Slots: the actions that a node stores where it does not store all of them, the legal ones or the likeliest.

A position of chess has a few dozen legal actions, out of thousands in the game.

Letters: B nodes, A actions, K slots.
"""

import jax
import jax.numpy as jnp
import numpy as np

from envs import backend
from envs.core import where
from jaxzero.search.backend import game_of, gather

WORD = 32  # bits


def likeliest(logits: jax.Array, slots: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The K highest logits of [B, A] with their indices i32[B, K], and log Σ exp of all others, [B]."""
    # Without the barrier XLA on a CPU sorts all logits, where a slice of the result of top_k is used.
    kept, index = jax.lax.optimization_barrier(jax.lax.top_k(logits, slots))
    return kept, index, dropped_logit_of(logits, kept)


def compact(logits: jax.Array, legal: jax.Array, slots: int) -> tuple[jax.Array, jax.Array]:
    """The logits of the legal actions and their indices i32, in order, [B, K], from [B, A]; -inf after them.

    Legal actions beyond K are lost. Packs the mask into 32-bit words; for each slot finds its word, then its bit. A
    value of `counts` holds one word and the number of its bits, so that one sum adds up both.
    """
    batch, size = logits.shape
    legal = jnp.pad(legal, ((0, 0), (0, -size % WORD))).reshape(batch, -1, WORD)
    words = (legal.astype(jnp.uint32) << np.arange(WORD, dtype=np.uint32)[None, None]).sum(-1, dtype=jnp.uint32).T
    shift = len(words).bit_length()
    counts = ((jax.lax.population_count(words) << shift) + 1).astype(jnp.float32)
    bits = running_sum(counts).astype(jnp.int32) >> shift
    end = jnp.minimum(bits, slots) * batch + game_of(words)
    ended = jnp.zeros(slots * batch, jnp.float32)
    ended = ended.at[end.reshape(-1)].add(counts.reshape(-1), mode="drop", wrap_negative_indices=False)
    ended = running_sum(ended.reshape(slots, batch)).astype(jnp.int32)  # words and bits that end before each slot
    word, before, order = ended & ((1 << shift) - 1), ended >> shift, jnp.arange(slots)[:, None]
    there, word = word < len(words), jnp.minimum(word, len(words) - 1)
    bit = nth_bit(gather(words, word, game_of(word)), order - before)
    index = backend.materialized(jnp.minimum(WORD * word + bit, size - 1).T)
    found = gather(logits, jax.lax.broadcasted_iota(jnp.int32, index.shape, 0), index)
    return where(there.T, found, -jnp.inf), index


def running_sum(x: jax.Array) -> jax.Array:
    """The cumulative sum of whole numbers f32[N, B] along the first axis, exact up to 2^24.

    It is a matrix product, for which XLA compiles no kernel.
    """
    return jnp.matmul(np.tril(np.ones((len(x),) * 2, np.float32)), x, precision=jax.lax.Precision.HIGHEST)


def nth_bit(word: jax.Array, number: jax.Array) -> jax.Array:
    """The position i32 of the set bit of each u32 word that `number` set bits precede, by binary search."""
    position = jnp.zeros_like(number)
    for width in (16, 8, 4, 2, 1):
        lower = (word >> position.astype(jnp.uint32)) & np.uint32((1 << width) - 1)
        count = jax.lax.population_count(lower).astype(jnp.int32)
        beyond = number >= count
        number, position = where(beyond, number - count, number), where(beyond, position + width, position)
    return position


def dropped_logit_of(logits: jax.Array, kept: jax.Array) -> jax.Array:
    """log Σ exp over the logits [..., A] that are not among the highest ones, `kept` [..., K].

    The difference of the sums over all and over `kept` would round small values away.
    """
    highest, lowest = kept[..., :1], kept[..., -1:]
    scale = where(highest > -jnp.inf, highest, 0.0)
    below = where(logits < lowest, jnp.exp(logits - scale), 0.0).sum(-1)
    equal = (logits == lowest).sum(-1) - (kept == lowest).sum(-1)
    return jnp.log(below + equal * jnp.exp(lowest - scale)[..., 0]) + scale[..., 0]
