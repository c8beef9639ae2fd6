"""Shards: games on disk."""

import json
import random
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
from jaxzero.config.schema import GameConfig
from jaxzero.data import shards
from jaxzero.data.shards import ShardError

HEX = GameConfig("hex", options={"size": 3})


def game(index: int) -> dict:
    return {
        "id": f"a:{index}", "seed": 7, "index": index, "actions": [index % 9, 8], "values": [0.5, float("nan")],
        "policy_sizes": [2, 1], "policy_actions": [0, 1, 8], "policy_weights": [0.25, 0.75, 1.0],
        "result": [1.0, -1.0], "headers": [("first", "x"), ("rating", "1500")],
    }  # fmt: skip


def indices(folder: Path) -> list[int]:
    return [i for path in shards.shards(folder) for t in shards.read(path) for i in t.column("index").to_pylist()]


def test_a_shard_gives_back_its_games(tmp_path):
    path = shards.write(tmp_path / "a.parquet", shards.rows([game(i) for i in range(3000)]))
    tables = list(shards.read(path))
    assert [len(table) for table in tables] == [1024, 1024, 952]
    first = tables[0].slice(5, 1).to_pylist()[0]
    wanted = game(5) | {"player": "", "step": -1, "digest": "", "start": None, "opening": 0, "outcomes": None}
    assert first.pop("values")[0] == wanted.pop("values")[0]
    assert first == wanted | {"policy_trained": None}
    assert shards.count(path) == 3000


def test_games_are_appended_and_a_torn_end_is_left_out(tmp_path):
    with shards.Open(tmp_path, "w") as opened:
        for i in range(5):
            opened.append(shards.rows([game(i)]))
        whole = opened.path.read_bytes()
    ends = set()
    for cut in [*range(0, len(whole), 61), len(whole)]:
        opened.path.write_bytes(whole[:cut])
        there = indices(tmp_path)
        assert there == list(range(len(there)))
        ends.add(len(there))
    assert ends == set(range(6))


def test_a_killed_worker_goes_on_and_ends_with_the_same_bytes(tmp_path):
    order = [3, 1, 4, 0, 2]
    (tmp_path / "whole").mkdir()
    with shards.Open(tmp_path / "whole", "w") as opened:
        for i in order:
            opened.append(shards.rows([game(i)]))
    whole = opened.finish()
    (tmp_path / "killed").mkdir()
    with shards.Open(tmp_path / "killed", "w") as opened:
        opened.append(shards.rows([game(4), game(2)]))
    opened.path.write_bytes(opened.path.read_bytes() + b"torn")
    with shards.Open(tmp_path / "killed", "w") as opened:
        assert opened.indices == {2, 4}
        opened.append(shards.rows([game(i) for i in order if i not in opened.indices]))
    assert opened.finish().read_bytes() == whole.read_bytes()
    assert [path.name for path in shards.shards(tmp_path / "killed")] == ["w.parquet"]
    assert not list((tmp_path / "killed").glob("*.open"))


def test_damage_is_named(tmp_path):
    rng = random.Random(3)
    shards.create(tmp_path, HEX)
    path = shards.write(tmp_path / "a.parquet", shards.rows([game(i) for i in range(500)]))
    whole = path.read_bytes()
    assert not list(shards.verify(tmp_path))
    for cut in [0, 3, *(rng.randrange(len(whole)) for _ in range(10))]:
        path.write_bytes(whole[:cut])
        [damage] = shards.verify(tmp_path)
        assert damage.path == path
        with pytest.raises(ShardError, match=r"a\.parquet"):
            list(shards.read(path))
    for _ in range(60):
        content = bytearray(whole)
        content[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        assert [damage.path for damage in shards.verify(tmp_path)] == [path]
    path.unlink()
    assert list(shards.verify(tmp_path)) == [shards.Damage(path, "is missing")]


def test_damage_of_an_open_shard_is_named(tmp_path):
    rng = random.Random(3)
    shards.create(tmp_path, HEX)
    with shards.Open(tmp_path, "w") as opened:
        for i in range(5):
            opened.append(shards.rows([game(i)]))
        whole = opened.path.read_bytes()
        assert not list(shards.verify(tmp_path))
    assert not list(shards.verify(tmp_path))
    for _ in range(60):
        content = bytearray(whole)
        content[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        opened.path.write_bytes(content)
        if not list(shards.verify(tmp_path)):  # of padding, for example
            assert [row for t in shards.read(opened.path) for row in t.column("index").to_pylist()] == list(range(5))
    opened.path.write_bytes(whole[:-10])
    [damage] = shards.verify(tmp_path)
    assert "torn" in damage.problem


@pytest.mark.parametrize("shared", ["{}", "[]", "", '{"version": 2, "game": "hex", "options": {}}'])
def test_a_folder_that_is_none_is_refused(tmp_path, shared):
    with pytest.raises(ShardError, match=r"no games\.json"):
        shards.game_of(tmp_path / "nothing")
    (tmp_path / "games.json").write_text(shared)
    with pytest.raises(ValueError, match=r"games|version"):
        shards.game_of(tmp_path)


def test_one_folder_holds_one_game(tmp_path):
    shards.create(tmp_path / "new", HEX)
    shards.create(tmp_path / "new", HEX)
    assert shards.game_of(tmp_path / "new") == HEX
    with pytest.raises(ShardError, match=r"holds games of hex .*not of go"):
        shards.create(tmp_path / "new", GameConfig("go"))
    assert json.loads((tmp_path / "new" / "games.json").read_text())["options"] == {"size": 3}
