"""Environment steps per second, ours against Pgx: random legal play with auto-reset, observation and mask every ply.

Both sides run the same loop with the same sampler (one uniform number a game, cumulative sum over the mask), in one
process, in turns. What is carried from ply to ply is each side's own state. Printed as well: bytes of a state, and
seconds to compile a batched step.

    python -m benchmarks.games [--batch 1024] [--rounds 7] [--sampler cumsum] [--games chess,go_9x9]
"""

import argparse
import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pgx
from pgx.experimental import auto_reset as pgx_auto_reset

import envs
from benchmarks.timing import interleave, row

# Games in Pgx's names, with the plies of one timed call: about a second's work for the slower side.
PLIES = {
    "tic_tac_toe": 2000, "connect_four": 2000, "othello": 400, "hex": 400, "go_9x9": 40, "go_19x19": 4, "chess": 10,
    "backgammon": 60, "2048": 800, "breakthrough": 400, "gomoku": 400, "ur": 400,
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
    """The same by two short sums, over blocks of actions and inside one: a sum over all 4,672 actions of chess takes
    longer than its rules."""
    batch, actions = legal.shape
    size = round(actions**0.5)
    table = jnp.pad(legal, ((0, 0), (0, -actions % size))).reshape(batch, -1, size)
    count = jnp.cumsum(table.sum(-1, dtype=jnp.int32), -1)
    nth = jnp.floor(jax.random.uniform(key, (batch, 1)) * count[:, -1:]).astype(jnp.int32)
    block = jnp.argmax(count > nth, -1)[:, None]
    nth -= jnp.where(block > 0, jnp.take_along_axis(count, block - 1, 1), 0)
    inside = jnp.cumsum(jnp.take_along_axis(table, block[..., None], 1)[:, 0].astype(jnp.int32), -1)
    return jnp.argmax(inside > nth, -1) + block[:, 0] * size


SAMPLERS = {"cumsum": cumsum, "blocks": blocks}


def runner(side: Side, sample: Callable[..., jax.Array], batch: int, plies: int) -> Callable[[], Any]:
    """A call that plays `plies` plies of `batch` games, continuing where the last call stopped."""

    def ply(carry, key):
        states, legal, _ = carry
        choose, play = jax.random.split(key)
        states = side.step(states, sample(choose, legal), jax.random.split(play, batch))
        return (states, *side.see(states)), None  # the observation is carried so that XLA does not drop it

    @jax.jit
    def run(carry, key):
        return jax.lax.scan(ply, carry, jax.random.split(key, plies))[0]

    @jax.jit
    def begin(key):
        states = side.init(jax.random.split(key, batch))
        return states, *side.see(states)

    keys = map(jax.random.key, itertools.count())
    carry = begin(next(keys))

    def call():
        nonlocal carry
        carry = run(carry, next(keys))
        return carry

    return call


def footprint(side: Side, batch: int) -> tuple[int, float]:
    """Bytes of one state, and seconds that compiling a step of the batch takes."""
    keys = jax.random.split(jax.random.key(0), batch)
    states = jax.eval_shape(side.init, keys)
    lowered = jax.jit(side.step).lower(states, jax.ShapeDtypeStruct((batch,), jnp.int32), keys)
    begin = time.perf_counter()
    lowered.compile()
    size = sum(leaf.size // batch * leaf.dtype.itemsize for leaf in jax.tree.leaves(states))
    return size, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--plies", type=int, help="of one timed call")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--games", default=",".join(PLIES))
    parser.add_argument("--sampler", choices=SAMPLERS, default="cumsum", help="of both sides")
    args = parser.parse_args()
    for game in args.games.split(","):
        sides = {label: ours(**options) for label, options in OURS.get(game, {"ours": {"name": game}}).items()}
        if game in pgx.available_envs():
            sides["pgx"] = theirs(game)
        for name, side in sides.items():
            size, seconds = footprint(side, args.batch)
            print(f"{game} {name}: {size} bytes a state, {seconds:.1f} s to compile a step")
        plies = args.plies or PLIES.get(game, 100)
        runners = {name: runner(side, SAMPLERS[args.sampler], args.batch, plies) for name, side in sides.items()}
        seconds = interleave(runners, args.rounds)
        for name in sides:
            print(row(f"{game} {name}", args.batch * plies, seconds[name], "steps/s"))
        for name in sides:
            if name != "pgx" and "pgx" in sides:
                print(row(f"{game} {name} / pgx", seconds["pgx"], seconds[name], "ratio"))


if __name__ == "__main__":
    main()
