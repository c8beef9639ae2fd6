"""What a search costs beside its network: our tree against stock mctx, on our games and on Pgx's.

`trees`: the tree alone. Priors and values are hashes of the path, so that trees grow as deep as trained networks make
them; the rules are one multiplication. Printed: µs a simulation and game, less those of the network and rules alone;
depth; memory; seconds to compile.

`games`: R = time of S pure network forwards at batch B / time of the whole search of S simulations. A search asks
the network once more, about its root: with a call a simulation R is at most S / (S + 1), 0.97 for 32; rounds that an
accelerator searches in one call can have more. Every side searches like positions with a network of the same size.

`compiling`: the processor's seconds to trace and compile each of these searches, in turns, caches cleared before each.

`memory`: of a search as a whole, which is what its program asks for beside its inputs; nothing is searched.

`matches`: the network of a run plays itself, searching in rounds against stock mctx at equal simulations.

All sides run in one process, in turns, warm; on CPU each batch is shared out over the cores, for every side. On a
machine that is busy with other things `--cpu-time` counts the processor's time in place of the clock's.

    python -m benchmarks.search trees games compiling memory matches --run runs/connect_four_fast
    python -m benchmarks.search trees [--actions 7,82,362] [--simulations 256] [--batch 256]
    python -m benchmarks.search games [--games connect_four,chess] [--network 64x4,16x1] [--simulations 32]
        [--batch 256] [--profile]
    python -m benchmarks.search compiling [--games connect_four,chess] [--network 16x1] [--simulations 32] [--batch 256]
    python -m benchmarks.search memory [--games chess] [--network 16x1] [--simulations 32] [--batch 1024]
    python -m benchmarks.search matches --run runs/connect_four_fast [--simulations 32] [--matches 400]
"""

# ruff: noqa: E402
from jaxzero.evaluation.base import Player
from jaxzero.hardware import use_all_cores

use_all_cores()  # before JAX is used

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mctx
import numpy as np

import envs
from benchmarks import kernels
from benchmarks.timing import interleave, row
from envs.core import random_opening
from jaxzero import networks, search
from jaxzero.config import catalog
from jaxzero.evaluation import matches, players
from jaxzero.models import Model, Root, Step, simulator
from jaxzero.networks import ResNetConfig
from jaxzero.parallel import LANES, REPLICATED, make_mesh
from jaxzero.runs.folder import load
from jaxzero.search import GumbelConfig, SearchConfig, stock

ENGINES = {"sequential": GumbelConfig(), "rounds": GumbelConfig(rounds=True), "mctx": GumbelConfig(engine="mctx")}
GAMES = {"go_9x9": {"name": "go", "size": 9}}  # ours for Pgx's name, where it is not that name
PLIES = {"connect_four": 12, "othello": 25, "hex": 40, "go_9x9": 40, "chess": 30}  # random plies before, at most


@dataclasses.dataclass(frozen=True)
class Anything(envs.Env):
    """A game without rules: every action is legal, always."""

    num_actions: int
    name = "anything"
    max_plies = 1 << 14

    @property
    def max_legal(self):
        return self.num_actions

    def legal_actions(self, state):
        return jnp.ones(self.num_actions, bool)


def mix(x: jax.Array) -> jax.Array:
    """A hash of u32, by two rounds of multiply and xor-shift."""
    for factor in (0x9E3779B1, 0x85EBCA77):
        x = (x ^ (x >> 15)) * jnp.uint32(factor)
    return x ^ (x >> 13)


def hashed(num_actions: int) -> Model:
    """States are u32 hashes of the moves played; nobody ever wins."""

    def evaluate(state):
        order = jnp.arange(num_actions, dtype=jnp.uint32)[None]
        uniform = (mix(state[:, None] * jnp.uint32(4099) + order).astype(jnp.float32) + 0.5) / 2.0**32
        value = mix(state + jnp.uint32(77)).astype(jnp.float32) / 2.0**31 - 1
        return -3 * jnp.log(-jnp.log(uniform)), value / 2

    def root(params, state):
        logits, value = evaluate(state)
        return Root(prior_logits=logits, value=value, embedding=state)

    def decision(params, key, action, state):
        state = mix(state * jnp.uint32(31) + action.astype(jnp.uint32))
        (logits, value), zero = evaluate(state), jnp.zeros(len(state))
        return Step(reward=zero, discount=zero - 1, prior_logits=logits, value=value), state

    return Model(root, decision)


def shared_out(function: Callable[..., Any]) -> jax.stages.Wrapped:
    """`function(params, batch)` with the batch over all devices."""
    mesh = make_mesh(jax.local_device_count())
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=(REPLICATED, LANES), out_specs=LANES, check_vma=False))


def searching(env: envs.Env, model: Model, config: SearchConfig) -> jax.stages.Wrapped:
    """A call (params, states) -> results without the visits, which would keep the tree's memory."""
    made = search.make(config, env, model)

    def run(params, states):
        batch = jax.tree.leaves(states)[0].shape[0]
        keys = jax.random.split(jax.random.key(0), batch)
        result, _ = made.run(params, keys, states, made.init(states), jnp.zeros(batch), False)
        return result.action, result.policy, result.value

    return shared_out(run)


def compiled(label: str, function: jax.stages.Wrapped, *args: Any) -> Callable[[], Any]:
    """The call; prints what tracing and compiling took and the program's temporary memory over all devices."""
    begin = time.process_time()
    program = function.lower(*args).compile()
    seconds = time.process_time() - begin
    usage = program.memory_analysis()
    memory = usage.temp_size_in_bytes * jax.local_device_count() / 1e6 if usage else float("nan")
    print(f"{label}: {seconds:.1f} s of processor time to compile, {memory:.0f} MB", flush=True)
    return partial(program, *args)


def depths(actions: int, simulations: int, states: jax.Array) -> np.ndarray:
    """Depth of every node [B, N] of mctx's trees."""
    model = hashed(actions)
    root, step = stock.converted(model.root((), states)), stock.stepping(model)
    tree = mctx.gumbel_muzero_policy((), jax.random.key(0), root, step, simulations, gumbel_scale=0.0).search_tree
    parents = np.asarray(tree.parents)
    depth = np.zeros_like(parents)
    for node in range(1, parents.shape[1]):  # parents come first
        depth[:, node] = 1 + np.take_along_axis(depth, parents[:, node : node + 1], 1)[:, 0]
    return depth


def opening(env: envs.Env, plies: int, key: jax.Array) -> envs.State:
    return random_opening(env, key, plies)[0]


def measure_trees(args: argparse.Namespace) -> None:
    states = jnp.arange(args.batch, dtype=jnp.uint32)
    for actions in map(int, args.actions.split(",")):
        model, env = hashed(actions), Anything(actions)

        def model_only(params, states, model=model):
            unused = jax.random.key(0)

            def body(i, carry):
                state, total = carry
                step, state = model.decision((), unused, i % 7 + jnp.zeros_like(state), state)
                return state, total + step.prior_logits.max(-1) + step.value

            return jax.lax.fori_loop(0, args.simulations, body, (states, jnp.zeros(len(states))))[1]

        configs = {name: dataclasses.replace(ENGINES[name], simulations=args.simulations) for name in args.engines}
        sides = {"model_only": shared_out(model_only)} | {name: searching(env, model, x) for name, x in configs.items()}
        calls = {name: compiled(f"A = {actions} {name}", side, (), states) for name, side in sides.items()}
        depth = depths(actions, args.simulations, states[:32])
        print(f"A = {actions}: mean depth of a node {depth[:, 1:].mean():.1f}, deepest {depth.max(1).mean():.1f}")
        seconds = interleave(calls, args.rounds, args.clock)
        work = args.batch * args.simulations
        spent = {name: [x - y for x, y in zip(seconds[name], seconds["model_only"], strict=True)] for name in configs}
        for name in configs:
            print(row(f"A = {actions} {name}", 1e6 / work, [1 / x for x in spent[name]], "µs a simulation and game"))
        for name in configs:
            if "mctx" in configs and name != "mctx":
                print(row(f"A = {actions} mctx / {name}", spent["mctx"], spent[name], "ratio"), flush=True)


def contests(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, tuple[Any, ...]]]]:
    """The games with a network each, by name, and what is compared there."""
    for size in args.network.split(","):
        for game in args.games.split(","):
            yield f"{game} {size}", sides_of(game, size, args)


def sides_of(game: str, size: str, args: argparse.Namespace) -> dict[str, tuple[Any, ...]]:
    """What is compared in this game: functions of parameters and states, with these."""
    channels, blocks = map(int, size.split("x"))
    own, pgx = envs.make(**GAMES.get(game, {"name": game})), envs.make(f"pgx:{game}")
    sides: dict[str, tuple[Any, ...]] = {}
    for label, env, engines in (("", own, args.engines), ("pgx ", pgx, ["mctx"])):
        if label and args.without_pgx:
            continue
        network = networks.make(ResNetConfig(channels=channels, blocks=blocks, pooling=False), env)
        params = network.fold(network.init(jax.random.key(0)))
        begin = jax.jit(jax.vmap(partial(opening, env, PLIES.get(game, 20))))
        states = jax.block_until_ready(begin(jax.random.split(jax.random.key(1), args.batch)))

        def forwards(params, states, env=env, network=network):
            seen = jax.vmap(env.observe)(states)

            def step(i, total):
                said = network.infer(params, jnp.roll(seen, i, 0))
                return total + said.logits.sum(-1) + said.value

            return jax.lax.fori_loop(0, args.simulations, step, jnp.zeros(len(seen)))

        sides[f"{label}forwards"] = shared_out(forwards), params, states
        model = simulator.make(env, network.infer)
        for name in engines:
            config = dataclasses.replace(ENGINES[name], simulations=args.simulations)
            sides[f"{label}{name}"] = searching(env, model, config), params, states
    return sides


def measure_games(args: argparse.Namespace) -> None:
    for game, sides in contests(args):
        calls = {name: compiled(f"{game} {name}", *side) for name, side in sides.items()}
        seconds = interleave(calls, args.rounds, args.clock)
        work = args.batch * args.simulations
        for name in calls:
            print(row(f"{game} {name}", work, seconds[name], "simulations/s"))
        for name in calls:
            if not name.endswith("forwards"):
                ideal = seconds["pgx forwards" if name.startswith("pgx") else "forwards"]
                print(row(f"{game} {name}: R", ideal, seconds[name], ""), flush=True)
                if "pgx mctx" in calls and not name.startswith("pgx"):
                    print(row(f"{game} {name} / pgx mctx", seconds["pgx mctx"], seconds[name], "ratio"))
        if args.profile:
            for name, call in calls.items():
                kernels.profile(f"{game} {name}", call)


def measure_compiling(args: argparse.Namespace) -> None:
    for game, sides in contests(args):
        sides = {name: side for name, side in sides.items() if not name.endswith("forwards")}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for i in range(args.rounds):
            for name, (function, *given) in list(sides.items())[:: 1 if i % 2 else -1]:
                jax.clear_caches()
                begin = time.process_time()
                function.lower(*given).compile()
                seconds[name].append(time.process_time() - begin)
        for name in sides:
            print(row(f"{game} {name}", 1, [1 / x for x in seconds[name]], "s to compile"), flush=True)
        for peer in [name for name in sides if name.endswith("mctx")]:
            for name in [name for name in sides if not name.endswith("mctx")]:
                print(row(f"{game} {name} / {peer}", seconds[name], seconds[peer], "ratio"), flush=True)


def measure_memory(args: argparse.Namespace) -> None:
    for game, sides in contests(args):
        for name, side in sides.items():
            compiled(f"{game} {name}", *side)


def measure_matches(args: argparse.Namespace) -> None:
    run = load(args.run)
    wanted = {"search.kind": "gumbel", "search.simulations": args.simulations}
    settings = catalog.with_values(run.config, wanted).search

    def player(**changes: Any) -> Player:
        model = simulator.make(run.env, run.network.infer)
        return players.search_player(run.env, search.make(dataclasses.replace(settings, **changes), run.env, model))

    match = matches.play(run.env, player(rounds=True), player(engine="mctx"), args.matches, opening_plies=6)
    print(json.dumps(matches.summary(match(run.params, run.params, jax.random.key(0)))))


MEASURES = {
    "trees": (measure_trees, {"simulations": 256}),
    "games": (measure_games, {"network": "64x4,16x1"}),
    "compiling": (measure_compiling, {}),
    "memory": (measure_memory, {"batch": 1024, "games": "chess"}),
    "matches": (measure_matches, {}),
}
USUAL = {"games": "connect_four,othello,hex,go_9x9,chess", "network": "16x1", "simulations": 32, "batch": 256}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="+", choices=MEASURES)
    parser.add_argument("--actions", default="7,82,362")
    parser.add_argument("--games", help="connect_four,othello,hex,go_9x9,chess; chess for memory")
    parser.add_argument("--network", help="channels x blocks; 64x4,16x1 for games, else 16x1")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--simulations", type=int, help="256 for trees, else 32")
    parser.add_argument("--batch", type=int, help="256, for memory 1024")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="the accelerator's kernels in a search of games")
    parser.add_argument("--without-pgx", action="store_true", help="leave the Pgx games out")
    parser.add_argument("--cpu-time", action="store_true", help="count the processor's time")
    parser.add_argument("--run", help="folder of the run whose network plays matches")
    parser.add_argument("--matches", type=int, default=400)
    args = parser.parse_args()
    if "matches" in args.what and not args.run:
        parser.error("matches: name a run whose network plays as --run")
    args.engines = args.engines.split(",")
    args.clock = time.process_time if args.cpu_time else time.perf_counter
    given = {name: value for name, value in vars(args).items() if value is not None}
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}: {' '.join(sys.argv[1:])}", flush=True)
    for what in args.what:
        measure, usual = MEASURES[what]
        measure(argparse.Namespace(**USUAL | usual | given))


if __name__ == "__main__":
    main()
