"""Environment steps per second, ours against Pgx: random legal play with auto-reset, observation and mask every ply.

Both sides run the same loop with the same sampler in one process, in turns. A ply computes mask and observation, of
which all numbers go into a checksum, samples from the mask and steps; finished games begin anew. Carried on is each
side's own state. Beside the rates: bytes of a state, shape of an observation, seconds to compile a batched step.

The samplers draw the same moves: `cumsum` by one uniform number a game and one cumulative sum over its mask, `blocks`
by the same number and short sums. For 4,672 actions the first takes longer on a CPU than the rules of chess.

    python -m benchmarks.games [--games chess,go_9x9] [--rounds 15] [--sampler cumsum,blocks] [--out results.json]
"""

import argparse
import itertools
import json
import math
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pgx
from pgx.experimental import auto_reset as pgx_auto_reset

import envs
from benchmarks.timing import interleave

# Games in Pgx's names, with the plies of one timed call: a tenth of a second for the slower side.
PLIES = {
    "tic_tac_toe": 400, "connect_four": 400, "othello": 100, "hex": 100, "go_9x9": 8, "go_19x19": 1, "chess": 2,
    "backgammon": 10, "2048": 150, "breakthrough": 100, "gomoku": 100, "ur": 100,
}  # fmt: skip

# Ours for Pgx's name, where it is not that name without options; each is a side of its own.
OURS = {
    f"go_{n}x{n}": {"ours": {"name": "go", "size": n}, "ours, superko": {"name": "go", "size": n, "ko": "positional"}}
    for n in (9, 19)
}


class Side(NamedTuple):
    """One library's game, batched over B games."""

    init: Callable[[jax.Array], Any]  # keys[B] -> states
    step: Callable[[Any, jax.Array, jax.Array], Any]  # states, actions[B], keys[B] -> states, finished games renewed
    see: Callable[[Any], tuple[jax.Array, jax.Array]]  # states -> legal bool[B, A], observations [B, …]


def ours(name: str, **options: Any) -> Side:
    env = envs.make(name, **options)

    def step(state, action, key):
        play, renew = jax.random.split(key)
        return envs.auto_reset(env, env.advance(state, action, play), renew)

    return Side(
        jax.vmap(env.init), jax.vmap(step), jax.vmap(lambda state: (env.legal_actions(state), env.observe(state)))
    )


def theirs(name: str) -> Side:
    env = pgx.make(name)  # pyright: ignore[reportArgumentType]
    step = jax.vmap(pgx_auto_reset(env.step, env.init))
    return Side(jax.vmap(env.init), step, lambda state: (state.legal_action_mask, state.observation))


def cumsum(key: jax.Array, legal: jax.Array) -> jax.Array:
    """A uniformly drawn legal action for each row of bool[B, A]."""
    count = jnp.cumsum(legal.astype(jnp.int32), -1)
    nth = jnp.floor(jax.random.uniform(key, (legal.shape[0], 1)) * count[:, -1:]).astype(jnp.int32)
    return jnp.argmax(count > nth, -1)


def blocks(key: jax.Array, legal: jax.Array) -> jax.Array:
    """The same action by short sums: over blocks of actions (if they are many, over groups of these), then inside."""
    batch, actions = legal.shape
    root = math.isqrt(actions - 1) + 1
    size = next((n for n in range(root, 2 * root) if actions % n == 0), root)  # to pad is to copy
    table = jnp.pad(legal.astype(jnp.uint8), ((0, 0), (0, -actions % size))).reshape(batch, -1, size)
    if (n := table.shape[1]) > 32:
        inner = next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)
        table = table.reshape(batch, n // inner, inner, size)
    index, nth = jnp.zeros((batch, 1), jnp.int32), None
    while table.ndim > 2:
        sums = table.sum(2, dtype=jnp.uint8) if table.ndim > 3 else table
        count = jnp.cumsum(sums.sum(2, dtype=jnp.int32), -1)
        if nth is None:
            nth = jnp.floor(jax.random.uniform(key, (batch, 1)) * count[:, -1:]).astype(jnp.int32)
        here = (count <= nth).sum(-1, keepdims=True)
        nth -= jnp.where(here > 0, jnp.take_along_axis(count, jnp.maximum(here - 1, 0), 1), 0)
        index = index * table.shape[1] + here
        table = jnp.take_along_axis(table, here.reshape(batch, *[1] * (table.ndim - 1)), 1)[:, 0]
    assert nth is not None
    return index[:, 0] * size + (jnp.cumsum(table.astype(jnp.int32), -1) <= nth).sum(-1)


SAMPLERS = {"cumsum": cumsum, "blocks": blocks}


def checksum(view: jax.Array) -> jax.Array:
    """u32[] that depends on every number of observations [B, …].

    On a CPU slices of the batch are added to each other as vectors: there XLA adds the numbers of one sum one by one,
    which takes longer than many an observation.
    """
    size = math.gcd(64, len(view)) if jax.default_backend() == "cpu" else len(view)

    def part(i):
        here = jax.lax.dynamic_slice_in_dim(view, i * size, size)
        return jax.lax.bitcast_convert_type(here, jnp.uint32) if here.dtype == jnp.float32 else here.astype(jnp.uint32)

    return jax.lax.fori_loop(1, len(view) // size, lambda i, total: total + part(i), part(0)).sum(dtype=jnp.uint32)


def runner(side: Side, sample: Callable[..., jax.Array], batch: int, plies: int) -> Callable[[], Any]:
    """A call that plays `plies` plies of `batch` games, continuing where the last call stopped."""

    def ply(carry, key):
        states, total = carry
        choose, play = jax.random.split(key)
        legal, view = side.see(states)
        states = side.step(states, sample(choose, legal), jax.random.split(play, batch))
        return (states, total + checksum(view)), None

    @jax.jit
    def run(carry, key):
        return jax.lax.scan(ply, carry, jax.random.split(key, plies))[0]

    @jax.jit
    def begin(key):
        return side.init(jax.random.split(key, batch)), jnp.uint32(0)

    keys = map(jax.random.key, itertools.count())
    carry = begin(next(keys))

    def call():
        nonlocal carry
        carry = run(carry, next(keys))
        return carry

    return call


def footprint(side: Side, batch: int) -> dict[str, Any]:
    """Bytes of one state, the shape of its observation, and what compiling a step of the batch takes."""
    keys = jax.random.split(jax.random.key(0), batch)
    states = jax.eval_shape(side.init, keys)
    lowered = jax.jit(side.step).lower(states, jax.ShapeDtypeStruct((batch,), jnp.int32), keys)
    begin = clocks()
    lowered.compile()
    seconds, cpu = (clocks() - begin).round(2).tolist()
    size = sum(leaf.size // batch * leaf.dtype.itemsize for leaf in jax.tree.leaves(states))
    planes = jax.eval_shape(side.see, states)[1].shape[1:]
    return {"state_bytes": size, "observation": list(planes), "compile_s": seconds, "compile_cpu_s": cpu}


def measure(game: str, batch: int, rounds: int, samplers: list[str], plies: int) -> list[dict[str, Any]]:
    """A row for each sampler and side: steps/s and ratio to Pgx, each as [min, median, max] over the rounds; beside the
    ratio of times that of processor time, which other programs on the machine disturb less."""
    sides = {label: ours(**options) for label, options in OURS.get(game, {"ours": {"name": game}}).items()}
    if game in pgx.available_envs():
        sides["pgx"] = theirs(game)
    facts = {name: footprint(side, batch) for name, side in sides.items()}
    rows = []
    for sampler in samplers:
        runners = {name: runner(side, SAMPLERS[sampler], batch, plies) for name, side in sides.items()}
        found = {name: np.array(times) for name, times in interleave(runners, rounds, clocks).items()}
        wall, cpu = ({name: times[:, i].tolist() for name, times in found.items()} for i in (0, 1))
        for name in sides:
            row: dict[str, Any] = {"game": game, "sampler": sampler, "side": name}
            row["steps_per_s"] = spread([batch * plies / spent for spent in wall[name]])
            if "pgx" in sides and name != "pgx":
                for label, seconds in (("ratio", wall), ("ratio_cpu", cpu)):
                    row[label] = spread([b / a for a, b in zip(seconds[name], seconds["pgx"], strict=True)])
            rows.append(row | facts[name])
    return rows


def clocks() -> np.ndarray:
    """Seconds of the clock on the wall and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def spread(values: list[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in (min(values), statistics.median(values), max(values))]


def show(row: dict[str, Any]) -> str:
    rate, ratio = row["steps_per_s"], row.get("ratio")
    beside = f"{ratio[1]:7.2f} × pgx ({ratio[0]:.2f} to {ratio[2]:.2f}; cpu {row['ratio_cpu'][1]:.2f})" if ratio else ""
    planes, compiled = (
        "×".join(map(str, row["observation"])),
        f"{row['compile_s']:.1f} s (cpu {row['compile_cpu_s']:.1f})",
    )
    facts = f"{row['state_bytes']:6d} bytes, observation {planes}, compiled in {compiled}"
    return f"{row['game']:13s}{row['sampler']:8s}{row['side']:15s}{rate[1]:12,.0f} steps/s{beside:46s}  {facts}"


def setting() -> dict[str, Any]:
    """Where and of what it is measured."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    device, cores = jax.devices()[0].device_kind, os.cpu_count()
    if device == "cpu" and Path("/proc/cpuinfo").exists():
        device = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[0]
    versions = {name: metadata.version(name) for name in ("jax", "pgx")}
    return {"commit": commit, "device": device, "cores": cores, "python": platform.python_version(), **versions}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--plies", type=int, help="of one timed call")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--games", default=",".join(PLIES))
    parser.add_argument("--sampler", default=",".join(SAMPLERS), help="of both sides")
    parser.add_argument("--out", type=Path, help="a JSON file")
    args = parser.parse_args()
    results = {**setting(), "batch": args.batch, "rounds": args.rounds, "rows": []}
    print(f"{results['device']}, {results['cores']} cores, load {os.getloadavg()[0]:.1f}, commit {results['commit']}")
    for game in args.games.split(","):
        samplers, plies = args.sampler.split(","), args.plies or PLIES.get(game, 25)
        for row in measure(game, args.batch, args.rounds, samplers, plies):
            results["rows"].append(row | {"load": round(os.getloadavg()[0], 1)})
            print(show(row), flush=True)
        if args.out:
            args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
