"""Folded parameters back into the form that is trained: the inverse of `networks.base.fold`.

A folded convolution does not tell which normalisation it came from, and any statistics that its scale and shift make up
for compute the same. Chosen are the statistics of its outputs on given observations: then the network in training,
which normalises by its batch, begins close to the network that was folded.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


def unfold(graph: Any, like: Any, params: Any, positions: Callable[[], Any]) -> Any:
    """Variables with which the module of `graph` computes what it does folded, with `params`.

    Args:
        like: variables of the module, or their shapes.
        positions: gives observations [B, …] that statistics are taken from; called if there are any.
    """
    unnormalised = plain(like["params"], params)
    stats = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like["stats"])
    if not jax.tree.leaves(stats):
        return {"params": unnormalised, "stats": stats}
    module = nnx.merge(graph, unnormalised, stats)
    modules: list[Any] = [part for _, part in nnx.iter_modules(module)]
    parents = [part for part in modules if isinstance(getattr(part, "norm", None), nnx.BatchNorm)]
    norms = [parent.norm for parent in parents]
    for parent in parents:
        parent.norm = Measuring(parent.norm)
    module(jnp.asarray(positions()), False, None, None)
    for parent, norm in zip(parents, norms, strict=True):
        parent.norm = norm
    _, found, stats = nnx.split(module, nnx.Param, nnx.BatchStat)
    return {"params": nnx.to_pure_dict(found), "stats": nnx.to_pure_dict(stats)}


def plain(like: Any, params: Any) -> Any:
    """Parameters with a normalisation of scale 1 and the folded bias wherever `like` has one."""
    if not isinstance(like, dict):
        return jnp.asarray(params, jnp.float32)
    if "norm" in like:
        bias = jnp.asarray(params["conv"]["bias"], jnp.float32)
        kernel = jnp.asarray(params["conv"]["kernel"], jnp.float32)
        return {"conv": {"kernel": kernel}, "norm": {"scale": jnp.ones_like(bias), "bias": bias}}
    return {name: plain(child, params[name]) for name, child in like.items()}


class Measuring(nnx.Module):
    """In place of a normalisation: adds the folded bias alone, and sets the normalisation so that it does the same."""

    def __init__(self, norm: Any):
        self.norm, self.axis_name = norm, None

    def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:
        norm, axes = self.norm, tuple(range(x.ndim - 1))
        mean, var = x.mean(axes), x.var(axes)
        bias = norm.bias[...]
        norm.mean[...], norm.var[...] = mean, var
        norm.scale[...], norm.bias[...] = jnp.sqrt(var + norm.epsilon), bias + mean
        return x + jnp.expand_dims(bias, axes)
