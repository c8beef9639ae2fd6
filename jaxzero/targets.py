"""Training targets computed from finished play."""

import jax
import jax.numpy as jnp


def outcomes(reward: jax.Array, mover: jax.Array, end: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Undiscounted return of each position to its mover, where the game's end is known.

    Args:
        reward: f32[T, B] earned by the mover at this ply.
        mover: i8[T, B] who moved.
        end: bool[T, B] the game ended with this ply.

    Returns:
        (f32[T, B] sum of rewards from this ply to the game's end in the mover's view, bool[T, B] that end is within
        the T plies). Two players are zero-sum: what the other earns counts negative.
    """

    def back(later, ply):
        later_return, later_mover, later_known = later
        reward, mover, end = ply
        follow = jnp.where(later_mover == mover, later_return, -later_return)
        value = reward + jnp.where(end, 0.0, follow)
        known = end | later_known
        return (value, mover, known), (value, known)

    width = reward.shape[1]
    start = jnp.zeros(width), jnp.zeros(width, mover.dtype), jnp.zeros(width, bool)
    _, (value, known) = jax.lax.scan(back, start, (reward, mover, end), reverse=True)
    return jnp.where(known, value, 0.0), known


def value_target(outcome: jax.Array, root_value: jax.Array, outcome_weight: float) -> jax.Array:
    """Mix of game outcome and search value, f32[B] (Willemsen et al. 2022 compare such targets)."""
    return outcome_weight * outcome + (1 - outcome_weight) * root_value


def wdl_target(value: jax.Array) -> jax.Array:
    """f32[B] in [-1, 1] -> f32[B, 3] win, draw, loss: the distribution of that mean with the most draws.

    An outcome of 1, 0, -1 becomes exactly win, draw, loss.
    """
    return jnp.stack([jnp.maximum(value, 0.0), 1 - jnp.abs(value), jnp.maximum(-value, 0.0)], -1)
