"""Players beside plain Python: minimax, equal moves, networks."""

import math

import jax
import numpy as np
import pytest
from plain_rules import (
    CONNECT_FOUR,
    TIC_TAC_TOE,
    PythonConnectFour,
    PythonCountdown,
    PythonTicTacToe,
    countdown,
    move_values,
    random_positions,
    same_key,
    stack,
)

from jaxzero import networks, search
from jaxzero.evaluation import players
from jaxzero.evaluation.exhaustive import exhaustive
from jaxzero.models import simulator
from jaxzero.networks import MlpConfig
from jaxzero.search import GumbelConfig

# Players


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("env", "rules", "most", "width"),
    [
        (TIC_TAC_TOE, PythonTicTacToe, 7, 100),  # wider trees go move by move
        (CONNECT_FOUR, PythonConnectFour, 25, players.LEAVES),
        (countdown(), PythonCountdown, 7, players.LEAVES),  # fewer slots than actions, extra turns
    ],
)
def test_minimax_is_negamax(env, rules, most, width, depth):
    states, positions = random_positions(env, rules, 16, most, seed=depth)
    actions, values = jax.jit(jax.vmap(lambda state: players.minimax_values(env, state, depth, width)))(states)
    for row, position in enumerate(positions):
        used = np.isfinite(values[row])
        assert dict(zip(actions[row][used].tolist(), values[row][used].tolist(), strict=True)) == move_values(
            rules, position, depth
        )


@pytest.mark.parametrize(
    ("depth", "best", "text"),
    [
        (1, {3}, "....... ....... ....... ...X... O..X... O..X..O"),  # wins at once
        (2, {0}, "....... ....... ....... O...... O..X... O..XX.X"),  # blocks
        (3, {1, 4}, "....... ....... ....... ....... ..OO... ..XX..."),  # makes an open three
    ],
)
def test_minimax_finds_the_move(depth, best, text):
    state = CONNECT_FOUR.from_text(text)
    states = stack([state] * 64)
    chosen = players.minimax_player(CONNECT_FOUR, depth)(None, jax.random.split(jax.random.key(1), 64), states)
    assert set(np.asarray(chosen).tolist()) == best


@pytest.mark.parametrize("opponent", ["random", "minimax:1"])
def test_equal_moves_are_equally_likely(opponent):
    states = stack([TIC_TAC_TOE.from_text("XO. ... ...")] * 2100)
    player, _ = players.make_device_player(opponent, TIC_TAC_TOE)
    chosen = jax.jit(player)(None, jax.random.split(jax.random.key(2), 2100), states)
    counts = np.bincount(np.asarray(chosen), minlength=9)
    assert (counts[:2] == 0).all()
    assert abs(counts[2:] - 300).max() < 5 * math.sqrt(300 * 6 / 7)


def test_perfect_minimax_never_loses():
    result = exhaustive(TIC_TAC_TOE, same_key(players.make_device_player("minimax:9", TIC_TAC_TOE)[0]), batch=16)
    for side in result.values():
        assert side["lines"]["losses"] == side["positions"]["losses"] == 0
        assert side["lines"]["wins"] > side["lines"]["draws"] > 0


def test_network_players():
    env = TIC_TAC_TOE
    network = networks.make(MlpConfig(sizes=(16,)), env)
    params = network.fold(network.init(jax.random.key(0)))
    states, _ = random_positions(env, PythonTicTacToe, 32, 7, seed=3)
    legal = np.asarray(jax.vmap(env.legal_actions)(states))
    keys = jax.random.split(jax.random.key(1), 32)
    chosen = np.asarray(players.policy_player(env, network.infer)(params, keys, states))
    logits = np.asarray(network.infer(params, jax.vmap(env.observe)(states)).logits)
    np.testing.assert_array_equal(chosen, np.where(legal, logits, -np.inf).argmax(-1))

    searcher = search.make(GumbelConfig(), env, simulator.make(env, network.infer), 16)
    player = jax.jit(players.search_player(env, searcher))
    assert legal[np.arange(32), np.asarray(player(params, keys, states))].all()
    winning = stack([env.from_text("XX. OO. ...")] * 32)
    assert (player(params, keys, winning) == 2).all()
