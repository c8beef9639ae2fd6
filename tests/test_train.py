"""Whole runs of `jaxzero.training.train.run` on tic-tac-toe, in process: same results whatever happens on the way."""

import dataclasses
import os
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs
from tiny_runs import Changed, assert_same, drain, folder_of, log_of, state_of, steps, unmeasured

import benchmarks.connect_four_oracle as oracle
from envs.connect_four import ConnectFour
from envs.tic_tac_toe import TicTacToe
from jaxzero import evaluation, hardware, interrupts
from jaxzero.config import settings
from jaxzero.config.schema import Config
from jaxzero.messages import ConfigError
from jaxzero.runs import metrics
from jaxzero.runs.checkpoint import Checkpointer
from jaxzero.training import train

plain, quick, tiny = tiny_runs.plain, tiny_runs.quick, tiny_runs.tiny

# What does not change training


@pytest.mark.parametrize("changes", [
    [("evaluation.every", 2), ("evaluation.final", True)],
    [("export.final", True), ("evaluation.exhaustive", False)],
    [("log.every", 4), ("log.sinks", ("tensorboard",)), ("log.plot_every", 1)],
    [("checkpoint.every", 4)],
    [("checkpoint.every", 100), ("checkpoint.keep", 1), ("log.every", 100)],
])  # fmt: skip
def test_side_activities_do_not_change_training(plain: Config, tiny: Changed, changes: list[tuple[str, Any]]):
    config = tiny(*changes)
    drain(config)
    assert_same(state_of(config), state_of(plain))


def test_another_seed_changes_training(plain: Config, tiny: Changed):
    config = tiny(("seed", 1))
    drain(config)
    with pytest.raises(AssertionError):
        assert_same(state_of(config), state_of(plain))


# Interrupted runs


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_commits_and_the_next_run_goes_on(plain: Config, tiny: Changed, number: signal.Signals):
    config = tiny(("checkpoint.every", 100))
    before = signal.getsignal(number)
    rows = []
    for row in train.run(config):
        rows.append(row)
        if row["iteration"] == 2:
            os.kill(os.getpid(), number)
    assert [row["iteration"] for row in rows] == [1, 2, 3]
    assert steps(config) == [3]
    assert f"{number.name}: stopped after iteration 3; the same command goes on" in log_of(config)
    assert signal.getsignal(number) == before
    assert interrupts.current.status == 128 + number
    assert interrupts.current.last_line() == "interrupted: saved up to iteration 3; the same command goes on"
    rows += drain(config)
    assert_same(state_of(config), state_of(plain))
    assert unmeasured(metrics.read(folder_of(config))) == unmeasured(metrics.read(folder_of(plain)))
    assert unmeasured(rows) == unmeasured(metrics.read(folder_of(config)))


def test_a_second_interrupt_acts_at_once(tiny: Changed):
    config = tiny()
    rows = train.run(config)
    next(rows)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)  # the same, passed on by a program around this one
    time.sleep(interrupts.AGAIN)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    rows.close()
    assert steps(config) == [1]


def test_a_signal_after_the_last_iteration_ends_at_once(tiny: Changed, monkeypatch: pytest.MonkeyPatch):
    config = tiny(("export.final", True))
    monkeypatch.setattr(train, "export_run", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        drain(config)
    assert interrupts.current.status == 143
    assert interrupts.current.last_line() == "interrupted: saved up to iteration 6; the same command goes on"
    assert steps(config)[-1] == 6


def test_a_finished_run_has_nothing_to_do_and_more_iterations_go_on(plain: Config, tiny: Changed):
    short = tiny(("iterations", 3))
    drain(short)
    kept = state_of(short)
    assert drain(short) == []
    assert "nothing to do: 3 of 3 iterations are done; raise iterations to go on" in log_of(short)
    assert_same(state_of(short), kept)
    assert [row["iteration"] for row in drain(tiny())] == [4, 5, 6]
    assert_same(state_of(tiny()), state_of(plain))
    assert settings.load(folder_of(short) / "config.toml").iterations == 6


def test_a_row_is_written_before_its_commit(tiny: Changed, monkeypatch: pytest.MonkeyPatch):
    config, save, seen = tiny(("iterations", 3)), Checkpointer.save, []

    def spying(self: Checkpointer, step: int, *arguments: Any) -> None:
        seen.append((step, metrics.read(folder_of(config))[-1]["iteration"]))
        save(self, step, *arguments)

    monkeypatch.setattr(Checkpointer, "save", spying)
    drain(config)
    assert seen == [(1, 1), (2, 2), (3, 3)]


def test_a_loop_in_a_script(tmp_path: Path, plain: Config, tiny: Changed):
    """From a thread, without signal handlers; the loop is left early, and the run goes on."""
    config, rows = tiny(("checkpoint.every", 2)), []

    def script() -> None:
        for row in train.run(config, env=TicTacToe()):
            rows.append(row)
            if row["iteration"] == 3:
                break

    thread = threading.Thread(target=script)
    thread.start()
    thread.join()
    assert len(rows) == 3
    assert steps(config) == [2]
    assert [row["iteration"] for row in drain(config)] == [3, 4, 5, 6]
    assert_same(state_of(config), state_of(plain))


# Errors of the run


def test_a_run_that_learned_nothing_is_an_error(tiny: Changed):
    config = tiny(("iterations", 1), ("selfplay.plies", 2))
    with pytest.raises(ConfigError, match=r"nothing was learned: .* in 2 plies of each; raise iterations \(1\) or"):
        drain(config)
    assert steps(config) == [1]


def test_absurd_learning_rate_stops_before_a_bad_commit(tiny: Changed):
    config = tiny(("iterations", 3))
    drain(config)
    wild = tiny(("learner.lr", 100.0), ("learner.weight_decay", 100.0), ("learner.clip", 0.0))
    with pytest.raises(ConfigError, match=r"^iteration [456]: loss or parameters are not finite; .*") as caught:
        drain(wild, allow_change=["learner"])
    assert "\n" not in str(caught.value)
    step, arrays = state_of(wild)
    assert int(str(caught.value).partition(":")[0].removeprefix("iteration ")) == step + 1
    assert all(np.isfinite(a).all() for name, a in arrays.items() if "train_state" in name)
    assert train.load(folder_of(wild)).step == step
    assert f"it goes on from iteration {step}" in str(caught.value)


def test_out_of_device_memory_is_one_line(tiny: Changed, monkeypatch: pytest.MonkeyPatch):
    def sample(self: hardware.Sampler) -> dict[str, float]:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 99 bytes")

    monkeypatch.setattr(hardware.Sampler, "sample", sample)
    with pytest.raises(ConfigError, match=r"^out of device memory: lower selfplay.games, learner.batch or replay"):
        drain(tiny())
    assert "RESOURCE_EXHAUSTED" in log_of(tiny())


def test_other_errors_keep_their_type(tiny: Changed, monkeypatch: pytest.MonkeyPatch):
    def sample(self: hardware.Sampler) -> dict[str, float]:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(hardware.Sampler, "sample", sample)
    with pytest.raises(ZeroDivisionError, match="a bug") as caught:
        drain(tiny())
    assert caught.value.__cause__ is None
    assert "ZeroDivisionError: a bug" in log_of(tiny())


def test_full_disk(plain: Config, tiny: Changed):
    config, limits = tiny(), resource.getrlimit(resource.RLIMIT_FSIZE)
    rows = train.run(config)
    assert [next(rows)["iteration"] for _ in range(3)] == [1, 2, 3]
    while steps(config) != [1, 2, 3]:
        time.sleep(0.01)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(ConfigError, match="free space") as caught:
            list(rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert steps(config)[-1] == 3
    assert train.load(folder_of(config)).step == 3
    drain(config)
    assert_same(state_of(config), state_of(plain))


# Own games


@dataclasses.dataclass(frozen=True)
class Mine(TicTacToe):
    name = "mine"


@dataclasses.dataclass(frozen=True)
class Endless(TicTacToe):
    name = "endless"
    max_plies = 4


@dataclasses.dataclass(frozen=True)
class Raising(TicTacToe):
    name = "raising"

    def observe(self, state: Any) -> jax.Array:
        raise RuntimeError("no eyes")


def test_own_game_in_a_script(tmp_path: Path, tiny: Changed, plain: Config):
    config = tiny(name="")
    assert len(list(train.run(config, env=Mine()))) == 6
    config = dataclasses.replace(config, name="mine")
    assert_same(state_of(config, env=Mine()), state_of(plain))
    with pytest.raises(ConfigError, match=r"^game: unknown game 'mine'"):
        train.load(tmp_path / "mine")
    assert train.load(tmp_path / "mine", env=Mine()).step == 6


@pytest.mark.parametrize(("env", "message"), [
    (Endless(), "^game: endless: .*max_plies"),
    (Raising(), "^game: .*no eyes"),
])  # fmt: skip
def test_a_broken_game_is_refused_first(tmp_path: Path, tiny: Changed, env: TicTacToe, message: str):
    with pytest.raises(ConfigError, match=message):
        drain(tiny(), env=env)
    assert list(tmp_path.iterdir()) == []


# What comes after


def test_load(plain: Config):
    loaded = train.load(folder_of(plain), 5)
    assert (loaded.step, loaded.env) == (5, TicTacToe())
    prediction = loaded.network.infer(loaded.params, jnp.zeros((4, 3, 3, 2)))
    assert prediction.logits.shape == (4, 9)
    assert loaded.info["totals"]["positions"] == 5 * 64
    with pytest.raises(ConfigError, match="no run here"):
        train.load(Path(plain.root) / "none")
    with pytest.raises(ConfigError, match="no checkpoint of step 99"):
        train.load(folder_of(plain), 99)


def test_load_for_the_connect_four_benchmark(plain: Config, tiny: Changed):
    config = tiny(("game.name", "connect_four"), ("replay.capacity", 1008), ("iterations", 1), ("selfplay.plies", 42))
    drain(config)
    loaded = oracle.load_run(str(folder_of(config)))
    assert (loaded.env, loaded.config.iterations) == (ConnectFour(), 1)
    assert loaded.network.infer(loaded.params, jnp.zeros((1, 6, 7, 2))).logits.shape == (1, 7)
    with pytest.raises(ConfigError, match="is a run of tic_tac_toe; these positions are Connect Four's"):
        oracle.load_run(str(folder_of(plain)))


def test_evaluation_belongs_to_its_iteration(tiny: Changed, monkeypatch: pytest.MonkeyPatch):
    """A resumed run evaluates with the same keys, and not twice."""
    keys: list[Any] = []

    def make(*_: Any) -> dict[str, Any]:
        def play(params: Any, key: jax.Array) -> dict[str, Any]:
            keys.append(jax.random.key_data(key).tolist())
            return {"score": 0.5, "wins": 1, "draws": 0, "losses": 1, "mean_length": 5.0}

        return {"random": play}

    monkeypatch.setattr(evaluation, "make", make)
    config = tiny(("iterations", 4), ("evaluation.every", 2), ("evaluation.final", True))
    rows = drain(config)
    assert [row["iteration"] for row in rows if "eval/random/score" in row] == [2, 4]
    drain(config, from_step=3)
    assert len(keys) == 3
    assert keys[1] == keys[2] != keys[0]
