"""Folders of games combined: illegal games and duplicates left out."""

import itertools
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

pytest.importorskip("pyarrow")
from test_data_records import Killed, content, killed_at, rows

import envs
from envs.judges import random_games
from jaxzero.config.schema import GameConfig
from jaxzero.data import clean, keys, rules, shards

HEX = GameConfig("hex", options={"size": 3})


def folder(path: Path, games: list[dict], size: int = 40, game: GameConfig = HEX) -> Path:
    shards.create(path, game)
    for i in range(0, len(games), size):
        shards.write(path / f"{i:04d}.parquet", shards.rows(games[i : i + size]))
    return path


def random_rows(count: int, draw: random.Random) -> list[dict]:
    """Short legal games of Hex 3, so that many are alike."""
    return [
        {"id": f"g{i}", "actions": draw.sample(range(9), draw.randint(0, 3)), "headers": [("number", str(i))]}
        for i in range(count)
    ]


def played(name: str, count: int, **options) -> list[dict]:
    """Random games to their ends, with first position and chance."""
    env = envs.make(name, **options)
    first, play = jax.device_get(random_games(env, count, env.max_plies + 1, jax.random.key(1)))
    found = []
    for g in range(count):
        length = int(play.terminated[:, g].argmax())
        start = env.to_text(jax.tree.map(lambda leaf, g=g: leaf[g], first))
        drawn = np.where(play.due[:length, g], play.outcome[:length, g], -1)
        chance = drawn.tolist() if env.num_outcomes else None
        found.append({
            "id": f"g{g}", "actions": play.action[:length, g].tolist(), "outcomes": chance, "start": start,
            "result": play.rewards[:length, g].sum(0).tolist(),
        })  # fmt: skip
    return found


def test_duplicates_as_by_a_set(tmp_path):
    draw = random.Random(1)
    games = random_rows(600, draw)
    one, two = folder(tmp_path / "one", games[:350]), folder(tmp_path / "two", games[350:])
    seen, wanted = set(), []
    for i, game in enumerate(games):
        if tuple(game["actions"]) not in seen:
            wanted.append(f"{'one' if i < 350 else 'two'}/g{i}")
        seen.add(tuple(game["actions"]))
    counts = clean.run([one, two], tmp_path / "out", chunk=100)
    assert counts == {"games": len(wanted), "read": 600, "illegal": 0, "duplicates": 600 - len(wanted)}
    assert [row["id"] for row in rows(tmp_path / "out")] == wanted
    assert [shards.count(path) for path in shards.shards(tmp_path / "out")][:-1] == [100] * (len(wanted) // 100)
    assert not list(shards.verify(tmp_path / "out"))
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".parquet", ".json", ".txt", ""}


@pytest.mark.parametrize(("name", "options", "turns"), [("hex", {"size": 3}, 2), ("tic_tac_toe", {}, 8)])
def test_symmetric_games_are_one(tmp_path, name, options, turns):
    """By the smallest of a game's images, in plain Python."""
    draw = random.Random(2)
    env = envs.make(name, **options)
    games = [game for game in random_rows(500, draw) if len(game["actions"]) < 4]
    path = folder(tmp_path / "games", games, game=GameConfig(name, options=options))
    assert len(env.symmetries) == turns
    images = [min(tuple(int(turn[a]) for a in game["actions"]) for _, turn in env.symmetries) for game in games]
    clean.run([path], tmp_path / "out", symmetric=True)
    wanted = [game["id"] for i, game in enumerate(games) if images[i] not in images[:i]]
    assert [row["id"] for row in rows(tmp_path / "out")] == wanted


def test_outcomes_and_first_positions_tell_games_apart():
    env = envs.make("hex", size=3)
    games = [{"actions": [1, 2]}, {"actions": [1, 2], "start": "x"}, {"actions": [1, 2], "start": "y"},
             {"actions": [1, 2], "outcomes": [-1, 2]}, {"actions": [1, 2], "outcomes": [2, -1]},
             {"actions": [1], "start": "x"}, {"actions": [7, 6]}, {"actions": [7, 6], "start": "x"}]  # fmt: skip
    table = shards.rows(games)
    assert len(set(keys.keys(table, env, False).tolist())) == 8
    turned = keys.keys(table, env, True).tolist()
    assert (turned[6] == turned[0], turned[7] == turned[1]) == (True, False)


def test_illegal_games_are_named_counted_and_dropped(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    policy = {"policy_sizes": [1, 0, 2, 0, 0], "policy_actions": [0, 3, 4], "policy_weights": [1.0, 0.5, 0.5]}
    bare = {"actions": [0, 1, 3, 4, 6], "result": [1.0, -1.0], "values": [0.5] * 5}
    sound = {"id": "sound"} | bare | policy
    wrong = {
        "occupied": ({"actions": [0, 0], "values": [0, 0]}, "move 2, action 0, is not legal"),
        "no such action": ({"actions": [0, 99], "values": [0, 0]}, "move 2, action 99, is not legal"),
        "negative": ({"actions": [-1], "values": [0]}, "move 1, action -1, is not legal"),
        "too long": ({"actions": [0, 1, 3, 4, 6, 7], "values": [0] * 6}, "move 6, action 7, is after the end"),
        "result": ({"result": [-1.0, 1.0]}, "the result is [-1.0, 1.0], the moves lead to [1.0, -1.0]"),
        "rewards": ({"result": [1.0]}, "result is not 2 numbers"),
        "chance": ({"outcomes": [0] * 5}, "outcomes are for games with chance"),
        "values": ({"values": [0.5]}, "values are not one for each move"),
        "sizes": ({"policy_sizes": [1]}, "policy_sizes are not one for each move"),
        "weights": ({"policy_weights": [1.0]}, "policy_weights are not as many"),
        "policy": ({"policy_actions": [0, 3, 10]}, "a policy has an action that the game has not"),
        "start": ({"start": "nowhere"}, "start: hex: 'nowhere' is no position"),
    }
    games = [
        bare | ({} if "actions" in fields else policy) | {"id": name} | fields for name, (fields, _) in wrong.items()
    ]
    folder(Path("games"), [sound, *games], 5)
    status, out, err = run("data", "clean", "games", "--out", "out")
    assert status == 0
    assert out.startswith("out: 1 of 13 games; 0 duplicates, 12 illegal; ")
    lines = Path("out/problems.txt").read_text().splitlines()
    for line, (name, (_, message)) in zip(lines, wrong.items(), strict=True):
        assert line.startswith("games/00")
        assert f": {name}: {message}" in line
    assert err.splitlines() == [*lines[:10], "12 illegal games are named in out/problems.txt"]
    assert [row["id"] for row in rows(Path("out"))] == ["sound"]


@pytest.mark.parametrize(("name", "options"), [("ur", {"pieces": 2}), ("treasure", {}), ("othello", {"size": 6})])
def test_sound_games_with_chance_and_first_positions_are_kept(tmp_path, name, options):
    games = played(name, 30, **options)
    env = envs.make(name, **options)
    assert rules.faults(env, shards.rows(games)) == {}
    if env.num_outcomes:
        ply = next(i for i, outcome in enumerate(games[0]["outcomes"]) if outcome >= 0)
        games[0]["outcomes"][ply] = env.num_outcomes
        assert list(rules.faults(env, shards.rows(games))) == [0]
    path = folder(tmp_path / "games", games, game=GameConfig(name, options=options))
    counts = clean.run([path], tmp_path / "out")
    assert counts["illegal"] == (env.num_outcomes > 0)


@pytest.mark.parametrize("at_once", [1, 7, 100, 10_000])
def test_first_of_each_key_in_any_number_of_shares(tmp_path, at_once):
    rng = np.random.default_rng(at_once)
    parts = []
    for i, count in enumerate((0, 500, 1, 499)):
        part = np.zeros(count, keys.KEY)
        part["high"] = rng.integers(0, 40, count).astype(np.uint64) << np.uint64(58)
        part["low"] = rng.integers(0, 8, count)
        np.save(tmp_path / f"{i}.npy", part)
        parts.append(part)
    values = np.concatenate(parts).tolist()
    first = keys.first_of_each([tmp_path / f"{i}.npy" for i in range(4)], at_once)
    assert first.tolist() == [value not in values[:i] for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "--out", "o"], "nowhere: no folder of games"),
        (["one", "other", "--out", "o"], "other: holds games of hex {'size': 4}, one those of hex {'size': 3}; clean"),
        (["one", "half", "--out", "o"], "half: is not finished"),
        (["one", "--out", "one"], "out: one: is read"),
        (["--out", "o"], "name one folder"),
        (["one", "--out", "o", "--chunk", "0"], "--chunk"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, words, message):
    folder(tmp_path / "one", random_rows(3, random.Random(1)))
    folder(tmp_path / "other", random_rows(3, random.Random(1)), game=GameConfig("hex", options={"size": 4}))
    folder(tmp_path / "half", random_rows(3, random.Random(1)))
    (tmp_path / "half" / "unfinished").write_text("")
    status, out, err = run("data", "clean", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not Path("o").exists()


def test_a_damaged_shard_ends_the_stage_in_one_line(run, tmp_path):
    path = folder(tmp_path / "one", random_rows(100, random.Random(1))) / "0040.parquet"
    path.write_bytes(path.read_bytes()[:200])
    status, _, err = run("data", "clean", "one", "--out", "o")
    assert (status, err.count("\n")) == (2, 1)
    assert "one/0040.parquet: has 200 bytes in place of" in err


def test_a_killed_clean_goes_on_and_ends_with_the_same_bytes(tmp_path, monkeypatch):
    games = random_rows(300, random.Random(4))
    games[5]["actions"] = [1, 1]
    path = folder(tmp_path / "games", games)
    clean.run([path], tmp_path / "whole", chunk=50)
    kills = 0
    for number in itertools.count():
        out = tmp_path / f"killed{number}"
        with monkeypatch.context() as patch:
            killed_at(patch, number)
            try:
                clean.run([path], out, chunk=50)
                break
            except Killed:
                kills += 1
        clean.run([path], out, chunk=50)
        assert content(out) == content(tmp_path / "whole"), number
    assert kills > 20


def test_a_clean_that_kill_9_ends_goes_on(tmp_path):
    path = folder(tmp_path / "games", random_rows(20_000, random.Random(5)), 400)
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxzero", "data", "clean", str(path), "--out", str(out)], stdout=subprocess.DEVNULL
    )
    while not (out / "keys" / "000010.npy").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / "unfinished").exists()
    for name in ("killed", "whole"):
        clean.run([path], tmp_path / name)
    assert content(out) == content(tmp_path / "whole")


def test_verify_names_each_damaged_file(run, tmp_path):
    path = folder(tmp_path / "games", random_rows(400, random.Random(6)))
    assert run("data", "verify", "games")[:2] == (0, "games: 10 shards, 400 games, all sound\n")
    (path / "0000.parquet").unlink()
    content = bytearray((path / "0040.parquet").read_bytes())
    content[100] ^= 1
    (path / "0040.parquet").write_bytes(content)
    (path / "0080.parquet").write_bytes(b"")
    status, out, err = run("data", "verify", "games")
    assert (status, err) == (1, "")
    assert [line.split(": ")[0] for line in out.splitlines()] == [
        f"games/{n}.parquet" for n in ("0000", "0040", "0080")
    ]
    assert run("data", "verify", "nowhere")[0] == 2
