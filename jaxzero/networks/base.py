"""What a network is: pure functions over one tree of variables, made from a flax module.

Letters: B batch, A actions.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxzero.networks import unfold as unfolding

Variables = Any


class Prediction(NamedTuple):
    """Mover's view. The search reads `value`, losses read the raw `heads`."""

    logits: jax.Array  # f32[B, A]  policy logits, illegal actions not masked
    value: jax.Array  # f32[B]  in [-1, 1]
    heads: Mapping[str, jax.Array]  # {"value": f32[B]}, or {"wdl": f32[B, 3]} logits of win, draw, loss


class Network(NamedTuple):
    """A network as pure functions.

    `init(key) -> variables`: {"params": …, "stats": …}, nested dicts of float32 arrays.
    `predict(variables, observation[B, …], *, train=False, key=None, axis_name=None) -> (Prediction, stats)`:
        with `train`, dropout draws from `key`, normalisation uses the whole batch (over `axis_name` too) and `stats`
        are the updated statistics; without, `stats` come back unchanged.
    `fold(variables) -> params`: the stateless form for self-play, evaluation and export: normalisation merged into
        the convolutions before it.
    `infer(params, observation[B, …]) -> Prediction` on folded parameters.
    `unfold(params, positions) -> variables` that fold to these, to be trained further; `positions()` gives observations
        [B, …] for the statistics of normalisation. None: it cannot be done.
    """

    init: Callable[[jax.Array], Variables]
    predict: Callable[..., tuple[Prediction, Any]]
    fold: Callable[[Variables], Any]
    infer: Callable[[Any, jax.Array], Prediction]
    unfold: Callable[[Any, Callable[[], Any]], Variables] | None = None


def from_module(build: Callable[[bool, nnx.Rngs], nnx.Module], norm: bool, wdl: bool) -> Network:
    """A network from `build(norm, rngs)`, whose modules map (observation, train, key, axis_name) to
    (policy logits [B, A], value outputs [B, 1], or [B, 3] with `wdl`)."""

    def graph_of(norm: bool):
        return nnx.split(nnx.eval_shape(lambda: build(norm, nnx.Rngs(0))), nnx.Param, nnx.BatchStat)[0]

    graph, folded_graph = graph_of(norm), graph_of(False)

    def init(key: jax.Array) -> Variables:
        _, params, stats = nnx.split(build(norm, nnx.Rngs(key)), nnx.Param, nnx.BatchStat)
        return {"params": nnx.to_pure_dict(params), "stats": nnx.to_pure_dict(stats)}

    def predict(variables, observation, *, train=False, key=None, axis_name=None):
        module = nnx.merge(graph, variables["params"], variables["stats"])
        prediction = read(*module(observation, train, key, axis_name), wdl)  # pyright: ignore[reportCallIssue]
        return prediction, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)) if train else variables["stats"]

    def infer(params, observation):
        module = nnx.merge(folded_graph, params, {})
        return read(*module(observation, False, None, None), wdl)  # pyright: ignore[reportCallIssue]

    def unfold(params, positions):
        return unfolding.unfold(graph, jax.eval_shape(init, jax.random.key(0)), params, positions)

    return Network(init, predict, lambda variables: fold(variables["params"], variables["stats"]), infer, unfold)


def read(logits: jax.Array, value: jax.Array, wdl: bool) -> Prediction:
    if wdl:
        win, _, loss = jnp.moveaxis(jax.nn.softmax(value), -1, 0)
        return Prediction(logits, win - loss, {"wdl": value})
    scalar = jnp.tanh(value[:, 0])
    return Prediction(logits, scalar, {"value": scalar})


def fold(params: Any, stats: Any, epsilon: float = 1e-5) -> Any:
    """Merges every {"conv", "norm"} pair into a convolution with a bias; all else stays."""
    if not isinstance(params, dict):
        return params
    if "norm" in params:
        scale = params["norm"]["scale"] * jax.lax.rsqrt(stats["norm"]["var"] + epsilon)
        bias = params["norm"]["bias"] - stats["norm"]["mean"] * scale
        return {"conv": {"kernel": params["conv"]["kernel"] * scale[None, None, None], "bias": bias}}
    return {name: fold(child, stats.get(name, {}), epsilon) for name, child in params.items()}
