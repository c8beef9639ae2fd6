"""What loops and fusions cost where."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.experimental.xla_metadata import set_xla_metadata


def accelerated() -> bool:
    """An accelerator starts several programs for each step of a loop, waits for the host wherever what comes next
    depends on data, and has room to spare for games that have nothing left to do: there short loops are written out
    and long ones do more in a step. On a CPU it is the other way round."""
    return jax.default_backend() != "cpu"


def called(f: Callable[..., Any]) -> Callable[..., Any]:
    """f of arrays, on a CPU a function of its own in the program, the same one for all calls that are alike: XLA
    compiles each operation with what is around it, but it leaves a call alone that is marked. The barrier keeps what of
    the results one call does not use: without it JAX would make that call one of another function."""
    compiled = jax.jit(f)

    @functools.wraps(f)
    def call(*args):
        found = compiled(*args)
        return found if accelerated() else jax.lax.optimization_barrier(set_xla_metadata(found, inlineable="false"))

    return call


kept = called(jax.lax.optimization_barrier)  # jit would forward x, were there no operation


def alone(x: jax.Array) -> jax.Array:
    """x, on a CPU computed by itself: as a vector, and not inside of whatever uses it, once for each of its numbers.

    XLA does not fuse with a call. (It drops barriers before it fuses.)
    """
    return x if accelerated() else kept(x)


def compiled_once(f: Callable[..., Any]) -> Callable[..., Any]:
    """f of arrays, on a CPU compiled once for all places of a program that map it over a batch.

    Calls are alike here if they have the batch as first axis everywhere.
    """
    single, mapped = jax.jit(f), called(jax.vmap(f))

    @custom_vmap
    @functools.wraps(f)
    def call(*args):
        return single(*args)

    @call.def_vmap
    def over_batch(size, batched, *args):
        args = [x if own else jnp.broadcast_to(x, (size, *jnp.shape(x))) for x, own in zip(args, batched, strict=True)]
        found = mapped(*args)
        return found, jax.tree.map(lambda _: True, found)

    return call
