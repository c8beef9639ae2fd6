"""What a run would be, without compiling anything."""

import math
from pathlib import Path
from typing import Any

import jax

from envs import Env
from jaxzero.config import settings
from jaxzero.config.schema import Config
from jaxzero.export.load import initial_weights
from jaxzero.training import footprint, iteration


def dry_run(config: Config, env: Env) -> str:
    """The resolved configuration as TOML, then parameters, memory and checkpoint size as comments."""
    origin = initial_weights(config, env) if config.init_from else None
    learner, data = iteration.abstract_state(config, env)
    _, state = footprint.learner(config.network, config.learner, config.promotion, env)
    params = state["train_state"].variables["params"]
    parts = {**top_level(learner), **top_level(data)}
    lines = [
        f"parameters: {sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)):,}",
        *(f"{name}: {megabytes(tree)}" for name, tree in parts.items()),
        *([f"weights: {origin.metadata['weights_sha256']} of {config.init_from}"] if origin else []),
        f"checkpoint: {megabytes((learner, data))} with replay and games, {megabytes(learner)} without; "
        f"{footprint.gigabytes(footprint.free_disk(Path(config.root)))} of disk are free",
        f"needs {footprint.described(footprint.parts(config, env), footprint.available_memory(config))}",
    ]
    return settings.dump(config) + "\n" + "".join(f"# {line}\n" for line in lines)


def top_level(tree: Any) -> dict[str, Any]:
    """The fields of a dataclass, entries of a dict or items of a sequence, by name."""
    pairs = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: node is not tree)[0]
    return {jax.tree_util.keystr(path, simple=True): child for path, child in pairs}


def megabytes(tree: Any) -> str:
    return f"{footprint.size(tree) / 1e6:.3f} MB"
