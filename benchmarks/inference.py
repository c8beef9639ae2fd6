"""Speed of an exported network: PyTorch and onnxruntime beside the JAX network that it came from.

All sides hold the same weights, get the same positions of self-play as numpy arrays and give numpy arrays back; they
run in one process, in turns, warm, with as many threads as there are cores (JAX on one device). First the differences
from JAX at the highest precision are printed, then for each batch positions per second and, round by round, how many
times as fast as JAX each is.

    python -m benchmarks.inference [MODEL.pt] [--batches 1,64,1024] [--rounds 20] [--compile]
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
import onnxruntime
import torch

from benchmarks.timing import interleave, row
from jaxzero.export import formats, parity
from jaxzero.export.convert import rebuild
from jaxzero.export.model import ExportedModel
from jaxzero.export.standalone import torch_module

MODEL = Path(__file__).parent / "results" / "connect_four_fast_step000960.pt"
Forward = Callable[[np.ndarray], list[np.ndarray]]


def forwards(model: ExportedModel, network: torch_module.Network, folder: Path, compiled: bool) -> dict[str, Forward]:
    """The sides by name: observations [B, …] -> logits [B, A] and values [B]."""
    infer, params = jax.jit(model.network.infer), jax.device_put(model.params)
    formats.load("onnx").write(folder / "model.onnx", model, "predict")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def in_jax(observation: np.ndarray) -> list[np.ndarray]:
        return jax.device_get(infer(params, observation)[:2])

    def in_torch(call: Callable[..., tuple[torch.Tensor, ...]], observation: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [output.numpy() for output in call(torch.from_numpy(observation))]

    sides: dict[str, Forward] = {"jax": in_jax, "torch": partial(in_torch, network)}
    if compiled:
        sides["torch.compile"] = partial(in_torch, torch.compile(network))
    return sides | {"onnxruntime": lambda observation: session.run(None, {name: observation})}  # pyright: ignore


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", type=Path, default=MODEL, help="a .pt file")
    parser.add_argument("--batches", default="1,64,1024")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="torch.compile too; needs a C++ compiler")
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    model = rebuild(args.model)
    with tempfile.TemporaryDirectory() as folder:
        sides = forwards(model, torch_module.load(args.model), Path(folder), args.compile)
    positions = parity.self_play(model, 0)
    function = model.functions["predict"]
    inputs, expected = parity.reference(model, function, positions.observation)
    for name, call in sides.items():
        print(name, parity.compare("predict", function, "float32", positions, expected, call(inputs[0])))
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for batch in map(int, args.batches.split(",")):
        observation = np.resize(positions.observation, (batch, *positions.observation.shape[1:]))
        # Small batches are repeated, so that a turn is long enough for the clock.
        repeats = max(1, 256 // batch)

        def turn(call: Forward, observation: np.ndarray = observation, repeats: int = repeats) -> None:
            for _ in range(repeats):
                call(observation)

        seconds = interleave({name: partial(turn, call) for name, call in sides.items()}, args.rounds)
        for name in sides:
            print(row(f"batch {batch} {name}", batch * repeats, seconds[name], "positions/s"))
        for name in [name for name in sides if name != "jax"]:
            print(row(f"batch {batch} {name} / jax", seconds["jax"], seconds[name], "times as fast"))


if __name__ == "__main__":
    main()
