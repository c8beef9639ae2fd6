"""Networks back from files: weights trained elsewhere begin a run here (`--init-from`).

Nothing in a file is executed or believed: whatever it says must be what this run has, before anything else happens.
"""

import functools
import json
import stat
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from envs import Env
from jaxzero import networks
from jaxzero.config.schema import Config, NetworkConfig
from jaxzero.export import formats
from jaxzero.export.model import (
    FORMAT,
    VERSION,
    Weights,
    architecture,
    axes,
    digest,
    from_torch,
    identity,
    names,
    plain,
)  # fmt: skip
from jaxzero.messages import ConfigError, shortened

KINDS = ("pt", "safetensors", "json")
LARGEST = 1 << 31  # bytes of a file


class ImportedNetwork(NamedTuple):
    params: Any  # folded, float32
    metadata: dict[str, Any]


def initial_weights(config: Config, env: Env) -> ImportedNetwork:
    """What `init_from` holds. ConfigError: it cannot be used."""
    return load(config.init_from, env, config.network, "init_from: ")


def load(path: str | Path, env: Env, config: NetworkConfig, what: str = "") -> ImportedNetwork:
    """The network of a .pt, .safetensors or .json file, which must be one of this game and configuration.

    Args:
        what: begins each message, such as the setting that names the file.

    Raises:
        ConfigError: one line that names the file, what is wrong with it and what to do.
    """
    path = Path(path)
    try:
        return fitted(*read(path), env, config)
    except ValueError as error:
        raise ConfigError(f"{what}{path}: {shortened(str(error), 400)}") from error
    except OSError as error:
        raise ConfigError(f"{what}{path}: {error.strerror or error}; give a file that can be read") from error


def read(path: Path) -> tuple[Weights, dict[str, Any]]:
    """What a file says, unchecked. ValueError: it is not such a file."""
    kind = path.suffix.removeprefix(".")
    if kind not in KINDS:
        raise ValueError(f"cannot be read back; give one of {', '.join('.' + kind for kind in KINDS)}")
    facts = path.stat()  # a missing file is not a damaged one
    if not stat.S_ISREG(facts.st_mode):  # a pipe would be waited for
        raise ValueError("not a regular file; give one that can be read")
    if facts.st_size > LARGEST:
        raise ValueError(f"{facts.st_size} bytes are more than a network has")
    return formats.load(kind).read(path)


def fitted(weights: Weights, metadata: dict[str, Any], env: Env, config: NetworkConfig) -> ImportedNetwork:
    """What a file says as the network of this game and configuration. ValueError: it is another, or damaged."""
    check_metadata(metadata, env, config)
    like, shapes = template(config, env)
    check_weights(weights, metadata, shapes)
    return ImportedNetwork(from_torch(weights, like), metadata)


def check_metadata(metadata: Any, env: Env, config: NetworkConfig) -> None:
    """ValueError if the file is not of this format, game and network."""
    if not isinstance(metadata, dict):
        raise ValueError("not written by jaxzero: its metadata are no table")
    ours = plain({"format": FORMAT, "format_version": VERSION, **identity(env)})
    for key, value in ours.items():
        if not same(metadata.get(key), value):
            raise ValueError(f"{key} is {short(metadata.get(key))}, this run has {short(value)}")
    theirs = metadata.get("network")
    if not isinstance(theirs, dict):
        raise ValueError("it does not describe its network")
    ours = plain(architecture(config))
    for key in [*ours, *theirs]:
        if not same(theirs.get(key), ours.get(key)):
            advice = f"; set network.{key}" if key in ours and hasattr(config, key) else ""
            facts = f"network.{short(key)} is {short(theirs.get(key))}, this run has {short(ours.get(key))}"
            raise ValueError(facts.replace('"', "") + advice)


def same(theirs: Any, ours: Any) -> bool:
    """Equal, and of the same types: true is not 1."""
    return type(theirs) is type(ours) and theirs == ours and short(theirs) == short(ours)


def short(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."


@functools.cache
def template(config: NetworkConfig, env: Env) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """Folded parameters: their shapes as a tree, and in PyTorch by name. Compiles nothing."""
    network = networks.make(config, env)
    like = jax.eval_shape(lambda key: network.fold(network.init(key)), jax.random.key(0))
    leaves = zip(jax.tree.leaves(names(like)), jax.tree.leaves(like), strict=True)
    return like, {name: tuple(leaf.shape[i] for i in axes(leaf.ndim)) for name, leaf in leaves}


def check_weights(weights: Weights, metadata: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    """ValueError if there are others than these, or other types, or not the ones that were written."""
    dtype = metadata.get("dtype", "float32")
    if dtype not in ("float32", "float16"):
        raise ValueError(f"dtype is {short(dtype)}; known are float32 and float16")
    for name in sorted(weights.keys() | shapes.keys()):
        given = f"{weights[name].dtype} {list(weights[name].shape)}" if name in weights else "missing"
        wanted = f"{dtype} {list(shapes[name])}" if name in shapes else "nothing of that name"
        if given != wanted:
            raise ValueError(f"weights {name[:80]!r}: {given}, this run has {wanted}")
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise ValueError(f"weights {name[:80]!r} are not finite")
    if metadata.get("weights_sha256") != digest(weights):
        raise ValueError(
            "the weights are damaged: they do not have the digest in the metadata; after training elsewhere write the "
            "file by torch_module.save"
        )
