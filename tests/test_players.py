"""Players by name; rollouts against exact solvers and hand-worked positions; the solvers against plain minimax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_rules import CONNECT_FOUR, TIC_TAC_TOE, PythonTicTacToe, move_values, random_positions, stack

import envs
from jaxzero import solvers
from jaxzero.evaluation import players, rollouts
from jaxzero.evaluation.base import HostPlayer, HostPositions
from jaxzero.evaluation.players import make_device_player, make_player
from jaxzero.messages import ConfigError


@pytest.mark.parametrize(("spec", "message"), [
    ("randm", "'randm': no such player, and no run of that name; did you mean 'random'? known: random, greedy,"),
    ("minmax:2", "did you mean 'minimax:DEPTH'"),
    ("minimax", "'minimax': it is written minimax:DEPTH"),
    ("random:2", "'random:2': it is written random"),
    ("minimax:0", "'minimax:0': DEPTH must be a whole number from 1 to 9, got '0'"),
    ("minimax:1000000", "DEPTH must be a whole number from 1 to 9, got '1000000'"),
    ("minimax:٣", "DEPTH must be a whole number from 1 to 9, got '٣'"),
    ("minimax:" + "9" * 5000, "DEPTH must be a whole number from 1 to 9, got '999"),
    ("mcts:many", "SIMULATIONS must be a whole number from 1 to 32766, got 'many'"),
    ("mcts:1000000000000", "SIMULATIONS must be a whole number from 1 to 32766, got '1000000000000'"),
    ("uci:stockfish", "uci programs play chess here, not tic_tac_toe"),
    ("runs/nothing@3:4", "no such player, and no run"),
    ("@:", "no such player"),
])  # fmt: skip
def test_wrong_names(spec: str, message: str):
    with pytest.raises(ConfigError) as error:
        make_player(spec, TIC_TAC_TOE, "match.a")
    assert str(error.value).startswith("match.a: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_games():
    with pytest.raises(ConfigError, match=r"'perfect': no solver of chess; there are solvers of tic_tac_toe, "):
        make_player("perfect", envs.make("chess"))
    with pytest.raises(ConfigError, match=r"'perfect': the Hex solver takes boards of size 2 to 4, not 7"):
        make_player("perfect", envs.make("hex", size=7))
    with pytest.raises(ConfigError, match="'mcts:8': mcts takes values"):
        make_player("mcts:8", envs.make("2048"))
    with pytest.raises(ConfigError, match=r"evaluation\.opponents: 'perfect' does not play on the device"):
        make_device_player("perfect", TIC_TAC_TOE, "evaluation.opponents")


# Rollouts


def choices(env, simulations, text, times):
    search = rollouts.make(env, simulations)
    keys = jax.random.split(jax.random.key(0), times)
    return np.asarray(jax.jit(players.search_player(env, search))(None, keys, stack([env.from_text(text)] * times)))


@pytest.mark.parametrize("text", ["XX. OO. ...", "XX. .O. O.."])
def test_rollouts_win_at_once(text):
    assert (choices(TIC_TAC_TOE, 60, text, 16) == 2).all()


def test_rollouts_are_means_of_random_games():
    """From XO. ... ...: the mean of random games, counted out by plain recursion."""

    def mean(position):
        values = []
        for action in PythonTicTacToe.moves(position):
            after, winner, over = PythonTicTacToe.play(position, action)
            values.append((1.0 if winner is not None else 0.0) if over else -mean(after))
        return sum(values) / len(values)

    states = stack([TIC_TAC_TOE.from_text("XO. ... ...")] * 4000)
    values = jax.jit(lambda key, states: rollouts.rollout(TIC_TAC_TOE, key, states))(jax.random.key(1), states)
    assert set(np.unique(values)) == {-1.0, 0.0, 1.0}
    assert np.mean(values) == pytest.approx(mean(("XO" + "." * 7, 0)), abs=0.05)


def test_a_rollout_of_a_finished_game_earns_nothing():
    over = TIC_TAC_TOE.step(TIC_TAC_TOE.from_text("XX. OO. ..."), jnp.int32(2))
    assert rollouts.rollout(TIC_TAC_TOE, jax.random.key(0), stack([over] * 2)).tolist() == [0, 0]


# Solvers


def test_tic_tac_toe_is_solved():
    states, positions = random_positions(TIC_TAC_TOE, PythonTicTacToe, 40, 7, seed=0)
    values = solvers.make(TIC_TAC_TOE)(jax.device_get(states))
    for row, position in zip(values, positions, strict=True):
        assert {a: v for a, v in enumerate(row) if not np.isnan(v)} == move_values(PythonTicTacToe, position, 9)


def test_connect_four_is_solved_whoever_moves():
    """Sides are not mixed up: the same three in a row, with either to move."""
    pytest.importorskip("bitbully")
    solve = solvers.make(CONNECT_FOUR)
    rows = "....... ....... ....... ....... ....... {}"
    states = jax.device_get(stack([CONNECT_FOUR.from_text(rows.format(row)) for row in ("XXX.OOO", "XXX.OO.")]))
    first, second = solve(states)
    assert first[3] == 1  # X wins at once
    assert second[3] != -1  # O must block
    assert (np.delete(second, 3) == -1).all()


def test_other_games_have_their_solvers():
    hex3, ur = envs.make("hex", size=3, swap=False), envs.make("ur", pieces=1)
    start = jax.device_get(stack([hex3.init(jax.random.key(0))]))
    assert solvers.make(hex3)(start)[0, 4] == 1  # the centre wins
    state = jax.device_get(stack([ur.init(jax.random.key(0))]))
    values = solvers.make(ur)(state)
    assert values.shape == (1, ur.num_actions)
    assert (np.isnan(values[0]) == ~np.asarray(ur.legal_actions(jax.tree.map(lambda x: x[0], state)))).all()


def test_perfect_keeps_the_value_and_spreads():
    contestant = make_player("perfect", TIC_TAC_TOE)
    states = jax.device_get(stack([TIC_TAC_TOE.from_text("X.. .O. ..X")] * 200))
    legal = np.asarray(jax.vmap(TIC_TAC_TOE.legal_actions)(states))
    assert isinstance(contestant.player, HostPlayer)
    chosen = contestant.player.choose(HostPositions(states, legal, [[]] * 200), np.random.default_rng(0))
    values = move_values(PythonTicTacToe, ("X...O...X", 1), 9)
    assert set(chosen) == {a for a, v in values.items() if v == 0} == {1, 3, 5, 7}  # a corner loses
