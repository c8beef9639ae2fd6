"""Reading and writing arrays of a batch at indices that the caller knows to be in bounds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import backend

Index = jax.Array | np.ndarray

INSIDE: Any = {"mode": "promise_in_bounds", "wrap_negative_indices": False}
UNSIGNED: Any = {"allow_negative_indices": False}
ANYWHERE: Any = {"mode": "drop", "unique_indices": True, "wrap_negative_indices": False}


def game_of(node: jax.Array) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, node.shape, node.ndim - 1)


def gather(field: jax.Array, *index: Index) -> jax.Array:
    """`field[index]` of indices that are in bounds."""
    field, index = flattened(field, *index)
    return field.at[index].get(**INSIDE)


def scatter(field: jax.Array, value: jax.Array, *index: Index) -> jax.Array:
    """`field` with `field[index] = value` of distinct indices; where the first is too large nothing is written."""
    shape = field.shape
    field, index = flattened(field, *index)
    return field.at[index].set(value.astype(field.dtype), **ANYWHERE).reshape(shape)


def flattened(field: jax.Array, *index: Index) -> tuple[jax.Array, tuple[Index, ...]]:
    """The same elements of the same field, by a single index on a CPU, where that takes XLA a third less time."""
    index = tuple(along.astype(np.int32) for along in index)
    if backend.accelerated() or field.size > 1 << 30:
        return field, index
    flat, *others = index
    for size, along in zip(field.shape[1:], others, strict=False):
        flat = flat * np.int32(size) + along
    return field.reshape(-1, *field.shape[len(index) :]), (flat,)
