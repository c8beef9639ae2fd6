"""What may change when a run is resumed."""

from collections.abc import Sequence

from jaxzero.config import catalog
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


def check_allowed(names: Sequence[str]) -> None:
    """ConfigError if one of them is neither a field nor a section."""
    known = [*catalog.every(), *catalog.sections()]
    for name in names:
        if name not in known:
            raise ConfigError(f"--allow-change {shortened(name)}: unknown field; {nearest(name, known)}")


def covered(name: str, names: Sequence[str]) -> bool:
    """Whether a field, or its section, is among `names`."""
    return name in names or name.partition(".")[0] in names
