"""Batches of positions read from disk."""

import jax
import numpy as np
import pytest
from scipy import stats
from test_shuffle import positions_of, read

pytest.importorskip("grain")
import envs
from jaxzero.data import positions, reader, shuffle
from jaxzero.data.reader import Batches, Folder, Reader, parse_folder
from jaxzero.messages import ConfigError

ENV = envs.make("hex", size=4)


def number(records: np.ndarray) -> np.ndarray:
    return records["game"] * 20 + records["ply"]


def test_an_epoch_has_every_position_once_and_the_next_another_order(tmp_path):
    source = positions_of(tmp_path / "a", 1000)
    read = Reader(ENV, [Folder(source)], batch=25, seed=3)
    epochs = [number(read.records(40 * epoch, 40)).reshape(-1) for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(1000))
    assert len({epoch.tobytes() for epoch in epochs}) == 3
    again, other = (Reader(ENV, [Folder(source)], batch=25, seed=seed) for seed in (3, 4))
    assert number(again.records(0, 40)).reshape(-1).tolist() == epochs[0].tolist()
    assert number(other.records(0, 40)).reshape(-1).tolist() != epochs[0].tolist()
    plain = Reader(ENV, [Folder(source)], batch=25, shuffle=False)
    assert number(plain.records(0, 41)).reshape(-1).tolist() == [*range(1000), *range(25)]
    assert Reader(ENV, [Folder(source)], batch=16, seed=3).positions == 1000


def test_a_batch_of_groups_holds_every_position(tmp_path):
    read = Reader(ENV, [Folder(positions_of(tmp_path / "a", 1001))], batch=16, seed=3)
    first = number(read.records(0, 63)).reshape(-1)
    assert read.group == 8
    assert len(first) == 1008
    assert set(first) == set(range(1001))


def test_a_state_restored_within_an_epoch_gives_the_same_remaining_batches(tmp_path):
    folders = [
        Folder(positions_of(tmp_path / "a", 600), 1.0),
        Folder(positions_of(tmp_path / "b", 900, first=600), 3.0),
    ]
    whole = Batches(Reader(ENV, folders, batch=24, seed=7, validation=0.2))
    for _ in range(17):
        next(whole)
    state, epoch = whole.get_state(), whole.epoch
    wanted = [next(whole) for _ in range(90)]
    again = Batches(Reader(ENV, folders, batch=24, seed=7, validation=0.2))
    again.set_state(state)
    assert again.epoch == epoch
    for one in wanted:
        jax.tree.map(np.testing.assert_array_equal, one, next(again))
    assert wanted[0][0].moves.shape == (24, 16)
    assert wanted[0][1].shape == (24,)


def test_folders_are_mixed_by_weight_and_begin_after_what_is_skipped(tmp_path):
    one, other = positions_of(tmp_path / "a", 400), positions_of(tmp_path / "b", 800, first=400)
    read = Reader(ENV, [Folder(one, 3.0, 100), Folder(other, 1.0)], batch=40, seed=1)
    found = number(read.records(0, 100))
    of_one = (found < 400).sum(1)
    assert of_one.min() >= 24
    assert of_one.max() <= 36
    assert of_one.sum() == 3000
    assert set(found.reshape(-1)) == set(range(100, 400)) | set(found[found >= 400])
    by_size = number(Reader(ENV, [Folder(one), Folder(other)], batch=40).records(0, 30))
    assert abs((by_size < 400).sum() - 400) <= 8
    most = Reader(ENV, [Folder(one, None, 50), Folder(other)], batch=10, most=60)
    assert most.positions == 120
    assert set(number(most.records(0, 12)).reshape(-1)) == {*range(50, 110), *range(400, 460)}


def test_validation_is_by_game_and_the_same_in_every_run(tmp_path):
    one, other = positions_of(tmp_path / "a", 4000), positions_of(tmp_path / "b", 2000)
    reads = [Reader(ENV, [Folder(one), Folder(other)], batch=20, seed=seed, validation=0.25) for seed in (1, 2)]
    training = {game for read in reads for game in read.records(0, 300)["game"].reshape(-1).tolist()}
    for part in reads[0].parts:
        back = part.gather(part.validation.astype(np.int64))["game"]
        assert not training & set(back.tolist())
    held, total = 200 - len(training), 200
    assert stats.binomtest(held, total, 0.25).pvalue > 1e-3
    assert reads[0].positions == 20 * len(training) + 20 * len({game for game in training if game < 100})
    played, target = reads[0].validation(100)
    assert len(target) == len(played.action) == 100
    assert len(reads[0].validation(10**6)[1]) == 6000 - reads[0].positions


def test_pairs_of_one_game_are_as_rare_in_a_batch_as_chance_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr(positions, "CHUNK", 2000)
    source = positions_of(tmp_path / "a", 8000)
    shuffle.run([source], tmp_path / "out", seed=2)
    assert pairs(Reader(ENV, [Folder(tmp_path / "out")], batch=40, seed=5)) > 1e-3
    assert pairs(Reader(ENV, [Folder(source)], batch=40, shuffle=False)) < 1e-9


def pairs(read: Reader) -> float:
    """p-value of the pairs of positions from one game within 1,000 batches of 40 of 8,000 positions, 20 a game."""
    found = [np.bincount(batch["game"]) for batch in read.records(0, 1000)]
    count = sum(int((games * (games - 1)).sum()) // 2 for games in found)
    expected = 1000 * (40 * 39 / 2) * 19 / 7999
    return float(2 * stats.norm.sf(abs(count - expected) / np.sqrt(expected)))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("games", ("games", None, 0)), ("a/b:2", ("a/b", 2.0, 0)), ("a:0.5:100", ("a", 0.5, 100)),
        ("a::7", ("a", None, 7)), ("c:d:2", ("c:d", 2.0, 0)),
    ],
)  # fmt: skip
def test_the_words_of_a_folder(text, wanted):
    path, *rest = wanted
    assert parse_folder(text) == Folder(reader.Path(path), *rest)


@pytest.mark.parametrize("text", ["", "a:0", "a:-1", "a:1e99", "a:1.2.3"])
def test_words_that_name_no_folder(text):
    with pytest.raises(ConfigError, match=r"data\.sources: .* is not DIR"):
        parse_folder(text)


def test_damage_and_other_games_are_refused(tmp_path):
    source = positions_of(tmp_path / "a", 400)
    with pytest.raises(ConfigError, match=r"positions of hex, not of tic_tac_toe"):
        Reader(envs.make("tic_tac_toe"), [Folder(source)], batch=4)
    with pytest.raises(ConfigError, match="no position of its 400 is left"):
        Reader(ENV, [Folder(source, None, 400)], batch=4)
    with pytest.raises(ConfigError, match="no folder of positions"):
        Reader(ENV, [Folder(tmp_path)], batch=4)
    path = positions.chunk_path(source, 2)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"positions-000002\.npy: differs from its digest"):
        Reader(ENV, [Folder(source)], batch=4)
    assert len(read(source)) == 400
