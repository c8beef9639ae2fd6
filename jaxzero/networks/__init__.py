"""Networks by name. A new one is one file and one line in `NETWORKS`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from envs import Env
from jaxzero.config.schema import NetworkConfig
from jaxzero.networks import latent
from jaxzero.networks.base import DynamicsOutput, Latent, Network, Prediction, Variables, from_module
from jaxzero.networks.mlp import Mlp
from jaxzero.networks.resnet import ResNet
from jaxzero.networks.values import HEADS, ValueHead

__all__ = ["NETWORKS", "DynamicsOutput", "Latent", "Network", "Prediction", "Variables", "make"]


def dtype_of(config: NetworkConfig) -> Any:
    if config.dtype == "auto":
        return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return jnp.dtype(config.dtype)


def head_of(config: NetworkConfig) -> ValueHead:
    return HEADS[config.value](config.support)


def resnet(config: NetworkConfig, env: Env) -> Network:
    head = head_of(config)

    def build(norm: bool, rngs: nnx.Rngs) -> nnx.Module:
        return ResNet(
            env.observation_shape, env.num_actions, head.outputs,
            channels=config.channels, blocks=config.blocks, norm=norm, pooling=config.pooling,
            dtype=dtype_of(config), rngs=rngs,
        )  # fmt: skip

    return from_module(build, config.norm == "batch", head)


def mlp(config: NetworkConfig, env: Env) -> Network:
    head = head_of(config)

    def build(norm: bool, rngs: nnx.Rngs) -> nnx.Module:
        return Mlp(
            env.observation_shape, env.num_actions, head.outputs,
            sizes=config.sizes, dropout=config.dropout, shared=config.shared, dtype=dtype_of(config), rngs=rngs,
        )  # fmt: skip

    return from_module(build, False, head)


def muzero_mlp(config: NetworkConfig, env: Env) -> Network:
    return latent.make(latent.DenseModel, config, env, head_of(config), dtype_of(config))


def muzero_conv(config: NetworkConfig, env: Env) -> Network:
    return latent.make(latent.ConvModel, config, env, head_of(config), dtype_of(config))


NETWORKS: dict[str, Callable[[NetworkConfig, Env], Network]] = {
    "resnet": resnet, "mlp": mlp, "muzero_mlp": muzero_mlp, "muzero_conv": muzero_conv,
}  # fmt: skip


def make(config: NetworkConfig, env: Env) -> Network:
    """The network of a configuration (checked by `jaxzero.config.validation.validate`) for a game."""
    return NETWORKS[config.kind](config, env)
