"""PyTorch: state_dict and metadata, safe to load (`weights_only=True`), read by the one file `torch_module.py`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from jaxzero.export.model import ExportedModel, Weights
from jaxzero.export.standalone import torch_module

PROGRAM = False
HALF = "weights stored in float16, computed in float32 unless network.half() is called"


def tensors(weights: Weights) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in weights.items()}


def network(weights: Weights, metadata: dict[str, Any]) -> torch_module.Network:
    """The PyTorch network, its weights as they are stored."""
    return torch_module.rebuild({"state_dict": tensors(weights), "metadata": metadata})


def compute(network: torch_module.Network, function: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    with torch.inference_mode():
        outputs = getattr(network, function)(*(torch.from_numpy(array.copy()) for array in inputs))
    return [output.numpy() for output in outputs]


def write(path: Path, model: ExportedModel, function: str) -> None:
    torch_module.write(tensors(model.weights), model.metadata, path)


def run(path: Path, function: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    return compute(torch_module.load(path), function, inputs)


def read(path: Path) -> tuple[Weights, dict[str, Any]]:
    state_dict, metadata = torch_module.parts(torch_module.read(path))
    return {name: x.detach().numpy() for name, x in state_dict.items()}, metadata
