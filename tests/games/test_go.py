"""Go beside open_spiel and Pgx, and hand-made positions.

Where the rules differ. open_spiel and Pgx both know the simple ko; both play a move that repeats a position and end the
game there (open_spiel: a draw; Pgx: the mover loses), where ours goes on with `ko="simple"` and masks the move with
`ko="positional"`. So `simple` is compared on games without repetition, and `positional` with the moves of open_spiel that
do not end its game so. Suicide is illegal in all three. Move caps agree: two plies a point. Scores are compared, not only
who won: the same game ends for us under many komi, which finds the margin.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pgx.go
import pyspiel
import pytest
from oracles import compare, games, random_games

import envs
from envs.contract import check_contract
from envs.go import area, packed


class OpenSpiel:
    """Its point 0 is the lower left corner, ours the upper left. `positional` hides moves that repeat a position."""

    def __init__(self, size: int, positional: bool = False, komi: float = 7.5):
        cap = 2 * size * size
        self.size, self.positional = size, positional
        game = pyspiel.load_game("go", {"board_size": size, "komi": komi, "max_game_length": cap})
        self.state, self.cap = game.new_initial_state(), cap

    def turned(self, action: int) -> int:
        n = self.size
        return action if action == n * n else (n - 1 - action // n) * n + action % n

    def repeats(self, action: int) -> bool:
        """A stone ends its game before the cap only by a repetition."""
        after = self.state.child(action)
        return action < self.size**2 and after.is_terminal() and after.move_number() < self.cap

    def legal(self) -> set[int]:
        moves = self.state.legal_actions()
        return {self.turned(a) for a in moves if not (self.positional and self.repeats(a))}

    def player(self) -> int:
        return self.state.current_player()

    def terminated(self) -> bool:
        return self.state.is_terminal()

    def rewards(self) -> list[float]:
        return self.state.rewards()

    def play(self, action: int) -> None:
        self.state.apply_action(self.turned(action))
