"""A game of one heap, to be imported by tests: extra turns, single legal moves, and an exact value."""

import dataclasses

import jax
import jax.numpy as jnp

import envs


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Heap:
    left: jax.Array  # i32[]
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


@dataclasses.dataclass(frozen=True)
class Nim(envs.Env):
    """Take one, two or three; three give another turn; who takes the last loses."""

    name = "nim"
    num_actions = 3
    observation_shape = (21, 2)
    max_plies = 20
    max_legal = 3

    def init(self, key):
        return Heap(jnp.int32(20), jnp.int8(0), jnp.bool(False), jnp.zeros(2))

    def step(self, state, action):
        left = state.left - jnp.where(state.terminated, 0, action + 1)
        end = left == 0
        player = jnp.where((action == 2) & ~end | state.terminated, state.player, 1 - state.player).astype(jnp.int8)
        won = jnp.where(jnp.arange(2) == state.player, -1.0, 1.0) * (end & ~state.terminated)
        return Heap(left, player, end, won)

    def legal_actions(self, state):
        return (jnp.arange(3) < state.left) | state.terminated

    def observe(self, state):
        return jnp.zeros((21, 2)).at[state.left, state.player.astype(jnp.int32)].set(1.0)


def nim_value(left: int, take: int = 0) -> int:
    """Of a heap to the mover, or of taking so many from it."""
    if not take:
        return max(nim_value(left, take) for take in (1, 2, 3) if take <= left)
    if take == left:
        return -1
    return nim_value(left - take) * (1 if take == 3 else -1)
