"""Presets: TOML files by name, each with a header that says what it was measured to reach."""

import itertools
from pathlib import Path

from jaxzero.config.values import nearest, quoted
from jaxzero.messages import ConfigError


def folder() -> Path:
    """The folder of presets: inside an installed package, or beside the package in a source checkout."""
    package = Path(__file__).parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def files() -> dict[str, Path]:
    """Files of all presets by name."""
    return {path.stem: path for path in sorted(folder().glob("*.toml"))}


def find(source: str) -> Path:
    """The file of a preset's name, or the file itself."""
    if source.endswith(".toml"):
        return Path(source)
    known = files()
    if source not in known:
        near = nearest(source, list(known), "see `jaxzero presets`")
        raise ConfigError(f"unknown preset {quoted(source)}, and no file ending in .toml; {near}")
    return known[source]


def header(path: Path) -> dict[str, str]:
    """The `# key: value` lines that begin a preset: command, hardware, time, memory, strength."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    pairs = (line.lstrip("# ").partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}
