"""Games by self-play, written to shards."""

import functools
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")
from tables import look_up, table

import envs
from jaxzero import records, search
from jaxzero.config.schema import Config, GameConfig, SelfPlayConfig
from jaxzero.data import generate, players, shards
from jaxzero.data.generate import Player, Work, WorkProgress
from jaxzero.messages import ConfigError
from jaxzero.models import simulator
from jaxzero.search import GumbelConfig, SearchConfig
from jaxzero.solvers import tic_tac_toe

GAMES = {
    "tic_tac_toe": GameConfig("tic_tac_toe"),
    "hex": GameConfig("hex", options={"size": 3}),
    "treasure": GameConfig("treasure"),
    "ur": GameConfig("ur", options={"pieces": 2}),
}


@functools.cache
def player(name: str) -> tuple[envs.Env, Player, SearchConfig]:
    env = envs.make(name, **GAMES[name].options)
    settings = GumbelConfig(simulations=4, max_considered=4, temperature_plies=4)
    made = search.make(settings, env, simulator.make(env, look_up))
    return env, Player(made, table(env), "table", 3, "d"), settings


def generated(
    folder: Path, name: str, work: Work, at_once: int = 8, openings: int = 2, stop: int = 10**9
) -> list[dict]:
    """The games of a folder after `stop` games or more, or all."""
    env, who, settings = player(name)
    config = Config(search=settings, selfplay=SelfPlayConfig(at_once, 5, 2))
    shards.create(folder, GAMES[name])
    playing = generate.generate(env, who, config, folder, work)
    for progress in playing:
        if stop <= progress.done < progress.games:
            break
    playing.close()
    return [row for path in shards.shards(folder) for part in shards.read(path) for row in part.to_pylist()]


@pytest.mark.parametrize("name", GAMES)
def test_games_are_legal_whole_and_searched(tmp_path, name):
    rows = generated(tmp_path, name, Work(30, seed=5, block=16))
    assert [row["index"] for row in rows] == list(range(30))
    config = GAMES[name]
    found = [
        records.Game(config.name, config.options, row["actions"], None, {}, row["start"], row["outcomes"])
        for row in rows
    ]
    for row, replayed in zip(rows, records.replay_games(found), strict=True):
        assert replayed.over
        assert replayed.played == len(row["actions"]) == len(row["values"]) == len(row["policy_sizes"])
        np.testing.assert_allclose(row["result"], replayed.result, rtol=1e-6)
        sizes = row["policy_sizes"]
        assert [n == 0 for n in sizes] == [ply < row["opening"] for ply in range(len(sizes))]
        assert [math.isnan(v) for v in row["values"]] == [n == 0 for n in sizes]
        ends = np.cumsum(sizes)
        for end, size in zip(ends[row["opening"] :], sizes[row["opening"] :], strict=True):
            assert sum(row["policy_weights"][end - size : end]) == pytest.approx(1, abs=0.01)
    assert {row["opening"] for row in rows} == {0, 1, 2}
    assert (rows[0]["player"], rows[0]["step"], rows[0]["digest"], rows[0]["seed"]) == ("table", 3, "d", 5)
    assert len({tuple(row["actions"]) for row in rows}) > 20


def test_a_game_is_fixed_by_its_seed_and_number(tmp_path):
    one = generated(tmp_path / "a", "hex", Work(20, block=20), at_once=8)
    other = generated(tmp_path / "b", "hex", Work(20, block=5), at_once=3)
    assert str(one) == str(other)  # as NaN differs from itself
    assert generated(tmp_path / "c", "hex", Work(20, seed=1, block=20))[0]["actions"] != one[0]["actions"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_worker_that_was_stopped_ends_with_the_same_shards(tmp_path):
    work = Work(40, block=16)
    generated(tmp_path / "whole", "hex", work)
    for stop in (1, 14, 25):
        there = generated(tmp_path / "stopped", "hex", work, stop=stop)
        assert stop <= len(there) < 40
    generated(tmp_path / "stopped", "hex", work)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_workers_share_a_folder(tmp_path):
    whole = generated(tmp_path / "whole", "hex", Work(40, block=8))
    for worker in (1, 0):
        rows = generated(tmp_path / "shared", "hex", Work(40, block=8, worker=worker, workers=2))
    assert str(rows) == str(whole)
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")


def test_finished_work_is_not_played_again(tmp_path):
    generated(tmp_path, "hex", Work(12, block=8))
    env, who, settings = player("hex")
    [progress] = generate.generate(env, who, Config(search=settings), tmp_path, Work(12, block=8))
    assert progress == WorkProgress(12, 12, 0)


@pytest.mark.parametrize("worker", ["", "2", "3/2", "0/2", "1/0", "-1/2", "1/2/3", "x" * 500])
def test_shares_that_are_none(worker):
    with pytest.raises(ConfigError, match=r"^--worker: ") as error:
        generate.work_of(5, 0, 8, worker)
    assert len(str(error.value)) < 200
    assert generate.work_of(5, 0, 8, "2/3") == Work(5, 0, 8, 1, 3)


def test_a_teacher_tells_its_values(tmp_path):
    """From the fifth ply of tic-tac-toe on, five plies of minimax tell the exact value of the move played."""
    env = envs.make("tic_tac_toe")
    teacher = players.teacher("minimax:5", env)
    shards.create(tmp_path, GAMES["tic_tac_toe"])
    config = Config(selfplay=SelfPlayConfig(16, 9, 4))
    for _ in generate.generate(env, teacher, config, tmp_path, Work(16)):
        pass
    told = []
    for row in (row for path in shards.shards(tmp_path) for part in shards.read(path) for row in part.to_pylist()):
        assert (row["player"], row["step"], row["digest"]) == ("minimax:5", -1, "")
        mine, theirs = 0, 0  # sets of squares
        for ply, action in enumerate(row["actions"]):
            if ply >= max(row["opening"], 4):
                exact = tic_tac_toe.move_values(mine, theirs)
                assert exact[action] == max(exact.values()) == row["values"][ply]
                told.append(exact[action])
            mine, theirs = theirs, mine | 1 << action
    assert set(told) == {-1, 0, 1}
