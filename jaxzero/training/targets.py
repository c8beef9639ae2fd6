"""Training targets computed from finished play: the step between what was played and what is learned."""

import chex
import jax
import jax.numpy as jnp

from jaxzero.training.transitions import Transition


def label(played: Transition, td_lambda: float, td_steps: int = 0) -> tuple[jax.Array, jax.Array]:
    """Value targets f32[T, B] of plies in a row, and where they are known, bool[T, B]: λ-returns, or with `td_steps`
    returns of so many plies, of the games that end within the T plies."""
    game = played.reward, played.state.player, played.end, played.value
    target, known = returns(*game, td_lambda)
    return (n_step_returns(*game, td_steps) if td_steps else target), known


def returns(
    reward: jax.Array, mover: jax.Array, end: jax.Array, value: jax.Array, td_lambda: float
) -> tuple[jax.Array, jax.Array]:
    """λ-return of each position to its mover, undiscounted, where the game's end is known.

    G(t) = (1 - λ) v(t) + λ (r(t) + G(t + 1)), in the mover's view; at the end of a game G(t + 1) = 0 (Sutton and Barto
    2018, equation 12.2 with the value of the position itself as the first term: here v is better than the network, for
    a search found it). λ = 1 is the game's outcome, λ = 0 the search's value.

    Args:
        reward: f32[T, B] earned by the mover at this ply.
        mover: i8[T, B] who moved.
        end: bool[T, B] the game ended with this ply.
        value: f32[T, B] root value of the search at this ply, mover's view.
        td_lambda: λ.

    Returns:
        (f32[T, B], 0 where the end is not known; bool[T, B] the game's end is within the T plies). Two players are
        zero-sum: what the other earns counts negative.
    """

    chex.assert_rank(reward, 2)
    chex.assert_equal_shape([reward, mover, end, value])

    def back(later, ply):
        later_return, later_mover, later_known = later
        reward, mover, end, value = ply
        follow = jnp.where(later_mover == mover, later_return, -later_return)
        total = (1 - td_lambda) * value + td_lambda * (reward + jnp.where(end, 0.0, follow))
        known = end | later_known
        return (total, mover, known), (total, known)

    width = reward.shape[1]
    start = jnp.zeros(width), jnp.zeros(width, mover.dtype), jnp.zeros(width, bool)
    _, (total, known) = jax.lax.scan(back, start, (reward, mover, end, value), reverse=True)
    return jnp.where(known, total, 0.0), known


def n_step_returns(reward: jax.Array, mover: jax.Array, end: jax.Array, value: jax.Array, n: int) -> jax.Array:
    """f32[T, B]: the rewards of n plies and the root value after them, in the mover's view, or the rewards to the end
    of a game that is nearer (MuZero, Schrittwieser et al. 2020, section 3, undiscounted). Arguments as those of
    `returns`; without meaning where the end is not known."""
    chex.assert_rank(reward, 2)
    chex.assert_equal_shape([reward, mover, end, value])
    sign = jnp.where(jnp.roll(mover, -1, 0) == mover, 1.0, -1.0)

    def longer(_, total):
        return reward + jnp.where(end, 0.0, sign * jnp.roll(total, -1, 0))

    return jax.lax.fori_loop(0, n, longer, value)


def wdl_target(value: jax.Array) -> jax.Array:
    """f32[B] in [-1, 1] -> f32[B, 3] win, draw, loss: the distribution of that mean with the most draws.

    An outcome of 1, 0, -1 becomes exactly win, draw, loss.
    """
    return jnp.stack([jnp.maximum(value, 0.0), 1 - jnp.abs(value), jnp.maximum(-value, 0.0)], -1)
