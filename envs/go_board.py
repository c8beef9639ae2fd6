"""Boards of Go: stones, chains, captures, area.

A move needs no loop. The state stores a label for each stone, equal within a chain, so one comparison finds a chain. It
also stores the set of chains in atari, which says what a move captures and which moves are suicide. A move changes that
set in two ways: the liberties of the chains beside the move are counted, and chains beside a captured chain leave the
set, because they have gained a liberty. (A chain whose last liberty was the move itself is joined by it.)

Letters: n size, N = n². A bordered array `x` is [(n+2)·(n+1)], so that neighbours are slices. Its interior rows are
[n·(n+1)]; their last column is to be ignored.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from envs import backend
from envs.backend import materialized


def label_type(n: int) -> type:
    return np.uint8 if 2 * n * n + 2 <= 255 else np.uint16


def wall(x: Any) -> np.ndarray:
    """The label on the border."""
    return np.array(np.iinfo(x.dtype).max - 1, x.dtype)


def nothing(x: jax.Array) -> np.ndarray:
    """A label that no point has, for points outside every chain."""
    return np.array(np.iinfo(x.dtype).max, x.dtype)


def rows(x: jax.Array, n: int) -> jax.Array:
    """Bordered [(n+2)·(n+1)] -> interior rows [n·(n+1)]."""
    return x[n + 1 : -n - 1]


def points(x: jax.Array, n: int) -> jax.Array:
    """Interior rows [n·(n+1)] -> points [n, n]."""
    return x.reshape(n, n + 1)[:, :n]


def around(x: jax.Array, n: int) -> jax.Array:
    """The OR of each point's four neighbours, bordered -> interior rows."""
    w = n + 1
    return x[: -2 * w] | x[2 * w :] | x[w - 1 : -w - 1] | x[w + 1 : 1 - w]


def root(label: jax.Array) -> jax.Array:
    return (label - 1 >> 1).astype(jnp.uint32)


def stones_of(label: Any, player: Any) -> Any:
    return (label != 0) & (label != wall(label)) & (label - 1 & 1 == player.astype(label.dtype))


def point_set(root: jax.Array, member: jax.Array, words: int) -> jax.Array:
    """The set, as bits u32[words], of the points root[…] where member[…]."""
    word = np.arange(words, dtype=np.uint32).reshape(-1, *[1] * root.ndim)
    bits = jnp.where(member[None] & (root[None] >> 5 == word), jnp.uint32(1) << (root & 31)[None], np.uint32(0))
    return lax.reduce(bits, np.uint32(0), lax.bitwise_or, tuple(range(1, bits.ndim)))


def is_in(root: jax.Array, words: jax.Array) -> jax.Array:
    """Whether each point is in a `point_set`. Selects vectorise; a gather does not."""
    word = words[0]
    for i in range(1, len(words)):
        word = jnp.where(root >> 5 == i, words[i], word)
    return word >> (root & 31) & 1 == 1


def count_to_two(a: jax.Array, b: jax.Array) -> jax.Array:
    """Adds eight counters that stop at two: bit i of the low byte means one or more, of the high byte two or more."""
    return a | b | (a & b) << 8


def place(
    chains: jax.Array, atari: jax.Array, player: jax.Array, point: jax.Array, n: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Puts a stone at `point` (N: none). Returns chains, atari and the ko point."""
    played = point < n * n
    there = (point // n + 1) * (n + 1) + point % n
    label = jnp.where(played, chains[jnp.where(played, there, 0) + np.array([-n - 1, n + 1, -1, 1])], 0)
    stone = (label != 0) & (label != wall(chains))
    near = root(label)
    own = stone & stones_of(label, player)
    captured = stone & ~own & is_in(near, atari)
    alive = stone & ~own & ~captured

    # Each point as a byte: bit i = in the living enemy chain of neighbour i, 16 = in the chain just made, 32 = captured
    code = materialized(jnp.where(own, 16, jnp.where(captured, 32, np.array([1, 2, 4, 8]))).astype(jnp.uint8))
    wanted = materialized(jnp.where(stone, label, nothing(chains)))
    single = (2 * point + 1).astype(chains.dtype) + player.astype(chains.dtype)
    joined = functools.reduce(jnp.minimum, [*jnp.where(own, label, nothing(chains)), single])
    byte = functools.reduce(lax.bitwise_or, [jnp.where(chains == wanted[i], code[i], jnp.uint8(0)) for i in range(4)])
    byte = byte.at[jnp.where(played, there, len(chains))].set(np.uint8(16), mode="drop")
    after = materialized(jnp.where(byte & 32 != 0, 0, jnp.where(byte & 16 != 0, joined, chains)).astype(chains.dtype))

    inside, near_byte, old = rows(byte, n), around(byte, n), rows(chains, n)
    empty = rows(after, n) == 0
    liberties = jnp.where(empty, near_byte & 31, 0) | inside & 32  # and the captured stones
    seen = lax.reduce(liberties.astype(jnp.uint16).reshape(n, n + 1), np.uint16(0), count_to_two, (0, 1))
    one = seen >> 8 & np.array([1, 2, 4, 8, 16, 32], np.uint16) == 0  # no chain here is without liberty
    freed = (near_byte & 32 != 0) & ~empty & (inside & 48 == 0) & (old != wall(chains))
    words = len(atari)
    clear = point_set(root(old), freed, words) | point_set(near, own | captured, words)
    put = point_set(jnp.append(near, root(joined)), jnp.append(alive & one[:4], played & one[4]), words)
    is_ko = one[4] & one[5] & captured.any() & ~own.any()
    away = jnp.where(captured, np.array([-n, n, -1, 1]), 0).sum()
    ko = jnp.where(is_ko, point + away, n * n).astype(chains.dtype)
    return after, atari & ~clear | put, ko


def packed(chains: jax.Array, n: int) -> jax.Array:
    """Stones of each player as rows of bits u32[2, n], bit c = column c."""
    board = points(rows(chains, n), n)
    stones = [stones_of(board, np.int8(player)).astype(jnp.uint32) for player in (0, 1)]
    return jnp.stack([functools.reduce(lax.bitwise_or, [on[:, c] << c for c in range(n)]) for on in stones])


def area(stones: jax.Array, n: int) -> jax.Array:
    """The area i32[] of player 0 less that of player 1, from rows of stones u32[2, n]: stones, and points that only one
    player reaches.

    A flood fill of both players at once, a row at a time: adding the reached points to a row of free points carries
    along each run to its end. An empty board needs no step of the loop, so the caller passes one for games that go on.
    On an accelerator a step spreads eight times, because the test for the end is what costs time.
    """
    free = ~(stones[0] | stones[1])[None] & np.uint32((1 << n) - 1)
    above, below = np.maximum(np.arange(n) - 1, 0), np.minimum(np.arange(n) + 1, n - 1)

    def spread(carry):
        reach, _ = carry
        new = reach
        for _ in range(8 if backend.accelerated() else 1):
            more = (new | new[:, above] | new[:, below] | new << 1 | new >> 1) & free
            new = materialized(((free + more) ^ free | more) & free | new)
        return new, (new != reach).any()

    reach, _ = lax.while_loop(lambda carry: carry[1], spread, (stones, (stones != 0).any()))
    counts = lax.population_count(reach & ~reach[::-1]).astype(jnp.int32).sum(1)
    return counts[0] - counts[1]


def legal_points(chains: jax.Array, atari: jax.Array, player: jax.Array, n: int) -> jax.Array:
    """bool[n, n]: empty, and beside an empty point, an own chain not in atari or an enemy chain in atari."""
    stone = (chains != 0) & (chains != wall(chains))
    good = materialized((chains == 0) | stone & (is_in(root(chains), atari) ^ stones_of(chains, player)))
    return points(materialized((rows(chains, n) == 0) & around(good, n)), n)
