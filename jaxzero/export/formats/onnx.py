"""ONNX: one program for onnxruntime, onnxruntime-web and others, with any batch and all weights inside the file."""

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxscript  # noqa: F401  torch imports it when it exports
import torch
from onnxruntime import quantization

from jaxzero.export.formats import pt2
from jaxzero.export.model import ExportedModel

PROGRAM = True
HALF = "weights and arithmetic in float16; inputs and outputs stay float32"
OPSET = 23
SENSITIVE = {"policy", "value", "reward", "pooled"}  # parts of names of weights


def write(path: Path, model: ExportedModel, function: str) -> None:
    module, inputs, axes = pt2.program(model, function)
    signature = model.metadata["functions"][function]
    with quiet():
        torch.onnx.export(
            module, inputs, str(path), dynamo=True, dynamic_shapes=axes, opset_version=OPSET, external_data=False,
            input_names=list(signature["inputs"]), output_names=list(signature["outputs"]), verbose=False,
        )  # fmt: skip
    describe(path, model)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without warnings of operators and steps that these networks have no use for."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def describe(path: Path, model: ExportedModel) -> None:
    """Puts the metadata in and checks the file."""
    program = onnx.load(path)
    onnx.helper.set_model_props(program, {"jaxzero": json.dumps(model.metadata)})
    onnx.checker.check_model(program, full_check=True)
    onnx.save(program, path)


def quantize(path: Path, model: ExportedModel, function: str, examples: list[np.ndarray]) -> None:
    """`write` with the trunk in int8: weights of each channel and activations in 8 bits (quantize and dequantize
    nodes), ranges those of the examples [N, …]. Heads and pooled biases stay float32: small, next to what is read."""
    single = path.with_name(f"float32.{path.name}")
    write(single, model, function)
    names = model.metadata["functions"][function]["inputs"]
    nodes = onnx.load(single).graph.node
    kept = [node.name for node in nodes if any(SENSITIVE & set(name.split(".")) for name in node.input)]
    with quiet():
        quantization.quantize_static(
            single, path, QuantizationData(list(names), examples),
            quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"], nodes_to_exclude=kept,
        )  # fmt: skip
    single.unlink()
    describe(path, model)


class QuantizationData(quantization.CalibrationDataReader):
    def __init__(self, names: list[str], examples: list[np.ndarray], size: int = 128):
        chunks = range(0, len(examples[0]), size)
        self.left = iter([dict(zip(names, (x[i : i + size] for x in examples), strict=True)) for i in chunks])

    def get_next(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        return next(self.left, None)


def run(path: Path, function: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))  # pyright: ignore[reportReturnType]
