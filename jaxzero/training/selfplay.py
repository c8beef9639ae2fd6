"""Self-play: many games in parallel, one search a ply. A finished game is replaced by a new one. Returns chunks.

Letters: B games (lanes) on this device, n plies of a chunk.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from envs import Env, State
from envs.core import advance_and_tell, random_opening, where
from jaxzero.config.schema import Config
from jaxzero.parallel import keys_by_index
from jaxzero.search import Search
from jaxzero.training.transitions import Chunk, Transition, compact_policy


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Games:
    """Games in flight."""

    lane: jax.Array  # i32[B]  numbers over all devices
    number: jax.Array  # i32[B]  games that have ended in this lane
    state: State  # [B]
    plies: jax.Array  # i32[B]  played since the opening
    length: jax.Array  # i32[B]  played since the first position
    carry: Any  # what the search keeps between moves


Play = Callable[[Any, Games, jax.Array], tuple[Games, Chunk]]
"""`play(params, games, key) -> (games, chunk)`; `params` are a network's folded parameters."""


def start(env: Env, search: Search, key: jax.Array, lanes: jax.Array, opening_plies: int) -> Games:
    """New games in the lanes i32[B], after 0 to `opening_plies` random plies."""
    return begin(env, search, keys_by_index(key, lanes), lanes, opening_plies)


def begin(env: Env, search: Search, keys: jax.Array, lanes: jax.Array, opening_plies: int) -> Games:
    """New games from keys [B]."""
    state, opened = jax.vmap(lambda key: random_opening(env, key, opening_plies))(keys)
    none = jnp.zeros_like(opened)
    return Games(lanes, none, state, none, opened, search.init(state))


def find_moves(search: Search, cheap: Search | None, share: float, key: jax.Array, *games: Any) -> tuple[Any, Any]:
    """Searches every game for one ply (playout cap randomisation: Wu 2019, section 3.1): `(result, carry)`.

    With probability `share` they are searched in full and with noise, else by the cheap search without noise, and the
    policy is not trained on. All games share the draw, as a batch of both would cost as much as the larger."""

    def full(params, keys, state, carry, temperature):
        return search.run(params, keys, state, carry, temperature, True)

    if cheap is None:
        return full(*games)

    def fast(params, keys, state, carry, temperature):
        result, carry = cheap.run(params, keys, state, carry, temperature, False)
        return result._replace(policy_weight=jnp.zeros_like(result.policy_weight)), carry

    return jax.lax.cond(jax.random.bernoulli(key, share), full, fast, *games)


def keys_by_lane(key: jax.Array, games: Games) -> jax.Array:
    """For the search, for chance and for the next game of each lane: [B, 3]."""
    return jax.vmap(lambda key: jax.random.split(key, 3))(keys_by_index(key, games.lane))


def make_play(
    env: Env,
    search: Search,
    config: Config,
    cheap: Search | None = None,
    keys_of: Callable[[jax.Array, Games], jax.Array] = keys_by_lane,
) -> Play:
    """The function that plays n plies of every game; `cheap` searches the plies beyond `search.full_share`.

    It reads the sections `search` and `selfplay` of the configuration only. `keys_of(key of the ply, games)` gives the
    keys [B, 3] of the search, of chance and of the game that follows if this one ends.
    """
    settings, share = config.selfplay, config.search.full_share

    def ply(params: Any, games: Games, key: jax.Array) -> tuple[Games, Chunk]:
        keys = keys_of(key, games)
        state = games.state
        warm = games.plies < config.search.temperature_plies
        temperature = jnp.where(warm, config.search.temperature, 0.0)
        drawn = jax.random.fold_in(key, settings.games)  # the same on all devices; no lane has this number
        result, carry = find_moves(search, cheap, share, drawn, params, keys[:, 0], state, games.carry, temperature)
        after, outcome = jax.vmap(lambda *ply: advance_and_tell(env, *ply))(state, result.action, keys[:, 1])
        moves, weights = compact_policy(result.policy, jax.vmap(env.legal_actions)(state), env.max_legal)
        played = Transition(
            state=state, action=result.action.astype(jnp.int16), reward=take(after.rewards, state.player),
            end=after.terminated, value=result.value, moves=moves, weights=weights,
            policy_weight=result.policy_weight.astype(jnp.float16),
            outcome=outcome.astype(jnp.int16) if env.num_outcomes else None,
        )  # fmt: skip
        fresh, opened = jax.vmap(lambda key: random_opening(env, key, settings.opening_plies))(keys[:, 2])
        end, none = after.terminated, jnp.zeros_like(opened)
        going = after, games.plies + 1, games.length + 1, carry
        begun = fresh, none, opened, search.init(fresh)
        onward = Games(games.lane, games.number + end, *jax.vmap(where)(end, begun, going))
        return onward, Chunk(played, games.number, games.length)

    def play(params: Any, games: Games, key: jax.Array) -> tuple[Games, Chunk]:
        def body(games: Games, t: jax.Array) -> tuple[Games, Chunk]:
            return ply(params, games, jax.random.fold_in(key, t))

        return jax.lax.scan(body, games, jnp.arange(settings.plies))

    return play


def take(values: jax.Array, player: jax.Array) -> jax.Array:
    """[B, P] by i8[B] -> [B]."""
    return jnp.take_along_axis(values, player[:, None].astype(jnp.int32), 1)[:, 0]
