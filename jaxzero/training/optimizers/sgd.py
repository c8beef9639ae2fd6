"""Stochastic gradient descent with momentum."""

import dataclasses
from typing import Annotated, ClassVar

import optax

from jaxzero.config.fields import Range
from jaxzero.training.optimizers.base import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class SgdConfig(OptimizerConfig):
    """Stochastic gradient descent with momentum."""

    kind: ClassVar[str] = "sgd"

    momentum: Annotated[float, Range(0, 0.999999)] = 0.9
    """Decay of the sum of gradients."""


def make(config: SgdConfig) -> optax.GradientTransformation:
    return optax.trace(config.momentum)
