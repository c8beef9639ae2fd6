"""Proof that an exported file computes what the JAX network does, on positions of self-play.

Letters: N positions, B games at once, A actions.
"""

import dataclasses
import functools
import json
import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from envs import Env
from envs.core import where
from jaxzero.export.model import ExportedModel, ExportError, Function
from jaxzero.parallel import LANES, REPLICATED, make_mesh

GAMES, ROUNDS, PLIES = 32, 4, 10  # N = 1,280 positions
STRIDE = 4  # plies between the states of a game at which it may be entered
EXPLORATION = 0.25  # share of random moves, without which a trained network would show few positions

BOUNDS = {
    "float32": {"logits": 1e-4, "value": 1e-4, "points": 1e-4, "other": 1e-4, "agreement": 0.999},
    "float16": {"logits": 0.1, "value": 0.02, "points": 0.1, "other": 0.1, "agreement": 0.98},
    "int8": {"logits": float("inf"), "value": 0.5, "points": 0.5, "other": float("inf"), "agreement": 0.8},
}
"""Largest differences and smallest share of equal best moves, beyond which a file is not handed out. Those of float16
and int8 catch files that are broken, not merely coarse: how much a coarse one costs is for the certificate to say.
"points": of values and rewards of any size; beyond ±1 they differ by shares of themselves: float32 has 7 digits."""


class ParityPositions(NamedTuple):
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


class GameBatch(NamedTuple):
    """Positions of B games, and what is seen of them."""

    states: Any  # [B]
    observation: Any  # f32[B, …]
    legal: Any  # bool[B, A]


@functools.partial(jax.jit, static_argnums=0)
def ply(
    env: Env, fresh: Any, before: GameBatch, logits: jax.Array, again: bool, key: jax.Array, number: int
) -> tuple[GameBatch, jax.Array]:
    """One move in each game, drawn by logits [B, A] of its legal ones or, now and then, from all alike: what follows,
    and bool[B], where a game has ended, which its `fresh` state follows; `again`: all begin. One program with the look
    at a position, compiled once: rules such as those of chess take seconds."""
    explore, choose, chance = jax.random.split(jax.random.fold_in(key, number), 3)
    logits = jnp.where(jax.random.bernoulli(explore, EXPLORATION, (GAMES, 1)), 0.0, logits)
    action = jax.random.categorical(choose, jnp.where(before.legal, logits, -jnp.inf)).astype(jnp.int32)
    after = jax.vmap(env.advance)(before.states, action, jax.random.split(chance, GAMES))
    states = jax.vmap(where)(after.terminated | again, fresh, after)
    return GameBatch(states, jax.vmap(env.observe)(states), jax.vmap(env.legal_actions)(states)), after.terminated


def entered(env: Env, key: jax.Array) -> tuple[Any, list[GameBatch]]:
    """Random games: their first states [B], and `ROUNDS` times one position of each, by turns of any ply and some
    plies before the end."""
    first, random = jax.random.split(key)
    fresh = jax.jit(jax.vmap(env.init))(jax.random.split(first, GAMES))
    logits = np.zeros((GAMES, env.num_actions), np.float32)
    unseen = GameBatch(fresh, np.zeros((GAMES, *env.observation_shape), np.float32), np.ones(logits.shape, bool))
    games, _ = ply(env, fresh, unseen, logits, True, random, 0)
    lengths, trail, played = np.zeros(GAMES, int), [], 0
    while not lengths.all():
        if played % STRIDE == 0:
            trail.append(jax.device_get(games))
        played += 1
        games, ended = ply(env, fresh, games, logits, False, random, played)
        lengths = np.where((lengths == 0) & ended, played, lengths)
    chance = np.random.default_rng(int(jax.random.bits(first)))
    found = []
    for i in range(ROUNDS):
        stops = np.maximum(lengths - 3 * PLIES // 4, 0) if i % 2 else chance.integers(0, lengths)
        chosen = [jax.tree.map(operator.itemgetter(game), trail[stop // STRIDE]) for game, stop in enumerate(stops)]
        found.append(jax.tree.map(lambda *leaves: np.stack(leaves), *chosen))
    return fresh, found


def self_play(model: ExportedModel, seed: int) -> ParityPositions:
    """1,280 positions of games that the network plays against itself by its policy and some random moves, entered after
    random ones at any ply and near the end; one that ends is followed by a new one."""
    infer = jax.jit(model.network.infer)
    mesh = make_mesh(math.gcd(GAMES, jax.local_device_count()))  # on a CPU a device has one core
    params, shared = jax.device_put(model.params, NamedSharding(mesh, REPLICATED)), NamedSharding(mesh, LANES)
    begin, later = jax.random.split(jax.random.key(seed))
    fresh, roots = entered(model.env, begin)
    found = []
    for i, games in enumerate(roots):
        for j in range(PLIES):
            with jax.default_matmul_precision("highest"):  # accelerators would multiply float32 in fewer bits
                said = jax.device_get(infer(params, jax.device_put(games.observation, shared)))
            found.append((*jax.device_get((games.observation, games.legal)), said.logits, said.value))
            games, _ = ply(model.env, fresh, games, said.logits, False, later, i * PLIES + j)
    return ParityPositions(*(np.ascontiguousarray(np.concatenate(parts)) for parts in zip(*found, strict=True)))


class Reference(NamedTuple):
    """What the JAX network gives on positions of self-play: inputs and outputs by function, arrays [N, …]."""

    positions: ParityPositions
    functions: dict[str, tuple[list[np.ndarray], list[np.ndarray]]]


def references(model: ExportedModel) -> Reference:
    positions = self_play(model, 0)
    if not model.network.latent:  # self-play has asked its one function already
        return Reference(positions, {"predict": ([positions.observation], [positions.logits, positions.value])})
    found = {name: reference(model, call, positions.observation) for name, call in model.functions.items()}
    return Reference(positions, found)


def reference(
    model: ExportedModel, function: Function, observation: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Inputs and outputs of a function in JAX, float32."""
    with jax.default_matmul_precision("highest"):
        inputs = jax.device_get(function.example(model.params, observation))
        outputs = jax.device_get(jax.jit(function.call)(model.params, *inputs))
    return [np.asarray(x) for x in inputs], [np.asarray(x) for x in outputs]


def compare(
    name: str,
    function: Function,
    precision: str,
    positions: ParityPositions,
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
