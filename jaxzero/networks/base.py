"""The type of a network: pure functions over one tree of variables, made from a flax module.

Letters: B batch, A actions.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from envs import Env
from jaxzero.config.fields import COMMON, Range
from jaxzero.messages import ConfigError
from jaxzero.networks import unfold as unfold_lib
from jaxzero.networks.values import HEADS, Heads, ValueHead

Variables = Any


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Settings that every network has. A subclass adds its own, and the first line of its docstring is the help."""

    kind: ClassVar[str]
    dense: ClassVar[str] = ""
    """The kind to use for observations that are not a board, where this kind needs one; "": it takes any."""
    learned_model: ClassVar[bool] = False
    """Whether the search looks ahead with this network's model of the game instead of the rules (MuZero)."""

    value: Annotated[Literal["scalar", "wdl", "transformed", "categorical"], COMMON] = "scalar"
    """Value head (and reward head of a learned model). For outcomes: scalar (one tanh number) or wdl (logits of win,
    draw and loss). For returns of any size, scaled by h(x) = ±(√(|x| + 1) - 1) + x / 1000: transformed (one number) or
    categorical (a distribution over whole numbers)."""
    support: Annotated[int, Range(1, 10_000)] = 20
    """With value = categorical: the whole numbers go from -support to support. h(400) = 19.4, h(10,000) = 109."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the arithmetic. auto is bfloat16 on accelerators and float32 on CPUs. Parameters stay float32."""

    def exported(self) -> dict[str, Any] | None:
        """What `export.standalone.torch_module` builds the same network from, with `kind` and `value`; None: there it
        is not known, so that it cannot be exported."""
        return None

    def check(self, env: Env) -> None:
        """ConfigError: the network cannot be built for this game."""
        if self.dense and len(env.observation_shape) != 3:
            raise ConfigError(
                f"network.kind: {self.kind} needs observations [rows, columns, planes], {env.name} has shape "
                f'{env.observation_shape}; use network.kind = "{self.dense}"'
            )

    def outcomes(self, env: Env) -> int:
        """Chance outcomes that a search with this network looks at; 0: none."""
        return env.num_outcomes

    @property
    def arithmetic(self) -> Any:
        """The dtype that `dtype` means on this machine."""
        if self.dtype == "auto":
            return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
        return jnp.dtype(self.dtype)

    @property
    def head(self) -> ValueHead:
        return HEADS[self.value](self.support)


class Prediction(NamedTuple):
    """Mover's view. The search reads `value`, losses read the raw `heads`."""

    logits: jax.Array  # f32[B, A]  policy logits, illegal actions not masked
    value: jax.Array  # f32[B]  in [-1, 1], or in units of return (`values`)
    heads: Heads  # of one kind: "value" f32[B], "wdl" f32[B, 3], "transformed" f32[B] or "categorical" f32[B, 2S + 1]


class DynamicsOutput(NamedTuple):
    """Outputs of a learned model for an action."""

    latent: jax.Array  # f32[B, ...]  in [0, 1]
    reward: jax.Array  # f32[B]  to the player who acted
    discount: jax.Array  # f32[B]  expectation of +1 (the same player moves next), -1 (the other), 0 (the end)
    reward_heads: Heads  # as those of `Prediction`
    to_play: jax.Array  # f32[B, 3]  logits of {same, other, end}
    codes: jax.Array | None = None  # f32[B, M]  logits of the outcomes of chance, of a network that knows any


class Latent(NamedTuple):
    """MuZero's functions of folded parameters (Schrittwieser et al. 2020, section 3); they are trained in this form.

    `represent(params, observation[B, …]) -> latent`
    `dynamics(params, latent, action i32[B]) -> DynamicsOutput`
    `predict(params, latent) -> Prediction`
    `project(params, latent, online) -> f32[B, D]`: what latents are compared by (EfficientZero, Ye et al. 2021); those
        that the dynamics made are `online`. None: the network has no projection.
    `num_codes`: M, kinds of outcomes that a network of games with chance tells apart (Stochastic MuZero, Antonoglou et
        al. 2022); 0: none. With M > 0 the dynamics leads to an afterstate, then
        `settle(params, latent, code f32[B, M]) -> latent` goes on to the next position, and
        `encode(params, before[B, …], after[B, …]) -> f32[B, M]` gives logits of what happened between observations.
    """

    represent: Callable[[Any, jax.Array], jax.Array]
    dynamics: Callable[[Any, jax.Array, jax.Array], DynamicsOutput]
    predict: Callable[[Any, jax.Array], Prediction]
    project: Callable[[Any, jax.Array, bool], jax.Array] | None = None
    num_codes: int = 0
    settle: Callable[[Any, jax.Array, jax.Array], jax.Array] | None = None
    encode: Callable[[Any, jax.Array, jax.Array], jax.Array] | None = None


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
    `latent`: MuZero's functions, of a network that models the game; else None.
    """

    init: Callable[[jax.Array], Variables]
    predict: Callable[..., tuple[Prediction, Any]]
    fold: Callable[[Variables], Any]
    infer: Callable[[Any, jax.Array], Prediction]
    unfold: Callable[[Any, Callable[[], Any]], Variables] | None = None
    latent: Latent | None = None


def from_module(build: Callable[[bool, nnx.Rngs], nnx.Module], norm: bool, head: ValueHead) -> Network:
    """A network from `build(norm, rngs)`, whose modules map (observation, train, key, axis_name) to
    (policy logits [B, A], value outputs [B, head.outputs])."""

    def graph_of(norm: bool):
        return nnx.split(nnx.eval_shape(lambda: build(norm, nnx.Rngs(0))), nnx.Param, nnx.BatchStat)[0]

    graph, folded_graph = graph_of(norm), graph_of(False)

    def init(key: jax.Array) -> Variables:
        _, params, stats = nnx.split(build(norm, nnx.Rngs(key)), nnx.Param, nnx.BatchStat)
        return {"params": nnx.to_pure_dict(params), "stats": nnx.to_pure_dict(stats)}

    def predict(variables, observation, *, train=False, key=None, axis_name=None):
        module = nnx.merge(graph, variables["params"], variables["stats"])
        prediction = read(*module(observation, train, key, axis_name), head)  # pyright: ignore[reportCallIssue]
        return prediction, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)) if train else variables["stats"]

    def infer(params, observation):
        module = nnx.merge(folded_graph, params, {})
        return read(*module(observation, False, None, None), head)  # pyright: ignore[reportCallIssue]

    def unfold(params, positions):
        return unfold_lib.unfold(graph, jax.eval_shape(init, jax.random.key(0)), params, positions)

    return Network(init, predict, lambda variables: fold(variables["params"], variables["stats"]), infer, unfold)


def read(logits: jax.Array, value: jax.Array, head: ValueHead) -> Prediction:
    return Prediction(logits, *head.read(value))


def fold(params: Any, stats: Any, epsilon: float = 1e-5) -> Any:
    """Merges every {"conv", "norm"} pair into a convolution with a bias; all else stays."""
    if not isinstance(params, dict):
        return params
    if "norm" in params:
        scale = params["norm"]["scale"] * jax.lax.rsqrt(stats["norm"]["var"] + epsilon)
        bias = params["norm"]["bias"] - stats["norm"]["mean"] * scale
        return {"conv": {"kernel": params["conv"]["kernel"] * scale[None, None, None], "bias": bias}}
    return {name: fold(child, stats.get(name, {}), epsilon) for name, child in params.items()}
