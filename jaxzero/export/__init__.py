"""Networks for use elsewhere, and back. A new format is one file in `formats/` and one line in `FORMATS`.

Nothing is imported here: the files for PyTorch run without JAX, and everything else of jaxzero without PyTorch.
"""

FORMATS: dict[str, str] = {
    "pt": "PyTorch: state_dict and metadata, read by torch_module.py",
    "pt2": "PyTorch: program of torch.export, any batch",
    "onnx": "ONNX: any batch",
    "safetensors": "safetensors: weights and metadata",
    "json": "JSON: weights and metadata as text",
    "stablehlo": "StableHLO of jax.export: any batch, for CPU, GPU and TPU",
}
