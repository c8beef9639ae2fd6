"""Exhaustive play beside an enumeration in plain Python."""

import collections
import time

import jax.numpy as jnp
import pytest
from plain_rules import CONNECT_FOUR, TIC_TAC_TOE, PythonCountdown, PythonTicTacToe, countdown, in_order, same_key

import envs
from jaxzero.evaluation import players
from jaxzero.evaluation.exhaustive import exhaustive
from jaxzero.messages import ConfigError


def test_an_exhaustive_search_refuses_chance():
    env = envs.make("ur", pieces=1)
    with pytest.raises(ConfigError, match="ur has chance"):
        exhaustive(env, same_key(players.random_player(env)))


# Exhaustive play


def enumerate_lines(rules, order, side):
    """Lines and distinct final positions by outcome for `side`, which plays the first legal action of `order`."""
    lines, ends = collections.Counter(), set()

    def visit(position):
        legal = rules.moves(position)
        for action in [next(a for a in order if a in legal)] if position[1] == side else legal:
            after, winner, over = rules.play(position, action)
            if over:
                outcome = "draws" if winner is None else "wins" if winner == side else "losses"
                lines[outcome] += 1
                ends.add((after, outcome))
            else:
                visit(after)

    visit(rules.start)
    positions = collections.Counter(outcome for _, outcome in ends)
    names = ("wins", "draws", "losses")
    return {"lines": {n: lines[n] for n in names}, "positions": {n: positions[n] for n in names}}


@pytest.mark.parametrize(
    ("env", "rules", "order"),
    [(TIC_TAC_TOE, PythonTicTacToe, [4, 0, 8, 2, 6, 1, 3, 5, 7]), (countdown(), PythonCountdown, [2, 0, 1, 3, 4])],
)
def test_exhaustive_is_enumeration(env, rules, order):
    act = same_key(in_order(env, order))
    exhaustive(env, act, batch=64)
    start = time.perf_counter()
    result = exhaustive(env, act, batch=64)
    assert time.perf_counter() - start < 2
    for side, name in enumerate(("first", "second")):
        counts = {key: result[name][key] for key in ("lines", "positions")}
        assert counts == enumerate_lines(rules, order, side)


def test_exhaustive_refuses():
    with pytest.raises(ConfigError, match=r"evaluation\.exhaustive: connect_four has more than 1000 positions"):
        exhaustive(CONNECT_FOUR, same_key(in_order(CONNECT_FOUR, range(7))), limit=1000)
    with pytest.raises(ValueError, match="illegal action"):
        exhaustive(TIC_TAC_TOE, lambda states: jnp.zeros(len(states.player), jnp.int32))
