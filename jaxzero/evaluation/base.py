"""What a player is: a function on the device, or a program outside of it.

Letters: B batch (games), N games that wait for a host player, A actions.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxzero.models import Params

Player = Callable[[Params, jax.Array, Any], jax.Array]
"""`player(params, keys[B], states) -> actions i32[B]`, one key a game; legal unless the game is over."""


class HostPositions(NamedTuple):
    """Live games that wait for a host player."""

    states: Any  # of numpy arrays [N, ...]
    legal: np.ndarray  # bool[N, A]
    moves: list[list[str]]  # since the game began, by `env.action_to_str`; empty unless read


class HostPlayer:
    """A player that is no function on the device: a program, a solver."""

    reads_moves = False  # whether it needs `HostPositions.moves`

    def choose(self, positions: HostPositions, rng: np.random.Generator) -> Sequence[int | None]:
        """A legal action for each game; None gives it up."""
        raise NotImplementedError

    def report(self) -> dict[str, int]:
        """Counts of what went wrong so far."""
        return {}

    def close(self) -> None:
        """Ends what runs outside; the player is not used again."""


class Contestant(NamedTuple):
    """A player with its parameters, ready to play."""

    name: str
    player: Player | HostPlayer
    params: Params = None
