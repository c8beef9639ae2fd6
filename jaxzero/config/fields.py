"""What a setting is: a field of a frozen dataclass, with its type, range and help.

The string under a field is its help text on the command line and in the documentation. This module imports nothing of
the package, so that networks, searches and optimizers can define their configuration classes where they are.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import sys
import typing
from types import ModuleType
from typing import Annotated, Any, NamedTuple


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a setting, or each entry of a list, may be: `low` to `high`, both included.

    Whole numbers are bounded so that nothing counted on the device overflows 32 bits; others so that nothing becomes 0
    or infinite in float32.
    """

    low: float
    high: float
    or_zero: bool = False  # 0 may be chosen too

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high or (self.or_zero and value == 0)

    def __str__(self) -> str:
        low, high = (f"{end:g}" if isinstance(end, float) else str(end) for end in (self.low, self.high))
        return f"{'0, or ' if self.or_zero else ''}from {low} to {high}"

    @property
    def sentence(self) -> str:
        """For help texts."""
        return f"{str(self).capitalize()}."


COMMON = "common"
"""Marks a setting that the short help shows: `Annotated[int, Range(1, 64), COMMON]`."""

Count = Annotated[int, Range(1, 10**9)]
Share = Annotated[float, Range(0, 1)]
Weight = Annotated[float, Range(0, 10**6)]
Width = Annotated[int, Range(1, 65_536)]
Simulations = Annotated[int, Range(1, 32_766)]  # nodes of a tree are numbered in 16 bits
Plies = Annotated[int, Range(0, 65_536)]
Positions = Annotated[int, Range(1, 10**9)]
Matches = Annotated[int, Range(2, 10**6)]


class Field(NamedTuple):
    """One setting."""

    section: str  # "" at the top
    name: str
    path: tuple[str, ...]  # attributes that lead from a Config to its value
    hint: Any
    default: Any
    help: str
    range: Range | None = None
    common: bool = False

    @property
    def dotted(self) -> str:
        """Its full name, as network.channels."""
        return f"{self.section}.{self.name}" if self.section else self.name


@functools.cache
def fields_of(cls: type, section: str, path: tuple[str, ...]) -> tuple[Field, ...]:
    """The settings of a class, its own before inherited ones; `path` leads to its instance."""
    hints = typing.get_type_hints(cls, include_extras=True)
    own = {base: inspect.get_annotations(base) for base in cls.__mro__ if dataclasses.is_dataclass(base)}
    owner = {name: base for base in reversed(own) for name in own[base]}
    found = []
    for field in sorted(dataclasses.fields(cls), key=lambda field: list(own).index(owner[field.name])):
        hint, *extras = unannotated(hints[field.name])
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        bounds = next((extra for extra in extras if isinstance(extra, Range)), None)
        text = help_texts(owner[field.name]).get(field.name, "")
        here = (*path, field.name)
        found.append(Field(section, field.name, here, hint, default, text, bounds, COMMON in extras))
    return tuple(found)


def unannotated(hint: Any) -> tuple[Any, ...]:
    """A type and its annotations."""
    return typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)


def help_texts(cls: type) -> dict[str, str]:
    """The string under each field that a class itself defines; Python drops them."""
    definition = classes(sys.modules[cls.__module__])[cls.__name__]
    return {
        node.target.id: " ".join(text.value.value.split())
        for node, text in itertools.pairwise(definition.body)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


@functools.cache
def classes(module: ModuleType) -> dict[str, ast.ClassDef]:
    """The classes in a module's source by name; parsing it once is much faster than `inspect.getsource` of each."""
    nodes = ast.walk(ast.parse(inspect.getsource(module)))
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}
