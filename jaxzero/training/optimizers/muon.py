"""Muon (Jordan et al. 2024) for the kernels, whose last axis is their output, and Adam with Nesterov's momentum for the
rest.

Steps have the root mean square of Adam's (Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2), so that
both take the same learning rate.
"""

import dataclasses
from typing import Annotated, Any, ClassVar

import jax
import optax
import optax.contrib

from jaxzero.config.fields import Range
from jaxzero.training.optimizers.base import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class MuonConfig(OptimizerConfig):
    """Orthogonal steps for kernels, Adam's for the rest, of the same size."""

    kind: ClassVar[str] = "muon"

    momentum: Annotated[float, Range(0, 0.999999)] = 0.95
    """Decay of the mean of the kernels' gradients."""


def make(config: MuonConfig) -> optax.GradientTransformation:
    def kernels(tree: Any) -> Any:
        numbers = optax.contrib.MuonDimensionNumbers
        return jax.tree.map(lambda x: numbers(tuple(range(x.ndim - 1)), x.ndim - 1) if x.ndim > 1 else None, tree)

    # The learning rate comes after the decay of the weights; -1 leaves the sign as it is elsewhere in the chain.
    return optax.contrib.muon(-1.0, beta=config.momentum, muon_weight_dimension_numbers=kernels, consistent_rms=0.2)
