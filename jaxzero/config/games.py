"""The game of a configuration: a registered one, or a user's own from a file. And other functions from files."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import envs
from envs.contract import check_facts
from jaxzero.config.schema import ConfigError, GameConfig
from jaxzero.messages import shortened

LARGEST, MOST = 10_000_000, 200  # bytes of a Python file; characters of its errors that are shown


def make_env(config: GameConfig) -> envs.Env:
    """The registered game, or the one that `config.source` makes.

    Raises:
        ConfigError: unknown game or option, or a file or function that cannot be used.
    """
    if config.source:
        return own_game(config)
    try:
        return envs.make(config.name, **config.options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"game: {shortened(str(error), MOST)}") from error


def own_game(config: GameConfig) -> envs.Env:
    function = own_function(config.source, "game.source", "registered games go by game.name")
    file, _, name = config.source.rpartition(":")
    try:
        env = function(**config.options)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"game.source: {file}: {described(error)}") from error
    if not isinstance(env, envs.Env):
        raise ConfigError(f"game.source: {name} in {file} returned {type(env).__name__}, not an envs.Env")
    try:
        check_facts(env)
    except AssertionError as error:
        raise ConfigError(f"game.source: {name} in {file}: {shortened(str(error), MOST)}") from error
    except Exception as error:
        raise ConfigError(f"game.source: {name} in {file}: {described(error)}") from error
    return env


def own_function(source: str, field: str, advice: str) -> Callable[..., Any]:
    """The function of a text FILE.py:FUNCTION.

    Raises:
        ConfigError: no such file or function, or an error in the file; it names `field`.
    """
    file, colon, name = source.rpartition(":")
    if not (colon and file.endswith(".py") and name):
        raise ConfigError(f"{field}: {shortened(repr(source), MOST)} is not FILE.py:FUNCTION; {advice}")
    try:
        size = Path(file).stat().st_size if Path(file).is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        size = None
    if size is None:
        raise ConfigError(f"{field}: {shortened(file, MOST)}: no such file")
    if size > LARGEST:
        raise ConfigError(f"{field}: {file}: {size} bytes are no Python file")
    try:
        function = getattr(import_file(Path(file)), name, None)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{field}: {file}: {described(error)}") from error
    if not callable(function):
        raise ConfigError(f"{field}: {file} has no function {name!r}")
    return function


def described(error: BaseException) -> str:
    return f"{type(error).__name__}: {shortened(str(error), MOST)}"


def import_file(path: Path) -> Any:
    """Runs a Python file as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"jaxzero_own_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while it runs.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
