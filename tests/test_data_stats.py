"""Statistics of folders of games, against plain Python."""

import collections
import math
import random
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pyarrow")
from test_data_clean import folder, played, random_rows

import envs
from envs.judges import random_games
from jaxzero.config.schema import GameConfig
from jaxzero.data import shards, stats


def test_counts_and_openings(run, tmp_path, monkeypatch):
    monkeypatch.setattr(stats, "SAMPLE", 7)
    draw = random.Random(1)
    games = random_rows(500, draw)
    for game in games:
        game["result"] = draw.choice([None, [1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]])
        if draw.random() < 0.5:
            game["actions"] = [4, 0, 8, 2][: draw.randint(2, 4)]
    path = folder(tmp_path / "games", games)
    found = stats.examine(path)
    moves = [tuple(game["actions"]) for game in games]
    assert (found.games, found.shards, found.positions) == (500, 13, sum(map(len, moves)))
    assert found.duplicates == 500 - len(set(moves))
    assert dict(enumerate(found.lengths.tolist())) == dict(sorted(collections.Counter(map(len, moves)).items()))
    kinds = {"first": [1.0, -1.0], "second": [-1.0, 1.0], "draw": [0.0, 0.0], "unknown": None}
    assert found.results == {name: sum(game["result"] == r for game in games) for name, r in kinds.items()}
    [first, *_] = found.openings
    assert first.move == "b2"
    line, prefix = first, [4]
    while line:
        same = [game for game in games if game["actions"][: len(prefix)] == prefix]
        known = [(game["result"][0] + 1) / 2 for game in same if game["result"]]
        assert (line.games, line.score) == (len(same), pytest.approx(sum(known) / len(known)))
        line = line.replies[0] if line.replies else None
        prefix = [4, 0, 8, 2][: len(prefix) + 1]
    status, out, _ = run("data", "stats", "games")
    assert status == 0
    assert "500" in out
    assert "b2" in out
    assert out.endswith("games/stats.png\n")
    assert np.asarray(Image.open("games/stats.png").convert("L")).std() > 10
    assert run("data", "verify", "games")[0] == 0


@pytest.mark.parametrize(("name", "options"), [("ur", {"pieces": 2}), ("othello", {"size": 6})])
def test_values_are_compared_with_what_their_movers_earned(tmp_path, name, options):
    """Also where players do not move in turns: a value that is the mover's outcome has no error."""
    env = envs.make(name, **options)
    games = played(name, 40, **options)
    _, play = jax.device_get(random_games(env, 40, env.max_plies + 1, jax.random.key(1)))
    turns = 0
    for g, game in enumerate(games):
        players = play.player[: len(game["actions"]), g]
        turns += int((players[1:] == players[:-1]).sum())
        game["values"] = [game["result"][player] for player in players.tolist()]
        game["values"][1] = math.nan
    assert turns > 0 or name != "ur"
    path = folder(tmp_path / "games", games, game=GameConfig(name, options=options))
    found = stats.examine(path).values
    assert found
    assert (found.games, found.error) == (40, 0)
    assert found.positions.sum() == sum(len(game["actions"]) - 1 for game in games)
    there = found.positions > 0
    assert np.allclose(found.value[there], found.outcome[there])
    for game in games:
        game["values"] = [-value for value in game["values"]]
    opposite = stats.examine(folder(tmp_path / "opposite", games, game=GameConfig(name, options=options))).values
    assert opposite
    assert opposite.error > 1


def test_a_folder_without_games_is_refused(run, tmp_path):
    shards.create(tmp_path / "none", GameConfig("hex"))
    for words, message in ((["none"], "none: holds no games"), (["nowhere"], "no folder of games")):
        status, out, err = run("data", "stats", *words)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err
    assert not Path("none/stats.png").exists()
