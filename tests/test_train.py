"""Whole runs of `jaxzero.training.train.run` on tic-tac-toe, in process: same results whatever happens on the way."""

import dataclasses
import json
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import benchmarks.connect_four_oracle as oracle
from envs.connect_four import ConnectFour
from envs.tic_tac_toe import TicTacToe
from jaxzero import evaluation, hardware, interrupts
from jaxzero.config import settings
from jaxzero.config.schema import Config, ConfigError
from jaxzero.runs import metrics
from jaxzero.runs.checkpoint import Checkpointer
from jaxzero.training import iteration, train

TINY = """
iterations = 6
devices = 1
network = {kind = "mlp", sizes = [8]}
search = {simulations = 2, max_considered = 2}
selfplay = {games = 8, plies = 8}
replay = {capacity = 256, window = 64}
learner = {batch = 16, reuse = 1.0, warmup = 2, schedule = "constant"}
evaluation = {games = 2, opponents = ["random"], simulations = 2, final = false}
checkpoint = {every = 1}
log = {tensorboard = false, plot_every = 1000}
export = {final = false}
"""
MEASURED = {"seconds", "cpu_percent", "memory_mb", "device"}  # and what ends in _s: clock and machine decide
built: dict[str, iteration.Steps] = {}
Changed = Callable[..., Config]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of one configuration share their jitted functions, which saves seconds of tracing each."""

    def make(config: Config, env: Any, network: Any = None) -> iteration.Steps:
        shown = (settings.dump(config).partition("[game]")[2].partition("[evaluation]")[0], config.iterations, env)
        key = repr((shown, config.seed, config.devices))
        if key not in built:
            built[key] = original(config, env, network)
        return built[key]

    original = iteration.make
    monkeypatch.setattr(iteration, "make", make)
    monkeypatch.setattr(hardware.Sampler, "sample", lambda self: {})


@pytest.fixture
def tiny(tmp_path: Path) -> Changed:
    """The small configuration with changes by dotted name, such as ("learner.lr", 0.1)."""

    def changed(*changes: tuple[str, Any], name: str = "run") -> Config:
        config = settings.build(settings.read_tree(settings.tomllib.loads(TINY), "TINY"))
        layer = {field: settings.value_of(config, field) for field in settings.fields()}
        return settings.build(layer, {"name": name, "root": str(tmp_path)}, dict(changes))

    return changed


def drain(config: Config, **options: Any) -> list[dict[str, Any]]:
    return list(train.run(config, **options))


def folder_of(config: Config) -> Path:
    return Path(config.root, config.name)


def steps(config: Config) -> list[int]:
    with Checkpointer(folder_of(config) / "checkpoints") as checkpoints:
        return checkpoints.steps()


def state_of(config: Config, step: int | None = None, env: Any = None) -> tuple[int, dict[str, np.ndarray]]:
    """Every array of a checkpoint by name: learner, key, replay and games."""
    templates = iteration.abstract_state(config, env or TicTacToe())
    with Checkpointer(folder_of(config) / "checkpoints") as checkpoints:
        restored = checkpoints.restore(*templates, step=step)
    assert restored is not None
    leaves = jax.tree_util.tree_leaves_with_path((restored.learner, restored.data))
    return restored.step, {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_same(got: tuple[int, dict[str, np.ndarray]], wanted: tuple[int, dict[str, np.ndarray]]) -> None:
    assert got[0] == wanted[0]
    assert got[1].keys() == wanted[1].keys()
    assert len(wanted[1]) > 20
    different = [name for name, array in wanted[1].items() if got[1][name].tobytes() != array.tobytes()]
    assert not different


def unmeasured(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what the clock decides."""
    return [{k: v for k, v in row.items() if k not in MEASURED and not k.endswith("_s")} for row in rows]


def log_of(config: Config) -> str:
    return (folder_of(config) / "run.log").read_text()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The uninterrupted run that others are compared with."""
    layer = settings.read_tree(settings.tomllib.loads(TINY), "TINY")
    config = settings.build(layer, {"name": "plain", "root": str(tmp_path_factory.mktemp("runs"))})
    drain(config)
    return config


# What does not change training


@pytest.mark.parametrize("changes", [
    [("evaluation.every", 2), ("evaluation.final", True)],
    [("export.final", True), ("evaluation.exhaustive", False)],
    [("log.every", 4), ("log.tensorboard", True), ("log.plot_every", 1)],
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


def test_a_run_without_a_finished_game_says_that_nothing_was_learned(plain: Config, tiny: Changed):
    config = tiny(("iterations", 1), ("selfplay.plies", 2))
    drain(config)
    assert "nothing was learned: no game has ended yet; raise iterations (1)" in log_of(config)
    assert "nothing was learned" not in log_of(plain)


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
    largest = max((path for path in (commit / "learner").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)


def test_a_flipped_bit(done: Config, plain: Config):
    flip_a_bit(folder_of(done) / "checkpoints" / "6")
    with pytest.raises(ConfigError, match=r"checkpoints/6: .*(differs from its digest|cannot read)"):
        drain(done, from_step=6)
    assert [row["iteration"] for row in drain(done)] == [6]
    assert "skipping a damaged checkpoint" in log_of(done)
    assert "after iteration 5" in log_of(done)
    assert_same(state_of(done), state_of(plain))


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
    config = tiny(("game.name", "connect_four"), ("replay.capacity", 1000), ("iterations", 1))
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
