"""What a run needs at least of the machine, from shapes alone: nothing is compiled.

Temporary arrays of XLA come on top, so a run that fits by this count may still run out of memory; one that does not
fit by it cannot run.
"""

# mctx builds its types with chex, whose dataclasses pyright cannot read.
# pyright: reportCallIssue=false

import functools
import math
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mctx

from envs import Env
from jaxzero import hardware, models, networks
from jaxzero.config.schema import Config, LearnerConfig, PromotionConfig
from jaxzero.messages import ConfigError
from jaxzero.search import TreeConfig, tree
from jaxzero.training import iteration
from jaxzero.training import replay as replay_lib

LOWER = {  # what to lower where a part is the largest
    "network": "network", "replay": "replay.capacity", "games": "selfplay.games", "search": "selfplay.games",
    "batch": "learner.batch",
}  # fmt: skip


def parts(config: Config, env: Env) -> dict[str, int]:
    """Bytes of a run by part, over all devices: network (with its EMA and the optimizer's state), replay, games,
    search (its trees) and batch (the observations of an update)."""
    lanes = config.selfplay.games
    network, state = learner(config.network, config.learner, config.promotion, env)
    ring = jax.eval_shape(lambda: replay_lib.init(env, iteration.num_rows(config), lanes))
    games = jax.eval_shape(lambda: jax.vmap(env.init)(jax.random.split(jax.random.key(0), lanes)))
    observation = 4 * math.prod(env.observation_shape)
    if isinstance(config.search, TreeConfig):
        search = trees(config, config.search, env, network, state["train_state"].ema, games)
    else:
        search = config.search.batch(env, lanes) * observation
    return {
        "network": size(state) * config.num_devices(), "replay": size(ring), "games": size(games), "search": search,
        "batch": config.learner.batch * observation,
    }  # fmt: skip


@functools.lru_cache(maxsize=8)
def learner(
    network: networks.NetworkConfig, learner: LearnerConfig, promotion: PromotionConfig, env: Env
) -> tuple[networks.Network, Any]:
    """The network, and shapes of all that learning keeps."""
    made = networks.make(network, env)
    config = Config(network=network, learner=learner, promotion=promotion)
    return made, jax.eval_shape(functools.partial(iteration.begin, config, made))


def trees(config: Config, search: TreeConfig, env: Env, network: networks.Network, variables: Any, games: Any) -> int:
    """Bytes of the trees of one ply, of the largest budget."""
    lanes = config.selfplay.games
    simulations = max(search.schedule or (search.simulations,))
    embedding = games
    if latent := network.latent:
        seen = jax.ShapeDtypeStruct((lanes, *env.observation_shape), jnp.float32)
        embedding = jax.eval_shape(lambda x, seen: latent.represent(network.fold(x), seen), variables, seen)
    logits, value = (jax.ShapeDtypeStruct((lanes, *more), jnp.float32) for more in ((env.num_actions,), ()))
    root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=embedding)
    layout = tree.layout(env, search, simulations, models.make(env, network))
    return size(jax.eval_shape(lambda root: tree.empty_tree(root, layout, layout.nodes(simulations)), root))


def size(shapes: Any) -> int:
    """Bytes of arrays, or of their shapes."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes))


def check(config: Config, env: Env) -> None:
    """Raises:
    ConfigError: the run cannot fit into the memory of the devices, or its network not on the disk.
    """
    needs, memory = parts(config, env), available_memory(config)
    if memory and sum(needs.values()) > memory:
        largest = max(needs, key=lambda part: needs[part])
        raise ConfigError(f"{LOWER[largest]}: this run needs {described(needs, memory)}; lower it")
    weights, free = needs["network"] // config.num_devices(), free_disk(Path(config.root))
    if weights > free:
        raise ConfigError(
            f"root: a checkpoint of this network takes {gigabytes(weights)} or more, and {gigabytes(free)} are free "
            "there; free some, choose another --root or a smaller network"
        )


def described(needs: dict[str, int], memory: int | None) -> str:
    """What is needed beside what is there."""
    figures = ", ".join(f"{part} {gigabytes(count)}" for part, count in needs.items())
    there = f"{gigabytes(memory)} here" if memory else "an unknown amount here"
    return f"at least {gigabytes(sum(needs.values()))} of memory ({figures}), of {there}"


def available_memory(config: Config) -> int | None:
    """Bytes of all devices of a run; the cores of a CPU share theirs."""
    memory = hardware.device_memory()
    return memory and memory * (1 if jax.default_backend() == "cpu" else config.num_devices())


def free_disk(folder: Path) -> int:
    """Bytes free where a folder is, or would be made."""
    folder = folder.absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(there).free


def gigabytes(count: int) -> str:
    return f"{count / 1e9:,.2f} GB"
