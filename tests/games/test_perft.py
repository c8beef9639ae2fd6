"""Lines of play from the first position, against published counts."""

import jax
import pytest
from oracles import FULL

import envs
from envs.perft import KNOWN, perft


@pytest.mark.parametrize("game", KNOWN)
def test_known_counts(game):
    env = envs.make(game)
    first = env.init(jax.random.key(0))
    depths = [depth for depth, count in enumerate(KNOWN[game], 1) if FULL or count < 250_000]
    assert [perft(env, first, depth) for depth in depths] == list(KNOWN[game][: len(depths)])
