"""Connect Four beside open_spiel."""

from oracles import games

import envs
from envs.judges import compare, judge_of


def test_random_games_as_in_open_spiel():
    env = envs.make("connect_four")
    assert compare(env, judge_of(env), games(500)).plies > 5_000
