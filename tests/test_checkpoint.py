"""Round trips, retention and rewinds of checkpoints."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import (
    Momentum,
    assert_exact,
    assert_same,
    data_of,
    learner_of,
    mesh_sharding,
    one_line,
    restore,
    save,
    truncate,
)
from jax.sharding import PartitionSpec

from jaxzero import files
from jaxzero.runs import checkpoint
from jaxzero.runs.arrays import host_copies
from jaxzero.runs.checkpoint import Checkpointer
from jaxzero.runs.trouble import CheckpointError


def test_dtypes_shapes_and_structure_round_trip(tmp_path):
    dtypes = ["bfloat16", "float16", "float32", "int8", "uint8", "int16", "uint16", "int32", "uint32", "bool"]
    values = np.random.default_rng(0).integers(0, 200, (4, 6))
    learner: dict[str, Any] = {
        d: [jnp.asarray(values).astype(d), jnp.ones((), d), jnp.zeros((0, 3), d)] for d in dtypes
    }
    learner["nan"] = [jnp.array([jnp.nan, -0.0, jnp.inf], jnp.bfloat16)]
    learner["state"] = [Momentum(jnp.int32(3), {"['a'].x/\n%é": jnp.ones(2)}), None]
    info = {"loss": 0.1, "nested": {"list": [1, None, "é"]}, "1": float("inf")}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(0, learner, {}, info, score=-1.5)
        restored = checkpointer.restore(jax.tree.map(jnp.zeros_like, learner), {})
    assert restored is not None
    assert_same(restored.learner, learner)
    assert (restored.step, restored.data, restored.info, restored.score) == (0, {}, info, -1.5)


def test_template_without_commits_gives_none(tmp_path):
    with Checkpointer(tmp_path / "new") as checkpointer:
        assert checkpointer.restore(learner_of(0), data_of(0)) is None
        assert checkpointer.steps() == []
        assert checkpointer.best() is None
    assert not (tmp_path / "new").exists()


def test_donated_right_after_save(tmp_path):
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    with Checkpointer(tmp_path) as checkpointer:
        states = [jnp.full(1_000_000, i, jnp.float32) for i in range(4)]
        checkpointer.save(1, states, None, {})
        states = [overwrite(x) for x in states]
        assert all(float(x[0]) == -1 for x in states)
        restored = checkpointer.restore_learner(states)
        assert restored is not None
        assert_same(restored.learner, [jnp.full(1_000_000, i, jnp.float32) for i in range(4)])
        overwritten = [overwrite(x) for x in restored.learner]
        assert all(bool((x == -1).all()) for x in overwritten)


def test_save_copies_before_it_returns(tmp_path):
    arrays = [jnp.arange(64.0), np.arange(64.0)]
    copies = host_copies("learner", arrays).values()
    assert not any(np.shares_memory(np.asarray(x), y) for x, y in zip(arrays, copies, strict=True))
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, arrays, None, {})
        arrays[1][:] = -1
        restored = checkpointer.restore_learner(arrays)
    assert restored is not None
    assert_same(restored.learner[1], np.arange(64.0))


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_restores_on_the_sharding_of_the_template(tmp_path, devices):
    x = jnp.arange(64.0).reshape(8, 8)
    saved = {"rows": jax.device_put(x, mesh_sharding(4, PartitionSpec("d"))), "free": jnp.int32(3)}
    rows = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=mesh_sharding(devices, PartitionSpec(None, "d")))
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, saved, saved["rows"], {})
        restored = checkpointer.restore({"rows": rows, "free": jnp.int32(0)}, rows)
    assert restored is not None
    for array in (restored.learner["rows"], restored.data):
        assert array.sharding == rows.sharding
        assert_same(array, x)
    assert not restored.learner["free"].committed  # may still be combined with arrays of any mesh


def test_empty_folder_is_no_commit(tmp_path, caplog):
    (tmp_path / "9").mkdir()
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.restore(learner_of(0), data_of(0)) is None
        save(checkpointer, 8)
        assert checkpointer.steps() == [8]
        assert restore(checkpointer).step == 8
        save(checkpointer, 9)
        assert_exact(restore(checkpointer, 9))
    assert not caplog.records


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ({"w": jnp.zeros(3, jnp.bfloat16)}, "array learner['w'] is float32[3], this run has bfloat16[3]"),
        ({"w": jnp.zeros(4)}, "array learner['w'] is float32[3], this run has float32[4]"),
        ({"w": jnp.zeros(3), "v": jnp.zeros(3)}, "array learner['v'] is missing"),
        ({}, "array learner['w'] is not part of this run"),
    ],
)
def test_other_template_is_an_error_not_damage(tmp_path, learner, message):
    with Checkpointer(tmp_path) as checkpointer:
        for step in (1, 2):
            checkpointer.save(step, {"w": jnp.zeros(3)}, None, {})
        with pytest.raises(CheckpointError) as error:
            checkpointer.restore(learner, None)
    assert message in one_line(error)
    assert str(tmp_path / "2") in one_line(error)


def test_checkpoints_of_another_version_are_one_line(tmp_path, monkeypatch):
    with Checkpointer(tmp_path) as checkpointer:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "LAYOUT", 1)
            save(checkpointer, 1, 2)
        for read in (checkpointer.restore, lambda learner, _: checkpointer.restore_learner(learner)):
            with pytest.raises(CheckpointError) as error:
                read(learner_of(0), data_of(0))
            assert one_line(error).startswith(f"{tmp_path}: another version of jaxzero wrote these checkpoints; use")
        assert checkpointer.steps() == [1, 2]


def test_retention(tmp_path):
    with Checkpointer(tmp_path, keep=3) as checkpointer:
        save(checkpointer, 1, 2, 3, 4, scores={1: 0.1, 2: 0.7, 3: 0.7})
        assert (checkpointer.steps(), checkpointer.best()) == ([2, 3, 4], 3)  # of equals the newest is best
        save(checkpointer, 5, 6, 7, 8, scores={5: float("nan"), 6: 0.2})
        assert (checkpointer.steps(), checkpointer.best()) == ([3, 6, 7, 8], 3)
        assert [restore(checkpointer, s).data is not None for s in (3, 6, 7, 8)] == [False, False, True, True]
        for step in checkpointer.steps():
            assert_exact(restore(checkpointer, step))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3", "6", "7", "8"]
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.best() == 3
        shutil.rmtree(tmp_path / "8" / "data")  # lost, not dropped on purpose
        assert restore(checkpointer).step == 7


def test_rewind(tmp_path):
    with Checkpointer(tmp_path, keep=5) as checkpointer:
        save(checkpointer, 1, 2, 3)
        with pytest.raises(CheckpointError, match="not newer than step 3"):
            save(checkpointer, 2)
        with pytest.raises(CheckpointError, match="no checkpoint of step 9; there are: 1, 2, 3"):
            checkpointer.rewind(9)
        assert checkpointer.rewind(1) == [tmp_path / "superseded" / name for name in ("1-3", "1-2")]
        save(checkpointer, 2)
        assert checkpointer.rewind(1) == [tmp_path / "superseded" / "2-2"]
        assert checkpointer.rewind(1) == []
        assert restore(checkpointer).step == 1
    assert len(list((tmp_path / "superseded").glob("*/learner"))) == 3


def test_rewind_killed_midway_is_a_whole_one(tmp_path, monkeypatch):
    """Whoever reads sees none of the newer commits, and the next start of the run sets them aside."""
    rename, moved = pathlib.Path.rename, []

    def once(self, target):
        if moved:
            raise KeyboardInterrupt
        moved.append(target)
        return rename(self, target)

    with Checkpointer(tmp_path, keep=3) as checkpointer:
        save(checkpointer, 1, 2, 3)
        monkeypatch.setattr(pathlib.Path, "rename", once)
        with pytest.raises(KeyboardInterrupt):
            checkpointer.rewind(1)
        monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2", "rewound", "superseded"}
    with Checkpointer(tmp_path) as checkpointer:
        assert (checkpointer.steps(), restore(checkpointer).step) == ([1], 1)
        save(checkpointer, 2)
        assert_exact(restore(checkpointer, 2))
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2", "superseded"}


def test_tidy_removes_what_a_killed_process_left(tmp_path):
    with Checkpointer(tmp_path, keep=4) as checkpointer:
        save(checkpointer, 1, 2, 3, 4)
    for name in ("5.orbax-checkpoint-tmp", "0.deleting"):
        shutil.copytree(tmp_path / "4", tmp_path / name)
    truncate(tmp_path / "4" / "record" / "data.json")
    with Checkpointer(tmp_path, keep=1) as checkpointer:
        assert restore(checkpointer).step == 3
        checkpointer.tidy()  # knows by now that the newest is damaged
        assert_exact(restore(checkpointer))
    assert {path.name for path in tmp_path.iterdir()} == {"3", "4"}


def test_drafts_of_dead_processes(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f".a.json.{dead.pid}", f".a.json.{os.getpid()}", "a.json", ".lock", ".a.1x"):
        (tmp_path / name).touch()
    assert files.drafts(tmp_path) == [tmp_path / f".a.json.{dead.pid}"]


@pytest.mark.parametrize(
    "name", ["run[1]", "[!a]", "a*b?", "{a,b}", " b 'c\" ", "100%20#1", "~", "$HOME", "läuf 走", "new\nline",
             "back\\slash", "gs:", "s3:", "file:", "|zip:", "\udcff", "\x01", "-x"],
)  # fmt: skip
def test_every_path_is_taken_literally(tmp_path, name):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    for folder in (tmp_path / name / "checkpoints", tmp_path / "link" / ".." / name):
        folder.parent.mkdir(exist_ok=True)
        with Checkpointer(folder) as checkpointer:
            save(checkpointer, 1, 2)
        with Checkpointer(folder) as checkpointer:
            assert (checkpointer.steps(), restore(checkpointer).step) == ([1, 2], 2)
            assert_exact(restore(checkpointer))
    assert {path.name for path in tmp_path.iterdir()} == {name, "deep", "link"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {name, "er"}


def test_link_that_is_no_better_is_refused(tmp_path, monkeypatch):
    (tmp_path / "tmp[1]").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp[1]"))
    with pytest.raises(CheckpointError, match="choose a --name and --root of letters") as error:
        Checkpointer(tmp_path / "run[1]")
    one_line(error)
