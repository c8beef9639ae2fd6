"""StableHLO of `jax.export`: `jax.export.deserialize(file.read()).call(observation)`, with any batch, on CPU, GPU and
TPU; stable over versions of JAX as that promises."""

from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jaxzero.export.model import ExportedModel

PROGRAM = True
HALF = "weights in float16, arithmetic in float32"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def write(path: Path, model: ExportedModel, function: str) -> None:
    half = model.metadata["dtype"] == "float16"
    params = jax.tree.map(lambda x: np.asarray(x, np.float16 if half else np.float32), model.params)

    def call(*inputs: jax.Array):
        single = jax.tree.map(lambda x: jnp.asarray(x).astype(jnp.float32), params)
        return model.functions[function].call(single, *inputs)

    (batch,) = jax.export.symbolic_shape("batch")
    shapes = model.metadata["functions"][function]["inputs"].values()
    specs = [jax.ShapeDtypeStruct((batch, *entry["shape"]), entry["dtype"]) for entry in shapes]
    with jax.default_matmul_precision("highest"):
        exported = jax.export.export(jax.jit(call), platforms=PLATFORMS)(*specs)
    path.write_bytes(exported.serialize())


def run(path: Path, function: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    return [np.asarray(output) for output in jax.jit(program.call)(*inputs)]
