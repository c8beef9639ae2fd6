"""Matches on the device: sides, openings, draws, extra turns, intervals, the file of results."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_rules import CONNECT_FOUR, TIC_TAC_TOE, PythonCountdown, countdown, in_order

from jaxzero.evaluation import players
from jaxzero.evaluation.matches import MatchResult, interval, play, summary, write_results
from jaxzero.messages import ConfigError

# Matches


def run(env, agent, opponent, games, opening_plies=0, seed=0):
    return jax.device_get(play(env, agent, opponent, games, opening_plies)(None, None, jax.random.key(seed)))


def test_random_against_random():
    """Known exactly for tic-tac-toe: the first player wins 0.5849, 0.1270 are drawn."""
    player = players.random_player(TIC_TAC_TOE)
    result = summary(run(TIC_TAC_TOE, player, player, 4000))
    for name, wins in (("as_first", 0.5849), ("as_second", 0.2881)):
        assert abs(result[name]["wins"] / 2000 - wins) < 0.05
        assert abs(result[name]["draws"] / 2000 - 0.1270) < 0.035
    assert result["interval"][0] - 0.01 < 0.5 < result["interval"][1] + 0.01


def test_both_games_of_a_pair_share_their_opening():
    player = in_order(CONNECT_FOUR, [3, 2, 4, 1, 5, 0, 6])
    outcomes, plies, *_ = run(CONNECT_FOUR, player, player, 64, opening_plies=6)
    np.testing.assert_array_equal(outcomes[0], -outcomes[1])  # the same game, seen from both sides
    np.testing.assert_array_equal(plies[0], plies[1])
    assert len(set(plies[0].tolist())) > 4  # and the openings differ


def test_openings_never_finish_the_game():
    """With at most 3 in the pile every long opening would."""
    env = countdown(3)
    player = players.minimax_player(env, 3)
    result = run(env, player, player, 64, opening_plies=5)
    assert (abs(result.outcomes) == 1).all()
    assert result.plies.min() == 1


def test_sides():
    env = countdown(1)  # player 0 takes it
    player = in_order(env, range(5))
    result = summary(run(env, player, player, 10))
    assert (result["as_first"]["wins"], result["as_second"]["losses"]) == (5, 5)
    assert (result["score"], result["as_first"]["score"], result["as_second"]["score"]) == (0.5, 1.0, 0.0)
    assert (result["games"], result["mean_length"]) == (10, 1.0)


def test_draws_score_the_same_from_both_sides():
    env = countdown(last=0.0)
    result = summary(run(env, in_order(env, range(5)), in_order(env, [2, 1, 0, 3, 4]), 10))
    assert result["draws"] == 10
    assert result["score"] == result["as_first"]["score"] == result["as_second"]["score"] == 0.5


@pytest.mark.parametrize("orders", [([1, 0, 2], [2, 0, 1]), ([0, 1, 2], [1, 2, 0])])
def test_extra_turns(orders):
    """One side moves several times running; outcome and length against plain Python."""
    env = countdown()
    agent, opponent = [in_order(env, [*order, 3, 4]) for order in orders]
    outcomes, plies, *_ = run(env, agent, opponent, 4)
    for seat in (0, 1):
        position, over, length, winner = PythonCountdown.start, False, 0, None
        while not over:
            legal = PythonCountdown.moves(position)
            action = next(a for a in orders[position[1] != seat] if a in legal)
            position, winner, over = PythonCountdown.play(position, action)
            length += 1
        assert (plies[seat] == length).all()
        assert (outcomes[seat] == (1 if winner == seat else -1)).all()


def test_odd_number_of_games():
    player = players.random_player(TIC_TAC_TOE)
    with pytest.raises(ConfigError, match=r"evaluation\.games must be even.*got 7"):
        play(TIC_TAC_TOE, player, player, 7, 0)


def test_interval_is_over_pairs():
    one = np.ones(50, np.int8)
    split = interval(np.stack([one, -one]))  # every opening decides for one side: nothing is uncertain
    swept = interval(np.stack([one, one]))
    mixed = interval(np.stack([np.tile([1, -1], 25)] * 2))
    assert split[1] - split[0] < 0.06
    assert 0.93 < swept[0] < 0.95
    assert swept[1] == 1.0
    pairs = np.append(np.tile([1.0, 0.0], 25), [1.0, 0.0])
    assert mixed == pytest.approx([0.5 - 1.96 * pairs.std(ddof=1) / 52**0.5, 0.5 + 1.96 * pairs.std(ddof=1) / 52**0.5])


def test_results_file(tmp_path):
    result = MatchResult(jnp.array([[1, 0, -1], [1, 1, -1]], jnp.int8), jnp.array([[5, 9, 6], [7, 5, 10]]))
    file = write_results(tmp_path, 12, {"random": summary(result)}, "2025-01-02T03:04:05")
    assert file == tmp_path / "evaluations" / "iteration_12" / "results.json"
    assert [child.name for child in file.parent.iterdir()] == ["results.json"]
    content = json.loads(file.read_text())
    assert (content["iteration"], content["timestamp"]) == (12, "2025-01-02T03:04:05")
    row = content["results"]["random"]
    assert [row[name] for name in ("games", "wins", "draws", "losses", "mean_length")] == [6, 3, 1, 2, 7.0]
    assert row["score"] == pytest.approx(3.5 / 6)
    assert row["as_first"] == {"games": 3, "wins": 1, "draws": 1, "losses": 1, "score": 0.5}
    assert row["as_second"]["score"] == pytest.approx(2 / 3)
    assert row["interval"][0] < row["score"] < row["interval"][1]
