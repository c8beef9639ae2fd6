"""Throughput of the stages after self-play, on games of random moves: convert, shuffle, read.

    python benchmarks/positions.py --positions 35_000_000 --folder /tmp/positions [--size 7] [--memory 1GiB]

Prints one line a stage: positions, seconds, positions/s, bytes, peak resident memory of the process.
"""

import argparse
import resource
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

import envs
from jaxzero.cli.positions import bytes_of
from jaxzero.config.schema import GameConfig
from jaxzero.data import convert, reader, shards, shuffle

LANES = 4096


@partial(jax.jit, static_argnums=0)
def play(env: envs.Env, key: jax.Array):
    """LANES games of random moves -> (actions i16[T, B], lengths i32[B], rewards f32[B, P])."""

    def ply(carry, key):
        state, rewards, length = carry
        noise = jax.random.uniform(key, (LANES, env.num_actions))
        action = jnp.argmax(jnp.where(jax.vmap(env.legal_actions)(state), noise, -1), -1).astype(jnp.int16)
        over = state.terminated
        after = jax.vmap(env.step)(state, action)
        return (after, rewards + after.rewards, length + ~over), action

    start = jax.vmap(env.init)(jax.random.split(key, LANES))
    begin = start, jnp.zeros((LANES, env.num_players)), jnp.zeros(LANES, jnp.int32)
    (_, rewards, length), actions = jax.lax.scan(ply, begin, jax.random.split(key, env.max_plies))
    return actions, length, rewards


def table(env: envs.Env, number: int, width: int) -> pa.Table:
    """Games with root values of noise and policies over `width` moves."""
    rng = np.random.default_rng(number)
    actions, length, rewards = jax.device_get(play(env, jax.random.key(number)))
    flat = actions.T[np.arange(actions.shape[0]) < length[:, None]]
    plies, games = len(flat), LANES
    ends = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
    lists = lambda values, ends=ends: pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values))  # noqa: E731
    others = rng.integers(0, env.num_actions, (plies, width - 1)).astype(np.int16)
    columns = {
        "id": pa.array([f"{number}-{i}" for i in range(games)]), "player": pa.array(["random"] * games),
        "step": pa.array([-1] * games, pa.int32()), "digest": pa.array([""] * games),
        "seed": pa.array([number] * games, pa.int64()), "index": pa.array(np.arange(games) + number * games),
        "start": pa.nulls(games, pa.string()), "opening": pa.array(np.full(games, 2, np.int16)),
        "actions": lists(flat), "outcomes": pa.nulls(games, shards.SCHEMA.field("outcomes").type),
        "values": lists(rng.uniform(-1, 1, plies).astype(np.float32)),
        "policy_sizes": lists(np.full(plies, width, np.int16)),
        "policy_actions": lists(np.concatenate([flat[:, None], others], 1).reshape(-1), ends * width),
        "policy_weights": lists(rng.random((plies, width), np.float32).astype(np.float16).reshape(-1), ends * width),
        "policy_trained": pa.nulls(games, shards.SCHEMA.field("policy_trained").type),
        "result": lists(rewards.reshape(-1), (np.arange(games + 1) * env.num_players).astype(np.int32)),
        "headers": pa.nulls(games, shards.SCHEMA.field("headers").type),
    }  # fmt: skip
    return pa.table(columns).cast(shards.SCHEMA)


def fabricate(env: envs.Env, game: GameConfig, folder: Path, wanted: int, width: int) -> int:
    shards.create(folder, game)
    positions, number = 0, 0
    while positions < wanted:
        games = table(env, number, width)
        positions += len(games.column("actions").combine_chunks().flatten()) - 2 * len(games)
        if not (folder / f"{number:06d}.parquet").exists():
            shards.write(folder / f"{number:06d}.parquet", games)
        number += 1
    return positions


def told(stage: str, count: int, began: float, folder: Path | None = None) -> None:
    seconds = time.perf_counter() - began
    size = sum(path.stat().st_size for path in folder.iterdir()) if folder else 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{stage:10} {count:>12,} positions {seconds:8.1f} s {count / seconds:>12,.0f}/s "
          f"{size / 1e9:6.2f} GB  peak {peak:.2f} GiB", flush=True)  # fmt: skip


def told_pairs(read: reader.Reader) -> None:
    """Pairs of positions from one game within 1,000 batches, beside their number by chance, and z of the difference."""
    records = read.records(0, 1000)
    games = np.concatenate([part.gather(part.training.astype(np.int64))["game"] for part in read.parts])
    total, sizes = len(games), np.unique_counts(games).counts.astype(float)
    chance = 1000 * read.size * (read.size - 1) / 2 * (sizes * (sizes - 1)).sum() / (total * (total - 1))
    found = sum(int((n * (n - 1)).sum()) // 2 for n in (np.unique_counts(batch["game"]).counts for batch in records))
    print(f"pairs of one game in 1,000 batches of {read.size}: {found}, by chance {chance:.1f}, "
          f"z {(found - chance) / chance**0.5:+.2f}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=7)
    parser.add_argument("--width", type=int, default=16, help="moves of each policy")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    game = GameConfig("hex", options={"size": given.size})
    env = envs.make("hex", size=given.size)
    folder = given.folder
    began = time.perf_counter()
    told("games", fabricate(env, game, folder / "games", given.positions, given.width), began, folder / "games")
    began = time.perf_counter()
    counts = convert.run([folder / "games"], folder / "positions", convert.Conversion(label="lambda:0.9"))
    told("convert", counts["positions"], began, folder / "positions")
    began = time.perf_counter()
    shuffle.run([folder / "positions"], folder / "shuffled", memory=bytes_of(given.memory))
    told("shuffle", counts["positions"], began, folder / "shuffled")
    began = time.perf_counter()
    read = reader.Reader(env, [reader.Folder(folder / "shuffled")], given.batch, validation=0.02)
    told("open", counts["positions"], began)
    began, updates, done = time.perf_counter(), 48, 0
    while time.perf_counter() - began < 20:  # batches in the order of an epoch
        read.batches(done, updates)
        done += updates
    told("read", done * given.batch, began)
    told_pairs(read)


if __name__ == "__main__":
    main()
