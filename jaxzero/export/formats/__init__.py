"""File formats of networks: one module each, by its name in `jaxzero.export.FORMATS`."""

import importlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from envs import suggest
from jaxzero.export import FORMATS
from jaxzero.export.model import ExportedModel, ExportError


class ExportFormat(Protocol):
    """What a format's module has.

    `PROGRAM`: whether a file holds one function, as a program, or the weights of all.
    `HALF`: what --half means in it.
    `write(path, model, function)`: the file; `function` names the one that a program computes.
    `run(path, function, inputs)`: its outputs, computed from the file alone, as its users do.
    `quantize(path, model, function, examples)`, if there is an int8 form: `write` in it, its ranges those of examples.
    `read(path)`, of weights only: (weights, metadata) whatever they say. ValueError: one line, what is wrong.
    """

    PROGRAM: bool
    HALF: str

    def write(self, path: Path, model: ExportedModel, function: str) -> None: ...
    def run(self, path: Path, function: str, inputs: list[np.ndarray]) -> list[np.ndarray]: ...
    def quantize(self, path: Path, model: ExportedModel, function: str, examples: list[np.ndarray]) -> None: ...
    def read(self, path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]: ...


def load(name: str) -> ExportFormat:
    """The module of a format. ExportError: no such format, or a package that it needs is missing."""
    if name not in FORMATS:
        raise ExportError(f"--format: unknown format {name!r}; {suggest(name, list(FORMATS))}")
    try:
        return importlib.import_module(f"{__name__}.{name}")  # pyright: ignore[reportReturnType]
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("jaxzero"):
            raise
        raise ExportError(f".{name} files need {error.name}: pip install 'jaxzero[export]'") from error
