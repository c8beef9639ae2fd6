"""Damage, kills and failing disks: a checkpoint comes back exactly or not at all."""

import errno
import logging
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import ROOT, assert_exact, flip_a_bit, learner_of, one_line, restore, save, truncate

from jaxzero import messages
from jaxzero.runs.checkpoint import Checkpointer
from jaxzero.runs.trouble import CheckpointError, check_writable


@pytest.fixture(scope="module")
def two_commits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    with Checkpointer(folder) as checkpointer:
        save(checkpointer, 1, 2)
    return folder


def damaged_copies(folder: pathlib.Path, to: pathlib.Path, damage) -> list[tuple[str, pathlib.Path]]:
    """One copy of the commits for each file of commit 2, which `damage(path)` changes."""
    copies = []
    for k, file in enumerate(sorted(p for p in (folder / "2").rglob("*") if p.is_file() and p.stat().st_size)):
        shutil.copytree(folder, to / str(k))
        name = file.relative_to(folder / "2")
        damage(to / str(k) / "2" / name)
        copies.append((str(name), to / str(k)))
    return copies


@pytest.mark.parametrize(
    ("damage", "seed"), [(flip_a_bit, 0), (flip_a_bit, 1), (flip_a_bit, 2), (truncate, 0), (pathlib.Path.unlink, 0)]
)
def test_damaged_file_is_detected_or_harmless(two_commits, tmp_path, caplog, damage, seed):
    random.seed(seed)
    detected = set()
    for name, folder in damaged_copies(two_commits, tmp_path, damage):
        caplog.clear()
        with Checkpointer(folder) as checkpointer:
            restored = restore(checkpointer)
            assert_exact(restored)
            assert (folder / "2").exists()
            if restored.step == 2:
                assert not caplog.records
                continue
            detected.add(name)
            [warning] = [r.getMessage() for r in caplog.records]
            assert str(folder / "2") in warning
            assert "\n" not in warning
            assert checkpointer.steps() == [1]
            with pytest.raises(CheckpointError, match=str(folder / "2")) as error:
                restore(checkpointer, step=2)
            one_line(error)
    assert {"record/data.json"} <= detected
    assert any(name.startswith("learner/") for name in detected)
    assert any(name.startswith("data/") for name in detected)


@pytest.mark.parametrize("name", ["record/data.json", "commit_success.txt", "learner/_METADATA"])
@pytest.mark.parametrize("kind", ["device", "pipe", "hole"])
def test_endless_file_is_damage(two_commits, tmp_path, name, kind):
    folder = pathlib.Path(shutil.copytree(two_commits, tmp_path / "copy"))
    path = folder / "2" / name
    path.unlink()
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.touch()
        os.truncate(path, 1 << 40)
    with Checkpointer(folder) as checkpointer:
        assert restore(checkpointer).step == 1
        with pytest.raises(CheckpointError, match=f"{folder / '2'}.*cannot read .*{path.name}"):
            restore(checkpointer, step=2)


def test_every_payload_bit_is_covered_by_a_digest(two_commits, tmp_path, monkeypatch):
    """Whatever Orbax returns is checked, so that no bit depends on Orbax noticing."""
    import jaxzero.runs.checkpoint as module

    load = module.ocp.load_checkpointables

    def flipping(path, wanted):
        loaded = load(path, wanted)
        if "data" in loaded and path.endswith("2"):
            [(name, array)] = loaded["data"].items()
            loaded["data"] = {name: array ^ (np.arange(array.size) == 2999).astype(np.uint8)}
        return loaded

    monkeypatch.setattr(module.ocp, "load_checkpointables", flipping)
    with Checkpointer(two_commits) as checkpointer:
        with pytest.raises(CheckpointError, match="2: array data differs from its digest"):
            restore(checkpointer, step=2)
        assert restore(checkpointer).step == 1
        learner = checkpointer.restore_learner(learner_of(0), 2)
        assert learner is not None
        assert learner.data is None


def test_a_renamed_commit_is_not_another_step(two_commits, tmp_path):
    shutil.copytree(two_commits / "2", tmp_path / "7")
    with Checkpointer(tmp_path) as checkpointer, pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        restore(checkpointer)


def test_damaged_step_is_set_aside_when_saved_again(tmp_path):
    with Checkpointer(tmp_path, keep=2) as checkpointer:
        save(checkpointer, 1, 2, 3)
    truncate(tmp_path / "3" / "record" / "data.json")
    with Checkpointer(tmp_path, keep=2) as checkpointer:
        assert restore(checkpointer).step == 2
        save(checkpointer, 3, 4, 5)
        assert checkpointer.steps() == [4, 5]
        assert restore(checkpointer).step == 5
    assert (tmp_path / "3.damaged" / "record").exists()


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (OSError(errno.ENOSPC, "x"), "No space left on device; free space, or choose another place"),
        (ValueError("a: No space left on device [b]"), "No space left on device; free space, or choose another place"),
        (OSError(errno.EMFILE, "x"), "Too many open files; raise the limit of file descriptors, as by ulimit -n 1024"),
        (
            FileNotFoundError(errno.ENOENT, "gone"),
            "gone; it was moved or deleted meanwhile; put it back, or start anew",
        ),
        (NotADirectoryError(errno.ENOTDIR, "no"), "no; permit writing there, or choose another place"),
        (ValueError("No such file or directory"), None),
        (KeyError("x"), None),
    ],
)
def test_trouble_of_the_system(error, wanted):
    trouble = messages.trouble(error)
    assert (trouble and "; ".join(trouble)) == wanted


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


FULL_DISK = """
import pathlib, resource, sys
import numpy as np
from jaxzero.runs.checkpoint import Checkpointer
from jaxzero.runs.trouble import CheckpointError

folder = pathlib.Path(sys.argv[1])
small, large = np.arange(10), list(np.random.default_rng(0).integers(0, 255, (20, 400_000)).astype(np.uint8))
checkpointer = Checkpointer(folder)
checkpointer.save(1, small, None, {})
checkpointer.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
checkpointer.save(2, large, None, {})
try:
    checkpointer.save(3, small, None, {})
except CheckpointError as error:
    print(error)
assert sorted(p.name for p in folder.iterdir()) == ["1"]
checkpointer.save(4, small, None, {})
assert checkpointer.restore(small, None).step == 4
checkpointer.close()
"""


def test_full_disk_is_one_line_at_the_next_save(tmp_path):
    result = run_script(FULL_DISK, str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1
    assert result.stdout.startswith(f"{tmp_path}: saving step 2 failed")
    assert "(File too large); free space" in result.stdout
    assert result.stderr == ""


FEW_DESCRIPTORS = """
import pathlib, resource, sys
import numpy as np
from jaxzero.runs.checkpoint import Checkpointer
from jaxzero.runs.trouble import CheckpointError

folder, limit = pathlib.Path(sys.argv[1]), int(sys.argv[2])
many = [np.arange(i, i + 1000) for i in range(100)]
with Checkpointer(folder) as checkpointer:
    checkpointer.save(1, many, None, {})
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
try:
    with Checkpointer(folder) as checkpointer:
        assert checkpointer.restore(many, None).step == 1
        for step in (2, 3):
            checkpointer.save(step, many, many, {})
except CheckpointError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
assert any(folder.glob("[123]/record"))
"""


@pytest.mark.parametrize("limit", [12, 40])
def test_too_few_file_descriptors_are_not_damage(tmp_path, limit):
    result = run_script(FEW_DESCRIPTORS, str(tmp_path), str(limit))
    assert (result.returncode, result.stderr) == (0, "")
    for line in result.stdout.splitlines():
        assert line.startswith(str(tmp_path))
        assert line.endswith("(Too many open files); raise the limit of file descriptors, as by ulimit -n 1024")
    assert limit > 30 or result.stdout


@pytest.mark.parametrize("read_back", [0, 1 << 20])
def test_a_save_that_cannot_be_read_back_costs_no_older_one(tmp_path, monkeypatch, read_back):
    """As Orbax saved nothing at all, without an error, where a folder's name has brackets."""
    import jaxzero.runs.checkpoint as module

    save_checkpointables = module.ocp.save_checkpointables

    def unmerged(path, items):
        save_checkpointables(path, items)
        (pathlib.Path(path) / "data" / "manifest.ocdbt").unlink()

    monkeypatch.setattr(module, "_READ_BACK", read_back)
    with Checkpointer(tmp_path, keep=1) as checkpointer:
        save(checkpointer, 1)
        monkeypatch.setattr(module.ocp, "save_checkpointables", unmerged)
        with pytest.raises(CheckpointError, match="saving step 2 failed, older checkpoints are intact") as error:
            save(checkpointer, 2)
        one_line(error)
        assert [path.name for path in tmp_path.iterdir()] == ["1"]
        assert_exact(restore(checkpointer))


def test_run_folder_that_is_gone_is_not_made_again(tmp_path):
    with (
        pytest.raises(CheckpointError, match="it was moved or deleted"),
        Checkpointer(tmp_path / "a" / "b") as checkpointer,
    ):
        save(checkpointer, 1)
    assert not (tmp_path / "a").exists()


def test_folder_that_cannot_be_written(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"File exists\); permit writing") as error:
        check_writable(tmp_path / "file")
    assert one_line(error).startswith(str(tmp_path / "file"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(CheckpointError, match="File too large"):
            check_writable(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_failed_save_surfaces_when_closed_and_hides_no_other_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="saving step 1 failed"), Checkpointer(tmp_path / "file") as checkpointer:
        checkpointer.save(1, jnp.zeros(3), None, {})

    def fail_while_saving():
        with Checkpointer(tmp_path / "file") as checkpointer:
            checkpointer.save(1, jnp.zeros(3), None, {})
            raise KeyError

    with pytest.raises(KeyError) as error:
        fail_while_saving()
    assert "saving step 1 failed" in error.value.__notes__[0]


KILLED = """
import os, pathlib, random, signal, sys, time
import numpy as np
from jaxzero.runs.checkpoint import Checkpointer

folder, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2])


def state(step):
    return np.full((300, 100), step, np.int32), np.full((100, 1000), step, np.uint16)


def verified(checkpointer):
    restored = checkpointer.restore(*state(0))
    if restored is None:
        return 0
    learner, data = state(restored.step)
    assert (restored.learner == learner).all() and (restored.data == data).all()
    assert restored.info == {"s": restored.step}
    assert all(checkpointer.restore(*state(0), s) for s in checkpointer.steps())
    assert not checkpointer._damaged
    return restored.step


def train(report, kill_at):
    calls = 0
    def counted(function):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return call
    with Checkpointer(folder, keep=2) as checkpointer:
        step = verified(checkpointer)
        for name in ("rename", "unlink", "rmdir", "mkdir"):
            setattr(os, name, counted(getattr(os, name)))
        while True:
            step += 1
            checkpointer.save(step, *state(step), {"s": step}, score=-step % 3)
            checkpointer.wait()
            os.write(report, step.to_bytes(4, "big"))

random.seed(seed)
completed = 0
for turn in range(10):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            train(write, kill_at=random.randrange(1, 120) if turn % 2 else 0)
        finally:
            os._exit(1)
    os.close(write)
    if turn % 2 == 0:
        time.sleep(random.uniform(0.1, 0.6))
        os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, turn
    reported = os.read(read, 1 << 16)
    completed = max(completed, int.from_bytes(reported[-4:], "big"))
with Checkpointer(folder, keep=2) as checkpointer:
    step = verified(checkpointer)
    assert step >= completed > 0 and step > 3, (step, completed)
    checkpointer.save(step + 1, *state(step + 1), {"s": step + 1})
    checkpointer.wait()
    names = {p.name for p in folder.iterdir()}
    assert {str(step), str(step + 1)} <= names and len(names) <= 3, names
"""


def test_killed_at_any_moment(tmp_path):
    result = run_script(KILLED, str(tmp_path), str(random.SystemRandom().randrange(1000)))
    assert result.returncode == 0, f"{result.args[-1]}: {result.stderr[-3000:]}"


def test_orbax_tracebacks_are_not_logged(two_commits, tmp_path, caplog, capfd):
    shutil.copytree(two_commits, tmp_path, dirs_exist_ok=True)
    for file in (tmp_path / "2" / "data").rglob("*"):
        if file.is_file():
            truncate(file)
    with caplog.at_level(logging.DEBUG), Checkpointer(tmp_path) as checkpointer:
        assert restore(checkpointer).step == 1
    assert [r.name for r in caplog.records if r.levelno >= logging.WARNING] == ["jaxzero.runs.checkpoint"]
    assert "Traceback" not in capfd.readouterr().err
