"""From preset or file, environment and command line to one `Config`, and back to TOML.

A layer holds what one of them gives, by dotted names, not checked yet: a value can only be checked once the kinds of
network, search and optimizer are known, and the highest layer that names a kind decides. Later layers win.
"""

import dataclasses
import os
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from envs import suggest
from jaxzero.config import catalog, presets
from jaxzero.config.catalog import CHOICES, Kinds
from jaxzero.config.schema import Config, GameConfig
from jaxzero.config.values import TEXT, coerce, nearest, option, parse, quoted, toml, unshowable
from jaxzero.messages import ConfigError, shortened

PREFIX = "JAXZERO_"
LARGEST = 1 << 16  # bytes of a TOML file
DOTS = 200  # in a line of one: the time to read keys of many parts grows with the square of their number
RENAMED = {
    "learner.reuse": "learner.replay_ratio",
    "learner.follows_weight": "learner.to_play_weight",
    "search.reuse": "search.reuse_tree",
    "search.rescale": "search.rescale_values",
}
PATHS = ("game.source", "evaluation.metric", "init_from")


class Given(NamedTuple):
    """A value as it was given."""

    value: Any
    what: str  # the setting and where it was given, for messages
    folder: Path | None  # where paths of files start from; None: they stay
    text: bool = False  # to be parsed


Layer = dict[str, Given]


def resolve(source: str, options: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """Command line `options` (dotted name to text, list of texts, dict or bool) over environment over preset or file
    over defaults."""
    path = presets.find(source)
    config = build(read_file(path), read_environment(environ), read_options(options))
    return config if config.name else dataclasses.replace(config, name=path.stem)


def load(path: Path) -> Config:
    """The configuration in a TOML file."""
    return build(read_file(path))


def root(environ: Mapping[str, str]) -> Path:
    """The folder of all runs, as the environment has it."""
    given, field = read_environment(environ).get("root"), catalog.fields()["root"]
    return Path(value_of(given, field) if given else field.default)


# Layers


def read_file(path: Path) -> Layer:
    """A TOML file; a game's own file is found beside it."""
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
    return read_tree(tree, origin, path.parent)


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


def read_tree(tree: Mapping[str, Any], origin: str, folder: Path | None = None) -> Layer:
    """The tables of a TOML text as one layer; `origin` names it in errors."""
    pairs = []
    for key, value in tree.items():
        if key in catalog.sections() and isinstance(value, dict):
            pairs += [(f"{key}.{name}", inner) for name, inner in value.items()]
        else:
            pairs.append((key, value))
    check_names([name for name, _ in pairs], origin, dict(pairs))
    return {name: Given(value, f"{name} ({origin})", folder) for name, value in pairs}


def check_names(names: Sequence[str], origin: str, values: Mapping[str, Any]) -> None:
    """ConfigError if one of them is no setting of any kind."""
    known = catalog.every()
    for name in names:
        check_renamed(name, origin)
    for name in names:
        if name in catalog.sections():
            raise ConfigError(f"{name} ({origin}): expected a table [{name}] of settings, got {quoted(values[name])}")
        if name not in known:
            section, _, key = name.rpartition(".")
            near = [field.name for field in known.values() if field.section == section]
            near += [] if section else list(catalog.sections())
            elsewhere = [other for other, field in known.items() if field.name == key]
            hint = f"did you mean {elsewhere[0]!r}?" if elsewhere else suggest(key[:TEXT], near)
            raise ConfigError(f"{origin}: unknown key {quoted(name)}; {hint}")


def check_renamed(name: str, origin: str) -> None:
    if name in RENAMED:
        raise ConfigError(f"{origin}: {name} is now called {RENAMED[name]}; use that name")


def variable(name: str) -> str:
    """The environment variable of a field: `search.simulations` -> `JAXZERO_SEARCH_SIMULATIONS`."""
    return PREFIX + name.replace(".", "_").upper()


def read_environment(environ: Mapping[str, str]) -> Layer:
    """All `JAXZERO_…` variables; lists are separated by commas, a game's options are `JAXZERO_GAME_OPTIONS_…`."""
    names = {variable(name): name for name in [*catalog.every(), *RENAMED]}
    options, prefix = {}, variable("game.options") + "_"
    layer: Layer = {}
    for key, text in environ.items():
        if key.startswith(prefix):
            what = f"game.options ({shortened(key)})"
            options[key.removeprefix(prefix).lower()] = option(parse(Any, text), what)
        elif key in names:
            check_renamed(names[key], key)
            layer[names[key]] = Given(text, f"{names[key]} ({key})", Path.cwd(), True)
        elif key.startswith(PREFIX):
            raise ConfigError(f"{shortened(key)}: unknown environment variable; {nearest(key, list(names))}")
    if options and "game.options" not in layer:
        layer["game.options"] = Given(options, "game.options (environment)", Path.cwd())
    return layer


def read_options(options: Mapping[str, Any]) -> Layer:
    """Settings of the command line: text, list of texts, dict of texts or bool."""
    for name in options:
        check_renamed(name, f"--{name}")
    if "game.name" in options and "game.source" in options:
        raise ConfigError("game.source: given together with game.name; give one of them")
    if ".py" not in options.get("game.source", ".py"):  # --game with the name of a registered game
        options = {{"game.source": "game.name"}.get(name, name): value for name, value in options.items()}
    return {name: Given(value, f"{name} (command line)", Path.cwd(), True) for name, value in options.items()}


# From layers to a configuration


def build(*layers: Layer) -> Config:
    """Defaults with `layers` on top. A layer that chooses another game drops the former game and its options."""
    kinds = chosen_kinds(layers)
    merged: dict[str, Any] = {}
    for layer, then in zip(layers, kinds, strict=True):
        values = checked(layer, then, kinds[-1])
        chosen = [name for name in ("game.name", "game.source") if values.get(name)]
        if any(values[name] != merged.get(name, getattr(GameConfig, name.partition(".")[2])) for name in chosen):
            merged |= {"game.name": "", "game.source": "", "game.options": {}}
        options = merged.get("game.options", {}) | values.get("game.options", {})
        merged |= values | {"game.options": options}
    return catalog.with_values(Config(), merged | kinds[-1])


def chosen_kinds(layers: Sequence[Layer]) -> list[Kinds]:
    """The kinds after each layer."""
    kinds, found = catalog.kinds_of(Config()), []
    for layer in layers:
        for choice in CHOICES:
            if choice.name in layer:
                kinds = kinds | {choice.name: value_of(layer[choice.name], choice.field())}
        found.append(kinds)
    return found


def checked(layer: Layer, then: Kinds, final: Kinds) -> dict[str, Any]:
    """The values of a layer, by whose time the kinds were `then`.

    A setting that the final kinds do not have falls away if those of then had it: a higher layer has chosen another
    kind. Otherwise it is an error.
    """
    known, known_then = (catalog.fields(catalog.defaults(kinds)) for kinds in (final, then))
    values = {}
    for name, given in layer.items():
        if name in known:
            values[name] = value_of(given, known[name])
        elif name in known_then:
            value_of(given, known_then[name])
        else:
            raise ConfigError(f"{given.what}: {foreign(name, final)}")
    return values


def value_of(given: Given, field: catalog.Field) -> Any:
    """The value of a setting, checked; paths of files are absolute, so that they are found from any other folder."""
    value = coerce(field, parse(field.hint, given.value) if given.text else given.value, given.what)
    is_file = field.dotted in PATHS and value and (field.dotted == "init_from" or ".py:" in value)
    return str(given.folder.absolute() / value) if is_file and given.folder else value


def foreign(name: str, kinds: Kinds) -> str:
    """What is wrong with a setting that another kind has."""
    choice, have = catalog.holders(name)
    assert choice is not None
    key = name.rpartition(".")[2]
    others = f"{', '.join(have)} {'has' if len(have) == 1 else 'have'}"
    return f'{kinds[choice.name]} has no {key} ({others}); leave it out, or set {choice.name} = "{have[0]}"'


# TOML


def dump(config: Config) -> str:
    """The configuration as TOML that `load` reads back equal."""
    lines, section = [], ""
    for field in catalog.fields(config).values():
        if field.section != section:
            section = field.section
            lines += ["", f"[{section}]"]
        lines += [f"{field.name} = {toml(catalog.value_at(config, field.path))}"]
    return "\n".join(lines) + "\n"
