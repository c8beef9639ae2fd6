"""JSON: metadata (game, training, results) and every weight as text, exact, for readers in any language:

{"metadata": {…}, "weights": {"stem.weight": {"shape": [32, 2, 3, 3], "data": [0.125, …]}, …}}, in row-major order.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxzero.export.model import ExportedModel, Weights

PROGRAM = False
HALF = "weights rounded to float16, which takes fewer digits"


def write(path: Path, model: ExportedModel, function: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"metadata": ' + json.dumps(model.metadata, ensure_ascii=False) + ',\n"weights": {')
        for i, (name, array) in enumerate(model.weights.items()):
            # The fewest digits that give the same float back.
            numbers = ",".join(array.ravel().astype(str).tolist())
            shape = json.dumps(list(array.shape))
            file.write(("," if i else "") + f'\n{json.dumps(name)}: {{"shape": {shape}, "data": [{numbers}]}}')
        file.write("}}\n")


def run(path: Path, function: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    from jaxzero.export.formats import pt  # late: reading needs no PyTorch

    return pt.compute(pt.network(*read(path)).float(), function, inputs)


def read(path: Path) -> tuple[Weights, dict[str, Any]]:
    try:
        contents = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=distinct)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError too
        raise ValueError(f"not readable JSON ({' '.join(str(error).split())[:200]})") from error
    contents = contents if isinstance(contents, dict) else {}
    metadata, weights = contents.get("metadata"), contents.get("weights")
    if not isinstance(metadata, dict) or not isinstance(weights, dict) or contents.keys() != {"metadata", "weights"}:
        raise ValueError("not written by jaxzero: it is not metadata and weights")
    dtype = np.float16 if metadata.get("dtype") == "float16" else np.float32
    return {name: array(name, entry, dtype) for name, entry in weights.items()}, metadata


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. ValueError: it has a name twice, and readers differ in which one they take."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def array(name: str, entry: Any, dtype: Any) -> np.ndarray:
    """One weight. ValueError: what is wrong with it."""
    try:
        numbers, shape = entry["data"], entry["shape"]
        if not all(type(x) in (float, int) for x in numbers) or not all(type(n) is int and n >= 0 for n in shape):
            raise TypeError
        with np.errstate(over="ignore"):  # reported as not finite
            return np.array(numbers, np.float64).astype(dtype).reshape(shape)
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"weights of {name[:80]!r} are not a shape and as many numbers") from error
