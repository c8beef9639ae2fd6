"""Dense network with dropout; policy and value share one trunk or are two networks of their own.

Letters: B batch, A actions.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

near_zero = nnx.initializers.variance_scaling(0.01, "fan_in", "normal")


class Trunk(nnx.Module):
    def __init__(self, inputs: int, sizes: tuple[int, ...], dropout: float, dtype: Any, rngs: nnx.Rngs):
        self.depth = len(sizes)
        he = nnx.initializers.he_normal()
        for i, (width_in, width_out) in enumerate(zip((inputs, *sizes), sizes, strict=False)):
            setattr(self, f"layer{i}", nnx.Linear(width_in, width_out, kernel_init=he, dtype=dtype, rngs=rngs))
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x: jax.Array, train: bool, key: jax.Array | None) -> jax.Array:
        for i in range(self.depth):
            x = nnx.relu(getattr(self, f"layer{i}")(x))
            if train and self.dropout.rate > 0:
                assert key is not None
                x = self.dropout(x, deterministic=False, rngs=jax.random.fold_in(key, i))
        return x


class Mlp(nnx.Module):
    """[B, …] -> policy logits [B, A] and value outputs [B, value_outputs]."""

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        value_outputs: int,
        *,
        sizes: tuple[int, ...],
        dropout: float,
        shared: bool,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        inputs = 1
        for extent in observation_shape:
            inputs *= extent
        self.dtype = dtype
        self.trunk = Trunk(inputs, sizes, dropout, dtype, rngs)
        if not shared:
            self.value_trunk = Trunk(inputs, sizes, dropout, dtype, rngs)
        self.policy = nnx.Linear(sizes[-1], num_actions, kernel_init=near_zero, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(sizes[-1], value_outputs, kernel_init=near_zero, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, train: bool, key: jax.Array | None, axis_name: str | None):
        del axis_name  # no normalisation here
        x = x.reshape(x.shape[0], -1).astype(self.dtype)
        y = self.trunk(x, train, key)
        z = y
        if hasattr(self, "value_trunk"):
            z = self.value_trunk(x, train, None if key is None else jax.random.fold_in(key, self.trunk.depth))
        return self.policy(y).astype(jnp.float32), self.value(z).astype(jnp.float32)
