"""Environment steps per second, ours against Pgx: random legal play with auto-reset, observation and mask every ply.

Both sides run the same loop with the same sampler (one uniform number a game, cumulative sum over the mask), in one
process, in turns. What is carried from ply to ply is each side's own state.

    python -m benchmarks.games [--batch 1024] [--rounds 7] [--games tic_tac_toe,connect_four]
"""

import argparse
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pgx
from pgx.experimental import auto_reset as pgx_auto_reset

import envs
from benchmarks.timing import interleave, row

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


def sample(key: jax.Array, legal: jax.Array) -> jax.Array:
    """A uniformly drawn legal action for each row of bool[B, A]."""
    count = jnp.cumsum(legal.astype(jnp.int32), -1)
    nth = jnp.floor(jax.random.uniform(key, (legal.shape[0], 1)) * count[:, -1:]).astype(jnp.int32)
    return jnp.argmax(count > nth, -1)


def runner(side: Side, batch: int, plies: int) -> Callable[[], Any]:
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--plies", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--games", default="tic_tac_toe,connect_four")
    args = parser.parse_args()
    for game in args.games.split(","):
        sides = {label: ours(**options) for label, options in OURS.get(game, {"ours": {"name": game}}).items()}
        sides["pgx"] = theirs(game)
        seconds = interleave({name: runner(side, args.batch, args.plies) for name, side in sides.items()}, args.rounds)
        for name in sides:
            print(row(f"{game} {name}", args.batch * args.plies, seconds[name], "steps/s"))
        print(row(f"{game} ours / pgx", seconds["pgx"], seconds["ours"], "ratio"))


if __name__ == "__main__":
    main()
