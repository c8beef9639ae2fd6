"""safetensors: the weights by their PyTorch names; the metadata as JSON under "jaxzero"."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save_file

from jaxzero.export.model import ExportedModel, Weights

PROGRAM = False
HALF = "weights stored in float16"
KEY = "jaxzero"


def write(path: Path, model: ExportedModel, function: str) -> None:
    save_file(model.weights, path, metadata={KEY: json.dumps(model.metadata)})


def run(path: Path, function: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    from jaxzero.export.formats import pt  # late: reading needs no PyTorch

    return pt.compute(pt.network(*read(path)).float(), function, inputs)


def read(path: Path) -> tuple[Weights, dict[str, Any]]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = (file.metadata() or {}).get(KEY)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:  # what a damaged file raises has no common type
        raise ValueError(f"not a readable safetensors file ({' '.join(str(error).split())[:200]})") from error
    if metadata is None:
        raise ValueError("not written by jaxzero: its header has no metadata of that name")
    try:
        return weights, json.loads(metadata)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its metadata are not JSON ({type(error).__name__})") from error
