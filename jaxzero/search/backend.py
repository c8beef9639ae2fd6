"""Compilation hints of the search, for CPU and accelerators. `docs/design/xla_tricks.md` has what each of them gains.

Letters: B games, L lanes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs.backend

Index = jax.Array | np.ndarray

# Indices here are never negative. Saying so saves XLA the code that wraps them around.
IN_BOUNDS: Any = {"mode": "promise_in_bounds", "wrap_negative_indices": False}
DROP: Any = {"mode": "drop", "unique_indices": True, "wrap_negative_indices": False}
NON_NEGATIVE: Any = {"allow_negative_indices": False}

FEW_CHILDREN = 8
SOME_CHILDREN = 32
CPU_ROWS = 128


def game_of(node: jax.Array) -> jax.Array:
    """The game that each entry of `node` [..., B] belongs to, i32[..., B]."""
    return jax.lax.broadcasted_iota(jnp.int32, node.shape, node.ndim - 1)


def gather(field: jax.Array, *index: Index) -> jax.Array:
    """`field[index]`; all indices must be in bounds."""
    field, index = _flattened(field, *index)
    return field.at[index].get(**IN_BOUNDS)


def scatter(field: jax.Array, value: jax.Array, *index: Index) -> jax.Array:
    """`field` with `field[index] = value`. Indices are distinct; nothing is written where the first is too large."""
    shape = field.shape
    field, index = _flattened(field, *index)
    return field.at[index].set(value.astype(field.dtype), **DROP).reshape(shape)


def _flattened(field: jax.Array, *index: Index) -> tuple[jax.Array, tuple[Index, ...]]:
    """The same elements by one flat index on a CPU, where XLA then compiles a gather in a third less time."""
    index = tuple(along.astype(np.int32) for along in index)
    if envs.backend.accelerated() or field.size > 1 << 30:
        return field, index
    flat, *others = index
    for size, along in zip(field.shape[1:], others, strict=False):
        flat = flat * np.int32(size) + along
    return field.reshape(-1, *field.shape[len(index) :]), (flat,)


def zeros_after(x: jax.Array) -> jax.Array:
    """Zeros i32 that depend on x, of its shape: adding them to an index orders the write after x's reads.

    Without that order XLA copies a whole array that a loop reads and writes: the tree alone with 82 actions and 256
    simulations takes 67 µs a simulation and game instead of 7.
    """
    return (x.astype(jnp.float32) > 3e38).astype(jnp.int32)


def child_widths(max_children: int) -> list[int]:
    """Numbers of children that selection has code for, ascending; the last is `max_children`.

    On a CPU a first width pays only where there may be many children: XLA compiles a tenth longer for it.
    """
    few = (FEW_CHILDREN, 128) if max_children > SOME_CHILDREN else ()
    widths = (128, 512) if envs.backend.accelerated() else few
    return [width for width in widths if width < max_children] + [max_children]


def levels_per_backup(lanes: int) -> int:
    """Levels of the tree that one step of the backup handles, fewer where lanes already keep the step busy."""
    return max(1, (8 if envs.backend.accelerated() else 4) // lanes)


def levels_per_descent(lanes: int) -> int:
    """Levels that one step of the descent handles: an accelerator waits for the host after each step of a loop."""
    return max(1, 4 // lanes) if envs.backend.accelerated() else 1


def first_step_in_loop() -> bool:
    """Whether the first step of a descent, which may differ from the others, is a branch inside the loop: so a CPU
    compiles the code that follows a step once."""
    return not envs.backend.accelerated()


def lanes_per_round(rounds: list[int], batch: int) -> list[tuple[int, int]]:
    """(lanes, candidates) of each round: how many candidates one simulation visits at once, for `batch` games a device.

    An accelerator visits all candidates of a round at once. A CPU compiles a simulation for each number of lanes, and
    network calls of more than `CPU_ROWS` rows leave its caches, so it uses one number for all rounds.
    """
    if envs.backend.accelerated():
        return [(candidates, candidates) for candidates in rounds]
    common = int(np.gcd.reduce(rounds))
    lanes = max(n for n in range(1, common + 1) if common % n == 0 and (n == 1 or n * batch <= CPU_ROWS))
    return [(lanes, candidates) for candidates in rounds]
