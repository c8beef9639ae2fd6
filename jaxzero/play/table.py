"""A game on the host with all its positions, for whoever shows it: terminal, program or page."""

from typing import Any, NamedTuple

import jax
import numpy as np

from envs import Env, host
from envs.chess import Chess
from envs.core import begins_alike
from jaxzero.config.schema import GameConfig
from jaxzero.records import Game, san


class Turn(NamedTuple):
    before: Any  # state
    action: int
    name: str  # of the move
    outcome: int  # of chance after it; -1: none was due
    rewards: np.ndarray  # f32[P]


class Table:
    """A game on the host, with all its positions."""

    def __init__(self, env: Env, seed: int):
        self.env, self.key = env, jax.random.key(seed)
        self.turns: list[Turn] = []
        self.first = self.state = jax.device_get(host.init(env, jax.random.fold_in(self.key, 0)))
        self.resigned: int | None = None  # the player who did

    @property
    def over(self) -> bool:
        return self.resigned is not None or bool(self.state.terminated)

    @property
    def mover(self) -> int:
        return int(self.state.player)

    @property
    def legal(self) -> list[int]:
        return np.flatnonzero(jax.device_get(host.legal_actions(self.env, self.state))).tolist()

    @property
    def chess(self) -> dict[int, san.Move]:
        """The legal moves of chess; none in other games."""
        if not isinstance(self.env, Chess):
            return {}
        return san.legal_moves(self.state.board, jax.device_get(host.legal_actions(self.env, self.state)), self.mover)

    def name(self, action: int) -> str:
        """A legal move as people write it: in chess SAN, else by the game's own name."""
        moves = self.chess
        return san.write(moves[action], moves) if moves else self.env.action_to_str(self.state, action)

    def read(self, text: str) -> int:
        """The action that a person means, by the game's own name or in SAN.

        Raises:
            ValueError: one line that says why there is none.
        """
        try:
            return self.env.action_from_str(self.state, text)
        except ValueError:
            if not (moves := self.chess):
                raise
        return san.read(text, moves).action

    def dice(self) -> jax.Array:
        """The key of this ply: a move taken back and played again meets the same dice."""
        return jax.random.fold_in(self.key, len(self.turns) + 1)

    def play(self, action: int) -> Turn:
        before, name = self.state, self.env.action_to_str(self.state, action)
        self.state, outcome = jax.device_get(host.advance(self.env, before, np.int32(action), self.dice()))
        self.turns.append(Turn(before, action, name, int(outcome), np.asarray(self.state.rewards)))
        return self.turns[-1]

    def undo(self) -> None:
        self.state = self.turns.pop().before

    def totals(self) -> np.ndarray:
        """f32[P], the rewards so far; who resigns a game of two has lost it."""
        players = np.arange(self.env.num_players)
        if self.resigned is not None and len(players) > 1:
            return np.where(players == self.resigned, -1.0, 1.0)
        return sum((turn.rewards for turn in self.turns), np.zeros(len(players), np.float32))

    def record(self, game: GameConfig, headers: dict[str, str]) -> Game:
        return Game(
            game.source or game.name, game.options, [turn.action for turn in self.turns],
            tuple(self.totals().tolist()) if self.over else None, headers,
            None if begins_alike(self.env) else self.env.to_text(self.first),
            [turn.outcome for turn in self.turns] if self.env.num_outcomes else None,
        )  # fmt: skip
