"""What loops and fusions cost where."""

import jax
import jax.numpy as jnp


def accelerated() -> bool:
    """An accelerator starts several programs for each step of a loop, waits for the host wherever what comes next
    depends on data, and has room to spare for games that have nothing left to do: there short loops are written out
    and long ones do more in a step. On a CPU it is the other way round."""
    return jax.default_backend() != "cpu"


def alone(x: jax.Array) -> jax.Array:
    """x, on a CPU computed by itself: as a vector, and not inside of whatever uses it, once for each of its numbers.

    XLA does not fuse with a scatter, though this one writes nothing. (It drops barriers before it fuses.)
    """
    if accelerated():
        return x
    nowhere = len(x) + (x.reshape(-1)[0] != 0)
    return x.at[nowhere].set(jnp.zeros((), x.dtype), mode="drop")
