"""The folder of a run: opened, resumed or refused; and read back by everything that comes after training."""

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from envs import Env, suggest
from jaxzero import networks, settings
from jaxzero.checkpoint import Checkpointer, check_writable
from jaxzero.config import Config, ConfigError
from jaxzero.files import shortened
from jaxzero.games import make_env

CONFIG, RATINGS = "config.toml", "ratings.json"
OURS = {".lock", CONFIG + ".tmp"}  # all that a start killed at once leaves


class Loaded(NamedTuple):
    """A trained network: `network.infer(params, observations)`; `params` are folded averages."""

    env: Env
    network: networks.Network
    params: Any
    config: Config
    step: int  # iterations trained
    info: dict[str, Any]  # what the checkpoint says of itself


def folder_of(config: Config) -> Path:
    return Path(config.root) / config.name


@contextlib.contextmanager
def opened(config: Config, allow_change: Sequence[str], overwrite: bool) -> Iterator[tuple[Path, list[str]]]:
    """The run's folder, held by this process alone, and what the resumed run changes.

    Raises:
        ConfigError: it holds something else, another process trains in it, a change is not allowed, or it cannot be
            written.
    """
    folder = folder_of(config)
    known = (folder / CONFIG).is_file()
    if folder.exists() and not known and (not folder.is_dir() or {path.name for path in folder.iterdir()} - OURS):
        raise ConfigError(f"{folder}: exists and is not a run; choose another --name or --root")
    changes = []
    if known and not overwrite:
        changes = settings.check_resume(settings.load(folder / CONFIG), config, allow_change)
    check_writable(folder)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"{folder}: another process is training here; stop it or choose another --name") from None
        if overwrite:
            # The configuration goes last: a folder without it would no longer pass for a run.
            for child in sorted(folder.iterdir(), key=lambda child: child.name == CONFIG):
                if child.name != ".lock":
                    shutil.rmtree(child) if child.is_dir() else child.unlink()
        if overwrite or not known:
            record(folder, config, [], 0)
        yield folder, changes


def record(folder: Path, config: Config, changes: list[str], iteration: int) -> None:
    """Appends what changed to changes.jsonl, then writes config.toml."""
    if changes:
        with open(folder / "changes.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": iteration, "changes": changes}) + "\n")
    draft = folder / (CONFIG + ".tmp")
    draft.write_text(settings.dump(config), encoding="utf-8")
    draft.replace(folder / CONFIG)


def has_checkpoint(config: Config) -> bool:
    """Whether the run goes on with weights of its own."""
    with Checkpointer(folder_of(config) / "checkpoints", config.checkpoint.keep) as checkpoints:
        return bool(checkpoints.steps())


def find(run: str) -> Path:
    """The folder of a run, given it or the run's name.

    Raises:
        ConfigError: there is no such run.
    """
    root = Path(settings.read_environment(os.environ).get("root", Config.root))
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have
        for folder in (Path(run), root / run):
            if (folder / CONFIG).is_file():
                return folder
    known = sorted(path.parent.name for path in root.glob(f"*/{CONFIG}"))
    near = shortened(suggest(run[: settings.TEXT], known), 200) if known else "none yet"
    raise ConfigError(f"{shortened(run)}: no run there or in {shortened(str(root))} (no {CONFIG}); {near}")


def best_step(folder: Path) -> int:
    """The checkpoint of the highest score.

    Raises:
        ConfigError: none has a score.
    """
    with Checkpointer(folder / "checkpoints") as checkpoints:
        step = checkpoints.best()
    if step is None:
        raise ConfigError(f"{folder}: no checkpoint has a score yet; evaluation.every gives them one")
    return step


def load(folder: str | Path, step: int | None = None, env: Env | None = None, promoted: bool = False) -> Loaded:
    """The network of a run at its newest checkpoint, or at `step`; `env` for a game made in a script. `promoted`: the
    one that was `best` by then, instead of the latest.

    Raises:
        ConfigError: no run, no such checkpoint, or a damaged one.
    """
    # Late: they import this module.
    from jaxzero import iteration, validation

    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder}: no run here (no {CONFIG}); give a run's folder")
    config = dataclasses.replace(settings.load(folder / CONFIG), devices=1)
    env = env or make_env(config.game)
    validation.validate_network(config, env)
    network = networks.make(config.network, env)
    template = jax.eval_shape(partial(iteration.begin, config, network))
    with Checkpointer(folder / "checkpoints", config.checkpoint.keep) as checkpoints:
        restored = checkpoints.restore_learner(template, step)
    if restored is None:
        raise ConfigError(f"{folder}: no checkpoint yet; train it first")
    average, step = restored.learner["learned"].average, restored.step
    if promoted:
        if "best" not in restored.learner:
            raise ConfigError(f"{folder}: nothing is promoted there, as promotion.rule is off")
        average, step = restored.learner["best"].variables, int(restored.learner["best"].iteration)
    return Loaded(env, network, network.fold(average), config, step, restored.info)
