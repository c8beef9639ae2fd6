"""Networks by name. A new one is one file and one line in `NETWORKS`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from envs import Env
from jaxzero.config import NetworkConfig
from jaxzero.networks.base import Network, Prediction, Variables, from_module
from jaxzero.networks.mlp import Mlp
from jaxzero.networks.resnet import ResNet

__all__ = ["NETWORKS", "Network", "Prediction", "Variables", "make"]


def dtype_of(config: NetworkConfig) -> Any:
    if config.dtype == "auto":
        return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return jnp.dtype(config.dtype)


def value_outputs(config: NetworkConfig) -> int:
    return 3 if config.value == "wdl" else 1


def resnet(config: NetworkConfig, env: Env) -> Network:
    def build(norm: bool, rngs: nnx.Rngs) -> nnx.Module:
        return ResNet(
            env.observation_shape, env.num_actions, value_outputs(config),
            channels=config.channels, blocks=config.blocks, norm=norm, pooling=config.pooling,
            dtype=dtype_of(config), rngs=rngs,
        )  # fmt: skip

    return from_module(build, config.norm == "batch", config.value == "wdl")


def mlp(config: NetworkConfig, env: Env) -> Network:
    def build(norm: bool, rngs: nnx.Rngs) -> nnx.Module:
        return Mlp(
            env.observation_shape, env.num_actions, value_outputs(config),
            sizes=config.sizes, dropout=config.dropout, shared=config.shared, dtype=dtype_of(config), rngs=rngs,
        )  # fmt: skip

    return from_module(build, False, config.value == "wdl")


NETWORKS: dict[str, Callable[[NetworkConfig, Env], Network]] = {"resnet": resnet, "mlp": mlp}


def make(config: NetworkConfig, env: Env) -> Network:
    """The network of a configuration (checked by `jaxzero.validation.validate`) for a game."""
    return NETWORKS[config.kind](config, env)
