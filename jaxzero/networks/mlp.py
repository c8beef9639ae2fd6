"""Dense network with dropout; policy and value share one trunk or are two networks of their own.

Letters: B batch, A actions.
"""

import dataclasses
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from envs import Env
from jaxzero.config.fields import COMMON, Range
from jaxzero.messages import ConfigError
from jaxzero.networks.base import Network, NetworkConfig, from_module

near_zero = nnx.initializers.variance_scaling(0.01, "fan_in", "normal")


@dataclasses.dataclass(frozen=True)
class MlpConfig(NetworkConfig):
    """Dense layers."""

    kind: ClassVar[str] = "mlp"

    sizes: Annotated[tuple[int, ...], Range(1, 65_536), COMMON] = (64, 64)
    """Widths of the hidden layers."""
    dropout: Annotated[float, Range(0, 0.99)] = 0.0
    """Share of hidden units dropped in training."""
    shared: bool = True
    """Policy and value share one trunk; false gives each a network of its own."""

    def exported(self) -> dict[str, Any]:
        return {"sizes": self.sizes, "shared": self.shared}

    def check(self, env: Env) -> None:
        super().check(env)
        if not self.sizes:
            raise ConfigError("network.sizes: mlp needs one or more sizes, got []")


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


def make(config: MlpConfig, env: Env) -> Network:
    head = config.head

    def build(norm: bool, rngs: nnx.Rngs) -> nnx.Module:
        return Mlp(
            env.observation_shape, env.num_actions, head.outputs,
            sizes=config.sizes, dropout=config.dropout, shared=config.shared, dtype=config.arithmetic, rngs=rngs,
        )  # fmt: skip

    return from_module(build, False, head)
