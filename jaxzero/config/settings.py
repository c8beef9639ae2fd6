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
import os
import stat
import tomllib
import typing
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from envs import suggest
from jaxzero.config import schema
from jaxzero.config.schema import Config, ConfigError, Range
from jaxzero.messages import shortened

Layer = dict[str, Any]
PREFIX = "JAXZERO_"
LARGEST = 1 << 16  # bytes of a TOML file
DOTS = 200  # in a line of one: the time to read keys of many parts grows with the square of their number
ENTRIES, TEXT = 32, 1000  # of a list; characters of a text


class Field(NamedTuple):
    """One setting: its section ("" at the top), name, type, default, help and, of numbers, range."""

    section: str
    name: str
    hint: Any
    default: Any
    help: str
    range: Range | None


@functools.cache
def fields() -> dict[str, Field]:
    """Every setting by dotted name, in the order of the dataclasses."""
    found = {}
    for section, instance in [("", Config()), *sections().items()]:
        hints, texts = typing.get_type_hints(type(instance), include_extras=True), help_texts(type(instance))
        for field in dataclasses.fields(instance):
            if not dataclasses.is_dataclass(default := getattr(instance, field.name)):
                name = f"{section}.{field.name}" if section else field.name
                hint, *extras = unannotated(hints[field.name])
                found[name] = Field(section, field.name, hint, default, texts[field.name], *(extras or [None]))
    return found


def unannotated(hint: Any) -> tuple[Any, ...]:
    """A type and what it is annotated with."""
    return typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)


def sections() -> dict[str, Any]:
    """The default of every section by name."""
    default = Config()
    values = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    return {name: value for name, value in values.items() if dataclasses.is_dataclass(value)}


def help_texts(cls: type) -> dict[str, str]:
    """The string under each field of a dataclass of `jaxzero.config.schema`; Python itself drops them."""
    body = next(
        node.body
        for node in ast.parse(inspect.getsource(schema)).body
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
    package = Path(__file__).parent.parent
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
        near = nearest(source, list(known), "see `jaxzero presets`")
        raise ConfigError(f"unknown preset {quoted(source)}, and no file ending in .toml; {near}")
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
    """A TOML file, its values checked; a game's own file is found beside it."""
    origin = shortened(ascii(str(path))[1:-1] if unshowable(str(path)) else str(path), 200)
    try:
        tree = tomllib.loads(read_text(path))
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{origin}: cannot be read ({reason}); give a preset's name or a TOML file") from error
    except RecursionError as error:
        raise ConfigError(f"{origin}: not valid TOML: nested too deeply; no setting is") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{origin}: not valid TOML: byte {error.start} is not UTF-8; save it as UTF-8") from error
    except ValueError as error:
        raise ConfigError(f"{origin}: not valid TOML: {shortened(str(error), 200)}") from error
    return with_absolute_paths(read_tree(tree, origin), path.parent)


def read_text(path: Path) -> str:
    """A file that may hold settings.

    Raises:
        OSError: it cannot be read, or is no file but a device or pipe, which might never end.
        ValueError: it is not UTF-8 (a byte order mark is allowed), or more than any settings need.
    """
    # Without O_NONBLOCK to open a pipe would wait until someone writes to it.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a regular file")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    text = content.decode("utf-8-sig")
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") > DOTS:
            raise ValueError(f"more than {DOTS} dots in line {number}")
    return text


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
        raise ConfigError(f"{name} ({origin}): expected a table [{name}] of settings, got {quoted(value)}")
    if name not in fields():
        section, _, key = name.rpartition(".")
        known = [field.name for field in fields().values() if field.section == section]
        known += [] if section else list(sections())
        elsewhere = [other for other, field in fields().items() if field.name == key]
        hint = f"did you mean {elsewhere[0]!r}?" if elsewhere else suggest(key[:TEXT], known)
        raise ConfigError(f"{origin}: unknown key {quoted(name)}; {hint}")
    layer[name] = coerce(fields()[name], value, f"{name} ({origin})")


def nearest(word: str, known: Sequence[str], advice: str = "see `jaxzero train --help`") -> str:
    """As `suggest`, where the whole list would be too long."""
    near = difflib.get_close_matches(word[:TEXT], known, n=1, cutoff=0.8)
    return f"did you mean {near[0]!r}?" if near else advice


def variable(name: str) -> str:
    """The environment variable of a field: `search.simulations` -> `JAXZERO_SEARCH_SIMULATIONS`."""
    return PREFIX + name.replace(".", "_").upper()


def read_environment(environ: Mapping[str, str]) -> Layer:
    """All `JAXZERO_…` variables; lists are separated by commas, a game's options are `JAXZERO_GAME_OPTIONS_…`."""
    names, options = {variable(name): name for name in fields()}, variable("game.options") + "_"
    layer: Layer = {}
    for key, text in environ.items():
        if key.startswith(options):
            what = f"game.options ({shortened(key)})"
            layer.setdefault("game.options", {})[key.removeprefix(options).lower()] = option(parse(Any, text), what)
        elif key in names:
            field = fields()[names[key]]
            layer[names[key]] = coerce(field, parse(field.hint, text), f"{names[key]} ({key})")
        elif key.startswith(PREFIX):
            raise ConfigError(f"{shortened(key)}: unknown environment variable; {nearest(key, list(names))}")
    return with_absolute_paths(layer, Path.cwd())


def read_options(options: Mapping[str, Any]) -> Layer:
    """Settings of the command line: text, list of texts, dict of texts or bool."""
    if "game.name" in options and "game.source" in options:
        raise ConfigError("game.source: given together with game.name; give one of them")
    layer: Layer = {}
    for name, value in options.items():
        field = fields()[name]
        layer[name] = coerce(field, parse(field.hint, value), f"{name} (command line)")
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
        if hint in (number, Any) and value.isascii():  # Python itself takes the digits of every script
            try:
                return number(value)
            except ValueError:
                continue
    return value


EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text in quotes"}


def coerce(field: Field, value: Any, what: str) -> Any:
    """`value` if it may be the setting: of the type exactly, with two graces, whole numbers for float fields and lists
    for tuples, and in the range. ConfigError, which begins with `what`, if not."""
    origin, arguments = typing.get_origin(field.hint), typing.get_args(field.hint)
    if origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
        near = suggest(str(value)[:TEXT] if isinstance(value, str) else "", list(arguments))
        raise ConfigError(f"{what}: unknown value {quoted(value)}; {near}")
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{what}: expected a list, each {EXPECTED[arguments[0]]}, got {quoted(value)}")
        if len(value) > ENTRIES:
            raise ConfigError(f"{what}: no more than {ENTRIES} fit into a list, got {len(value)}")
        return tuple(scalar(arguments[0], item, what, field.range) for item in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{what}: expected a table of options, got {quoted(value)}")
        return {scalar(str, key, what): option(item, f"{what}: {shortened(key)}") for key, item in value.items()}
    return scalar(field.hint, value, what, field.range)


def scalar(kind: Any, value: Any, what: str, bounds: Range | None = None) -> Any:
    """`coerce` of a single value."""
    if type(value) is not kind and (kind, type(value)) != (float, int):
        raise ConfigError(f"{what}: expected {EXPECTED[kind]}, got {quoted(value)}")
    if kind is str and (len(value) > TEXT or unshowable(value)):
        raise ConfigError(f"{what}: must be at most {TEXT} characters, none of them for control, got {quoted(value)}")
    if bounds and value not in bounds:
        raise ConfigError(f"{what}: must be {bounds}, got {quoted(value)}")
    return kind(value)


def option(value: Any, what: str, depth: int = 3) -> Any:
    """A game's option: hashable, as games are, and of a size that a message can show."""
    if isinstance(value, (list, tuple)) and depth:
        if len(value) > ENTRIES:
            raise ConfigError(f"{what}: no more than {ENTRIES} fit into a list, got {len(value)}")
        return tuple(option(item, what, depth - 1) for item in value)
    if type(value) not in EXPECTED:
        raise ConfigError(f"{what}: expected a number, true, false, text or a list of them, got {quoted(value)}")
    return scalar(type(value), value, what, Range(-(2**63), 2**63 - 1) if type(value) in (int, float) else None)


def whole_number(text: str, bounds: Range) -> int:
    """The number of a text. ValueError: it is none, or out of bounds."""
    value = parse(int, text)
    if type(value) is not int:
        raise ValueError(f"expected a whole number, got {quoted(text)}")
    if value not in bounds:
        raise ValueError(f"must be {bounds}, got {quoted(value)}")
    return value


def unshowable(text: str) -> bool:
    """Whether characters of a text are for control, or break lines, or stand for bytes that are not UTF-8."""
    return any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text)


def quoted(value: Any, most: int = 80) -> str:
    """A value as Python writes it, short enough for a message."""
    return shortened(repr(value) if isinstance(value, str) else value, most)


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
    check_allowed(allow_change)
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


def check_allowed(names: Sequence[str]) -> None:
    """ConfigError if one of them is neither a field nor a section."""
    known = [*fields(), *sections()]
    for name in names:
        if name not in known:
            raise ConfigError(f"--allow-change {shortened(name)}: unknown field; {nearest(name, known)}")


def covered(name: str, names: Sequence[str]) -> bool:
    """Whether a field, or its section, is among `names`."""
    return name in names or name.partition(".")[0] in names
