"""The checks before training, on games that are right and games that are broken."""

import dataclasses
import json
import sys

import jax.numpy as jnp
import pytest

import envs
from envs.connect_four import ConnectFour
from envs.judges import RulesDifferError, compare, judge_of
from envs.judges.open_spiel import OpenSpiel
from envs.tic_tac_toe import TicTacToe
from jaxzero.messages import ConfigError
from jaxzero.runs import prechecks
from jaxzero.training import preparation


@dataclasses.dataclass(frozen=True)
class Forgetful(TicTacToe):
    """Never sees the last square as legal."""

    def legal_actions(self, state):
        return super().legal_actions(state) & (jnp.arange(9) < 8) | state.terminated


@dataclasses.dataclass(frozen=True)
class Mumbling(TicTacToe):
    def action_to_str(self, state, action):
        return "a1"


@dataclasses.dataclass(frozen=True)
class Upside(TicTacToe):
    """Reads another position than it writes."""

    def from_text(self, text):
        return super().from_text("\n".join(reversed(text.split())))


def test_quick_checks_of_a_right_game():
    perft, round_trip = prechecks.quick(envs.make("tic_tac_toe"))
    assert (perft.passed, perft.detail) == (True, "published counts to depth 4")
    assert round_trip.passed
    assert round_trip.detail.endswith("positions")


@pytest.mark.parametrize(("game", "name", "said"), [
    (Forgetful, "perft", "tic_tac_toe has 8 lines of 1 plies, not 9"),
    (Mumbling, "round trip", "two legal actions are written alike"),
    (Upside, "round trip", "is read as another"),
])  # fmt: skip
def test_quick_checks_of_a_broken_game(monkeypatch, game, name, said):
    monkeypatch.setitem(envs.GAMES, "tic_tac_toe", game)
    results = {check.name: check for check in prechecks.quick(game())}
    assert not results[name].passed
    assert said in results[name].detail


def test_a_game_with_options_has_no_published_counts():
    assert prechecks.count_lines(envs.make("othello", size=6), 10) == "no published counts"


@dataclasses.dataclass(frozen=True)
class Generous(ConnectFour):
    """The second player wins what the first has won."""

    def step(self, state, action):
        after = super().step(state, action)
        return dataclasses.replace(after, rewards=jnp.abs(after.rewards) * jnp.array([-1.0, 1.0]))


def test_differential_play(monkeypatch):
    assert prechecks.differential_play(envs.make("connect_four"), 3).startswith("3 random games as in open_spiel, ")
    monkeypatch.setitem(envs.GAMES, "connect_four", Generous)
    with pytest.raises(AssertionError, match="rewards after"):
        prechecks.differential_play(Generous(), 3)


def test_differential_play_stops_where_rules_differ(monkeypatch):
    """Of two games one repeats a position at its fourth ply."""

    def play(self, action):
        calls.append(action)
        if len(calls) == 4:
            raise RulesDifferError
        played(self, action)

    calls, played = [], OpenSpiel.play
    monkeypatch.setattr(OpenSpiel, "play", play)
    found = compare(TicTacToe(), judge_of(TicTacToe()), 2)
    assert (found.games, found.whole) == (2, 1)
    assert found.plies == len(calls) - 1


@pytest.mark.parametrize(("env", "why"), [
    (envs.make("ur"), "no package with another implementation of ur is known"),
    (Forgetful(), "no package with another implementation of tic_tac_toe is known"),  # a user's own game of that name
    (envs.make("othello", size=6), "open_spiel has no board of that size"),
    (envs.make("gomoku", exact_five=True), "open_spiel has no rule of exactly five"),
    (envs.make("breakthrough", rows=5), "open_spiel has no two rows"),
])  # fmt: skip
def test_without_another_implementation(env, why):
    check = prechecks.timed("differential play", lambda: prechecks.differential_play(env, 3))
    assert check.passed is None
    assert why in check.detail


def test_without_open_spiel(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspiel", None)
    monkeypatch.delitem(sys.modules, "envs.judges.open_spiel", raising=False)
    monkeypatch.delattr("envs.judges.open_spiel", raising=False)
    status, out, _ = run("check", "tic_tac_toe", "--games", "2")
    assert status == 0
    assert "tic_tac_toe: differential play not compared: open_spiel is not installed (pip install open_spiel)" in out


def test_the_result_is_kept(tmp_path):
    preparation.precheck(TicTacToe(), tmp_path)
    kept = json.loads((tmp_path / prechecks.FILE).read_text())
    assert kept["passed"]
    assert prechecks.passed(tmp_path)
    assert [check["name"] for check in kept["checks"]] == ["perft", "round trip"]


def test_a_broken_game_is_not_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(envs.GAMES, "tic_tac_toe", Forgetful)
    with pytest.raises(ConfigError, match="8 lines of 1 plies"):
        preparation.precheck(Forgetful(), tmp_path)
    assert not prechecks.passed(tmp_path)
    assert "not 9" in (tmp_path / prechecks.FILE).read_text()


@pytest.mark.parametrize(("words", "status", "said"), [
    (("check", "tic_tac_toe", "--games", "4"), 0, "tic_tac_toe: contract ok: 4 random games, 8 symmetries"),
    (("check", "tic_tac_to"), 2, "did you mean 'tic_tac_toe'?"),
    (("check", "tic_tac_toe", "--games", "0"), 2, "--games: must be from 1 to 100000, got 0"),
])  # fmt: skip
def test_command(run, words, status, said):
    got, out, error = run(*words)
    assert got == status
    assert said in out + error


def test_command_on_a_broken_game(run, monkeypatch):
    monkeypatch.setitem(envs.GAMES, "tic_tac_toe", Forgetful)
    status, out, _ = run("check", "tic_tac_toe", "--games", "2")
    assert status == 1
    assert "tic_tac_toe: perft FAILED: tic_tac_toe has 8 lines" in out
    assert "tic_tac_toe: differential play FAILED: legal actions after []: {8} differ" in out
