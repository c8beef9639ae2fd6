"""Whole runs from outside: their folders, and the command line. How they are killed: `gauntlet/kills.py`."""

import dataclasses
import errno
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxzero.config import settings
from jaxzero.config.schema import Config
from jaxzero.export.load import load
from jaxzero.export.standalone import torch_module
from jaxzero.messages import ConfigError
from jaxzero.runs import folder as folder_lib
from jaxzero.runs import metrics, table
from jaxzero.runs.checkpoint import Checkpointer
from jaxzero.training import preparation, train

Run = Callable[..., tuple[int, str, str]]

# Opened, without training

CONFIGURED = Config(name="run", devices=1)


def test_overwriting_that_was_interrupted_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With its first file the old run ends as a run; a folder elsewhere that it links to is kept."""
    config = dataclasses.replace(CONFIGURED, root=str(tmp_path))
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    with folder_lib.opened(config, (), overwrite=False):
        pass
    for place in (folder / "exports", folder / "evaluations", elsewhere):
        place.mkdir()
        (place / "old").touch()
    (folder / "checkpoints").symlink_to(elsewhere)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda path: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt), folder_lib.opened(config, (), overwrite=True):
            pass
    assert {path.name for path in folder.iterdir()} >= {"config.toml.deleting", "exports", "evaluations"}
    with pytest.raises(ConfigError, match="no run there"):
        folder_lib.find(str(folder))
    assert not folder_lib.has_checkpoint(config)
    with folder_lib.opened(dataclasses.replace(config, seed=1), (), overwrite=False) as (_, changes):
        assert changes == []
    assert {path.name for path in folder.iterdir()} == {".lock", "config.toml", "versions.json"}
    assert settings.load(folder / "config.toml").seed == 1
    assert (elsewhere / "old").exists()


def test_drafts_are_swept_and_what_is_no_run_is_kept(tmp_path: Path):
    config = dataclasses.replace(CONFIGURED, root=str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "run").mkdir()
    for name in (".lock", f".config.toml.{dead.pid}"):
        (tmp_path / "run" / name).touch()
    with folder_lib.opened(config, (), overwrite=False) as (folder, _):
        assert {path.name for path in folder.iterdir()} == {".lock", "config.toml", "versions.json"}
    (tmp_path / "run" / "config.toml").unlink()
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="exists and is not a run"), folder_lib.opened(config, (), overwrite):
            pass
    assert (tmp_path / "run" / "versions.json").exists()


def test_other_versions_than_at_the_last_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Recorded at each start; a change is logged once, in one line, and kept in changes.jsonl."""
    file = tmp_path / "versions.json"
    folder_lib.record(tmp_path, CONFIGURED, [], 0)
    now = json.loads(file.read_text())
    assert now["jax"] == jax.__version__
    assert now["python"] == platform.python_version()
    assert {"jaxzero", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "device", "platform"} <= now.keys()
    folder_lib.record(tmp_path, CONFIGURED, [], 1)
    assert not (tmp_path / "changes.jsonl").exists()
    warned: list[str] = []
    monkeypatch.setattr(folder_lib._log, "warning", lambda text, *arguments: warned.append(text % arguments))
    for killed in (False, True):  # between the two files: nothing is written twice
        file.write_text(json.dumps(now | {"jax": "0.1", "abacus": "2"}))
        folder_lib.record(tmp_path, CONFIGURED, ["learner.lr: 1.0 -> 2.0"], 2)
        moved = ["abacus: 2 -> none", f"jax: 0.1 -> {jax.__version__}"]
        assert warned.pop() == f"other versions than at the last start: {'; '.join(moved)}", killed
        assert warned == []
        (line,) = (tmp_path / "changes.jsonl").read_text().splitlines()
        assert json.loads(line) == {"iteration": 2, "changes": ["learner.lr: 1.0 -> 2.0", *moved]}
    assert json.loads(file.read_text()) == now
    for odd in ("null", "[1]", "{", ""):
        file.write_text(odd)
        folder_lib.record(tmp_path, CONFIGURED, [], 3)
        assert json.loads(file.read_text()) == now


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (
            OSError(errno.ENOSPC, "x"),
            "run: No space left on device; free space, or choose another place, then run again",
        ),
        (
            OSError(errno.EMFILE, "x"),
            "run: Too many open files; raise the limit of file descriptors, as by ulimit -n 1024",
        ),
        (FileNotFoundError(errno.ENOENT, "gone"), "run: gone; it was moved or deleted meanwhile"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 1 GB"), "out of device memory: lower selfplay.games"),
        (jax.errors.JaxRuntimeError("INTERNAL: x"), None),
        (KeyError("x"), None),
        (ConfigError("a line of ours"), None),
    ],
)
def test_errors_of_the_machine_say_what_to_do(error: Exception, wanted: str | None):
    said = preparation.explained(error, Path("run"))
    assert said is None if wanted is None else said is not None and said.startswith(wanted)


# Command line

PROMISED = {
    "iteration", "seconds", "games", "positions", "updates", "loss", "policy_loss", "value_loss", "gradient_norm", "lr",
    "policy_entropy", "value_error", "game_length", "first_player_wins", "draws", "second_player_wins", "games_per_s",
    "positions_per_s", "simulations_per_s", "samples_per_s", "self_play_s", "learn_s", "cpu_percent", "memory_mb",
    "window",
}  # fmt: skip


def test_train_resume_and_export(run: Run, tmp_path: Path):
    torch = pytest.importorskip("torch")
    one = ("train", "tic_tac_toe_test", "--devices", "1")
    status, out, error = run(*one)
    assert (status, error) == (0, "")
    last = out.splitlines()[-1]
    curve = "runs/tic_tac_toe_test/learning_curve.png"
    weights = "runs/tic_tac_toe_test/exports/tic_tac_toe_test_step000003.pt"
    assert last.startswith("tic_tac_toe_test: 3 iterations; ")
    assert f"curve {curve}" in last
    assert f"weights {weights}" in last
    check_folder(tmp_path / "runs" / "tic_tac_toe_test")
    bundle = torch.load(tmp_path / weights, weights_only=True)
    assert all(tensor.isfinite().all() for tensor in bundle["state_dict"].values())
    parity = re.search(r"parity over 1280 positions: logits max (\S+) .* value max (\S+) ", last)
    assert parity is not None
    assert all(float(difference) < 1e-5 for difference in parity.groups())
    check_rows(tmp_path / "runs" / "tic_tac_toe_test")

    status, out, error = run(*one)
    assert (status, error) == (0, "")
    assert "nothing to do: 3 of 3 iterations are done; raise iterations to go on" in out
    assert out.splitlines()[-1] == last
    status, out, _ = run(*one, "--iterations", "4", "--allow-change", "learner")
    assert (status, "resuming runs/tic_tac_toe_test after iteration 3" in out) == (0, True)
    status, out, error = run("export", "tic_tac_toe_test", "--step", "3")
    assert (status, error, out.split()[0]) == (0, "", weights)

    assert run("export", "tic_tac_toe_test", "--step", "77")[::2] == (
        2, f"error: {tmp_path}/runs/tic_tac_toe_test/checkpoints: no checkpoint of step 77; there are: 2, 3, 4\n",
    )  # fmt: skip
    status, _, error = run(*one, "--seed", "1")
    assert (status, error.count("\n")) == (2, 1)
    assert error.startswith("error: ")
    assert "seed: 0 -> 1 cannot change within a run" in error
    (tmp_path / "file").touch()
    status, _, error = run(*one, "--root", "file")
    assert (status, error.count("\n")) == (2, 1)
    assert error.startswith("error: file/tic_tac_toe_test: cannot write there")


def test_run_begins_with_weights_from_a_file(run: Run, tmp_path: Path):
    one = ("train", "tic_tac_toe_test", "--devices", "1")
    assert run(*one)[0] == 0
    weights = tmp_path / "runs" / "tic_tac_toe_test" / "exports" / "tic_tac_toe_test_step000003.pt"
    (tmp_path / "bad.pt").write_bytes(weights.read_bytes()[:-100])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    for options in (("--overwrite",), ("--name", "tuned"), ("--name", "tuned", "--dry-run")):
        status, _, error = run(*one, *options, "--init-from", "bad.pt")
        assert (status, error.count("\n")) == (2, 1)
        assert error.startswith(f"error: init_from: {tmp_path}/bad.pt: not a readable .pt file")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before

    tuned = (*one, "--name", "tuned", "--init-from", str(weights.relative_to(tmp_path)))
    status, out, _ = run(*tuned)
    assert (status, f"beginning with {weights}: weights " in " ".join(out.split())) == (0, True)
    loaded = train.load(tmp_path / "runs" / "tuned")
    digest = torch_module.load(weights).metadata["weights_sha256"]
    assert loaded.info["init_from"] == {"file": weights.name, "weights_sha256": digest}
    assert loaded.config.init_from == str(weights)

    origin = load(weights, loaded.env, loaded.config.network)
    with train.Interrupt() as interrupt, Checkpointer(tmp_path / "none") as checkpoints:
        trainer = train.Trainer(loaded.config, loaded.env, tmp_path, checkpoints, interrupt, {}, origin)
        train_state = trainer.begin(trainer.steps.init(np.int32(0))).train_state
    jax.tree.map(np.testing.assert_array_equal, trainer.fold(train_state.ema), origin.params)
    jax.tree.map(np.testing.assert_array_equal, trainer.fold(train_state.variables), origin.params)

    weights.unlink()  # a run that has weights of its own does not look at it again
    status, out, _ = run(*tuned)
    assert (status, "nothing to do" in out) == (0, True)


def check_folder(folder: Path) -> None:
    """Everything that a run hands over."""
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "config.toml", "run.log", "metrics.jsonl", "tensorboard", "checkpoints", "exports", "evaluations",
        "learning_curve.png",
        "prechecks.json", "versions.json",
    }  # fmt: skip
    assert list((folder / "tensorboard").iterdir())
    results = json.loads((folder / "evaluations" / "iteration_3" / "results.json").read_text())
    assert "random" in json.dumps(results)
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert settings.load(folder / "config.toml").name == folder.name
    assert "Traceback" not in (folder / "run.log").read_text()


def check_rows(folder: Path) -> None:
    rows = metrics.read(folder)
    assert [row["iteration"] for row in rows] == [1, 2, 3]
    assert not PROMISED - rows[-1].keys()
    assert "compile_s" in rows[0]
    assert all(table.find(name) for row in rows for name in row)
    assert "checkpoint_s" in rows[1]
    last = rows[-1]
    assert {"eval/random/score", "evaluation_s"} <= last.keys()
    assert last["first_player_wins"] + last["draws"] + last["second_player_wins"] == pytest.approx(1)
    assert last["positions"] == 3 * 16 * 8
    assert last["simulations_per_s"] == pytest.approx(4 * last["positions_per_s"])
    assert last["lr"] < rows[1]["lr"] <= settings.load(folder / "config.toml").learner.lr


# A game of one's own, written as a user would: take one or two stones, who takes the last one wins.
GAME = """
import dataclasses
import jax
import jax.numpy as jnp
import numpy as np
from envs.core import Env
from envs.host import parse_action

@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    stones: jax.Array  # i8[]
    player: jax.Array
    terminated: jax.Array
    rewards: jax.Array

@dataclasses.dataclass(frozen=True)
class Nim(Env):
    start: int = 7
    name = "nim"
    num_actions = 2
    max_legal = 2

    @property
    def observation_shape(self):
        return (self.start + 1,)

    @property
    def max_plies(self):
        return self.start

    def init(self, key):
        return State(jnp.int8(self.start), jnp.int8(0), jnp.bool(False), jnp.zeros(2, jnp.float32))

    def step(self, state, action):
        stones = jnp.where(state.terminated, 0, state.stones - 1 - action).astype(jnp.int8)
        won = (stones == 0) & ~state.terminated
        sign = jnp.where(jnp.arange(2) == state.player, 1.0, -1.0).astype(jnp.float32)
        player = jnp.where(state.terminated, state.player, 1 - state.player).astype(jnp.int8)
        return State(stones, player, stones == 0, jnp.where(won, sign, 0.0))

    def legal_actions(self, state):
        return state.terminated | (jnp.arange(2) < state.stones)

    def observe(self, state):
        return (jnp.arange(self.start + 1) == state.stones).astype(jnp.float32)

    def action_to_str(self, state, action):
        return "12"[action]

    def action_from_str(self, state, text):
        return parse_action(self, state, text)

    def to_text(self, state):
        return f"{state.stones} {state.player}"

    def from_text(self, text):
        try:
            stones, player = map(int, text.split())
        except ValueError:
            raise ValueError(f"nim: {text!r} is not two numbers") from None
        if not (0 <= stones <= self.start and player in (0, 1)):
            raise ValueError(f"nim: {text!r} is no position")
        return State(jnp.int8(stones), jnp.int8(player), jnp.bool(stones == 0), jnp.zeros(2, jnp.float32))

    def to_svg(self, state):
        return f'<svg xmlns="http://www.w3.org/2000/svg"><text>{state.stones}</text></svg>'

class Unfair(Nim):
    def legal_actions(self, state):
        return jnp.ones(2, bool)

class Nameless(Env):
    pass

def make(start: int = 7):
    return Nim(start)

def unfair():
    return dataclasses.dataclass(frozen=True)(Unfair)()

def nameless():
    return Nameless()
"""


def test_own_game(run: Run, tmp_path: Path):
    (tmp_path / "nim.py").write_text(GAME)
    name = "nim [1]*"  # odd on purpose: some libraries take paths for patterns
    one = ("train", "tic_tac_toe_test", "--devices", "1", "--name", name, "--game", "nim.py:make")
    status, out, error = run(*one, "--iterations", "2")
    assert (status, error) == (0, "")
    assert "step000002.pt" in out.splitlines()[-1]
    assert [row["iteration"] for row in metrics.read(tmp_path / "runs" / name)] == [1, 2]
    status, out, error = run(*one, "--iterations", "3")
    assert (status, error, "after iteration 2" in out) == (0, "", True)
    status, out, error = run("export", name)
    assert (status, error) == (0, "")
    assert out.startswith(f"runs/{name}/exports/{name}_step000003.pt (parity")
    status, out, error = run("report", name, "--games", "0")
    assert (status, error, out) == (0, "", f"runs/{name}/report.html\n")


@pytest.mark.parametrize("function", ["unfair", "nameless"])
def test_broken_own_game(run: Run, tmp_path: Path, function: str):
    (tmp_path / "nim.py").write_text(GAME)
    status, _, error = run("train", "tic_tac_toe_test", "--devices", "1", "--game", f"nim.py:{function}")
    assert (status, error.count("\n")) == (2, 1)
    assert error.startswith("error: game")
    assert not (tmp_path / "runs").exists()
