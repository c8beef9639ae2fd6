"""Export to PyTorch: one `.pt` file that says what it holds, compared with the JAX network before it is published.

Not called `torch.py`, which would hide PyTorch from `python jaxzero/export/torch_module.py`.
Letters: N positions, A actions.
"""

import dataclasses
import functools
import importlib.metadata
import inspect
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env
from jaxzero import networks
from jaxzero.config import ConfigError, NetworkConfig
from jaxzero.networks import Prediction
from jaxzero.networks.resnet import HEAD_CHANNELS, VALUE_HIDDEN

POSITIONS = 256
LOGITS_TOLERANCE = 1e-4
VALUE_TOLERANCE = 1e-5

DESCRIPTIONS: dict[str, Callable[[NetworkConfig], dict[str, Any]]] = {
    "resnet": lambda config: {
        "channels": config.channels, "blocks": config.blocks, "pooling": config.pooling,
        "head_channels": HEAD_CHANNELS, "value_hidden": VALUE_HIDDEN,
    },
    "mlp": lambda config: {"sizes": config.sizes, "shared": config.shared},
}  # fmt: skip


class ExportError(ConfigError):
    """An export that cannot be made, or does not compute what the JAX network does."""


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far the exported network is from the JAX one, in float32 on positions of random games."""

    positions: int
    logits: float  # largest absolute difference
    value: float  # largest absolute difference
    agreement: float  # share of positions with the same best legal action

    def __str__(self) -> str:
        return (
            f"parity over {self.positions} positions: logits within {self.logits:.1e}, values within {self.value:.1e}, "
            f"same best move in {self.agreement:.1%}"
        )


def check_pt(config: NetworkConfig) -> None:
    """ExportError if this network cannot be exported to PyTorch here: worth asking before a long run."""
    if config.kind not in DESCRIPTIONS:
        known = ", ".join(DESCRIPTIONS)
        raise ExportError(f"network.kind {config.kind!r} has no PyTorch form; export to .pt works for {known}")
    import_torch_module()


def import_torch_module() -> Any:
    """The module `torch_module`, late: everything else works without PyTorch."""
    try:
        from jaxzero.export import torch_module
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ExportError("export to .pt needs PyTorch: pip install 'jaxzero[export]'") from error
    return torch_module


def export_pt(
    path: str | os.PathLike[str],
    params: Any,
    *,
    network_config: NetworkConfig,
    env: Env,
    metadata: dict[str, Any],
    infer: Callable[[Any, jax.Array], Prediction],
) -> Parity:
    """Writes folded parameters to `path`; the file appears whole, and only if it computes what the JAX network does.

    Args:
        params: what `network.fold` gives.
        metadata: facts about the training (step, iteration, config digest …), of plain types; kept as "training".
        infer: the network's own `infer`; for one that computes in bfloat16 its float32 twin is compared instead.

    Raises:
        ExportError: PyTorch is missing, the parameters or metadata do not fit, or the outputs differ.
    """
    check_pt(network_config)
    torch_module = import_torch_module()
    import torch

    path = pathlib.Path(path)
    state_dict = {name: torch.from_numpy(array) for name, array in weights(params).items()}
    head = {"format": torch_module.FORMAT, "format_version": torch_module.VERSION}
    tail = {"weights_sha256": torch_module.digest(state_dict)}
    contents = {"state_dict": state_dict, "metadata": head | describe(network_config, env, metadata) | tail}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(contents, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            module = torch_module.load(temporary)
        except ValueError as error:
            raise ExportError(str(error).replace(str(temporary), str(path))) from error
        parity = compare(module, params, float32_infer(network_config, env, infer), env)
        if not (parity.logits <= LOGITS_TOLERANCE and parity.value <= VALUE_TOLERANCE):  # also when one is NaN
            raise ExportError(f"{path} not written: the PyTorch network differs from the JAX network ({parity})")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return parity


def weights(params: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Nested flax parameters under PyTorch names and in its layouts: HWIO -> OIHW, [in, out] -> [out, in]."""
    flat = {}
    for name, child in params.items():
        if isinstance(child, dict):
            # A folded convolution {"stem": {"conv": {"kernel", "bias"}}} goes by the outer name.
            flat |= weights(child, prefix if name == "conv" and "kernel" in child else f"{prefix}{name}.")
        else:
            array = np.array(child, np.float32)
            axes = (3, 2, 0, 1) if array.ndim == 4 else tuple(reversed(range(array.ndim)))
            outer = "weight" if name == "kernel" else name
            flat[f"{prefix}{outer}"] = np.ascontiguousarray(array.transpose(axes))
    return flat


def describe(config: NetworkConfig, env: Env, training: dict[str, Any]) -> dict[str, Any]:
    """Everything that rebuilding and using the network takes, in plain types."""
    options = dataclasses.asdict(env) if dataclasses.is_dataclass(env) else {}
    description = {
        "jaxzero_version": version(),
        "game": {"name": env.name, "options": options},
        "observation_shape": env.observation_shape,
        "observation": inspect.getdoc(env.observe) or "",
        "num_actions": env.num_actions,
        "actions": (inspect.getdoc(inspect.getmodule(type(env))) or "").split("\n\n")[0],
        "first_moves": first_moves(env),
        "network": {"kind": config.kind, "value": config.value, **DESCRIPTIONS[config.kind](config)},
        "training": training,
        "notes": "Policy logits: illegal actions are not masked. Value: as the player to move sees it, in [-1, 1].",
    }
    try:
        return json.loads(json.dumps(description))  # tuples become lists
    except TypeError as error:
        raise ExportError(f"export metadata must be numbers, strings, lists and dicts: {error}") from error


def version() -> str:
    try:
        return importlib.metadata.version("jaxzero")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def first_moves(env: Env) -> dict[str, int]:
    """The legal actions at the start by their text, which shows how actions are numbered."""
    state = env.init(jax.random.key(0))
    try:
        return {env.action_to_str(state, int(a)): int(a) for a in np.flatnonzero(env.legal_actions(state))}
    except NotImplementedError:  # a game of the user's own may do without text
        return {}


def float32_infer(config: NetworkConfig, env: Env, infer: Callable[[Any, jax.Array], Prediction]):
    if networks.dtype_of(config) == jnp.float32:
        return infer
    return networks.make(dataclasses.replace(config, dtype="float32"), env).infer


@functools.partial(jax.jit, static_argnums=0)
def play(env: Env, keys: jax.Array, stops: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One random game a key, halted after stops i32[N] plies or at its end: observations [N, …], legal actions
    bool[N, A] and plies played i32[N]."""

    def one(key: jax.Array, stop: jax.Array):
        first, later = jax.random.split(key)

        def ply(carry):
            state, length = carry
            choose, chance = jax.random.split(jax.random.fold_in(later, length))
            action = jax.random.categorical(choose, jnp.where(env.legal_actions(state), 0.0, -jnp.inf))
            return env.advance(state, action, chance), length + 1

        def going(carry):
            return (carry[1] < stop) & ~carry[0].terminated

        state, length = jax.lax.while_loop(going, ply, (env.init(first), jnp.int32(0)))
        return env.observe(state), env.legal_actions(state), length

    return jax.vmap(one)(keys, stops)


def random_positions(env: Env, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Observations [N, …] and legal actions bool[N, A], one position a random game: of every second game the last
    before its end, of the others any."""
    keys = jax.random.split(jax.random.key(seed), count)
    lengths = jax.device_get(play(env, keys, jnp.full(count, env.max_plies, jnp.int32)))[2]
    anywhere = np.random.default_rng(seed).integers(0, lengths)
    stops = np.where(np.arange(count) % 2 == 0, lengths - 1, anywhere).astype(np.int32)
    observation, legal, _ = jax.device_get(play(env, keys, stops))
    return observation, legal


def compare(module: Any, params: Any, infer: Callable[[Any, jax.Array], Prediction], env: Env) -> Parity:
    """Runs both networks on the same positions."""
    import torch

    observation, legal = random_positions(env, 0, POSITIONS)
    with jax.default_matmul_precision("highest"):  # accelerators would multiply float32 in fewer bits
        expected = jax.device_get(jax.jit(infer)(jax.device_get(params), observation))
    with torch.inference_mode():
        logits, value = (output.numpy() for output in module(torch.from_numpy(observation.copy())))
    best = [np.where(legal, scores, -np.inf).argmax(-1) for scores in (logits, expected.logits)]
    return Parity(
        positions=len(observation),
        logits=float(np.abs(logits - expected.logits).max()),
        value=float(np.abs(value - expected.value).max()),
        agreement=float((best[0] == best[1]).mean()),
    )
