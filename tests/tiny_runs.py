"""Small runs on tic-tac-toe in process, for tests: `tiny` makes their configurations, `plain` is a finished one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from envs.tic_tac_toe import TicTacToe
from jaxzero import hardware
from jaxzero.config import catalog, settings
from jaxzero.config.schema import Config
from jaxzero.runs.checkpoint import Checkpointer
from jaxzero.training import iteration, train

TINY = """
iterations = 6
devices = 1
network = {kind = "mlp", sizes = [8]}
search = {simulations = 2, max_considered = 2}
selfplay = {games = 8, plies = 8}
replay = {capacity = 256, window = 64}
learner = {batch = 16, replay_ratio = 1.0, warmup = 2, schedule = "constant"}
evaluation = {games = 2, opponents = ["random"], simulations = 2, final = false}
checkpoint = {every = 1}
log = {sinks = [], plot_every = 1000}
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
        return catalog.with_values(config, {"name": name, "root": str(tmp_path), **dict(changes)})

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
    config = settings.build(settings.read_tree(settings.tomllib.loads(TINY), "TINY"))
    config = catalog.with_values(config, {"name": "plain", "root": str(tmp_path_factory.mktemp("runs"))})
    drain(config)
    return config
