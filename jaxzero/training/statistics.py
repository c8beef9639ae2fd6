"""Statistics of self-play as sums over a device's games; `iteration.averages` makes means of them.

Letters: n plies of a chunk, B lanes, W newest rows of the replay.
"""

import jax
import jax.numpy as jnp

from jaxzero.training import targets
from jaxzero.training.losses import entropy
from jaxzero.training.transitions import Chunk, Transition


def of_play(chunk: Chunk, num_players: int) -> dict[str, jax.Array]:
    """Sums f32[] over a chunk: games that ended, their results and lengths, the entropy of the policies in nats."""
    played = chunk.transitions
    first = jnp.where(played.state.player == 0, played.reward, -played.reward)  # two players are zero-sum
    sums = {
        "games": played.end,
        "first_player_wins": played.end & (first > 0),
        "second_player_wins": played.end & (first < 0),
        "draws": played.end & (first == 0),
        "length": jnp.where(played.end, chunk.ply + 1, 0),
        "entropy": entropy(played.weights.astype(jnp.float32)),
    }
    if num_players == 1:
        sums["points"] = played.reward
    return {name: values.sum().astype(jnp.float32) for name, values in sums.items()}


def of_values(played: Transition, new: jax.Array) -> dict[str, jax.Array]:
    """Sums f32[] over the positions of [W, B] whose game has just ended (bool[W, B]), to compare the search's values
    with the outcomes: sums of errors, and the moments that a correlation needs."""
    outcome, _ = targets.returns(played.reward, played.state.player, played.end, played.value, td_lambda=1.0)
    value, outcome = jnp.where(new, played.value, 0.0), jnp.where(new, outcome, 0.0)
    return {
        "ended": new.sum().astype(jnp.float32),
        "error": jnp.abs(value - outcome).sum(),
        "v": value.sum(), "z": outcome.sum(),
        "vv": (value**2).sum(), "zz": (outcome**2).sum(), "vz": (value * outcome).sum(),
    }  # fmt: skip
