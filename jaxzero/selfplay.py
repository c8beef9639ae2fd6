"""Self-play: many games at once, one search a ply, recorded into the replay; finished games start anew.

Letters: B games (lanes) on this device, n plies of a chunk.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from envs import Env, State
from envs.core import random_opening, where
from jaxzero import replay as replays
from jaxzero import targets
from jaxzero.config import Config
from jaxzero.losses import entropy
from jaxzero.search import Search


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Games:
    """Games in flight."""

    state: State  # [B]
    plies: jax.Array  # i32[B]  played since the opening
    length: jax.Array  # i32[B]  played since the first position
    carry: Any  # what the search keeps between moves


def lane_keys(key: jax.Array, lanes: jax.Array) -> jax.Array:
    """One key a game, by its global lane i32[B]: the same on any number of devices."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, lanes)


def start(env: Env, search: Search, keys: jax.Array, opening_plies: int) -> Games:
    state, opened = jax.vmap(lambda key: random_opening(env, key, opening_plies))(keys)
    return Games(state, jnp.zeros_like(opened), opened, search.init(state))


def find_moves(search: Search, cheap: Search | None, share: float, key: jax.Array, *games: Any) -> tuple[Any, Any]:
    """What is found about the games of one ply (playout cap randomisation: Wu 2019, section 3.1): `(result, carry)`.

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


def make_chunk(env: Env, search: Search, config: Config, cheap: Search | None = None) -> Callable[..., Any]:
    """The function `chunk(params, key, games, replay, lanes) -> (games, replay, sums)`: n plies of every game.

    `cheap` is the search of the plies beyond `search.full_share`. `sums` are added up over this device's games;
    `iteration.averages` turns them into means.
    """

    def ply(params, key, lanes, games: Games):
        keys = jax.vmap(lambda k: jax.random.split(k, 3))(lane_keys(key, lanes))
        state = games.state
        warm = games.plies < config.search.temperature_plies
        temperature = jnp.where(warm, config.search.temperature, 0.0)
        drawn = jax.random.fold_in(key, config.selfplay.games)  # the same on all devices; no lane has this number
        result, carry = find_moves(
            search, cheap, config.search.full_share, drawn, params, keys[:, 0], state, games.carry, temperature
        )
        after = jax.vmap(env.advance)(state, result.action, keys[:, 1])
        moves, weights = replays.compact_policy(result.policy, jax.vmap(env.legal_actions)(state), env.max_legal)
        slots = replays.Slots(
            state=state, action=result.action, reward=take(after.rewards, state.player), end=after.terminated,
            value=result.value, moves=moves, weights=weights, policy_weight=result.policy_weight,
        )  # fmt: skip
        length = games.length + 1
        fresh = start(env, search, keys[:, 2], config.selfplay.opening_plies)
        played = Games(after, games.plies + 1, length, carry)
        end, first = after.terminated, after.rewards[:, 0]
        sums = {
            "games": end.sum(),
            "first_player_wins": (end & (first > 0)).sum(),
            "second_player_wins": (end & (first < 0)).sum(),
            "draws": (end & (first == 0)).sum(),
            "length": jnp.where(end, length, 0).sum(),
            "entropy": entropy(result.policy).sum(),
        }
        if env.num_players == 1:
            sums["points"] = first.sum()
        return jax.vmap(where)(end, fresh, played), (slots, sums)

    def chunk(params, key, games: Games, replay: replays.Replay, lanes: jax.Array):
        def body(games, t):
            return ply(params, jax.random.fold_in(key, t), lanes, games)

        games, (slots, sums) = jax.lax.scan(body, games, jnp.arange(config.selfplay.plies))
        replay, new = replays.append(replay, slots, env.max_plies, config.learner.td_lambda, config.learner.td_steps)
        rows = replays.recent(replay.cursor, replay.ready.shape[0], new.shape[0])
        sums = {name: values.sum().astype(jnp.float32) for name, values in sums.items()}
        return games, replay, sums | agreement(jax.tree.map(lambda x: x[rows], replay.slots), new)

    return chunk


def take(values: jax.Array, player: jax.Array) -> jax.Array:
    """[B, P] by i8[B] -> [B]."""
    return jnp.take_along_axis(values, player[:, None].astype(jnp.int32), 1)[:, 0]


def agreement(slots: replays.Slots, new: jax.Array) -> dict[str, jax.Array]:
    """Sums over the positions [W, B] whose game has just ended, to compare search values with outcomes."""
    outcome, _ = targets.returns(slots.reward, slots.state.player, slots.end, slots.value, td_lambda=1.0)
    value, outcome = jnp.where(new, slots.value, 0.0), jnp.where(new, outcome, 0.0)
    return {
        "ended": new.sum().astype(jnp.float32),
        "error": jnp.abs(value - outcome).sum(),
        "v": value.sum(), "z": outcome.sum(),
        "vv": (value**2).sum(), "zz": (outcome**2).sum(), "vz": (value * outcome).sum(),
    }  # fmt: skip
