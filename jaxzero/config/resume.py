"""What may change when a run is resumed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxzero.config import catalog, settings
from jaxzero.config.schema import Config
from jaxzero.config.values import nearest, toml
from jaxzero.messages import ConfigError, shortened

FREE = (
    "name", "root", "iterations", "log", "checkpoint", "evaluation", "export", "data.epochs", "data.patience",
    "data.validate_every",
)  # fmt: skip
ON_REQUEST = ("learner", "data", "search", "selfplay.opening_plies", "devices", "promotion")
FIXED = ("promotion.rule",)  # in a section that may change


def check_resume(old: Config, new: Config, allow_change: Sequence[str] = ()) -> list[str]:
    """What a resumed run changes, one "field: old -> new" each.

    Raises:
        ConfigError: a change that needs permission (a field or section in `allow_change`), or that no run survives.
    """
    check_allowed(allow_change)
    changes, known = [], catalog.values(old)
    for name, after in catalog.values(new).items():
        # A setting that only the new kinds have comes with a choice that has changed too.
        if name not in known or (before := known[name]) == after:
            continue
        change = f"{name}: {toml(before)} -> {toml(after)}"
        restart = "--overwrite to start again, or another --name"
        if name in FIXED or not covered(name, FREE + ON_REQUEST):
            raise ConfigError(f"{change} cannot change within a run; use {restart}")
        if not covered(name, FREE) and not covered(name, allow_change):
            raise ConfigError(f"{change} changes a run; use --allow-change {name} to go on, {restart}")
        changes.append(change)
    return changes


def with_settings_of_run(
    config: Config, preset: str, options: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[Config, list[str]]:
    """The configuration with the settings of the run that is there in place of the preset's, and what that changes,
    one "field: value" each. What command line and environment give stays.

    A TOML file counts as given, and so does a preset that no run of its settings can become: then nothing changes.
    """
    file = Path(config.root) / config.name / "config.toml"
    if preset.endswith(".toml") or not file.is_file():
        return config, []
    own = settings.resolve(str(file), {**options, "name": config.name, "root": config.root}, environ)
    theirs = catalog.values(own)
    changed = [name for name, value in catalog.values(config).items() if theirs.get(name) != value]
    if any(name in FIXED or not covered(name, FREE + ON_REQUEST) for name in changed):
        return config, []
    return own, [f"{name} {toml(theirs[name])}" for name in changed if name in theirs]


def check_allowed(names: Sequence[str]) -> None:
    """ConfigError if one of them is neither a field nor a section."""
    known = [*catalog.every(), *catalog.sections()]
    for name in names:
        if name not in known:
            raise ConfigError(f"--allow-change {shortened(name)}: unknown field; {nearest(name, known)}")


def covered(name: str, names: Sequence[str]) -> bool:
    """Whether a field, or its section, is among `names`."""
    return name in names or name.partition(".")[0] in names
