"""The actions that a node keeps in slots, where it does not keep all: the legal ones, or the likeliest.

Of the thousands of actions of a game such as chess a position has a few dozen.

Letters: B nodes, A actions, K slots.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from envs import backend
from envs.core import where

WORD = 32  # bits


def likeliest(logits: jax.Array, slots: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The K highest of [B, A] with their indices i32, [B, K], and log Σ exp of all others, [B]."""
    # A slice of what top_k gives, taken without the barrier, makes XLA on CPU sort all of the logits.
    kept, index = jax.lax.optimization_barrier(jax.lax.top_k(logits, slots))
    return kept, index, weigh_dropped(logits, kept)


def compact(logits: jax.Array, slots: int) -> tuple[jax.Array, jax.Array]:
    """The logits above -inf of [B, A] and their indices i32, in order, [B, K]; those beyond K are lost."""
    size = logits.shape[-1]
    above = jnp.pad(logits > -jnp.inf, ((0, 0), (0, -size % WORD))).reshape(len(logits), -1, WORD)
    words = (above.astype(jnp.uint32) << np.arange(WORD, dtype=np.uint32)[None, None]).sum(-1, dtype=jnp.uint32)
    count = jax.lax.population_count(words).astype(jnp.int32)
    upto, order = jnp.cumsum(count, -1), jnp.arange(slots)
    find = partial(jnp.searchsorted, side="right", method="scan_unrolled" if backend.accelerated() else "scan")
    word = jax.vmap(find, (0, None))(upto, order)
    there, word = word < words.shape[-1], jnp.minimum(word, words.shape[-1] - 1)
    take = partial(jnp.take_along_axis, indices=word, axis=-1, mode="promise_in_bounds")
    bit = nth_bit(take(words), order[None] - take(upto - count))
    index = backend.alone(jnp.minimum(WORD * word + bit, size - 1))
    found = jnp.take_along_axis(logits, index, -1, mode="promise_in_bounds")
    return where(there, found, -jnp.inf), index


def nth_bit(word: jax.Array, number: jax.Array) -> jax.Array:
    """i32: the place of the set bit of u32 words that so many set bits precede."""
    place = jnp.zeros_like(number)
    for width in (16, 8, 4, 2, 1):
        lower = (word >> place.astype(jnp.uint32)) & np.uint32((1 << width) - 1)
        count = jax.lax.population_count(lower).astype(jnp.int32)
        beyond = number >= count
        number, place = where(beyond, number - count, number), where(beyond, place + width, place)
    return place


def weigh_dropped(logits: jax.Array, kept: jax.Array) -> jax.Array:
    """log Σ exp over the logits [..., A] that are not among the highest, `kept` [..., K].

    A difference of two sums would lose the small ones."""
    highest, lowest = kept[..., :1], kept[..., -1:]
    scale = where(highest > -jnp.inf, highest, 0.0)
    below = where(logits < lowest, jnp.exp(logits - scale), 0.0).sum(-1)
    equal = (logits == lowest).sum(-1) - (kept == lowest).sum(-1)
    return jnp.log(below + equal * jnp.exp(lowest - scale)[..., 0]) + scale[..., 0]
