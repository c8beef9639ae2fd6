"""States to save and to compare, for tests of checkpoints."""

import os
import pathlib
import random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxzero.runs.checkpoint import Checkpointer, Restored

ROOT = pathlib.Path(__file__).parent.parent


class Momentum(NamedTuple):
    updates: jax.Array
    trace: dict[str, jax.Array]


def learner_of(step: int) -> dict[str, Any]:
    return {"params": {"w/1": jnp.full((3, 5), step, jnp.float32)}, "opt": (Momentum(jnp.int32(step), {}), None)}


def data_of(step: int) -> jax.Array:
    return (jnp.arange(3000) * 7 + step).astype(jnp.uint8)


def save(checkpointer: Checkpointer, *steps: int, scores: dict[int, float] | None = None) -> None:
    for step in steps:
        checkpointer.save(step, learner_of(step), data_of(step), {"loss": step / 3}, (scores or {}).get(step))
    checkpointer.wait()


def restore(checkpointer: Checkpointer, step: int | None = None) -> Restored:
    restored = checkpointer.restore(learner_of(0), data_of(0), step)
    assert restored is not None
    return restored


def assert_same(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def assert_exact(restored: Restored) -> None:
    assert_same(restored.learner, learner_of(restored.step))
    if restored.data is not None:
        assert_same(restored.data, data_of(restored.step))
    assert restored.info == {"loss": restored.step / 3}


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 700
    return text


def mesh_sharding(devices: int, spec: PartitionSpec) -> NamedSharding:
    mesh = jax.make_mesh((devices,), ("d",), (AxisType.Auto,), devices=jax.devices()[:devices])
    return NamedSharding(mesh, spec)


def flip_a_bit(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def truncate(path: pathlib.Path) -> None:
    os.truncate(path, path.stat().st_size // 2)
