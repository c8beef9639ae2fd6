"""Positions are shuffled in two passes."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("pyarrow")
import envs
from jaxzero.config.schema import GameConfig
from jaxzero.data import positions, shuffle
from jaxzero.data.stage import Stage
from jaxzero.messages import ConfigError

HEX = GameConfig("hex", options={"size": 4})


def positions_of(folder: Path, count: int, plies: int = 20, chunks: int = 3, first: int = 0) -> Path:
    """Positions without content: game and ply number them."""
    stage = Stage(folder, {"made": count})
    positions.create(folder, HEX, {})
    dtype = positions.record_type(envs.make("hex", size=4))
    numbers = np.arange(count) + first
    for chunk, part in enumerate(np.array_split(numbers, chunks)):
        records = np.zeros(len(part), dtype)
        records["game"], records["ply"] = part // plies, part % plies
        records["target"] = np.random.default_rng(chunk).uniform(-1, 1, len(part))
        positions.write_chunk(folder, chunk, iter([records]), len(records), dtype)
    stage.finish({"positions": count, "chunks": chunks})
    return folder


def read(folder: Path) -> np.ndarray:
    return np.concatenate(list(positions.open_folder(folder).chunks()))


@pytest.fixture
def small(monkeypatch):
    """Blocks and chunks of few positions."""
    width = positions.record_type(envs.make("hex", size=4)).itemsize
    monkeypatch.setattr(shuffle, "BLOCK", 100 * width)
    monkeypatch.setattr(positions, "CHUNK", 400)


def test_every_position_is_there_once_in_a_new_order(tmp_path, small):
    one, other = positions_of(tmp_path / "a", 2500), positions_of(tmp_path / "b", 777, first=2500)
    assert shuffle.run([one, other], tmp_path / "out", seed=5) == {"positions": 3277, "chunks": 9}
    before, after = np.concatenate([read(one), read(other)]), read(tmp_path / "out")
    key = lambda records: records["game"] * 20 + records["ply"]  # noqa: E731
    np.testing.assert_array_equal(after[np.argsort(key(after))], before)
    shuffle.run([one, other], tmp_path / "again", seed=5)
    shuffle.run([one, other], tmp_path / "else", seed=6)
    assert read(tmp_path / "again").tobytes() == after.tobytes() != read(tmp_path / "else").tobytes()
    chunks = [set(key(next(iter(positions.open_folder(tmp_path / name).chunks())))) for name in ("again", "else")]
    assert chunks[0] != chunks[1]  # both passes depend on the seed


def test_positions_of_one_game_come_anywhere(tmp_path, small):
    """Over 1,000 seeds the places of three positions of one game, and the distances of two, are as chance has them."""
    count, places = 500, []
    sources = [positions.open_folder(positions_of(tmp_path / "a", count))]
    for seed in range(1000):
        found: list[np.ndarray] = [np.zeros(0, np.int64)] * 2
        drawn = (shuffle.draws(seed, 0, count) >> np.uint64(32)) * np.uint64(2) >> np.uint64(32)
        for bucket in range(2):
            members = np.flatnonzero(drawn == bucket)
            found[bucket] = members[shuffle.order(seed, bucket, len(members))]
        places.append(np.argsort(np.concatenate(found))[[100, 101, 119]])
    assert sources[0].total == count
    places = np.array(places)
    for place in places.T:
        assert stats.chisquare(np.bincount(place // 25, minlength=20)).pvalue > 1e-4
    first, second = (places[:, :2] >= count // 2).T
    assert stats.binomtest(int((first == second).sum()), 1000, (count / 2 - 1) / (count - 1)).pvalue > 1e-4
    near = (np.abs(places[:, 0] - places[:, 1]) <= 25).sum()
    expected = 1 - (475 * 474) / (500 * 499)
    assert stats.binomtest(int(near), 1000, expected).pvalue > 1e-4


def test_random_numbers_do_not_depend_on_blocks():
    whole = shuffle.draws(3, 0, 100)
    assert len(set(whole.tolist())) == 100
    for first in range(9):
        np.testing.assert_array_equal(shuffle.draws(3, first, 50), whole[first : first + 50])
    assert (shuffle.draws(4, 0, 100) != whole).all()


@pytest.mark.filterwarnings("ignore:os.fork")
def test_killed_anywhere_it_goes_on_and_ends_with_the_same_bytes(tmp_path, small, monkeypatch):
    source = positions_of(tmp_path / "in", 3000)
    shuffle.run([source], tmp_path / "whole", seed=1)
    write, rng, kills = positions.files.write, np.random.default_rng(0), 0

    def dying(path, content):
        if rng.random() < 0.2:
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, content)

    for attempt in range(100):
        if not (child := os.fork()):
            rng = np.random.default_rng(attempt)
            monkeypatch.setattr(positions.files, "write", dying)
            try:
                shuffle.run([source], tmp_path / "killed", seed=1)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if not status:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        kills += 1
        for bucket in (tmp_path / "killed").glob("bucket-*"):  # what was appended, but not counted
            bucket.write_bytes(bucket.read_bytes() + b"torn" * 9)
            break
        with pytest.raises(ConfigError, match=r"not finished|no folder of positions"):
            positions.open_folder(tmp_path / "killed")
    assert kills > 10
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "killed").iterdir())
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name


def test_damage_is_named_and_nothing_is_written_from_it(tmp_path, small):
    source, rng = positions_of(tmp_path / "in", 300), np.random.default_rng(1)
    path = positions.chunk_path(source, 1)
    whole = path.read_bytes()
    for _ in range(50):
        content = bytearray(whole)
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        assert [damage.path for damage in positions.verify(source)] == [path]
    with pytest.raises(ConfigError, match=r"positions-000001\.npy: (differs|damaged|holds)"):
        shuffle.run([source], tmp_path / "out")
    path.write_bytes(whole[:-9])
    with pytest.raises(ConfigError, match=r"positions-000001\.npy: has \d+ bytes in place of"):
        shuffle.run([source], tmp_path / "out2")
    path.unlink()
    with pytest.raises(ConfigError, match=r"positions-000001\.npy: is missing"):
        shuffle.run([source], tmp_path / "out2")
    assert not (tmp_path / "out2").exists()


def test_the_input_is_kept_or_removed(tmp_path, small):
    source = positions_of(tmp_path / "in", 300)
    (source / "notes.txt").write_text("mine")
    shuffle.run([source], tmp_path / "out")
    assert len(read(source)) == 300
    shuffle.run([source], tmp_path / "out", remove=True)
    assert [path.name for path in source.iterdir()] == ["notes.txt"]
    assert shuffle.run([source], tmp_path / "out")["positions"] == 300
    with pytest.raises(ConfigError, match="holds what another command made"):
        shuffle.run([source], tmp_path / "out", seed=2)


def test_what_does_not_fit_is_said_before(tmp_path, small, monkeypatch):
    source = positions_of(tmp_path / "in", 300)
    with pytest.raises(ConfigError, match="memory: 1000 bytes are too few"):
        shuffle.run([source], tmp_path / "out", memory=1000)
    usage = shuffle.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shuffle.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ConfigError, match=r"needs 0\.0 GB beside the input, 0\.0 GB are free"):
        shuffle.run([source], tmp_path / "out")
