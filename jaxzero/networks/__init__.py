"""Networks by name. A new one is one file, with its configuration class, and one line in `NETWORKS`."""

from collections.abc import Callable
from typing import Any

from envs import Env
from jaxzero.networks import latent, mlp, resnet
from jaxzero.networks.base import DynamicsOutput, Latent, Network, NetworkConfig, Prediction, Variables
from jaxzero.networks.latent import MuZeroConvConfig, MuZeroMlpConfig
from jaxzero.networks.mlp import MlpConfig
from jaxzero.networks.resnet import ResNetConfig

__all__ = [
    "NETWORKS", "DynamicsOutput", "Latent", "MlpConfig", "MuZeroConvConfig", "MuZeroMlpConfig", "Network",
    "NetworkConfig", "Prediction", "ResNetConfig", "Variables", "make",
]  # fmt: skip

NETWORKS: dict[str, tuple[type[NetworkConfig], Callable[[Any, Env], Network]]] = {
    "resnet": (ResNetConfig, resnet.make),
    "mlp": (MlpConfig, mlp.make),
    "muzero_mlp": (MuZeroMlpConfig, latent.make_mlp),
    "muzero_conv": (MuZeroConvConfig, latent.make_conv),
}


def make(config: NetworkConfig, env: Env) -> Network:
    """The network of a configuration (checked by `jaxzero.config.validation.validate`) for a game."""
    _, make_kind = NETWORKS[config.kind]
    return make_kind(config, env)
