"""Programs of several CPU devices: few may be queued, and one device may have to wait long for the other."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from envs.tic_tac_toe import TicTacToe
from jaxzero.config import settings
from jaxzero.training import iteration

HERE = Path(__file__).parent.parent
PRESET = """
iterations = 400
network = {kind = "mlp", sizes = [8]}
search = {simulations = 2, max_considered = 2}
selfplay = {games = 8, plies = 8}
replay = {capacity = 256, window = 64}
learner = {batch = 16, replay_ratio = 1.0, warmup = 2}
evaluation = {final = false}
checkpoint = {every = 400}
log = {every = 400, sinks = []}
export = {final = false}
"""
DRIVER = """
import pathlib, sys
from jaxzero.config import settings
from jaxzero.training import train
print([row["iteration"] for row in train.run(settings.load(pathlib.Path(sys.argv[1])))])
"""


def test_rare_rows_do_not_queue_iterations_without_bound(tmp_path: Path):
    """800 programs between two rows; a CPU client that is given more than 32 at once never runs them."""
    preset = tmp_path / "preset.toml"
    preset.write_text(f'name = "run"\nroot = "{tmp_path}"\n{PRESET}')
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(HERE),
        "JAX_COMPILATION_CACHE_DIR": str(HERE / ".cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-c", DRIVER, str(preset)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (ended.stdout, ended.returncode) == ("[400]\n", 0), ended.stderr[-2000:]


def test_devices_may_wait_long_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """XLA's own limit of 40 s is lifted for both programs: what stands in its place reaches their compilation."""
    assert min(iteration.PATIENCE.values()) > 24 * 3600
    preset = tmp_path / "preset.toml"
    preset.write_text(PRESET)
    monkeypatch.setattr(iteration, "PATIENCE", {"xla_no_such_option": 1})
    steps = iteration.make(settings.load(preset), TicTacToe())
    for step in (steps.self_play, steps.learn):
        with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option"):
            step.lower(steps.abstract).compile()
