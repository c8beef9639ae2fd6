"""Folders of runs and what a resume does, on tic-tac-toe, in process."""

import json
from pathlib import Path

import pytest
import tiny_runs
from tiny_runs import Changed, assert_same, drain, folder_of, log_of, state_of, steps, unmeasured

from envs.connect_four import ConnectFour
from jaxzero.config import settings
from jaxzero.config.schema import Config
from jaxzero.messages import ConfigError
from jaxzero.runs import metrics
from jaxzero.training import train

plain, quick, tiny = tiny_runs.plain, tiny_runs.quick, tiny_runs.tiny

# Folders


def test_a_file_in_place_of_a_folder(tmp_path: Path, tiny: Changed):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=r"file: exists and is not a run; choose another --name or --root$"):
        drain(tiny(name="file"))
    with pytest.raises(ConfigError, match="file/run: cannot write there"):
        drain(tiny(("root", str(tmp_path / "file"))))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_folders_are_never_touched(tmp_path: Path, tiny: Changed, overwrite: bool):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="run: exists and is not a run"):
        drain(tiny(), overwrite=overwrite)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_a_start_that_was_killed_at_once(tmp_path: Path, tiny: Changed):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / ".config.toml.999999999").write_text("[sea")
    assert len(drain(tiny(("iterations", 1)))) == 1


def test_the_configuration_is_there_from_the_start(tiny: Changed, monkeypatch: pytest.MonkeyPatch):
    """A run killed while it compiles is a run all the same."""
    monkeypatch.setattr(train.Trainer, "__init__", lambda *_: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            drain(tiny())
    assert settings.load(folder_of(tiny()) / "config.toml") == tiny()


def test_one_process_a_run(tiny: Changed):
    first = train.run(tiny())
    next(first)
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="run: another process is training here; stop it or choose another"):
            drain(tiny(), overwrite=overwrite)
    first.close()
    assert [row["iteration"] for row in drain(tiny())] == [2, 3, 4, 5, 6]


# Resuming


@pytest.fixture
def done(tiny: Changed) -> Config:
    """A finished run of six iterations."""
    config = tiny(("checkpoint.keep", 4))
    drain(config)
    return config


def test_what_a_resume_refuses(done: Config, tiny: Changed):
    for change in (("network.sizes", (4,)), ("replay.capacity", 512), ("seed", 1)):
        with pytest.raises(ConfigError, match=f"^{change[0]}: .* cannot change within a run"):
            drain(tiny(change))
    with pytest.raises(ConfigError, match=r"^game.name: .* cannot change within a run"):
        drain(tiny(("game.name", "connect_four"), ("replay.capacity", 1000)))
    with pytest.raises(ConfigError, match=r"^game.name: .* cannot change within a run"):
        drain(tiny(("replay.capacity", 1000)), env=ConnectFour())
    with pytest.raises(ConfigError, match=r"^learner.lr: .* --allow-change learner.lr"):
        drain(tiny(("learner.lr", 0.1)))
    assert steps(done) == [3, 4, 5, 6]
    assert settings.load(folder_of(done) / "config.toml") == done


def test_an_allowed_change_is_recorded(done: Config, tiny: Changed):
    changed = tiny(("learner.lr", 0.1), ("iterations", 7))
    (row,) = drain(changed, allow_change=["learner.lr"])
    assert row["lr"] == pytest.approx(0.1)
    (line,) = (folder_of(done) / "changes.jsonl").read_text().splitlines()
    assert json.loads(line)["iteration"] == 6
    assert "learner.lr: 0.002 -> 0.1" in json.loads(line)["changes"]
    assert settings.load(folder_of(done) / "config.toml") == changed


def test_overwrite_starts_anew(done: Config, plain: Config):
    (folder_of(done) / "exports").mkdir()
    (folder_of(done) / "exports" / "old.pt").touch()
    assert [row["iteration"] for row in drain(done, overwrite=True)] == [1, 2, 3, 4, 5, 6]
    assert not (folder_of(done) / "exports").exists()
    assert_same(state_of(done), state_of(plain))
    with pytest.raises(ConfigError, match="--from-step goes on with a run that --overwrite deletes"):
        drain(done, overwrite=True, from_step=5)
    assert steps(done) == [3, 4, 5, 6]


def test_from_step(done: Config, plain: Config):
    assert [row["iteration"] for row in drain(done, from_step=5)] == [6]
    assert [path.name for path in (folder_of(done) / "checkpoints" / "superseded").iterdir()] == ["1-6"]
    assert_same(state_of(done), state_of(plain))
    assert unmeasured(metrics.read(folder_of(done))) == unmeasured(metrics.read(folder_of(plain)))


def test_from_a_step_without_replay(done: Config):
    parameters = state_of(done, 6)[1].keys()
    assert [row["iteration"] for row in drain(done, from_step=3)] == [4, 5, 6]
    assert "checkpoint 3 no longer holds the replay: starting with an empty one" in log_of(done)
    assert [row["iteration"] for row in metrics.read(folder_of(done))] == [1, 2, 3, 4, 5, 6]
    assert state_of(done)[1].keys() == parameters


def test_from_a_step_that_is_not_there(done: Config):
    with pytest.raises(ConfigError, match="no checkpoint of step 1; there are: 3, 4, 5, 6"):
        drain(done, from_step=1)
    assert steps(done) == [3, 4, 5, 6]


def flip_a_bit(commit: Path) -> None:
    """Damages each file of arrays; a bit of their metadata may mean nothing."""
    for path in (commit / "learner").rglob("d/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)


def test_a_flipped_bit(done: Config, plain: Config):
    flip_a_bit(folder_of(done) / "checkpoints" / "6")
    with pytest.raises(ConfigError, match=r"checkpoints/6: .*(differs from its digest|cannot read)"):
        drain(done, from_step=6)
    assert [row["iteration"] for row in drain(done)] == [6]
    assert "skipping a damaged checkpoint" in log_of(done)
    assert "after iteration 5" in log_of(done)
    assert_same(state_of(done), state_of(plain))
