"""Connect Four beside open_spiel."""

import pyspiel
from oracles import compare, games

import envs


class OpenSpiel:
    def __init__(self):
        self.state = pyspiel.load_game("connect_four").new_initial_state()

    def legal(self) -> set[int]:
        return set(self.state.legal_actions())

    def player(self) -> int:
        return self.state.current_player()

    def terminated(self) -> bool:
        return self.state.is_terminal()

    def rewards(self) -> list[float]:
        return self.state.rewards()

    def play(self, action: int) -> None:
        self.state.apply_action(action)


def test_random_games_as_in_open_spiel():
    assert compare(envs.make("connect_four"), OpenSpiel, games(500)) > 5_000
