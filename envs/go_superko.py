"""Positional superko of Go: which moves would make an earlier position again, found by the hashes of positions.

Letters: n size, N = n², M the longest game.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from envs.go_board import is_in, points, root, rows, stones_of


@functools.cache
def zobrist(n: int) -> np.ndarray:
    """u32[2, N, 2]: 64 random bits for each player's stone on each point (Zobrist 1970)."""
    return np.random.default_rng(1970).integers(0, 2**32, (2, n * n, 2), np.uint32)


def xor(x: Any, axis: int) -> jax.Array:
    return lax.reduce(x, np.uint32(0), lax.bitwise_xor, (axis,))


def board_hash(chains: jax.Array, n: int) -> jax.Array:
    """u32[2] of the stones; 0 for the empty board. Two positions are taken for one with probability 2⁻⁶⁴."""
    board = points(rows(chains, n), n).reshape(-1)
    stones = [stones_of(board, np.int8(player))[:, None] for player in (0, 1)]
    return xor(sum(jnp.where(on, zobrist(n)[i], np.uint32(0)) for i, on in enumerate(stones)), 0)


def repeating(chains: jax.Array, atari: jax.Array, player: jax.Array, hashes: jax.Array, now: jax.Array, n: int):
    """bool[n, n]: a stone there would make a position whose hash is in `hashes`; u32[2] `now` is the position's."""
    board = points(rows(chains, n), n).reshape(-1)
    other = 1 - player
    prey = stones_of(board, other) & is_in(root(board), atari)
    stone = jnp.where(prey[:, None], jnp.asarray(zobrist(n))[other], np.uint32(0))
    member = root(board)[None] == np.arange(n * n, dtype=np.uint32)[:, None]
    chain = xor(jnp.where((member & prey[None])[:, :, None], stone[None], np.uint32(0)), 1)  # [N, 2] by root
    place, column = np.arange(n * n), np.arange(n * n) % n
    sides = [
        (place - n, place >= n),
        (place + n, place < n * n - n),
        (place - 1, column > 0),
        (place + 1, column < n - 1),
    ]
    after = now[None] ^ jnp.asarray(zobrist(n))[player]
    taken = []
    for side, on in sides:
        side = np.where(on, side, 0)
        first = jnp.where(on & prey[side], root(board[side]), n * n)
        new = (first < n * n) & ~functools.reduce(
            jnp.logical_or, [first == before for before in taken], np.zeros(n * n, bool)
        )
        after ^= jnp.where(new[:, None], chain[jnp.minimum(first, n * n - 1)], np.uint32(0))
        taken.append(first)
    same = (after[:, None, 0] == hashes[None, :, 0]) & (after[:, None, 1] == hashes[None, :, 1])
    return same.any(1).reshape(n, n)
