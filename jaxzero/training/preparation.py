"""What happens before a run begins, and what its errors say."""

from pathlib import Path

import jax

from envs import Env
from envs.contract import check_contract
from jaxzero import messages
from jaxzero.messages import ConfigError
from jaxzero.runs import prechecks
from jaxzero.runs.checkpoint import Checkpointer


def check_game(env: Env) -> None:
    """ConfigError if a game of the user's own breaks the contract of games."""
    try:
        check_contract(env)
    except (AssertionError, NotImplementedError) as error:
        raise ConfigError(f"game: {'; '.join(str(error).splitlines())}") from error
    except Exception as error:
        raise ConfigError(f"game: {type(env).__name__}: {type(error).__name__}: {error}") from error


def precheck(env: Env, folder: Path) -> None:
    """The quick checks of a run's game, once a run; the result is kept in the run's folder."""
    if prechecks.passed(folder):
        return
    checks = list(prechecks.quick(env))
    prechecks.record(folder, env, checks)
    if failed := [check.detail for check in checks if not check.passed]:
        raise ConfigError(f"game: {'; '.join(failed)}; `jaxzero check` says more")


def explained(error: Exception, folder: Path) -> str | None:
    """An error of the machine as one line that says what to do; None for others."""
    if isinstance(error, ConfigError):
        return None
    if trouble := messages.trouble(error):
        return f"{folder}: {trouble[0]}; {trouble[1]}, then run again"
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
        return "out of device memory: lower selfplay.games, learner.batch or replay.capacity"
    return None


def outlook(checkpoints: Checkpointer) -> str:
    """One line for an interrupted run: what is saved."""
    newest = max(checkpoints.steps(), default=0)
    return f"saved up to iteration {newest}; the same command goes on" if newest else "nothing is saved yet"
