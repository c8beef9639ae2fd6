"""PyTorch program of `torch.export`: runs where PyTorch is, without our code, with any batch."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jaxzero.export.formats import pt
from jaxzero.export.model import ExportedModel
from jaxzero.export.standalone import torch_module

PROGRAM = True
HALF = "weights and arithmetic in float16; inputs and outputs stay float32"


class Program(torch.nn.Module):
    """One function of a network; outputs are float32 in any precision."""

    def __init__(self, network: torch_module.Network, function: str):
        super().__init__()
        self.network, self.function = network, function

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(output.float() for output in getattr(self.network, self.function)(*inputs))


def program(model: ExportedModel, function: str) -> tuple[Program, tuple[torch.Tensor, ...], Any]:
    """The module, inputs of a batch of two, and which of their axes may have any length."""
    shapes = model.metadata["functions"][function]["inputs"].values()
    inputs = tuple(torch.zeros(2, *entry["shape"], dtype=getattr(torch, entry["dtype"])) for entry in shapes)
    batch = torch.export.Dim("batch")
    axes = (tuple({0: batch} for _ in inputs),)
    return Program(pt.network(model.weights, model.metadata), function).eval(), inputs, axes


def write(path: Path, model: ExportedModel, function: str) -> None:
    module, inputs, axes = program(model, function)
    exported = torch.export.export(module, inputs, dynamic_shapes=axes)
    whole = io.BytesIO()  # on a full disk torch's writer ends the process
    torch.export.save(exported, whole, extra_files={"metadata.json": json.dumps(model.metadata)})
    path.write_bytes(whole.getbuffer())


def run(path: Path, function: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    module = torch.export.load(path).module()
    with torch.inference_mode():
        return [output.numpy() for output in module(*(torch.from_numpy(array.copy()) for array in inputs))]
