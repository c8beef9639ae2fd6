"""Boards of up to 64 squares as sets of bits.

Square b is bit b. A state holds a board as two words of 32 bits, u32[2], the low word first, as JAX has no wider ones
unless told; the rules compute with one word of 64, `with_64_bits`, which takes half the operations.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


def with_64_bits(f: Callable[..., Any]) -> Callable[..., Any]:
    """f, in which integers may have 64 bits. There a Python number makes some of them (and a division of integers
    floats of 64 bits), so what leaves f is given its type."""

    @functools.wraps(f)
    def call(*args, **named):
        with jax.enable_x64(True):
            return f(*args, **named)

    return call


def joined(words: jax.Array) -> jax.Array:
    """u32[…, 2] -> u64[…]."""
    return words[..., 0].astype(jnp.uint64) | words[..., 1].astype(jnp.uint64) << 32


def split(board: Any) -> Any:
    """u64[…] -> u32[…, 2], of JAX or numpy.

    No `bitcast_convert_type`: XLA makes one wrong of two, as where these words are taken apart into bytes.
    """
    if isinstance(board, np.ndarray):
        return board[..., None].view(np.uint32)
    return jnp.stack([board.astype(jnp.uint32), (board >> 32).astype(jnp.uint32)], -1)


def packed(squares: np.ndarray) -> np.ndarray:
    """bool[…, up to 64] -> u64[…], of numpy."""
    return (squares.astype(np.uint64) << np.arange(squares.shape[-1], dtype=np.uint64)).sum(-1, dtype=np.uint64)


def bit(square: jax.Array) -> jax.Array:
    """u64[…], the board with one bit; none for a square of 64 or more."""
    return jnp.uint64(1) << square.astype(jnp.uint64)
