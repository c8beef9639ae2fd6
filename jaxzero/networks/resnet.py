"""Residual convolutional network with policy and value heads (AlphaZero, Silver et al. 2018; global pooling after
KataGo, Wu 2019, section 3.3).

Post-activation blocks, conv–norm–(residual)–ReLU, so that normalisation folds into the convolutions and XLA fuses the
rest. Letters: B batch, H rows, W columns, C channels.
"""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from envs import Env
from jaxzero.config.fields import COMMON, Range
from jaxzero.networks.base import Network, NetworkConfig, from_module
from jaxzero.networks.convolution import for_backend

HEAD_CHANNELS = 16
VALUE_HIDDEN = 64
he_normal = nnx.initializers.he_normal()
near_zero = nnx.initializers.variance_scaling(0.01, "fan_in", "normal")


@dataclasses.dataclass(frozen=True)
class ResNetConfig(NetworkConfig):
    """Residual convolutions over the board."""

    kind: ClassVar[str] = "resnet"
    dense: ClassVar[str] = "mlp"

    channels: Annotated[int, Range(1, 4096), COMMON] = 32
    """Channels of the trunk."""
    blocks: Annotated[int, Range(1, 64), COMMON] = 3
    """Residual blocks of two 3×3 convolutions."""
    norm: Literal["batch", "none"] = "none"
    """batch: batch normalisation. none: the second convolution of each block starts near zero instead."""
    pooling: bool = True
    """Each block adds a bias computed from the mean and the maximum over the whole board."""

    def exported(self) -> dict[str, Any]:
        return {
            "channels": self.channels, "blocks": self.blocks, "pooling": self.pooling,
            "head_channels": HEAD_CHANNELS, "value_hidden": VALUE_HIDDEN,
        }  # fmt: skip


class ConvNorm(nnx.Module):
    """A convolution, and batch normalisation or a bias."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        norm: bool,
        rngs: nnx.Rngs,
        init=he_normal,
        **types: Any,
    ):
        self.conv = nnx.Conv(
            inputs, outputs, (size, size), use_bias=not norm, kernel_init=init, rngs=rngs, **for_backend(), **types
        )  # fmt: skip
        if norm:
            self.norm = nnx.BatchNorm(outputs, momentum=0.95, rngs=rngs, **types)

    def __call__(self, x: jax.Array, train: bool, axis_name: str | None) -> jax.Array:
        x = self.conv(x)
        if hasattr(self, "norm"):
            self.norm.axis_name = axis_name
            x = self.norm(x, use_running_average=not train)
        return x


def pool(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, 2C]: mean and maximum over the board."""
    return jnp.concatenate([x.mean((1, 2)), x.max((1, 2))], -1)


class Block(nnx.Module):
    def __init__(self, channels: int, norm: bool, pooling: bool, rngs: nnx.Rngs, **types: Any):
        self.first = ConvNorm(channels, channels, 3, norm, rngs, **types)
        init = he_normal if norm else near_zero
        self.second = ConvNorm(channels, channels, 3, norm, rngs, init, **types)
        if pooling:
            self.pooled = nnx.Linear(2 * channels, channels, kernel_init=near_zero, rngs=rngs, **types)

    def __call__(self, x: jax.Array, train: bool, axis_name: str | None) -> jax.Array:
        y = nnx.relu(self.first(x, train, axis_name))
        z = self.second(y, train, axis_name)
        if hasattr(self, "pooled"):
            z = z + self.pooled(pool(y))[:, None, None]
        return nnx.relu(x + z)


class Head(nnx.Module):
    """1×1 convolution, flattened board, dense layers."""

    def __init__(
        self, shape: tuple[int, int, int], hidden: int, outputs: int, norm: bool, rngs: nnx.Rngs, **types: Any
    ):
        rows, columns, channels = shape
        self.conv = ConvNorm(channels, HEAD_CHANNELS, 1, norm, rngs, **types)
        flat = rows * columns * HEAD_CHANNELS
        if hidden:
            self.hidden = nnx.Linear(flat, hidden, kernel_init=he_normal, rngs=rngs, **types)
        self.out = nnx.Linear(hidden or flat, outputs, kernel_init=near_zero, rngs=rngs, **types)

    def __call__(self, x: jax.Array, train: bool, axis_name: str | None) -> jax.Array:
        x = nnx.relu(self.conv(x, train, axis_name))
        x = x.reshape(x.shape[0], -1)
        if hasattr(self, "hidden"):
            x = nnx.relu(self.hidden(x))
        return self.out(x).astype(jnp.float32)


class Tower(nnx.Module):
    """[B, H, W, planes] -> [B, H, W, C]: a convolution and residual blocks."""

    def __init__(
        self, planes: int, channels: int, blocks: int, norm: bool, pooling: bool, rngs: nnx.Rngs, **types: Any
    ):
        self.num_blocks = blocks
        self.stem = ConvNorm(planes, channels, 3, norm, rngs, **types)
        for i in range(blocks):
            setattr(self, f"block{i}", Block(channels, norm, pooling, rngs, **types))

    def trunk(self, x: jax.Array, train: bool, axis_name: str | None) -> jax.Array:
        x = nnx.relu(self.stem(x, train, axis_name))
        for i in range(self.num_blocks):
            x = getattr(self, f"block{i}")(x, train, axis_name)
        return x


class ResNet(Tower):
    """[B, H, W, planes] -> policy logits [B, A] and value outputs [B, value_outputs]."""

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        value_outputs: int,
        *,
        channels: int,
        blocks: int,
        norm: bool,
        pooling: bool,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        rows, columns, planes = observation_shape
        types = {"dtype": dtype}
        super().__init__(planes, channels, blocks, norm, pooling, rngs, **types)
        self.dtype = dtype
        trunk = (rows, columns, channels)
        self.policy = Head(trunk, 0, num_actions, norm, rngs, **types)
        self.value = Head(trunk, VALUE_HIDDEN, value_outputs, norm, rngs, **types)

    def __call__(self, x: jax.Array, train: bool, key: jax.Array | None, axis_name: str | None):
        del key  # no dropout here
        x = self.trunk(x.astype(self.dtype), train, axis_name)
        return self.policy(x, train, axis_name), self.value(x, train, axis_name)


def make(config: ResNetConfig, env: Env) -> Network:
    head = config.head

    def build(norm: bool, rngs: nnx.Rngs) -> nnx.Module:
        return ResNet(
            env.observation_shape, env.num_actions, head.outputs,
            channels=config.channels, blocks=config.blocks, norm=norm, pooling=config.pooling,
            dtype=config.arithmetic, rngs=rngs,
        )  # fmt: skip

    return from_module(build, config.norm == "batch", head)
