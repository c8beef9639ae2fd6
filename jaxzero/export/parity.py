"""Proof that an exported file computes what the JAX network does, on positions of self-play.

Letters: N positions, B games, A actions.
"""

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env
from envs.core import where
from jaxzero.export.model import ExportError, Function, Model

GAMES, PLIES = 128, 12  # N = 1,536 positions
EXPLORATION = 0.25  # share of random moves, without which a trained network would show few positions

BOUNDS = {
    "float32": {"logits": 1e-4, "value": 1e-5, "points": 1e-4, "other": 1e-4, "agreement": 0.999},
    "float16": {"logits": 0.1, "value": 0.02, "points": 0.1, "other": 0.1, "agreement": 0.98},
    "int8": {"logits": float("inf"), "value": 0.5, "points": 0.5, "other": float("inf"), "agreement": 0.8},
}
"""Largest differences and smallest share of equal best moves, beyond which a file is not handed out. Those of float16
and int8 catch files that are broken, not merely coarse: how much a coarse one costs is for the certificate to say.
"points": of values and rewards of any size; beyond ±1 they differ by shares of themselves: float32 has 7 digits."""


class Positions(NamedTuple):
    observation: np.ndarray  # f32[N, …]
    legal: np.ndarray  # bool[N, A]
    logits: np.ndarray  # f32[N, A]  what the JAX network played by
    value: np.ndarray  # f32[N]


@dataclasses.dataclass(frozen=True)
class Certificate:
    """How far one function of a file is from the JAX network, which computes in float32 at the highest precision."""

    function: str
    precision: str  # of the file: float32, float16 or int8
    positions: int
    distinct: int  # of them different from each other
    differences: dict[str, dict[str, float]]  # output: {"max", "mean"} of absolute differences (`BOUNDS`)
    agreement: float | None  # share of positions with the same best legal action; None without logits
    bounds: dict[str, float]

    def holds(self) -> bool:
        """False also when something is not a number."""
        within = [d["max"] <= self.bounds.get(name, self.bounds["other"]) for name, d in self.differences.items()]
        return all(within) and (self.agreement is None or self.agreement >= self.bounds["agreement"])

    def __str__(self) -> str:
        parts = [f"{name} max {d['max']:.1e} mean {d['mean']:.1e}" for name, d in self.differences.items()]
        parts += [] if self.agreement is None else [f"same best move in {self.agreement:.1%}"]
        return f"parity over {self.positions} positions: {', '.join(parts)}"

    def record(self) -> dict[str, Any]:
        """As JSON, which knows no infinity."""
        return json.loads(json.dumps(dataclasses.asdict(self)), parse_constant=lambda _: None)


@functools.partial(jax.jit, static_argnums=0)
def play(env: Env, keys: jax.Array, stops: jax.Array) -> tuple[Any, jax.Array]:
    """One random game a key, halted after stops i32[B] plies or at its end: states [B] and plies played i32[B]."""

    def one(key: jax.Array, stop: jax.Array):
        first, later = jax.random.split(key)

        def ply(carry):
            state, length = carry
            choose, chance = jax.random.split(jax.random.fold_in(later, length))
            action = jax.random.categorical(choose, jnp.where(env.legal_actions(state), 0.0, -jnp.inf))
            return env.advance(state, action, chance), length + 1

        def going(carry):
            return (carry[1] < stop) & ~carry[0].terminated

        return jax.lax.while_loop(going, ply, (env.init(first), jnp.int32(0)))

    return jax.vmap(one)(keys, stops)


@functools.partial(jax.jit, static_argnums=(0, 1))
def go_on(env: Env, infer: Callable[..., Any], params: Any, key: jax.Array, states: Any) -> tuple[jax.Array, ...]:
    """`Positions` of the next plies [T, B, …] of games that the network plays against itself by its policy and some
    random moves; one that ends is followed by a new one."""

    def ply(states: Any, key: jax.Array):
        observation, legal = jax.vmap(env.observe)(states), jax.vmap(env.legal_actions)(states)
        choose, chance, fresh, explore = jax.random.split(key, 4)
        random = jax.random.bernoulli(explore, EXPLORATION, (GAMES, 1))
        said = infer(params, observation)
        logits = jnp.where(legal, jnp.where(random, 0.0, said.logits), -jnp.inf)
        action = jax.random.categorical(choose, logits).astype(jnp.int32)
        after = jax.vmap(env.advance)(states, action, jax.random.split(chance, GAMES))
        new = jax.vmap(env.init)(jax.random.split(fresh, GAMES))
        return jax.vmap(where)(after.terminated, new, after), (observation, legal, said.logits, said.value)

    return jax.lax.scan(ply, states, jax.random.split(key, PLIES))[1]


def self_play(model: Model, seed: int) -> Positions:
    """1,536 positions of self-play: 128 games, entered after random moves at any ply, every second one near its end."""
    env = model.env
    key, later = jax.random.split(jax.random.key(seed))
    keys = jax.random.split(key, GAMES)
    lengths = jax.device_get(play(env, keys, jnp.full(GAMES, env.max_plies, jnp.int32))[1])
    anywhere = np.random.default_rng(seed).integers(0, lengths)
    stops = np.where(np.arange(GAMES) % 2 == 0, np.maximum(lengths - PLIES // 2, 0), anywhere).astype(np.int32)
    states, _ = play(env, keys, stops)
    with jax.default_matmul_precision("highest"):  # accelerators would multiply float32 in fewer bits
        found = jax.device_get(go_on(env, model.network.infer, model.params, later, states))
    return Positions(*(np.ascontiguousarray(x.reshape(-1, *x.shape[2:])) for x in found))


class Reference(NamedTuple):
    """What the JAX network gives on positions of self-play: inputs and outputs by function, arrays [N, …]."""

    positions: Positions
    functions: dict[str, tuple[list[np.ndarray], list[np.ndarray]]]


def references(model: Model) -> Reference:
    positions = self_play(model, 0)
    if not model.network.latent:  # self-play has asked its one function already
        return Reference(positions, {"predict": ([positions.observation], [positions.logits, positions.value])})
    found = {name: reference(model, call, positions.observation) for name, call in model.functions.items()}
    return Reference(positions, found)


def reference(model: Model, function: Function, observation: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Inputs and outputs of a function in JAX, float32."""
    with jax.default_matmul_precision("highest"):
        inputs = jax.device_get(function.example(model.params, observation))
        outputs = jax.device_get(jax.jit(function.call)(model.params, *inputs))
    return [np.asarray(x) for x in inputs], [np.asarray(x) for x in outputs]


def compare(
    name: str,
    function: Function,
    precision: str,
    positions: Positions,
    expected: list[np.ndarray],
    given: list[Any],
    points: bool = False,
) -> Certificate:
    """What the file gave beside what the JAX network gave. `points`: values and rewards are returns of any size, not
    outcomes in [-1, 1]. ExportError: outputs of other shapes."""
    differences, agreement, bounds = {}, None, BOUNDS[precision]
    if points:
        bounds = bounds | dict.fromkeys(("value", "reward"), bounds["points"])
    for key, ours, theirs in zip(function.outputs, expected, given, strict=True):
        if ours.shape != theirs.shape:
            raise ExportError(f"{name} gives {key} of shape {theirs.shape} where the JAX network gives {ours.shape}")
        distance = np.abs(theirs.astype(np.float64) - ours)
        if points and key in ("value", "reward"):
            distance /= np.maximum(1, np.abs(ours))
        differences[key] = {"max": float(distance.max()), "mean": float(distance.mean())}
        if key == "logits":
            best = [np.where(positions.legal, scores, -np.inf).argmax(-1) for scores in (ours, theirs)]
            agreement = float((best[0] == best[1]).mean())
    count = len(positions.legal)
    distinct = len(np.unique(positions.observation.reshape(count, -1), axis=0))
    return Certificate(name, precision, count, distinct, differences, agreement, bounds)
