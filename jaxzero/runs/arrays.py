"""Trees of arrays as a checkpoint keeps them: by name, on the host, described by dtype, shape and digest."""

import hashlib
import json
import math
from typing import Any

import jax
import numpy as np


def named(part: str, tree: Any) -> dict[str, Any]:
    return {part + jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def host_copies(part: str, tree: Any) -> dict[str, np.ndarray]:
    """Arrays by name in buffers of our own: on CPU numpy would otherwise see the very memory that gets donated."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    return {name: np.array(leaf, order="C", copy=True) for name, leaf in named(part, tree).items()}


def place(array: np.ndarray, leaf: Any) -> Any:
    """On the leaf's sharding; an array that JAX may move stays one, and a numpy leaf gives numpy."""
    if not hasattr(leaf, "sharding"):
        return array
    return jax.device_put(array, leaf.sharding if getattr(leaf, "committed", True) else None)


def describe(array: np.ndarray) -> list[Any]:
    """[dtype, shape, digest], as JSON gives it back."""
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return [str(array.dtype), list(array.shape), hashlib.blake2b(content, digest_size=16).hexdigest()]


def any_elements(described: dict[str, Any]) -> bool:
    return any(math.prod(shape) for _, shape, _ in described.values())


def digest_json(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def mismatch(wanted: dict[str, Any], described: dict[str, Any]) -> str | None:
    """How the template differs from the commit, or None."""
    for name in sorted(wanted.keys() ^ described.keys()):
        return f"array {name} is {'missing' if name in wanted else 'not part of this run'}"
    for name, leaf in wanted.items():
        dtype, shape, _ = described[name]
        if [dtype, shape] != [str(leaf.dtype), list(leaf.shape)]:
            return f"array {name} is {dtype}{shape}, this run has {leaf.dtype}{list(leaf.shape)}"
    return None
