"""Adam (Kingma and Ba 2015); with decoupled weight decay, AdamW."""

import dataclasses
from typing import Annotated, ClassVar

import optax

from jaxzero.config.fields import Range
from jaxzero.training.optimizers.base import OptimizerConfig

Rate = Annotated[float, Range(0, 0.999999)]


@dataclasses.dataclass(frozen=True)
class AdamConfig(OptimizerConfig):
    """Adam."""

    kind: ClassVar[str] = "adam"

    beta1: Rate = 0.9
    """Decay of the mean of gradients."""
    beta2: Rate = 0.999
    """Decay of the mean of squared gradients."""


def make(config: AdamConfig) -> optax.GradientTransformation:
    return optax.scale_by_adam(config.beta1, config.beta2)
