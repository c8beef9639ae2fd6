"""Matches of any two players: runs, rounds, stopping, progress; the loop on the host beside that on the device."""

import io
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fabricated import scored_run
from plain_rules import TIC_TAC_TOE, countdown, in_order

import envs
from jaxzero import records
from jaxzero.evaluation import arena, host, matches
from jaxzero.evaluation.base import Contestant
from jaxzero.evaluation.matches import MatchResult
from jaxzero.evaluation.players import make_player, policy_player, random_player
from jaxzero.evaluation.sprt import Sprt
from jaxzero.messages import ConfigError
from jaxzero.runs import folder as folder_lib
from jaxzero.runs.progress import Watch


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_run(tmp_path_factory.mktemp("runs") / "tiny")


# Players that are runs


def test_a_run_plays_as_its_network_does(tiny: Path):
    states = jax.vmap(TIC_TAC_TOE.init)(jax.random.split(jax.random.key(0), 2))
    keys = jax.random.split(jax.random.key(1), 2)
    for spec, step in (("", 7), ("@latest", 7), ("@best", 3), ("@3", 3)):
        contestant = make_player(f"{tiny}{spec}:0", TIC_TAC_TOE)
        loaded = folder_lib.load(tiny, step)
        jax.tree.map(np.testing.assert_array_equal, contestant.params, loaded.params)
        expected = policy_player(TIC_TAC_TOE, loaded.network.infer)(loaded.params, keys, states)
        np.testing.assert_array_equal(contestant.player(contestant.params, keys, states), expected)  # pyright: ignore


def test_runs_that_cannot_play(tiny: Path):
    for spec, game, message in (
        (f"{tiny}@5", "tic_tac_toe", "no checkpoint of step 5; there are: 3, 7"),
        (f"{tiny}@bset", "tic_tac_toe", "STEP must be a whole number from 0 to 1000000000, got 'bset'"),
        (f"{tiny}:many", "tic_tac_toe", "SIMULATIONS must be a whole number from 0 to 32766, got 'many'"),
        (f"{tiny}", "connect_four", r"the run plays TicTacToe\(\), not ConnectFour\(\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_player(spec, envs.make(game))


# The two loops


@pytest.mark.parametrize("lanes", [2, 6])
def test_both_loops_play_the_same_games(monkeypatch: pytest.MonkeyPatch, lanes: int):
    """Extra turns, draws, dice and random openings; players that depend on their keys; games that wait for a lane."""
    monkeypatch.setitem(matches.LANES, jax.default_backend(), lanes)
    for env in (countdown(), TIC_TAC_TOE, envs.make("ur", pieces=1)):
        a, b = random_player(env), in_order(env, np.arange(env.num_actions))
        device = matches.play(env, a, b, 12, 3)(None, None, jax.random.key(5))
        outside = host.play(env, Contestant("a", a), Contestant("b", b), 12, 3)(jax.random.key(5))
        jax.tree.map(np.testing.assert_array_equal, device, outside)


def test_moves_are_those_played():
    """Replayed through the rules they give the outcomes, from the opening on."""
    a = random_player(TIC_TAC_TOE)
    result = jax.device_get(matches.play(TIC_TAC_TOE, a, a, 40, 4)(None, None, jax.random.key(0)))
    np.testing.assert_array_equal((result.moves >= 0).sum(-1), result.plies)
    for seat in (0, 1):
        games = [row[row >= 0].tolist() for row in result.moves[seat]]
        for played, replayed, outcome in zip(
            games, records.replay(TIC_TAC_TOE, games), result.outcomes[seat], strict=True
        ):
            assert (replayed.played, replayed.over) == (len(played), True)
            assert replayed.result[seat] == outcome
    assert (result.moves[0, :, 0] == result.moves[1, :, 0]).mean() > 0.7  # openings are shared, most are not empty


# Rounds


def test_rounds_and_their_stop(monkeypatch: pytest.MonkeyPatch):
    """Rounds of equal size, cut to what was asked; a verdict ends them."""
    asked = []

    def rounds(env, a, b, games, opening_plies, watch):
        asked.append(games)
        ones = MatchResult(np.ones((2, games // 2), np.int8), np.ones((2, games // 2)), np.zeros((2, games // 2, 9)))
        return lambda key: ones

    monkeypatch.setattr(arena, "player_of_rounds", rounds)
    nobody = Contestant("nobody", lambda *args: jnp.zeros(0))
    play = lambda **options: arena.play(TIC_TAC_TOE, nobody, nobody, arena.Match(**options)).outcomes.size  # noqa: E731
    assert (play(games=100), asked) == (100, [100])
    assert (play(games=100, at_once=30), asked[1:]) == (100, [26])
    test = Sprt(0, 20)
    won = play(games=1000, at_once=50, sprt=test) // 2
    assert [test.verdict(np.array([0, 0, 0, 0, pairs])) for pairs in (won - 25, won)] == ["", "H1"]
    for wrong in ({"games": 3}, {"games": 0}, {"games": 2, "at_once": 1}, {"games": 2, "opening_plies": -1}):
        with pytest.raises(ConfigError, match=list(wrong)[-1]):
            play(**wrong)


def test_duplicates():
    moves = np.array([[[1, 2], [1, 2], [1, 3], [1, 2]], [[1, 2], [4, 2], [4, 2], [5, 0]]])
    assert arena.duplicates(moves) == 2 + 1


def test_watching_changes_nothing():
    """Told each turn how many games are over, by the device and by the host: at last all of them; the same games."""
    a, b = random_player(TIC_TAC_TOE), in_order(TIC_TAC_TOE, np.arange(9))
    plain = matches.play(TIC_TAC_TOE, a, b, 16, 3)(None, None, jax.random.key(5))
    for loop in ("device", "host"):
        told: list[tuple[int, ...]] = []
        watch = lambda *numbers, told=told: told.append(tuple(map(int, numbers)))  # noqa: E731
        if loop == "device":
            watched = matches.play(TIC_TAC_TOE, a, b, 16, 3, watch)(None, None, jax.random.key(5))
        else:
            watched = host.play(TIC_TAC_TOE, Contestant("a", a), Contestant("b", b), 16, 3, watch)(jax.random.key(5))
        jax.block_until_ready(watched)
        jax.effects_barrier()
        jax.tree.map(np.testing.assert_array_equal, plain, watched)
        last = {pair: (over, plies) for pair, over, plies in sorted(told)}
        assert sum(over for over, _ in last.values()) == 16
        assert max(plies for _, plies in last.values()) == np.max(plain.plies)
        assert len(told) > 2 * len(last)


def test_a_terminal_shows_how_far_a_match_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    one, other = (Contestant(name, random_player(TIC_TAC_TOE)) for name in ("one", "other"))
    for terminal in (True, False):
        stream = io.StringIO()
        stream.isatty = lambda terminal=terminal: terminal
        arena.play(TIC_TAC_TOE, one, other, arena.Match(32, at_once=16), Watch(stream))
        assert ("one against other" in stream.getvalue()) == terminal
        assert ("32/32" in stream.getvalue()) == terminal
        assert terminal or not stream.getvalue()


def test_devices_tell_at_once(monkeypatch: pytest.MonkeyPatch):
    """A device whose numbers come late does not take back what another has told meanwhile."""
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    stream.isatty = lambda: True
    watch = Watch(stream)
    assert watch.tell

    class Late:
        """A number that is there only once the other device has told its own."""

        def __int__(self) -> int:
            other = threading.Thread(target=watch.tell, args=(8, 16, 9))
            other.start()
            other.join()
            return 9

    with watch.match("one against other", 32):
        watch.tell(0, 16, Late())
    assert "32/32" in stream.getvalue()
