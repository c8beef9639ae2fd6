"""Replaces training and export by a recorder, so that commands are tested without compiling."""

import dataclasses
import sys
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import envs
import jaxzero.config.validation  # before the evaluation that it needs is replaced
import jaxzero.training
from jaxzero.config.schema import Config
from jaxzero.export import publish
from jaxzero.training import dry_run, iteration


@dataclasses.dataclass
class Recorder:
    """What the command asked of `jaxzero.training.train`."""

    config: Config | None = None
    env: envs.Env | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    rows: int = 0


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()

    def run(config: Config, env: envs.Env, **options: Any):
        recorder.config, recorder.env, recorder.options = config, env, options
        for done in range(2):
            recorder.rows += 1
            yield {"iteration": done}

    def abstract_state(config: Config, env: envs.Env) -> tuple[Any, Any]:
        learner = {"params": jax.ShapeDtypeStruct((500, 500), jnp.float32)}
        return learner, {"replay": jax.ShapeDtypeStruct((4_000_000,), jnp.int8)}

    def export_run(folder: Path, step: int | None, names: list[str], **options: Any) -> list[str]:
        recorder.options = options
        return [str(folder / "exports" / f"{step}.{name}") for name in names]

    module = types.ModuleType("jaxzero.training.train")
    vars(module).update(run=run, dry_run=dry_run.dry_run)
    monkeypatch.setattr(publish, "export_run", export_run)
    monkeypatch.setattr(iteration, "abstract_state", abstract_state)
    monkeypatch.setitem(sys.modules, "jaxzero.training.train", module)
    monkeypatch.setattr(jaxzero.training, "train", module, raising=False)
    players = types.ModuleType("jaxzero.evaluation.players")
    vars(players)["check_device_player"] = lambda name, env, field: None
    monkeypatch.setitem(sys.modules, "jaxzero.evaluation", types.ModuleType("jaxzero.evaluation"))
    monkeypatch.setitem(sys.modules, "jaxzero.evaluation.players", players)
    return recorder
