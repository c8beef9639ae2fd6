"""All settings by their dotted names, whichever classes a configuration is made of."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from jaxzero.config.fields import Field, fields_of
from jaxzero.config.schema import Config
from jaxzero.networks import NETWORKS
from jaxzero.search import SEARCHES
from jaxzero.training.optimizers import OPTIMIZERS


class Choice(NamedTuple):
    """A setting whose value chooses the class of a part of the configuration."""

    name: str
    path: tuple[str, ...]  # attributes that lead from a Config to the part
    registry: Mapping[str, tuple[type, Any]]  # kind -> its configuration class, and more
    what: str

    def field(self) -> Field:
        default = value_at(Config(), self.path).kind
        section, _, name = self.name.rpartition(".")
        texts = [f"{kind}: {(cls.__doc__ or '').strip().splitlines()[0]}" for kind, (cls, *_) in self.registry.items()]
        text = " ".join([f"{self.what}.", *texts])
        return Field(section, name, (*self.path, "kind"), Literal[*self.registry], default, text, common=True)


CHOICES = (
    Choice("network.kind", ("network",), NETWORKS, "Network"),
    Choice("search.kind", ("search",), SEARCHES, "Search"),
    Choice("learner.optimizer", ("learner", "optimizer"), OPTIMIZERS, "Optimizer"),
)

Kinds = dict[str, str]  # name of a choice -> kind


def value_at(config: Config, path: tuple[str, ...]) -> Any:
    return functools.reduce(getattr, path, config)


def kinds_of(config: Config) -> Kinds:
    return {choice.name: value_at(config, choice.path).kind for choice in CHOICES}


def defaults(kinds: Kinds) -> Config:
    """A configuration of these kinds, the default ones elsewhere, all else at its default."""
    return with_values(Config(), kinds)


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """A configuration with other values, unchecked, by dotted name; another kind begins with its defaults."""
    for choice in CHOICES:
        if (kind := values.get(choice.name)) and kind != value_at(config, choice.path).kind:
            cls, *_ = choice.registry[kind]
            config = put(config, choice.path, cls())
    known, choices = fields(config), kinds_of(config)
    for name, value in values.items():
        if name not in choices:
            config = put(config, known[name].path, value)
    return config


def put(part: Any, path: tuple[str, ...], value: Any) -> Any:
    """A dataclass with one value replaced."""
    first, *rest = path
    return dataclasses.replace(part, **{first: put(getattr(part, first), tuple(rest), value) if rest else value})


def sections() -> dict[str, Any]:
    """The default of every section by name."""
    default = Config()
    values = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    return {name: value for name, value in values.items() if dataclasses.is_dataclass(value)}


def fields(config: Config | None = None) -> dict[str, Field]:
    """Every setting of a configuration of these kinds (the default ones if not given) by dotted name, by section."""
    config = config or Config()
    parts = [("", (), config), *((name, (name,), getattr(config, name)) for name in sections())]
    found = [field for section, path, part in parts for field in fields_in(part, section, path)]
    return {field.dotted: field for field in found}


def fields_in(part: Any, section: str, path: tuple[str, ...]) -> Iterator[Field]:
    """The settings of a part, those of the parts within it that have no section of their own included."""
    choices = {choice.path: choice for choice in CHOICES}
    if path in choices:
        yield choices[path].field()
    for field in fields_of(type(part), section, path):
        inner = getattr(part, field.name)
        if not dataclasses.is_dataclass(inner):
            yield field
        elif section:
            yield from fields_in(inner, section, field.path)


def values(config: Config) -> dict[str, Any]:
    """The values of all settings by dotted name."""
    return {name: value_at(config, field.path) for name, field in fields(config).items()}


def holders(name: str) -> tuple[Choice | None, list[str]]:
    """The kinds that have a setting, and what chooses among them; none if it does not depend on a kind."""
    for choice in CHOICES:
        found = [kind for kind in choice.registry if name in fields(defaults({choice.name: kind}))]
        if 0 < len(found) < len(choice.registry):
            return choice, found
    return None, []


def every() -> dict[str, Field]:
    """The settings of all kinds by dotted name, by section; of a name that several kinds have, the first one's."""
    found = dict.fromkeys(("", *sections()))
    merged: dict[str, Field] = {}
    for choice in CHOICES:
        for kind in choice.registry:
            merged = fields(defaults({choice.name: kind})) | merged
    return {name: field for section in found for name, field in merged.items() if field.section == section}
