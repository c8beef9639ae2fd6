"""Values of settings: parsed from text, checked against their fields, written as TOML."""

import difflib
import json
import typing
import unicodedata
from collections.abc import Sequence
from typing import Any, Literal

from envs import suggest
from jaxzero.config.fields import Field, Range
from jaxzero.messages import ConfigError, shortened

ENTRIES, TEXT = 32, 1000  # of a list; characters of a text


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


def nearest(word: str, known: Sequence[str], advice: str = "see `jaxzero train --help`") -> str:
    """As `suggest`, where the whole list would be too long."""
    near = difflib.get_close_matches(word[:TEXT], known, n=1, cutoff=0.8)
    return f"did you mean {near[0]!r}?" if near else advice


def toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    return repr(value)
