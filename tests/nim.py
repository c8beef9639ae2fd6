"""A game of one heap, to be imported by tests: extra turns, single legal moves, exact values."""

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
    """Take one, two or three (action + 1); taking `again` gives another turn; who takes the last earns `last`."""

    heap: int = 20
    again: int = 3
    last: float = -1.0
    num_actions: int = 3  # those beyond the third are never legal
    name = "nim"
    max_legal = 3

    @property
    def observation_shape(self):
        return (self.heap + 1, 2)

    @property
    def max_plies(self):
        return self.heap

    def init(self, key):
        return self.at(self.heap)

    def at(self, left: int, player: int = 0) -> Heap:
        return Heap(jnp.int32(left), jnp.int8(player), jnp.bool(left == 0), jnp.zeros(2))

    def step(self, state, action):
        left = state.left - jnp.where(state.terminated, 0, action + 1)
        end = left == 0
        stays = state.terminated | ((action + 1 == self.again) & ~end)
        player = jnp.where(stays, state.player, 1 - state.player).astype(jnp.int8)
        earned = jnp.where(jnp.arange(2) == state.player, self.last, -self.last) * (end & ~state.terminated)
        return Heap(left, player, end, earned)

    def legal_actions(self, state):
        return (jnp.arange(self.num_actions) < jnp.minimum(state.left, 3)) | state.terminated

    def observe(self, state):
        return jnp.zeros(self.observation_shape).at[state.left, state.player.astype(jnp.int32)].set(1.0)


def nim_value(left: int, take: int = 0) -> int:
    """The value of a heap of `Nim()` for the mover, or of taking so many from it."""
    if not take:
        return max(nim_value(left, take) for take in (1, 2, 3) if take <= left)
    if take == left:
        return -1
    return nim_value(left - take) * (1 if take == 3 else -1)
