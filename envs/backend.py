"""Compilation hints for CPU and accelerators. `docs/design/xla_tricks.md` has what each of them gains."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.experimental.xla_metadata import set_xla_metadata


def accelerated() -> bool:
    """Whether the default backend is an accelerator.

    An accelerator starts several kernels for each step of a loop, waits for the host wherever control flow depends on
    data, and has capacity to spare for games that are over. So short loops are unrolled there, and long ones do more
    in a step. On a CPU unrolled code only takes longer to compile.
    """
    return jax.default_backend() != "cpu"


def separate_call(f: Callable[..., Any]) -> Callable[..., Any]:
    """f of arrays, on a CPU compiled as a function of its own, once for all calls with equal shapes.

    XLA compiles most operations together with their neighbours, but leaves a call alone that is marked as not
    inlineable. The barrier keeps results that one caller does not use: without it JAX would specialise the function for
    that caller.
    """
    compiled = jax.jit(f)

    @functools.wraps(f)
    def call(*args):
        result = compiled(*args)
        return result if accelerated() else jax.lax.optimization_barrier(set_xla_metadata(result, inlineable="false"))

    return call


# jit would forward x, were there no operation.
_identity = separate_call(jax.lax.optimization_barrier)


def materialized(x: jax.Array) -> jax.Array:
    """x, on a CPU computed by a kernel of its own instead of inside its users, once for each of their numbers.

    It is an identity function that XLA does not fuse across. (XLA drops plain barriers before it fuses.)
    """
    return x if accelerated() else _identity(x)


def compiled_once(f: Callable[..., Any]) -> Callable[..., Any]:
    """f of arrays, on a CPU compiled once for all places of a program that `vmap` it with equal shapes."""
    single, mapped = jax.jit(f), separate_call(jax.vmap(f))

    @custom_vmap
    @functools.wraps(f)
    def call(*args):
        return single(*args)

    @call.def_vmap
    def over_batch(size, batched, *args):
        args = [x if own else jnp.broadcast_to(x, (size, *jnp.shape(x))) for x, own in zip(args, batched, strict=True)]
        result = mapped(*args)
        return result, jax.tree.map(lambda _: True, result)

    return call
