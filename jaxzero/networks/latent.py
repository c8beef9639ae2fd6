"""Networks that model a game (MuZero, Schrittwieser et al. 2020): represent, dynamics and predict over one latent.

Both forms have no normalisation with statistics: one network is applied to latents of every depth. Latents are scaled
to [0, 1] (appendix G), as the actions beside them are. Letters: B batch, A actions, H rows, W columns, C channels.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from envs import Env
from jaxzero.config.fields import COMMON, Range, Width
from jaxzero.networks.base import DynamicsOutput, Latent, Network, NetworkConfig, Prediction, read
from jaxzero.networks.mlp import Trunk, near_zero
from jaxzero.networks.resnet import HEAD_CHANNELS, VALUE_HIDDEN, Head, Tower

TO_PLAY = 3  # outputs: the same player moves next, the other does, the game has ended
ACTION_PLANES = 4


@dataclasses.dataclass(frozen=True)
class MuZeroConfig(NetworkConfig):
    """Settings that both forms share."""

    learned_model: ClassVar[bool] = True

    codes: Annotated[int, Range(0, 1024)] = 0
    """Codebook size: chance outcomes that the model tells apart, such as 32 for 2048 (Stochastic MuZero). 0: no chance;
    an action leads to its expected outcome."""
    projection: Annotated[int, Range(0, 65_536)] = 0
    """Width of the projection in which learner.consistency_weight compares latent states. 0: none."""

    def outcomes(self, env: Env) -> int:
        return self.codes


@dataclasses.dataclass(frozen=True)
class MuZeroMlpConfig(MuZeroConfig):
    """Dense layers with a learned model of the game: the search looks ahead without asking the rules (MuZero)."""

    kind: ClassVar[str] = "muzero_mlp"

    hidden_dim: Annotated[Width, COMMON] = 128
    """Width of the hidden layers: two in the representation and in the dynamics, one in each head; with codes, two in
    the encoder of chance outcomes."""
    latent_dim: Annotated[Width, COMMON] = 64
    """Width of the latent state."""

    def exported(self) -> dict[str, Any]:
        return {
            "hidden_dim": self.hidden_dim, "latent_dim": self.latent_dim, "codes": self.codes,
            "projection": self.projection,
        }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class MuZeroConvConfig(MuZeroConfig):
    """Residual convolutions with a learned model of the game (MuZero)."""

    kind: ClassVar[str] = "muzero_conv"
    dense: ClassVar[str] = "muzero_mlp"

    channels: Annotated[int, Range(1, 4096), COMMON] = 32
    """Channels of the trunk and of the latent state."""
    blocks: Annotated[int, Range(1, 64), COMMON] = 3
    """Residual blocks of the representation, of two 3×3 convolutions each."""
    dynamics_blocks: Annotated[int, Range(1, 16), COMMON] = 1
    """Residual blocks of the dynamics."""
    pooling: bool = True
    """Each block adds a bias computed from the mean and the maximum over the whole board."""
    hidden_dim: Width = 128
    """With codes: width of the two hidden layers in the encoder of chance outcomes."""

    def exported(self) -> dict[str, Any]:
        return {
            "channels": self.channels, "blocks": self.blocks, "dynamics_blocks": self.dynamics_blocks,
            "pooling": self.pooling, "action_planes": ACTION_PLANES, "head_channels": HEAD_CHANNELS,
            "value_hidden": VALUE_HIDDEN, "hidden_dim": self.hidden_dim, "codes": self.codes,
            "projection": self.projection,
        }  # fmt: skip


class Dense(nnx.Module):
    """[B, inputs] -> [B, outputs] through hidden layers."""

    def __init__(self, inputs: int, sizes: tuple[int, ...], outputs: int, rngs: nnx.Rngs, init=near_zero, **types: Any):
        self.trunk = Trunk(inputs, sizes, 0.0, types["dtype"], rngs)
        self.out = nnx.Linear(sizes[-1], outputs, kernel_init=init, rngs=rngs, **types)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.out(self.trunk(x, False, None))


class LatentModule(nnx.Module):
    """Base of both forms. A form sets `encoder`, `mover`, with codes `settler` and `coder`, and the heads by
    name."""

    projector: Any
    online: Any
    coder: Any

    def __init__(self, num_actions: int, num_codes: int, heads: dict[str, Callable[[], Any]], dtype: Any):
        self.num_actions, self.num_codes, self.dtype = num_actions, num_codes, dtype
        for name, head in heads.items():
            setattr(self, name, head())

    def represent(self, observation: jax.Array) -> jax.Array:
        return scaled(self.encode(observation.astype(self.dtype)))

    def dynamics(self, latent: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, Any]:
        """The next latent, reward outputs, logits of who moves next and, if there are any, of codes."""
        moved = scaled(latent + self.move(latent, self.one_hot(action)))
        codes = self.of("codes", moved) if self.num_codes else None
        return moved, self.of("reward", moved), self.of("follows", moved), codes

    def predict(self, latent: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Policy logits and value outputs."""
        return self.of("policy", latent), self.of("value", latent)

    def settle(self, latent: jax.Array, code: jax.Array) -> jax.Array:
        return scaled(latent + self.happen(latent, code.astype(self.dtype)))

    def outcome(self, before: jax.Array, after: jax.Array) -> jax.Array:
        both = jnp.concatenate([x.reshape(len(x), -1) for x in (before, after)], -1)
        return self.coder(both.astype(self.dtype)).astype(jnp.float32)

    def project(self, latent: jax.Array, online: bool) -> jax.Array:
        flat = self.projector(latent.reshape(len(latent), -1).astype(self.dtype))
        return (self.online(flat) if online else flat).astype(jnp.float32)

    def one_hot(self, action: jax.Array) -> jax.Array:
        return jax.nn.one_hot(action, self.num_actions, dtype=self.dtype)

    def of(self, head: str, latent: jax.Array) -> jax.Array:
        return self.read(getattr(self, head), latent).astype(jnp.float32)

    def encode(self, observation: jax.Array) -> jax.Array:
        raise NotImplementedError

    def move(self, latent: jax.Array, action: jax.Array) -> jax.Array:
        """The change of the latent by an action f32[B, A], one-hot."""
        raise NotImplementedError

    def happen(self, latent: jax.Array, code: jax.Array) -> jax.Array:
        """The change of the latent by an outcome of chance f32[B, M], one-hot."""
        raise NotImplementedError

    def read(self, head: Any, latent: jax.Array) -> jax.Array:
        raise NotImplementedError


def scaled(latent: jax.Array) -> jax.Array:
    """Each latent to [0, 1] by its own least and greatest number."""
    latent = latent.astype(jnp.float32)
    axes = tuple(range(1, latent.ndim))
    low, high = latent.min(axes, keepdims=True), latent.max(axes, keepdims=True)
    return (latent - low) / (high - low + 1e-5)


class DenseModel(LatentModule):
    """The mlp form: latents [B, latent_dim]."""

    def __init__(self, env: Env, config: MuZeroMlpConfig, outputs: dict[str, int], dtype: Any, rngs: nnx.Rngs):
        hidden, size, types = (config.hidden_dim,) * 2, config.latent_dim, {"dtype": dtype, "rngs": rngs}
        wide = nnx.initializers.lecun_normal()
        self.encoder = Dense(math.prod(env.observation_shape), hidden, size, init=wide, **types)
        self.mover = Dense(size + env.num_actions, hidden, size, init=wide, **types)
        heads = {name: lambda n=n: Dense(size, hidden[:1], n, **types) for name, n in outputs.items()}
        if config.codes:
            self.settler = Dense(size + config.codes, hidden, size, init=wide, **types)
        more = coder(env, config.codes, config.hidden_dim, types) | projection(config, size, types)
        super().__init__(env.num_actions, config.codes, heads | more, dtype)

    def encode(self, observation: jax.Array) -> jax.Array:
        return self.encoder(observation.reshape(observation.shape[0], -1))  # the batch may be symbolic

    def move(self, latent: jax.Array, action: jax.Array) -> jax.Array:
        return self.mover(jnp.concatenate([latent.astype(self.dtype), action], -1))

    def happen(self, latent: jax.Array, code: jax.Array) -> jax.Array:
        return self.settler(jnp.concatenate([latent.astype(self.dtype), code], -1))

    def read(self, head: Any, latent: jax.Array) -> jax.Array:
        return head(latent.astype(self.dtype))


class ConvModel(LatentModule):
    """The convolutional form: latents [B, H, W, C]. An action, and an outcome of chance, is shown as planes that are
    learned for it."""

    def __init__(self, env: Env, config: MuZeroConvConfig, outputs: dict[str, int], dtype: Any, rngs: nnx.Rngs):
        (rows, columns, planes), channels = env.observation_shape, config.channels
        shape, types = (rows, columns, channels), {"dtype": dtype, "rngs": rngs}
        self.shape = rows, columns, ACTION_PLANES
        tower = {"norm": False, "pooling": config.pooling, **types}
        self.encoder = Tower(planes, channels, config.blocks, **tower)
        self.mover = Tower(channels + ACTION_PLANES, channels, config.dynamics_blocks, **tower)
        drawn = {"kernel_init": nnx.initializers.normal(1.0), "use_bias": False, **types}
        self.action = nnx.Linear(env.num_actions, math.prod(self.shape), **drawn)
        if config.codes:
            self.settler = Tower(channels + ACTION_PLANES, channels, config.dynamics_blocks, **tower)
            self.code = nnx.Linear(config.codes, math.prod(self.shape), **drawn)
        heads = {
            name: lambda name=name, n=n: Head(shape, 0 if name == "policy" else VALUE_HIDDEN, n, norm=False, **types)
            for name, n in outputs.items()
        }
        more = coder(env, config.codes, config.hidden_dim, types) | projection(config, math.prod(shape), types)
        super().__init__(env.num_actions, config.codes, heads | more, dtype)

    def encode(self, observation: jax.Array) -> jax.Array:
        return self.encoder.trunk(observation, False, None)

    def move(self, latent: jax.Array, action: jax.Array) -> jax.Array:
        return self.beside(self.mover, latent, self.action(action))

    def happen(self, latent: jax.Array, code: jax.Array) -> jax.Array:
        return self.beside(self.settler, latent, self.code(code))

    def beside(self, tower: Tower, latent: jax.Array, planes: jax.Array) -> jax.Array:
        seen = jnp.concatenate([latent.astype(self.dtype), planes.reshape(-1, *self.shape)], -1)
        return tower.trunk(seen, False, None)

    def read(self, head: Any, latent: jax.Array) -> jax.Array:
        return head(latent.astype(self.dtype), False, None)


def coder(env: Env, codes: int, hidden_dim: int, types: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """The encoder of codes: from two observations, which code happened between them. Empty without codes."""
    if not codes:
        return {}
    inputs, sizes = 2 * math.prod(env.observation_shape), (hidden_dim,) * 2
    wide = nnx.initializers.lecun_normal()  # near zero one code would win
    return {"coder": lambda: Dense(inputs, sizes, codes, init=wide, **types)}


def projection(config: MuZeroConfig, size: int, types: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """EfficientZero's projector and the predictor behind it, where `config.projection` asks for them."""
    if not (width := config.projection):
        return {}
    wide = nnx.initializers.lecun_normal()
    return {
        "projector": lambda: Dense(size, (width,), width, init=wide, **types),
        "online": lambda: Dense(width, (width,), width, init=wide, **types),
    }


def make(form: type[LatentModule], config: MuZeroConfig, env: Env) -> Network:
    """A network with `latent` functions. Rewards are read as values are."""
    head = config.head
    # "follows" is the name in exported files.
    outputs = {"policy": env.num_actions, "value": head.outputs, "reward": head.outputs, "follows": TO_PLAY}
    outputs |= {"codes": config.codes} if config.codes else {}

    def build(rngs: nnx.Rngs) -> LatentModule:
        return form(env, config, outputs, config.arithmetic, rngs)  # pyright: ignore[reportCallIssue]

    graph = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))), nnx.Param)[0]

    def init(key: jax.Array) -> dict[str, Any]:
        return {"params": nnx.to_pure_dict(nnx.split(build(nnx.Rngs(key)), nnx.Param)[1]), "stats": {}}

    def module(params: Any) -> Any:
        return nnx.merge(graph, params)

    def represent(params: Any, observation: jax.Array) -> jax.Array:
        return module(params).represent(observation)

    def dynamics(params: Any, latent: jax.Array, action: jax.Array) -> DynamicsOutput:
        moved, reward, to_play, codes = module(params).dynamics(latent, action)
        same, other, _ = jnp.moveaxis(jax.nn.softmax(to_play), -1, 0)
        earned, heads = head.read(reward)
        return DynamicsOutput(moved, earned, same - other, heads, to_play, codes)

    def predict(params: Any, latent: jax.Array) -> Prediction:
        logits, value = module(params).predict(latent)
        return read(logits, value, head)

    def project(params: Any, latent: jax.Array, online: bool) -> jax.Array:
        return module(params).project(latent, online)

    def settle(params: Any, latent: jax.Array, code: jax.Array) -> jax.Array:
        return module(params).settle(latent, code)

    def encode(params: Any, before: jax.Array, after: jax.Array) -> jax.Array:
        return module(params).outcome(before, after)

    def infer(params: Any, observation: jax.Array) -> Prediction:
        return predict(params, represent(params, observation))

    def whole(variables, observation, *, train=False, key=None, axis_name=None):
        return infer(variables["params"], observation), variables["stats"]

    latent = Latent(represent, dynamics, predict, project if config.projection else None)
    if config.codes:
        latent = latent._replace(num_codes=config.codes, settle=settle, encode=encode)

    def unfold(params, positions):
        return {"params": jax.tree.map(jnp.asarray, params), "stats": {}}

    return Network(init, whole, lambda variables: variables["params"], infer, unfold, latent)


make_mlp, make_conv = partial(make, DenseModel), partial(make, ConvModel)
