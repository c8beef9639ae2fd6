"""Boards of up to 64 squares as sets of bits.

Square b is bit b. A state stores a board as two 32-bit words, u32[2], the low word first, because JAX has no 64-bit
integers by default. The rules compute with one 64-bit word (`with_64_bits`), which takes half the operations.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


def with_64_bits(f: Callable[..., Any]) -> Callable[..., Any]:
    """f with 64-bit integers enabled. Python numbers, and divisions of integers, are then 64-bit too, so f must set
    the types of its results."""

    @functools.wraps(f)
    def call(*args, **named):
        with jax.enable_x64(True):
            return f(*args, **named)

    return call


def joined(words: jax.Array) -> jax.Array:
    """A board as words u32[…, 2] -> as one word u64[…]."""
    return words[..., 0].astype(jnp.uint64) | words[..., 1].astype(jnp.uint64) << 32


def split(board: Any) -> Any:
    """A board as one word u64[…] -> as words u32[…, 2], of JAX or numpy."""
    if isinstance(board, np.ndarray):
        return board[..., None].view(np.uint32)
    # No `bitcast_convert_type`: XLA merges it wrongly with a second one that splits these words into bytes.
    return jnp.stack([board.astype(jnp.uint32), (board >> 32).astype(jnp.uint32)], -1)


def packed(squares: np.ndarray) -> np.ndarray:
    """Squares bool[…, up to 64] -> a board u64[…], in numpy."""
    return (squares.astype(np.uint64) << np.arange(squares.shape[-1], dtype=np.uint64)).sum(-1, dtype=np.uint64)


def bit(square: jax.Array) -> jax.Array:
    """The board u64[…] with one bit set, or none for squares from 64 on."""
    return jnp.uint64(1) << square.astype(jnp.uint64)
