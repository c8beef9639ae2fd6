"""From preset, file, environment and command line to one `Config`; TOML in and out; what a resume may change.

A layer is a dict from dotted field names to values of the field's type. Later layers win.
"""

import ast
import dataclasses
import difflib
import functools
import inspect
import itertools
import json
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from envs import suggest
from jaxzero import config as config_module
from jaxzero.config import Config, ConfigError

Layer = dict[str, Any]
PREFIX = "JAXZERO_"


class Field(NamedTuple):
    """One setting: its section ("" at the top), name, type, default and help."""

    section: str
    name: str
    hint: Any
    default: Any
    help: str


@functools.cache
def fields() -> dict[str, Field]:
    """Every setting by dotted name, in the order of the dataclasses."""
    found = {}
    for section, instance in [("", Config()), *sections().items()]:
        hints, texts = typing.get_type_hints(type(instance)), help_texts(type(instance))
        for field in dataclasses.fields(instance):
            if not dataclasses.is_dataclass(default := getattr(instance, field.name)):
                name = f"{section}.{field.name}" if section else field.name
                found[name] = Field(section, field.name, hints[field.name], default, texts[field.name])
    return found


def sections() -> dict[str, Any]:
    """The default of every section by name."""
    default = Config()
    values = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    return {name: value for name, value in values.items() if dataclasses.is_dataclass(value)}


def help_texts(cls: type) -> dict[str, str]:
    """The string under each field of a dataclass of `jaxzero.config`; Python itself drops them."""
    body = next(
        node.body
        for node in ast.parse(inspect.getsource(config_module)).body
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__
    )
    return {
        node.target.id: text.value.value
        for node, text in itertools.pairwise(body)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


# Presets


def preset_folder() -> Path:
    """The folder of presets: inside an installed package, or beside the package in a source checkout."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def presets() -> dict[str, Path]:
    """Files of all presets by name."""
    return {path.stem: path for path in sorted(preset_folder().glob("*.toml"))}


def find_preset(source: str) -> Path:
    """The file of a preset's name, or the file itself."""
    if source.endswith(".toml"):
        return Path(source)
    known = presets()
    if source not in known:
        raise ConfigError(f"unknown preset {source!r}; {suggest(source, list(known))}; or give a file ending in .toml")
    return known[source]


def header(path: Path) -> dict[str, str]:
    """The `# key: value` lines that begin a preset: command, hardware, time, memory, strength."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    pairs = (line.lstrip("# ").partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


# Layers


def resolve(source: str, options: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """Command line `options` (dotted name to text, list of texts, dict or bool) over environment over preset or file
    over defaults."""
    path = find_preset(source)
    config = build(read_file(path), read_environment(environ), read_options(options))
    return config if config.name else dataclasses.replace(config, name=path.stem)


def load(path: Path) -> Config:
    """The configuration in a TOML file."""
    return build(read_file(path))


def read_file(path: Path) -> Layer:
    """A TOML file, its types checked; a game's own file is found beside it."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a preset's name or a TOML file") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    return with_absolute_paths(read_tree(tree, str(path)), path.parent)


def read_tree(tree: Mapping[str, Any], origin: str) -> Layer:
    """The tables of a TOML text as one layer; `origin` names it in errors."""
    layer: Layer = {}
    for key, value in tree.items():
        if key not in sections() or not isinstance(value, dict):
            add(layer, key, value, origin)
        else:
            for name, inner in value.items():
                add(layer, f"{key}.{name}", inner, origin)
    return layer


def add(layer: Layer, name: str, value: Any, origin: str) -> None:
    if name in sections():
        raise ConfigError(f"{name} ({origin}): expected a table [{name}] of settings, got {value!r}")
    if name not in fields():
        section, _, key = name.rpartition(".")
        known = [field.name for field in fields().values() if field.section == section]
        known += [] if section else list(sections())
        elsewhere = [other for other, field in fields().items() if field.name == key]
        hint = f"did you mean {elsewhere[0]!r}?" if elsewhere else suggest(key, known)
        raise ConfigError(f"{origin}: unknown key {name!r}; {hint}")
    layer[name] = coerce(fields()[name].hint, value, f"{name} ({origin})")


def nearest(word: str, known: Sequence[str]) -> str:
    """As `suggest`, where the whole list would be too long."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.8)
    return f"did you mean {near[0]!r}?" if near else "see `jaxzero train --help`"


def variable(name: str) -> str:
    """The environment variable of a field: `search.simulations` -> `JAXZERO_SEARCH_SIMULATIONS`."""
    return PREFIX + name.replace(".", "_").upper()


def read_environment(environ: Mapping[str, str]) -> Layer:
    """All `JAXZERO_…` variables; lists are separated by commas, a game's options are `JAXZERO_GAME_OPTIONS_…`."""
    names, options = {variable(name): name for name in fields()}, variable("game.options") + "_"
    layer: Layer = {}
    for key, text in environ.items():
        if key.startswith(options):
            layer.setdefault("game.options", {})[key.removeprefix(options).lower()] = parse(Any, text)
        elif key in names:
            field = fields()[names[key]]
            layer[names[key]] = coerce(field.hint, parse(field.hint, text), f"{names[key]} ({key})")
        elif key.startswith(PREFIX):
            raise ConfigError(f"{key}: unknown environment variable; {nearest(key, list(names))}")
    return with_absolute_paths(layer, Path.cwd())


def read_options(options: Mapping[str, Any]) -> Layer:
    """Settings of the command line: text, list of texts, dict of texts or bool."""
    if "game.name" in options and "game.source" in options:
        raise ConfigError("game.source: given together with game.name; give one of them")
    layer: Layer = {}
    for name, value in options.items():
        hint = fields()[name].hint
        layer[name] = coerce(hint, parse(hint, value), f"{name} (command line)")
    return with_absolute_paths(layer, Path.cwd())


def with_absolute_paths(layer: Layer, folder: Path) -> Layer:
    """Files are found again from any other folder."""
    for name in ("game.source", "evaluation.metric"):
        if ".py:" in layer.get(name, ""):
            layer[name] = str(folder.absolute() / layer[name])
    if layer.get("init_from"):
        layer["init_from"] = str(folder.absolute() / layer["init_from"])
    return layer


def build(*layers: Layer) -> Config:
    """Defaults with `layers` on top. A layer that chooses another game drops the former game and its options."""
    merged: Layer = {}
    for layer in layers:
        chosen = [name for name in ("game.name", "game.source") if layer.get(name)]
        if any(layer[name] != merged.get(name, fields()[name].default) for name in chosen):
            merged |= {"game.name": "", "game.source": "", "game.options": {}}
        options = merged.get("game.options", {}) | layer.get("game.options", {})
        merged |= layer | {"game.options": options}
    parts = {
        section: dataclasses.replace(value, **{
            field.name: merged[name] for name, field in fields().items() if field.section == section and name in merged
        })
        for section, value in sections().items()
    }  # fmt: skip
    top = {name: value for name, value in merged.items() if not fields()[name].section}
    return Config(**top, **parts)


# Values


def parse(hint: Any, value: Any) -> Any:
    """Text as a value of a type; text that is none stays text, for `coerce` to refuse."""
    if isinstance(value, dict):
        return {key: parse(Any, text) for key, text in value.items()}
    if typing.get_origin(hint) is tuple:
        texts = (value if isinstance(value, str) else " ".join(value)).replace(",", " ").split()
        return [parse(typing.get_args(hint)[0], text) for text in texts]
    if hint in (bool, Any) and value in ("true", "false"):
        return value == "true"
    for number in (int, float):
        if hint in (number, Any):
            try:
                return number(value)
            except ValueError:
                continue
    return value


EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text in quotes"}


def coerce(hint: Any, value: Any, what: str) -> Any:
    """`value` if it has the type exactly, with two graces: whole numbers for float fields, lists for tuples."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value in arguments and isinstance(value, str):
            return value
        raise ConfigError(f"{what}: unknown value {value!r}; {suggest(str(value), list(arguments))}")
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{what}: expected a list, each {EXPECTED[arguments[0]]}, got {value!r}")
        return tuple(coerce(arguments[0], item, what) for item in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{what}: expected a table of options, got {value!r}")
        return {key: option(item, f"{what}: {key}") for key, item in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{what}: expected {EXPECTED[hint]}, got {value!r}")
    return value


def option(value: Any, what: str) -> Any:
    """A game's option: hashable, as games are."""
    if isinstance(value, list):
        return tuple(option(item, what) for item in value)
    if type(value) not in EXPECTED:
        raise ConfigError(f"{what}: expected a number, true, false, text or a list of them, got {value!r}")
    return value


# TOML


def dump(config: Config) -> str:
    """The configuration as TOML that `load` reads back equal."""
    lines, section = [], ""
    for name, field in fields().items():
        value = value_of(config, name)
        if field.section != section:
            section = field.section
            lines += ["", f"[{section}]"]
        lines += [f"{field.name} = {toml(value)}"]
    return "\n".join(lines) + "\n"


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    return repr(value)


def value_of(config: Config, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), config)


# Resume

FREE = ("name", "root", "iterations", "log", "checkpoint", "evaluation", "export")
ON_REQUEST = ("learner", "search", "selfplay.opening_plies", "devices", "promotion")
FIXED = ("promotion.rule",)  # in a section that may change


def check_resume(old: Config, new: Config, allow_change: Sequence[str] = ()) -> list[str]:
    """What a resumed run changes, one "field: old -> new" each.

    Raises:
        ConfigError: a change that needs permission (a field or section in `allow_change`), or that no run survives.
    """
    for name in allow_change:
        if name not in fields() and name not in sections():
            raise ConfigError(f"--allow-change {name}: unknown field; {nearest(name, [*fields(), *sections()])}")
    changes = []
    for name in fields():
        before, after = value_of(old, name), value_of(new, name)
        if before == after:
            continue
        change = f"{name}: {toml(before)} -> {toml(after)}"
        restart = "--overwrite to start again, or another --name"
        if name in FIXED or not covered(name, FREE + ON_REQUEST):
            raise ConfigError(f"{change} cannot change within a run; use {restart}")
        if not covered(name, FREE) and not covered(name, allow_change):
            raise ConfigError(f"{change} changes a run; use --allow-change {name} to go on, {restart}")
        changes.append(change)
    return changes


def covered(name: str, names: Sequence[str]) -> bool:
    """Whether a field, or its section, is among `names`."""
    return name in names or name.partition(".")[0] in names
