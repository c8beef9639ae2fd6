"""Programs by UCI and GTP, played by a fake one that crashes, hangs or plays illegal moves on command."""

import contextlib
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import chess
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import envs
from gauntlet import engines as attacks
from jaxzero.evaluation import engines, host, processes
from jaxzero.evaluation.base import Contestant, HostPlayer, HostPositions
from jaxzero.evaluation.matches import MatchResult
from jaxzero.evaluation.players import make_player
from jaxzero.messages import ConfigError

CHESS, GO = envs.make("chess"), envs.make("go", size=5, move_cap=8)
FAKE = f"{sys.executable} {Path(__file__).with_name('fake_engine.py')}"


def fake(protocol: str, folder: Path, deeds: str = "", options: str = "") -> Contestant:
    (folder / "plan").write_text(deeds)
    spec = f"{protocol}:{FAKE} {protocol} {folder / 'plan'} {folder / 'log'}:processes=1,timeout=20{options}"
    return make_player(spec, CHESS if protocol == "uci" else GO)


def close(contestant: Contestant) -> None:
    assert isinstance(contestant.player, HostPlayer)
    contestant.player.close()


# One move


def positions(*games: str) -> HostPositions:
    """Chess positions after moves, with the legal moves of python-chess."""
    states, legal = [], []
    for game in games:
        board = chess.Board()
        for move in game.split():
            board.push_uci(move)
        state = jax.device_get(CHESS.from_text(board.fen()))
        names = [CHESS.action_to_str(state, action) for action in range(CHESS.num_actions)]
        able = {move.uci() for move in board.legal_moves}
        mask = np.array([name in able for name in names])
        assert len(able) == mask.sum()
        states.append(state)
        legal.append(mask)
    stacked = jax.tree.map(lambda *x: np.stack(x), *states)
    return HostPositions(stacked, np.stack(legal), [game.split() for game in games])


def test_uci(tmp_path: Path):
    """The first legal moves by name, for white and for black."""
    contestant = fake("uci", tmp_path, options=",Skill Level=3,nodes=50")
    asked = positions("", "e2e4", "e2e4 a7a6 f1b5")
    chosen = contestant.player.choose(asked, np.random.default_rng(0))  # pyright: ignore
    named = [CHESS.action_to_str(jax.tree.map(lambda x, i=i: x[i], asked.states), a or 0) for i, a in enumerate(chosen)]
    assert named == ["a2a3", "a7a5", "a6a5"]
    close(contestant)
    log = (tmp_path / "log").read_text().splitlines()
    assert log[:3] == ["uci", "setoption name Skill Level value 3", "isready"]
    assert log[3:] == [
        "isready", "position startpos", "go nodes 50", "isready", "position startpos moves e2e4", "go nodes 50",
        "isready", "position startpos moves e2e4 a7a6 f1b5", "go nodes 50",
    ]  # fmt: skip


@pytest.mark.parametrize(("deeds", "options", "restarts"), [
    ("crash", "", 1), ("illegal illegal", "", 2), ("hang", ",timeout=1.5", 1),
])  # fmt: skip
def test_a_failing_program_is_started_anew_and_asked_again(tmp_path, caplog, deeds, options, restarts):
    contestant = fake("uci", tmp_path, deeds, options)
    chosen = contestant.player.choose(positions("e2e4"), np.random.default_rng(0))  # pyright: ignore
    assert chosen[0] is not None
    assert contestant.player.report() == {"restarts": restarts, "forfeits": 0}  # pyright: ignore
    said = {"crash": "has ended (exit status 3)", "illegal illegal": "played 'a1h8', which is not legal there"}
    assert said.get(deeds, "did not answer within 1.5 s") + ", after e2e4; started anew" in caplog.text
    close(contestant)


def test_a_game_is_given_up_after_three_attempts(tmp_path: Path):
    contestant = fake("uci", tmp_path, "play crash crash crash play")
    chosen = contestant.player.choose(positions(*["e2e4"] * 3), np.random.default_rng(0))  # pyright: ignore
    assert [action is None for action in chosen] == [False, True, False]
    assert contestant.player.report() == {"restarts": 3, "forfeits": 1}  # pyright: ignore
    close(contestant)


def test_a_hopeless_program_ends_the_match(tmp_path: Path):
    contestant = fake("uci", tmp_path, "play " + "crash " * 20)
    with pytest.raises(ConfigError, match=r"9 failures without a move between them; the last: has ended \(exit"):
        contestant.player.choose(positions(*["e2e4"] * 4), np.random.default_rng(0))  # pyright: ignore
    close(contestant)


@pytest.mark.parametrize(("spec", "message"), [
    ("uci:stockfsh", "'uci:stockfsh': no program 'stockfsh' on the path; give its path"),
    ("uci:", "no program given"),
    ("uci:true", "true has ended (exit status 0); is it a UCI program?"),
    (f"uci:{FAKE} uci none:Skil Level=3", "no option 'Skil Level'; did you mean 'Skill Level'?"),
    ("uci:true 'x", "its quotes do not match"),
    ("uci:true:=5", "a value without a name, '5'; options are OPTION=VALUE"),
    ("uci:true:x=a\nquit", r"the control character '\n' cannot be told to a program"),
    (f"uci:{Path(__file__)}", "is no program; make it executable"),
    ("uci:true:timeout=0.1", "timeout (0.1 s) must be longer than movetime (100 ms)"),
    ("gtp:gnugo", "gtp programs play go here, not chess"),
])  # fmt: skip
def test_programs_that_cannot_be_used(spec: str, message: str):
    with pytest.raises(ConfigError) as error:
        make_player(spec, CHESS, "B")
    assert message in str(error.value)
    assert str(error.value).startswith(("B: ", sys.executable))


@pytest.mark.parametrize(("option", "form", "values"), [
    ("timeout (seconds a move, default 30)", "number from 0.001 to 86,400", ("inf", "0", "nan", "-1", "1e400", "soon")),
    ("processes (programs that run at once, default", "whole number from 1 to", ("0", "1.5", "1e9", "nan", "two")),
    ("movetime (milliseconds a move, default 100)", "whole number from 1 to 86,400,000", ("0", "0.5", "ten")),
])  # fmt: skip
def test_odd_values(option: str, form: str, values: tuple[str, ...]):
    for value in values:
        with pytest.raises(ConfigError) as error:
            make_player(f"uci:yes:{option.split()[0]}={value}", CHESS)
        assert option in str(error.value)
        assert f"must be a {form}" in str(error.value)
        assert str(error.value).endswith(f"got {value!r}")


@pytest.mark.parametrize(("argument", "words", "options"), [
    ("sf", ["sf"], {}),
    ("sf -x:nodes=20,Skill Level=3", ["sf", "-x"], {"nodes": "20", "Skill Level": "3"}),
    ("'/opt/my engine:2/s,f' a:Ponder,Book=\"a,b=c:d.bin\"", ["/opt/my engine:2/s,f", "a"],
     {"Ponder": "", "Book": "a,b=c:d.bin"}),
    (r"/my\ engine\:2/sf:Path=C:\x", ["/my engine:2/sf"], {"Path": r"C:\x"}),
    (r'''"it's \"x\":" 'a"b':N="it's"''', ["it's \"x\":", 'a"b'], {"N": "it's"}),
    ("", [], {}),
    ("sf:", ["sf"], {}),
])  # fmt: skip
def test_how_programs_are_written(argument: str, words: list[str], options: dict[str, str]):
    assert engines.split(argument) == (words, options)


@given(st.lists(st.text(":,='\"\\ ab") | st.text(st.characters(exclude_categories=("Cc", "Cs"))), min_size=1))
def test_any_program_can_be_written(words: list[str]):
    quoted = " ".join("'" + word.replace("'", """'"'"'""") + "'" for word in words)
    assert engines.split(f"{quoted}:x=1") == (words, {"x": "1"})


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engines.shutil, "which", lambda *args, **kwargs: None)
    with pytest.raises(ConfigError, match="no program 'gnugo' on the path; apt-get install gnugo"):
        make_player("gtp:gnugo", GO)


# Programs that chatter, flood, hang and fork: a few sure cases of those that `gauntlet.engines` draws at random


@pytest.fixture
def table(tmp_path: Path) -> Iterator[attacks.Table]:
    table = attacks.Table(Random(0), tmp_path)
    yield table
    assert not table.left()


def pool(table: attacks.Table, protocol: str, options: str = "timeout=20", **plan: Any) -> engines.Engine:
    """A pool of one program that follows a plan."""
    game = attacks.GAMES["chess" if protocol == "uci" else "go"]
    return engines.Engine(protocol, f"{table.program(protocol, **plan)}:processes=1,{options}", game)


def numberless(*lines: str) -> dict[str, str]:
    """The answers of a GTP program that knows no numbers."""
    return {word: "\n".join([*lines, "= d4" if word == "genmove" else "=", "", ""]) for word in attacks.ANSWERS["gtp"]}


@pytest.mark.parametrize(("protocol", "plan", "chosen"), [
    ("gtp", {"banner": "Toy engine\nthreads: 4\n\n"}, 0),
    ("gtp", {"banner": "Toy engine\nthreads: 4\n\n", "answers": numberless()}, 1),
    ("gtp", {"answers": numberless("* thinking", "   = 47 %", "")}, 1),
    ("gtp", {"answers": attacks.ANSWERS["gtp"] | {"genmove": "= 47 %\n? not yet\n=0 d4\n\n=# c3\n\n"}}, 0),
    ("gtp", {"answers": attacks.ANSWERS["gtp"] | {"genmove": "=# c3\r\n\r\n=# d4\r\n\r\n"}}, 0),  # one too many
    ("uci", {"noise": "\r\n\0\xff\n  info string bestmove d2d4\nUnknown command\n"}, 0),
    ("uci", {"answers": attacks.ANSWERS["uci"] | {"go": "bestmove E7E8Q\nbestmove d2d4\n"}}, 2),
])  # fmt: skip
def test_noise_costs_nothing(table: attacks.Table, protocol: str, plan: dict[str, Any], chosen: int):
    engine = pool(table, protocol, **plan)
    assert attacks.ask(engine, 3) == [chosen] * 3
    assert engine.report() == {"restarts": 0, "forfeits": 0}
    engine.close()


@pytest.mark.parametrize("answer", ["bestmove (none)", "bestmove 0000", "bestmove"])
def test_who_names_no_move_gives_that_game_up(table: attacks.Table, answer: str):
    engine = pool(table, "uci", deeds={"go2": "half", "go": ""}, half=f"{answer}\n")
    assert attacks.ask(engine, 3) == [0, None, 0]
    assert engine.report() == {"restarts": 1, "forfeits": 1}
    engine.close()


@pytest.mark.parametrize("protocol", ["uci", "gtp"])
def test_a_late_answer_is_nobodys(table: attacks.Table, protocol: str):
    word, answer = {"uci": ("go", "bestmove d2d4\n"), "gtp": ("genmove", "= d4\n\n")}[protocol]
    engine = pool(table, protocol, "timeout=2", deeds={word: "late"}, late=2.2, half=answer, once="yes")
    assert attacks.ask(engine, 2) == [0, 0]
    assert engine.report() == {"restarts": 1, "forfeits": 0}
    engine.close()


@pytest.mark.parametrize(("deed", "message"), [
    ("lines", "did not answer within 1 s"), ("line", "wrote a line of more than 262,144 bytes"),
])  # fmt: skip
def test_floods_are_bounded(table: attacks.Table, deed: str, message: str):
    Path("/proc/self/clear_refs").write_text("5")
    before, began = attacks.sized(), time.monotonic()
    with pytest.raises(ValueError, match=message):
        pool(table, "uci", "timeout=1", deeds={"start": deed}, ignored=["SIGPIPE", "SIGTERM"])
    assert time.monotonic() - began < 10
    assert attacks.sized() - before < attacks.MEMORY


@pytest.mark.parametrize("deeds", [{}, {"go": "die"}, {"start": "die"}, {"isready": "hang"}])
def test_children_end_with_their_program(table: attacks.Table, deeds: dict[str, str]):
    plan = {"deeds": deeds, "children": ["plain", "session"], "once": "yes" * ("go" in deeds), "ignored": ["SIGHUP"]}
    with contextlib.suppress(ValueError):
        engine = pool(table, "uci", "timeout=2", **plan)
        assert attacks.ask(engine) == [0]
        engine.close()
    assert not table.left()


def test_an_interrupt_ends_a_wait_at_once(table: attacks.Table):
    engine = pool(table, "gtp", deeds={"genmove": "hang"}, children=["plain"])
    timer = threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        attacks.ask(engine, 3)
    assert time.monotonic() - began < 5
    assert engine.restarts == 0
    assert not table.left()


def test_nothing_runs_on_without_its_pool(table: attacks.Table, monkeypatch: pytest.MonkeyPatch):
    """When it was not closed, and when the interpreter is about to end."""
    engine = pool(table, "uci", children=["session"])
    del engine
    assert not table.left()
    engine = pool(table, "uci", children=["session"])
    monkeypatch.setattr(processes, "_over", threading.Event())
    engines.kill_all()
    assert not table.left()
    with pytest.raises(processes.Stopped):
        attacks.ask(engine)


# Whole games


def play(contestant: Contestant, opponent: str = "random", games: int = 4) -> MatchResult:
    try:
        return host.play(GO, make_player(opponent, GO), contestant, games, 2)(jax.random.key(0))
    finally:
        close(contestant)


def test_a_match_goes_on_after_a_crash(tmp_path: Path):
    """The same games as without: a program that always passes."""
    (tmp_path / "calm").mkdir()
    calm, troubled = fake("gtp", tmp_path / "calm"), fake("gtp", tmp_path, "play crash play illegal")
    expected, result = play(calm), play(troubled)
    jax.tree.map(np.testing.assert_array_equal, result, expected)
    assert troubled.player.report() == {"restarts": 2, "forfeits": 0}  # pyright: ignore
    log = (tmp_path / "calm" / "log").read_text().splitlines()
    assert log[:4] == ["protocol_version", "boardsize 5", "komi 7.5", "clear_board"]
    row = 1  # the opponent is player 0 in the second game of a pair
    names = [GO.action_to_str(None, int(a)) for a in result.moves[row, 0] if a >= 0]
    passed = max(i for i, name in enumerate(names) if name == "pass" and i % 2 == 0 and i >= 2)
    told = [f"play {'bw'[i % 2]} {name}" for i, name in enumerate(names[:passed])]
    assert "\n".join(["clear_board", *told, "genmove b"]) in "\n".join(log)


def test_who_gives_up_has_lost(tmp_path: Path):
    contestant = fake("gtp", tmp_path, "resign " * 4)
    result = play(contestant)
    assert (result.outcomes == 1).all()
    assert contestant.player.report() == {"restarts": 0, "forfeits": 0}  # pyright: ignore


@pytest.mark.parametrize(("spec", "env"), [
    ("uci:stockfish:nodes=20", envs.make("chess", max_plies=16)), ("gtp:gnugo:level=1", GO),
])  # fmt: skip
def test_real_programs(spec, env):
    if not shutil.which(program := spec.split(":")[1], path=engines.PATHS):
        pytest.skip(f"no {program}")
    contestant = make_player(spec, env)
    result = host.play(env, make_player("random", env), contestant, 2, 2)(jax.random.key(0))
    close(contestant)
    assert contestant.player.report() == {"restarts": 0, "forfeits": 0}  # pyright: ignore
    assert (result.plies >= 4).all()
