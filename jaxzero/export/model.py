"""A network on its way out: weights by PyTorch name and in PyTorch layout, what they mean, and its functions in JAX.

Letters: N positions.
"""

import dataclasses
import hashlib
import importlib.metadata
import inspect
import json
import platform
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env
from jaxzero import networks
from jaxzero.config.schema import NetworkConfig
from jaxzero.messages import ConfigError
from jaxzero.networks import Network

FORMAT, VERSION = "jaxzero network", 1  # as in torch_module.py, which stands alone
Weights = dict[str, np.ndarray]


class ExportError(ConfigError):
    """An export that cannot be made, or does not compute what the JAX network does."""


class Function(NamedTuple):
    """One function of a network as it leaves; it takes and gives arrays [N, …], in the order of their names."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: Callable[[Any, Any], tuple[Any, ...]]  # (params, observations [N, …]) -> real inputs
    call: Callable[..., tuple[jax.Array, ...]]  # (params, *inputs) -> outputs


def predict_only(network: Network) -> dict[str, Function]:
    def predict(params: Any, observation: jax.Array) -> tuple[jax.Array, ...]:
        prediction = network.infer(params, observation)
        return prediction.logits, prediction.value

    def example(params: Any, observation: Any) -> tuple[Any, ...]:
        return (observation,)

    return {"predict": Function(("observation",), ("logits", "value"), example, predict)}


def of_model(network: Network) -> dict[str, Function]:
    """MuZero's functions."""
    latent = network.latent
    assert latent is not None

    def represent(params: Any, observation: jax.Array) -> tuple[jax.Array, ...]:
        return (latent.represent(params, observation),)

    def dynamics(params: Any, state: jax.Array, action: jax.Array) -> tuple[jax.Array, ...]:
        after = latent.dynamics(params, state, action)
        return after.latent, after.reward, after.discount

    def predict(params: Any, state: jax.Array) -> tuple[jax.Array, ...]:
        prediction = latent.predict(params, state)
        return prediction.logits, prediction.value

    def acted(params: Any, observation: Any) -> tuple[Any, ...]:
        (state,) = represent(params, observation)
        actions = jax.eval_shape(latent.predict, params, state).logits.shape[1]
        return state, jnp.arange(len(state), dtype=jnp.int32) % actions

    def settle(params: Any, state: jax.Array, code: jax.Array) -> tuple[jax.Array, ...]:
        assert latent.settle is not None
        return (latent.settle(params, state, code),)

    def settled(params: Any, observation: Any) -> tuple[Any, ...]:
        state, action = acted(params, observation)
        code = jax.nn.one_hot(jnp.arange(len(state)) % latent.num_codes, latent.num_codes)
        return dynamics(params, state, action)[0], code

    functions = {
        "represent": Function(("observation",), ("latent",), lambda params, observation: (observation,), represent),
        "dynamics": Function(("latent", "action"), ("next_latent", "reward", "discount"), acted, dynamics),
        "predict": Function(("latent",), ("logits", "value"), represent, predict),
    }
    if latent.num_codes:
        functions["settle"] = Function(("latent", "code"), ("next_latent",), settled, settle)
    return functions


@dataclasses.dataclass(frozen=True)
class ExportedModel:
    """Everything that a format writes."""

    env: Env
    network: Network  # computes in float32
    params: Any  # folded
    functions: dict[str, Function]
    weights: Weights
    metadata: dict[str, Any]


def make(
    env: Env, config: NetworkConfig, params: Any, training: dict[str, Any], *, half: bool = False
) -> ExportedModel:
    """A network by its folded parameters; `training` is whatever is to be known of their origin, of plain types.

    Raises:
        ExportError: no such kind of network, or parameters that are not finite in the precision asked for.
    """
    description(config)
    network = networks.make(dataclasses.replace(config, dtype="float32"), env)
    weights = to_torch(params, np.float16 if half else np.float32)
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise ExportError(f"weights not finite{' in float16' if half else ''}: {name}; nothing was written")
    facts = {
        "format": FORMAT,
        "format_version": VERSION,
        "dtype": "float16" if half else "float32",
        "weights_sha256": digest(weights),
    }
    functions = of_model(network) if network.latent else predict_only(network)
    metadata = describe(env, architecture(config), training) | {"functions": signatures(env, functions, params)} | facts
    return ExportedModel(env, network, params, functions, weights, metadata)


def signatures(env: Env, functions: dict[str, Function], params: Any) -> dict[str, Any]:
    """Shapes (without N) and dtypes of what each function takes and gives."""
    observations = jax.ShapeDtypeStruct((1, *env.observation_shape), jnp.float32)

    def facts(names: tuple[str, ...], arrays: tuple[Any, ...]) -> dict[str, Any]:
        return {
            name: {"shape": list(x.shape[1:]), "dtype": str(x.dtype)} for name, x in zip(names, arrays, strict=True)
        }

    found = {}
    for name, function in functions.items():
        inputs = jax.eval_shape(function.example, params, observations)
        outputs = jax.eval_shape(function.call, params, *inputs)
        found[name] = {"inputs": facts(function.inputs, inputs), "outputs": facts(function.outputs, outputs)}
    return found


def architecture(config: NetworkConfig) -> dict[str, Any]:
    """What `torch_module` rebuilds the network from."""
    value = {"value": config.value} | ({"support": config.support} if config.value == "categorical" else {})
    return {"kind": config.kind, **value, **description(config)}


def description(config: NetworkConfig) -> dict[str, Any]:
    """`config.exported()`.

    Raises:
        ExportError: such networks cannot be exported.
    """
    if (found := config.exported()) is None:
        raise ExportError(
            f"network.kind {config.kind!r} cannot be exported: {type(config).__name__} has no `exported` of its own; "
            "train with export.final = false"
        )
    return found


def names(params: Any, prefix: str = "") -> Any:
    """The tree of parameters with its PyTorch names as leaves."""
    tree = {}
    for name, child in params.items():
        if isinstance(child, dict):
            # A folded convolution {"stem": {"conv": {"kernel", "bias"}}} goes by the outer name.
            tree[name] = names(child, prefix if name == "conv" and "kernel" in child else f"{prefix}{name}.")
        else:
            tree[name] = prefix + ("weight" if name == "kernel" else name)
    return tree


def axes(dimensions: int) -> tuple[int, ...]:
    """The axes of a parameter in PyTorch's order: HWIO -> OIHW, [in, out] -> [out, in]."""
    return (3, 2, 0, 1) if dimensions == 4 else tuple(reversed(range(dimensions)))


def to_torch(params: Any, dtype: Any = np.float32) -> Weights:
    """Folded parameters under PyTorch names and in its layouts."""

    def convert(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf, np.float32)
        with np.errstate(over="ignore"):  # reported as not finite
            return np.array(array.transpose(axes(array.ndim)), dtype, order="C")

    pairs = zip(jax.tree.leaves(names(params)), jax.tree.leaves(params), strict=True)
    return {name: convert(leaf) for name, leaf in pairs}


def from_torch(weights: Weights, like: Any) -> Any:
    """The inverse: folded parameters, float32, in a tree like `like` (of parameters or their shapes)."""

    def convert(name: str) -> np.ndarray:
        array = weights[name].astype(np.float32)
        return np.ascontiguousarray(array.transpose(np.argsort(axes(array.ndim))))

    return jax.tree.map(convert, names(like))


def digest(weights: Weights) -> str:
    """The sha256 that `torch_module.digest` gives too."""
    sha = hashlib.sha256()
    for name, array in sorted(weights.items()):
        sha.update(f"{name} torch.{array.dtype} {list(array.shape)}\n".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def describe(env: Env, network: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """Everything that rebuilding and using the network takes, in plain types."""
    description = {
        "versions": versions(),
        **identity(env),
        "observation": inspect.getdoc(env.observe) or "",
        "actions": rules_of(env),
        "first_moves": first_moves(env),
        "network": network,
        "training": training,
        "notes": "Policy logits: illegal actions are not masked. Value: as the player to move sees it, "
        + ("in [-1, 1]." if network["value"] in ("scalar", "wdl") else "in points."),
    }
    return plain(description)


def identity(env: Env) -> dict[str, Any]:
    """What tells games apart whose weights cannot be exchanged."""
    options = dataclasses.asdict(env) if dataclasses.is_dataclass(env) else {}
    return {
        "game": {"name": env.name, "options": options},
        "observation_shape": env.observation_shape,
        "num_actions": env.num_actions,
    }


def plain(facts: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: tuples become lists."""
    try:
        # Half a character, as in the name of a folder that is no UTF-8, could not be written as JSON.
        return json.loads(json.dumps(facts, ensure_ascii=False, allow_nan=False).encode(errors="replace"))
    except (TypeError, ValueError, RecursionError) as error:
        raise ExportError(f"export metadata must be finite numbers, strings, lists and dicts: {error}") from error


def rules_of(env: Env) -> str:
    """What the file of a game says of it: what it is, where its rules differ from others', what its actions are."""
    first, *rest = (inspect.getdoc(inspect.getmodule(type(env))) or "").split("\n\n")
    return "\n\n".join([first, *(part for part in rest if part.startswith(("Rule difference", "Action")))])


def versions() -> dict[str, str | None]:
    """Of the programs that write this file; None: not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("jaxzero", "jax", "jaxlib", "torch"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def first_moves(env: Env) -> dict[str, int]:
    """The legal actions at the start by their text, which shows how actions are numbered."""
    state = env.init(jax.random.key(0))
    try:
        return {env.action_to_str(state, int(a)): int(a) for a in np.flatnonzero(env.legal_actions(state))}
    except NotImplementedError:  # a game of the user's own may do without text
        return {}
