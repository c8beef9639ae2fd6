"""The folder of a run: opened, resumed or refused; and read back by everything that comes after training."""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import logging
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from envs import Env, suggest
from jaxzero import files, networks
from jaxzero.config import settings
from jaxzero.config.buildable import validate_network
from jaxzero.config.games import make_env
from jaxzero.config.resume import check_resume
from jaxzero.config.schema import Config
from jaxzero.config.values import TEXT
from jaxzero.messages import ConfigError, shortened
from jaxzero.runs.checkpoint import Checkpointer
from jaxzero.runs.trouble import check_writable, reported

CONFIG, RATINGS, VERSIONS, CHANGES = "config.toml", "ratings.json", "versions.json", "changes.jsonl"
DELETING = CONFIG + ".deleting"  # the configuration of a run that is being deleted
PACKAGES = ("jaxzero", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch")

_log = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """A trained network: `network.infer(params, observations)`; `params` are folded EMA parameters."""

    env: Env
    network: networks.Network
    params: Any
    config: Config
    step: int  # iterations trained
    info: dict[str, Any]  # of the checkpoint: totals, versions


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
    known, half_deleted = (folder / CONFIG).is_file(), (folder / DELETING).is_file()
    if folder.exists() and not known and not half_deleted and holds_something(folder):
        raise ConfigError(f"{folder}: exists and is not a run; choose another --name or --root")
    changes = []
    if known and not overwrite:
        changes = check_resume(settings.load(folder / CONFIG), config, allow_change)
    check_writable(folder)
    Checkpointer(folder / "checkpoints").close()  # refused before anything is deleted
    with contextlib.ExitStack() as held:
        with reported(folder, "cannot write there"):
            lock = held.enter_context(open(folder / ".lock", "w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"{folder}: another process is training here; stop it or choose another --name") from None
        with reported(folder, "cannot write there"):
            if overwrite or half_deleted:
                delete(folder)
            for draft in files.drafts(folder):
                draft.unlink()
            if overwrite or not known:
                record(folder, config, [], 0)
        yield folder, changes


def holds_something(folder: Path) -> bool:
    """Whether there is more than a start that was killed at once leaves; also of a file."""
    return not folder.is_dir() or bool(set(folder.iterdir()) - {folder / ".lock", *files.drafts(folder)})


def delete(folder: Path) -> None:
    """Deletes a run but for its lock. It ends as a run with the first step, a renaming; the next start finishes."""
    if (folder / CONFIG).exists():
        (folder / CONFIG).rename(folder / DELETING)
    for child in sorted(folder.iterdir(), key=lambda child: child.name == DELETING):
        if child.name != ".lock":
            shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()


def record(folder: Path, config: Config, changes: list[str], iteration: int) -> None:
    """Appends what changed, versions too, to changes.jsonl, then writes config.toml and versions.json."""
    before, now = read_versions(folder), versions()
    names = sorted(before.keys() | now.keys()) if before else []
    other = [f"{k}: {before.get(k, 'none')} -> {now.get(k, 'none')}" for k in names if before.get(k) != now.get(k)]
    if other:
        _log.warning("other versions than at the last start: %s", "; ".join(other))
    if changes or other:
        line = json.dumps({"iteration": iteration, "changes": changes + other}) + "\n"
        history = folder / CHANGES
        written = history.read_text(encoding="utf-8") if history.exists() else ""
        if not written.endswith(line):  # as after a start that was killed here
            files.write(history, written + line)
    files.write(folder / CONFIG, settings.dump(config))
    files.write(folder / VERSIONS, json.dumps(now, indent=2) + "\n")


def packages() -> dict[str, str]:
    """Versions of the libraries that decide what is computed, by name; torch only where it is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def versions() -> dict[str, str]:
    """`packages`, the kind of device and the platform."""
    return packages() | {"device": jax.devices()[0].device_kind, "platform": platform.platform()}


def read_versions(folder: Path) -> dict[str, str]:
    """Those of the run's last start; none if they are not known."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads((folder / VERSIONS).read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return {str(name): str(version) for name, version in content.items()}
    return {}


def has_checkpoint(config: Config) -> bool:
    """Whether the run goes on with weights of its own."""
    folder = folder_of(config)
    if not (folder / CONFIG).is_file():
        return False
    with Checkpointer(folder / "checkpoints", config.checkpoint.keep) as checkpoints:
        return bool(checkpoints.steps())


def find(run: str) -> Path:
    """The folder of a run, given it or the run's name.

    Raises:
        ConfigError: there is no such run.
    """
    root = settings.root(os.environ)
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have
        for folder in (Path(run), root / run):
            if (folder / CONFIG).is_file():
                return folder
    known = sorted(path.parent.name for path in root.glob(f"*/{CONFIG}"))
    near = shortened(suggest(run[:TEXT], known), 200) if known else "none yet"
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
    from jaxzero.training import iteration  # late: a slow import

    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder}: no run here (no {CONFIG}); give a run's folder")
    config = dataclasses.replace(settings.load(folder / CONFIG), devices=1)
    env = env or make_env(config.game)
    validate_network(config, env)
    network = networks.make(config.network, env)
    template = jax.eval_shape(partial(iteration.begin, config, network))
    with Checkpointer(folder / "checkpoints", config.checkpoint.keep) as checkpoints:
        restored = checkpoints.restore_learner(template, step)
    if restored is None:
        raise ConfigError(f"{folder}: no checkpoint yet; train it first")
    variables, step = restored.learner["train_state"].ema, restored.step
    if promoted:
        if "best" not in restored.learner:
            raise ConfigError(f"{folder}: nothing is promoted there, as promotion.rule is off")
        variables, step = restored.learner["best"].variables, int(restored.learner["best"].iteration)
    return Loaded(env, network, network.fold(variables), config, step, restored.info)
