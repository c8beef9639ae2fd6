"""Whole runs from outside: processes that are killed, and the command line."""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from envs.tic_tac_toe import TicTacToe
from jaxzero import iteration, metrics, settings, train
from jaxzero.checkpoint import Checkpointer
from jaxzero.export import torch_module
from jaxzero.export.load import load

HERE = Path(__file__).parent.parent
KILLS = int(os.environ.get("TEST_KILLS", "4"))  # 20 for a thorough test
Run = Callable[..., tuple[int, str, str]]

# Killed with SIGKILL

PRESET = """
iterations = 40
devices = 1
network = {kind = "mlp", sizes = [8]}
search = {simulations = 2, max_considered = 2}
selfplay = {games = 8, plies = 8}
replay = {capacity = 256, window = 64}
learner = {batch = 16, reuse = 1.0, warmup = 2, schedule = "constant"}
evaluation = {final = false}
checkpoint = {every = 1}
log = {tensorboard = false, plot_every = 1000}
export = {final = false}
"""
DRIVER = """
import pathlib, sys
from jaxzero import settings, train
for row in train.run(settings.load(pathlib.Path(sys.argv[1]))):
    pass
"""


def start(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """A process that trains the run, or goes on with it."""
    preset = folder / f"{name}.toml"
    preset.write_text(f'name = "{name}"\nroot = "{folder}"\n{PRESET}')
    environment = os.environ | {
        "XLA_FLAGS": "",
        "PYTHONPATH": str(HERE),
        "JAX_COMPILATION_CACHE_DIR": str(HERE / ".cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen([sys.executable, "-c", DRIVER, str(preset)], env=environment, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def arrays(folder: Path) -> tuple[int, dict[str, np.ndarray]]:
    """The newest checkpoint: learner, key, replay and games by name."""
    templates = iteration.abstract_state(settings.load(folder / "config.toml"), TicTacToe())
    with Checkpointer(folder / "checkpoints") as checkpoints:
        restored = checkpoints.restore(*templates)
    assert restored is not None
    leaves = jax.tree_util.tree_leaves_with_path((restored.learner, restored.data))
    return restored.step, {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def learned(folder: Path) -> list[tuple[int, float | None, float, int]]:
    return [(row["iteration"], row.get("loss"), row["policy_entropy"], row["updates"]) for row in metrics.read(folder)]


def commits(folder: Path) -> int:
    return max((int(path.name) for path in (folder / "checkpoints").glob("[0-9]*") if path.name.isdecimal()), default=0)


def kill(process: subprocess.Popen[bytes], folder: Path, chance: random.Random, while_saving: bool) -> str:
    """Kills after some commits of this process, at a random moment or when a commit is seen half written."""
    first = commits(folder)
    goal = first + chance.randint(0, 2)
    while process.poll() is None and commits(folder) < goal + (first == goal and while_saving):
        time.sleep(0.005)
    if while_saving:
        while process.poll() is None and not list((folder / "checkpoints").glob("*tmp*")):
            pass
    else:
        time.sleep(chance.uniform(0.0, 0.4 if goal > first else 5.0))
    half = any((folder / "checkpoints").glob("*tmp*"))
    process.kill()
    process.communicate()
    return f"{'while saving' if half else 'between commits' if goal > first else 'starting'} after {commits(folder)}"


def test_killed_at_random_moments(tmp_path: Path):
    """The run ends with the very arrays, rows and losses of a run that nothing disturbed."""
    undisturbed = start(tmp_path, "undisturbed")
    chance = random.Random(2)
    moments = []
    for k in range(KILLS):
        process = start(tmp_path, "killed")
        moments.append(kill(process, tmp_path / "killed", chance, while_saving=k % 2 == 0))
    print(*moments, sep="\n")
    assert any("while saving" in moment for moment in moments)
    finish(start(tmp_path, "killed"))
    finish(undisturbed)
    step, wanted = arrays(tmp_path / "undisturbed")
    got_step, got = arrays(tmp_path / "killed")
    assert got_step == step == 40
    assert len(wanted) > 20
    assert got.keys() == wanted.keys()
    assert not [name for name in wanted if got[name].tobytes() != wanted[name].tobytes()]
    assert learned(tmp_path / "killed") == learned(tmp_path / "undisturbed")
    assert [row[0] for row in learned(tmp_path / "killed")] == list(range(1, 41))
    assert not list((tmp_path / "killed" / "checkpoints").glob("*tmp*"))


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
        trainer = train.Trainer(loaded.config, loaded.env, tmp_path, checkpoints, interrupt, origin)
        learned = trainer.begin(trainer.steps.init(np.int32(0))).learned
    jax.tree.map(np.testing.assert_array_equal, trainer.fold(learned.average), origin.params)
    jax.tree.map(np.testing.assert_array_equal, trainer.fold(learned.variables), origin.params)

    weights.unlink()  # a run that has weights of its own does not look at it again
    status, out, _ = run(*tuned)
    assert (status, "nothing to do" in out) == (0, True)


def check_folder(folder: Path) -> None:
    """Everything that a run hands over."""
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "config.toml", "run.log", "metrics.jsonl", "tensorboard", "checkpoints", "exports", "evaluations",
        "learning_curve.png",
        "prechecks.json",
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
from envs.core import Env, parse_action

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
    one = ("train", "tic_tac_toe_test", "--devices", "1", "--name", "nim", "--game", "nim.py:make")
    status, out, error = run(*one, "--iterations", "2")
    assert (status, error) == (0, "")
    assert "nim_step000002.pt" in out.splitlines()[-1]
    assert [row["iteration"] for row in metrics.read(tmp_path / "runs" / "nim")] == [1, 2]
    status, out, error = run(*one, "--iterations", "3")
    assert (status, error, "after iteration 2" in out) == (0, "", True)
    status, out, error = run("export", "nim")
    assert (status, error) == (0, "")
    assert out.startswith("runs/nim/exports/nim_step000003.pt (parity")


@pytest.mark.parametrize("function", ["unfair", "nameless"])
def test_broken_own_game(run: Run, tmp_path: Path, function: str):
    (tmp_path / "nim.py").write_text(GAME)
    status, _, error = run("train", "tic_tac_toe_test", "--devices", "1", "--game", f"nim.py:{function}")
    assert (status, error.count("\n")) == (2, 1)
    assert error.startswith("error: game")
    assert not (tmp_path / "runs").exists()
