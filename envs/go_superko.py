"""Positional superko in Go: finds the moves that would repeat an earlier position, by hashes of positions.

Letters: n size, N = n², M the longest game.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from envs import backend
from envs.go_board import is_in, points, root, rows, stones_of


@functools.cache
def zobrist(n: int) -> np.ndarray:
    """u32[2, 2, N]: 64 random bits, in two words, for each player's stone on each point (Zobrist 1970)."""
    return np.random.default_rng(1970).integers(0, 2**32, (2, 2, n * n), np.uint32)


def board_hash(chains: jax.Array, n: int) -> jax.Array:
    """Hash u32[2] of the stones; 0 for the empty board. Two positions collide with probability 2⁻⁶⁴."""
    board = points(rows(chains, n), n).reshape(-1)
    stones = [stones_of(board, np.int8(player))[None] for player in (0, 1)]
    bits = sum(jnp.where(on, zobrist(n)[i], np.uint32(0)) for i, on in enumerate(stones))
    return lax.reduce(bits, np.uint32(0), lax.bitwise_xor, (1,))


def repeating(chains: jax.Array, atari: jax.Array, player: jax.Array, hashes: jax.Array, now: jax.Array, n: int):
    """bool[n, n]: points where a stone makes a position whose hash is in `hashes`; `now` u32[2] is the present one.

    On a CPU two loops over vectors of points: one reduction over [N, N] or [M, N] takes six times longer there.
    """
    board = points(rows(chains, n), n).reshape(-1)
    other = 1 - player
    prey = stones_of(board, other) & is_in(root(board), atari)
    first = jnp.where(prey, root(board), n * n)  # first point of the chain that can be taken, N elsewhere
    place, column = np.arange(n * n), np.arange(n * n) % n
    stones = jnp.asarray(zobrist(n))[other]

    def remove(point, chain):
        return chain ^ jnp.where((first[point] == place)[None], stones[:, point, None], np.uint32(0))

    # Hash of each chain by its first point.
    if backend.accelerated():
        bits = jnp.where((first[:, None] == place[None])[None], stones[:, :, None], np.uint32(0))
        chain = lax.reduce(bits, np.uint32(0), lax.bitwise_xor, (1,))
    else:
        chain = lax.fori_loop(0, n * n, remove, jnp.zeros((2, n * n), jnp.uint32))
    sides = [
        (place - n, place >= n),
        (place + n, place < n * n - n),
        (place - 1, column > 0),
        (place + 1, column < n - 1),
    ]
    after = now[:, None] ^ jnp.asarray(zobrist(n))[player]
    taken = []
    for side, on in sides:
        beside = jnp.where(on, first[np.where(on, side, 0)], n * n)
        seen = functools.reduce(jnp.logical_or, [beside == before for before in taken], np.zeros(n * n, bool))
        new = (beside < n * n) & ~seen
        after ^= jnp.where(new[None], chain[:, jnp.minimum(beside, n * n - 1)], np.uint32(0))
        taken.append(beside)

    if backend.accelerated():
        return (after[None] == hashes[:, :, None]).all(1).any(0).reshape(n, n)

    def compare(ply, same):
        return same | (after == hashes[ply][:, None]).all(0)

    return lax.fori_loop(0, len(hashes), compare, jnp.zeros(n * n, bool)).reshape(n, n)
