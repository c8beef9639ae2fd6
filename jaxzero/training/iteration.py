"""One iteration of training as two jitted functions over `RunState`: `self_play` and `learn`.

Both run under one `shard_map` over a 1-D mesh of local devices: every device plays its own lanes and samples its own
replay; parameters are replicated and gradients averaged. Letters: B games over all devices, T rows of the replay.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from envs import Env
from jaxzero import models, networks, search
from jaxzero.config.schema import Config
from jaxzero.parallel import AXIS, LANES, REPLICATED, make_mesh
from jaxzero.training import learner as learner_lib
from jaxzero.training import replay as replay_lib
from jaxzero.training import selfplay, statistics, targets, transitions
from jaxzero.training.transitions import Transition

ROWS = PartitionSpec(None, AXIS)
INIT, PLAY, LEARN, EVALUATE, PROMOTE = range(5)  # streams of random keys
IN_FLIGHT = 2
"""Iterations that may be queued on the devices. A CPU client takes 32 programs a device; queueing more blocks the very
threads that run them, and the run hangs."""
PATIENCE = {"xla_cpu_collective_call_terminate_timeout_seconds": 7 * 24 * 3600}
"""Compiler options on a CPU. There XLA ends a process in which one device has waited 40 s for another, as happens on a
busy machine."""


class Best(NamedTuple):
    """The network that plays self-play games when promotion is on."""

    variables: networks.Variables  # EMA of the iteration below
    iteration: jax.Array  # i32[]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RunState:
    """All that a resumed run needs on the devices; a checkpoint's `info` holds the totals of the host."""

    iteration: jax.Array  # i32[]  iterations finished
    key: jax.Array  # u32[2]  the run's key; never changes, streams are folded in
    train_state: learner_lib.TrainState
    games: selfplay.Games  # [B]
    replay: replay_lib.Replay  # [T, B]
    best: Best | None = None  # only with promotion


class Steps(NamedTuple):
    """The jitted functions of a run; the last two donate their argument.

    `init(iteration i32) -> RunState` with new games and an empty replay, `self_play(state) -> (state, sums)`,
    `learn(state) -> (state, metrics)`; with `data.sources` `learn(state, batches)`, given transitions [U, N, …] and
    value targets f32[U, N] from disk, one batch an update. `averages` reads sums and metrics. Wait for the results of
    an iteration before queueing more than `IN_FLIGHT` others.
    """

    init: jax.stages.Wrapped
    self_play: jax.stages.Wrapped
    learn: jax.stages.Wrapped
    abstract: RunState  # shapes, dtypes and shardings


def stream(key: jax.Array, name: int, iteration: jax.Array | int) -> jax.Array:
    """The key of one stream at one iteration: no other stream or iteration uses it."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(key), name), iteration)


def optimizer(config: Config) -> optax.GradientTransformation:
    return learner_lib.optimizer(config.learner, config.iterations * config.updates)


def begin(config: Config, network: networks.Network, done: jax.Array | int = 0) -> dict[str, Any]:
    """The learner part of a new run."""
    key = jax.random.key_data(jax.random.key(config.seed))
    variables = network.init(stream(key, INIT, 0))
    train_state = learner_lib.TrainState(
        variables, jax.tree.map(jnp.copy, variables), optimizer(config).init(variables["params"]), jnp.int32(0)
    )
    part = {"iteration": jnp.asarray(done), "key": key, "train_state": train_state}
    if config.promotion.rule != "off":
        part["best"] = Best(jax.tree.map(jnp.copy, variables), jnp.int32(0))
    return part


def make(config: Config, env: Env, network: networks.Network | None = None) -> Steps:
    """Builds the two functions of a validated configuration. `network` replaces the configured one."""
    network = network or networks.make(config.network, env)
    model = models.make(env, network)
    budgets = config.search.schedule or (config.search.simulations,)
    searchers = [search.make(config.search, env, model, simulations) for simulations in budgets]
    cheap = None
    if config.search.full_share < 1:
        cheap = search.make(config.search, env, model, config.search.cheap_simulations)
    plays = [selfplay.make_play(env, searcher, config, cheap) for searcher in searchers]
    learn_steps = learner_lib.make_learn(env, network, config, optimizer(config))
    mesh = make_mesh(config.num_devices())
    lanes_here = config.selfplay.games // mesh.size

    def lanes() -> jax.Array:
        return jax.lax.axis_index(AXIS) * lanes_here + jnp.arange(lanes_here)

    def init(done: jax.Array) -> RunState:
        part = begin(config, network, done)
        key = stream(part["key"], INIT, done + 1)
        games = selfplay.start(env, searchers[0], key, lanes(), config.selfplay.opening_plies)
        return RunState(**part, games=games, replay=replay_lib.init(env, num_rows(config), lanes_here))

    def self_play(state: RunState):
        params = network.fold(state.best.variables if state.best else state.train_state.ema)
        key = stream(state.key, PLAY, state.iteration)
        part = jnp.minimum(state.iteration * len(budgets) // config.iterations, len(budgets) - 1)
        games, chunk = jax.lax.switch(part, plays, params, state.games, key)
        replay = replay_lib.add(state.replay, chunk.transitions)
        # A game that has just ended began at most `max_plies` before: its first plies may be of an earlier chunk.
        newest = replay_lib.newest(replay, config.selfplay.plies + env.max_plies)
        target, known = targets.label(newest, config.learner.td_lambda, config.learner.td_steps)
        replay, new = replay_lib.label(replay, target, known)
        sums = statistics.of_play(chunk, env.num_players) | statistics.of_values(newest, new)
        return dataclasses.replace(state, games=games, replay=replay), jax.lax.psum(sums, AXIS)

    def learn(state: RunState, *read: tuple[Transition, jax.Array]):
        iteration = state.iteration + 1
        positions = (iteration * config.selfplay.plies).astype(jnp.float32) * config.selfplay.games
        rows = replay_lib.window_rows(config.replay, positions, config.selfplay.games)
        if config.plays:
            source = replay_lib.source(state.replay, rows, config.learner.priority)
            for batches in read:
                source = transitions.mix(transitions.from_batches(*batches), source, batches[1].shape[1])
        else:
            source = transitions.from_batches(*read[0])
        train_state, metrics = learn_steps(state.train_state, source, stream(state.key, LEARN, state.iteration))
        if config.plays:
            metrics |= {"window": (rows * config.selfplay.games).astype(jnp.float32)}
        return dataclasses.replace(state, iteration=iteration, train_state=train_state), metrics

    outside = partial(jax.shard_map, mesh=mesh, check_vma=False)
    zero = jax.ShapeDtypeStruct((), jnp.int32)
    shapes = jax.eval_shape(outside(init, in_specs=REPLICATED, out_specs=REPLICATED), zero)
    specs = dataclasses.replace(
        jax.tree.map(lambda _: REPLICATED, shapes),
        games=jax.tree.map(lambda _: LANES, shapes.games),
        replay=dataclasses.replace(jax.tree.map(lambda _: ROWS, shapes.replay), cursor=REPLICATED),
    )
    start = outside(init, in_specs=REPLICATED, out_specs=specs)
    abstract = jax.tree.map(
        lambda x, spec: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec)),
        jax.eval_shape(start, zero),
        specs,
    )
    step = partial(outside, in_specs=(specs,), out_specs=(specs, REPLICATED))
    batches = (ROWS,) if config.data.sources else ()
    donated = partial(
        jax.jit, donate_argnums=0, compiler_options=PATIENCE if mesh.devices.flat[0].platform == "cpu" else None
    )
    return Steps(jax.jit(start), donated(step(self_play)), donated(step(learn, in_specs=(specs, *batches))), abstract)


def num_rows(config: Config) -> int:
    """Rows of the replay; without self-play it holds nothing."""
    capacity = config.replay.capacity if config.plays else config.selfplay.games * config.selfplay.plies
    return replay_lib.rows(capacity, config.selfplay.games, config.selfplay.plies)


def promoted(state: RunState) -> RunState:
    """The state in which `best` is the EMA of now, in buffers of its own, as both are donated."""
    variables, iteration = jax.tree.map(
        lambda x: jax.device_put(jnp.copy(x), x.sharding), (state.train_state.ema, state.iteration)
    )
    return dataclasses.replace(state, best=Best(variables, iteration))


def learner_part(state: RunState) -> dict[str, Any]:
    """The part of a state that every checkpoint keeps."""
    part = {"iteration": state.iteration, "key": state.key, "train_state": state.train_state}
    return part | ({"best": state.best} if state.best else {})


def data_part(state: RunState) -> dict[str, Any]:
    """The part that only the newest checkpoints keep."""
    return {"games": state.games, "replay": state.replay}


def abstract_state(config: Config, env: Env) -> tuple[dict[str, Any], dict[str, Any]]:
    """Shapes and dtypes of what a checkpoint holds: (learner part, data part). Compiles nothing."""
    abstract = make(config, env).abstract
    return learner_part(abstract), data_part(abstract)


def averages(config: Config, sums: dict[str, Any], metrics: dict[str, Any]) -> dict[str, float]:
    """The numbers of a row of metrics, from host values of `self_play`'s sums, if there are any, and `learn`'s
    metrics."""
    losses = {name: float(value) for name, value in metrics.items()}
    if not sums:
        losses.pop("updates")
        return losses
    positions = config.selfplay.games * config.selfplay.plies
    row = {"policy_entropy": float(sums["entropy"]) / positions}
    if games := float(sums["games"]):
        row |= {name: float(sums[name]) / games for name in ("first_player_wins", "second_player_wins", "draws")}
        row["game_length"] = float(sums["length"]) / games
        if "points" in sums:  # of one player; over many iterations the mean of a game
            row["points"] = float(sums["points"]) / games
    if n := float(sums["ended"]):
        row["value_error"] = float(sums["error"]) / n
        v, z, vv, zz, vz = (float(sums[name]) / n for name in ("v", "z", "vv", "zz", "vz"))
        if (spread := (vv - v * v) * (zz - z * z)) > 1e-12:
            row["value_correlation"] = (vz - v * z) / float(np.sqrt(spread))
    return row | (losses if losses.pop("updates") else {"window": losses["window"]})
