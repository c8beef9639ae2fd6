"""One-line mutations of the code, each of which some test must notice: `make mutants`."""

import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent


class Mutant(NamedTuple):
    name: str  # what is wrong with the code
    file: str
    old: str  # stands once in the file
    new: str
    test: str  # arguments of pytest: the files that must fail


def listed() -> list[Mutant]:
    """All mutants of mutants.toml.

    Raises:
        TypeError: an entry with other fields.
    """
    entries = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text(encoding="utf-8"))
    return [Mutant(**entry) for entry in entries["mutant"]]
