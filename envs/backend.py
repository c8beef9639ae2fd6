"""What loops cost where."""

import jax


def accelerated() -> bool:
    """An accelerator starts several programs for each step of a loop, waits for the host wherever what comes next
    depends on data, and has room to spare for games that have nothing left to do: there short loops are written out
    and long ones do more in a step. On a CPU it is the other way round."""
    return jax.default_backend() != "cpu"
