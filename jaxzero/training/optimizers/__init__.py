"""Optimizers by name. A new one is one file, with its configuration class, and one line in `OPTIMIZERS`.

An optimizer turns gradients into steps; the learner adds clipping, weight decay and the learning rate.
"""

from collections.abc import Callable
from typing import Any

import optax

from jaxzero.training.optimizers import adam, muon, sgd
from jaxzero.training.optimizers.adam import AdamConfig
from jaxzero.training.optimizers.base import OptimizerConfig
from jaxzero.training.optimizers.muon import MuonConfig
from jaxzero.training.optimizers.sgd import SgdConfig

__all__ = ["OPTIMIZERS", "AdamConfig", "MuonConfig", "OptimizerConfig", "SgdConfig", "make"]

OPTIMIZERS: dict[str, tuple[type[OptimizerConfig], Callable[[Any], optax.GradientTransformation]]] = {
    "adam": (AdamConfig, adam.make),
    "sgd": (SgdConfig, sgd.make),
    "muon": (MuonConfig, muon.make),
}


def make(config: OptimizerConfig) -> optax.GradientTransformation:
    """Gradients -> steps of rate 1."""
    _, make_kind = OPTIMIZERS[config.kind]
    return make_kind(config)
