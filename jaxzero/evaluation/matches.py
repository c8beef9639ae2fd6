"""Matches: an agent against an opponent, every opening from both sides, all games at once on the device.

Letters: G pairs of games; the two games of a pair share their opening, and the agent is player 0 in the first.
"""

import json
import os
import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from envs import Env
from envs.core import advance_and_tell, opening_moves
from jaxzero import files
from jaxzero.evaluation.base import Player
from jaxzero.messages import ConfigError
from jaxzero.parallel import AXIS, keys_by_index, make_mesh

LANES = {"cpu": 128}
"""Games in which a player thinks at once, by the kind of device; elsewhere one a pair. A game that ends makes room for
the next one; on a CPU wider batches are no faster, as a search of some hundred games leaves the caches."""
SEATS = np.array([[0], [1]], np.int8)  # the agent's player number in the two games of a pair

Array = jax.Array | np.ndarray
Watch = Callable[[Any, Any, Any], None]
"""`watch(number of the first pair, games that are over, plies of the longest)` of the games of one device."""


class MatchResult(NamedTuple):
    outcomes: Array  # i8[2, G]  1, 0, -1: the agent won, drew, lost; row = the agent's player number
    plies: Array  # i32[2, G]  length of each game, opening included
    moves: Array = np.zeros((2, 0, 0), np.int16)  # i16[2, G, max_plies]  actions, -1 after the last
    chance: Array = np.zeros((2, 0, 0), np.int16)  # likewise the outcomes after them; without chance i16[2, G, 0]
    first: Any = None  # [1, G, …]  where both games of a pair began


class MatchState(NamedTuple):
    """The loop's carry; fields [2, G, …], but for `first`."""

    states: Any
    keys: jax.Array
    plies: jax.Array  # i32
    lead: jax.Array  # f32  the agent's rewards less the opponent's, since the opening
    moves: jax.Array  # i16[2, G, max_plies]  -1 where none is played yet
    chance: jax.Array  # i16[2, G, max_plies]  -1 where no outcome was due; [2, G, 0] in games without chance
    first: Any  # [1, G, …]  before the opening


def play(
    env: Env, agent: Player, opponent: Player, games: int, opening_plies: int, watch: Watch | None = None
) -> Callable[[Any, Any, jax.Array], MatchResult]:
    """A jitted match `(agent_params, opponent_params, key) -> MatchResult` of an even number of `games`, whose
    openings are 0 to `opening_plies` uniformly random plies. The pairs are shared out over the local devices.

    In a game of one player the agent plays the first game of a pair and the opponent the second, and who has earned
    more has won both. `watch` is told how far each device is after every turn."""
    pairs = num_pairs(games)
    devices = max(n for n in range(1, jax.local_device_count() + 1) if pairs % n == 0)
    mesh = make_mesh(devices)

    def live(carry: MatchState) -> jax.Array:
        return ~carry.states.terminated

    def advance(carry: MatchState, player: Player, params: Any, waiting: jax.Array) -> MatchState:
        """One move by `player` in games where `waiting` bool[2, G] says that it is to move, one a lane: in those that
        are furthest, because fewer lanes are then left without a game at the end."""
        lanes = min(waiting.shape[1], LANES.get(jax.default_backend(), waiting.shape[1]))
        played, game = jax.lax.top_k(jnp.where(waiting, carry.plies, -1).reshape(-1), lanes)
        row, pair = jnp.divmod(game, waiting.shape[1])
        index = jnp.where(played < 0, 2, row), pair  # row 2: the lane has no game
        before = carry._replace(moves=(), chance=(), first=())
        state, key, ply, lead, *_ = jax.tree.map(lambda x: x.at[index].get(mode="clip"), before)
        sub = move_keys(key, ply)
        action = player(params, sub[:, 0], state)
        after, outcome = jax.vmap(partial(advance_and_tell, env))(state, action, sub[:, 1])
        lead += jnp.where(index[0] == 0, 1, -1) * gain(after)
        moved = before._replace(states=after, keys=key, plies=ply + 1, lead=lead)

        def noted(record, value):
            return record.at[*index, ply].set(value.astype(jnp.int16), mode="drop") if record.size else record

        moves, chance = noted(carry.moves, action), noted(carry.chance, outcome)
        changed = jax.tree.map(lambda old, new: old.at[index].set(new, mode="drop"), before, moved)
        return changed._replace(moves=moves, chance=chance, first=carry.first)

    def turn(params, carry: MatchState) -> MatchState:
        """The agent moves where it is to, then the opponent, so that neither waits for the other."""
        agents = carry.states.player == SEATS
        carry = advance(carry, agent, params[0], live(carry) & agents)
        return advance(carry, opponent, params[1], live(carry) & (carry.states.player != SEATS))

    def told(pair, carry: MatchState) -> MatchState:
        if watch:
            jax.debug.callback(watch, pair[0], (~live(carry)).sum(), carry.plies.max())
        return carry

    def share(params, key, pair) -> MatchResult:
        """The pairs of one device, by their numbers i32[G]."""
        carry = deal(env, opening_plies, pairs, key, pair)
        carry = jax.lax.while_loop(
            lambda carry: live(carry).any(), lambda carry: told(pair, turn(params, carry)), carry
        )
        return MatchResult(decided(env, carry.lead), carry.plies, carry.moves, carry.chance, carry.first)

    shared = (PartitionSpec(), PartitionSpec(), PartitionSpec(AXIS))
    run = jax.jit(
        jax.shard_map(share, mesh=mesh, in_specs=shared, out_specs=PartitionSpec(None, AXIS), check_vma=False)
    )

    def match(agent_params: Any, opponent_params: Any, key: jax.Array) -> MatchResult:
        inputs = jax.device_put(((agent_params, opponent_params), key), NamedSharding(mesh, PartitionSpec()))
        return run(*inputs, jnp.arange(pairs))

    return match


def num_pairs(games: int) -> int:
    if games < 2 or games % 2:
        raise ConfigError(f"evaluation.games must be even, as each opening is played from both sides; got {games}")
    return games // 2


def deal(env: Env, opening_plies: int, pairs: int, key: jax.Array, pair: jax.Array) -> MatchState:
    """The games of the pairs numbered i32[G] (out of `pairs`) after their openings."""
    opening_key, game_key = jax.random.split(key)
    dealt = jax.vmap(partial(opening_moves, env, plies=opening_plies))(keys_by_index(opening_key, pair))
    first, states, opening, outcomes = dealt
    states, opening, outcomes = jax.tree.map(lambda x: jnp.stack([x, x]), (states, opening, outcomes))
    plies = (opening >= 0).sum(-1, dtype=jnp.int32)

    def noted(opening, width):
        record = jnp.full((*plies.shape, width), -1, jnp.int16)
        return record.at[..., :opening_plies].set(opening[..., :width].astype(jnp.int16))

    moves, chance = noted(opening, env.max_plies), noted(outcomes, env.max_plies if env.num_outcomes else 0)
    keys = jnp.stack([keys_by_index(game_key, pair), keys_by_index(game_key, pairs + pair)])
    first = jax.tree.map(lambda x: x[None], first)
    return MatchState(states, keys, plies, jnp.zeros(plies.shape, jnp.float32), moves, chance, first)


def move_keys(keys: jax.Array, plies: jax.Array) -> jax.Array:
    """Of each game, for the player and for chance: [G, 2]."""
    return jax.vmap(jax.random.split)(jax.vmap(jax.random.fold_in)(keys, plies))


def gain(after: Any) -> jax.Array:
    """What player 0 has earned by the last step more than the other, f32[G]."""
    return after.rewards[:, 0] - after.rewards[:, 1:].sum(-1)


def decided(env: Env, lead: Any) -> Any:
    """i8[2, G] of the agent's lead f32[2, G]; in a game of one player both games of a pair are one."""
    both = lead if env.num_players > 1 else jnp.broadcast_to(lead.sum(0), lead.shape)
    return jnp.sign(both).astype(jnp.int8)


def summary(result: MatchResult) -> dict[str, Any]:
    """The result as JSON-ready numbers: games, wins, draws, losses, score = (wins + draws / 2) / games, its 95 %
    interval, mean length in plies, and the counts and score `as_first` and `as_second` player."""
    outcomes, plies = np.asarray(result.outcomes), np.asarray(result.plies)
    return {
        **tally(outcomes),
        "interval": interval(outcomes),
        "mean_length": float(plies.mean()),
        "as_first": tally(outcomes[0]),
        "as_second": tally(outcomes[1]),
    }


def tally(outcomes: Array) -> dict[str, Any]:
    counts = {name: int((outcomes == sign).sum()) for name, sign in (("wins", 1), ("draws", 0), ("losses", -1))}
    return {"games": outcomes.size, **counts, "score": float((outcomes.mean() + 1) / 2)}


def interval(outcomes: np.ndarray) -> list[float]:
    """95 % interval of the score from i8[2, G], by the spread over pairs, as the games of a pair are not independent.

    One pair won and one lost are added (Agresti and Coull 1998), so that a clean sweep does not look certain.
    """
    pairs = np.append((outcomes.mean(0) + 1) / 2, [0.0, 1.0])
    margin = 1.96 * pairs.std(ddof=1) / np.sqrt(pairs.size)
    return [float(np.clip(pairs.mean() + sign * margin, 0.0, 1.0)) for sign in (-1, 1)]


def results_folder(run: str | os.PathLike[str], iteration: int) -> pathlib.Path:
    return pathlib.Path(run) / "evaluations" / f"iteration_{iteration}"


def write_results(
    folder: str | os.PathLike[str],
    iteration: int,
    results: dict[str, Any],
    timestamp: str,
    name: str = "results",
    measured: dict[str, float] | None = None,
) -> pathlib.Path:
    """Writes `evaluations/iteration_N/<name>.json` in a run folder, whole or not at all, and returns its path.

    `results` maps an opponent's name to its `summary`, `measured` are other numbers by name.
    """
    file = results_folder(folder, iteration) / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"iteration": iteration, "timestamp": timestamp, "results": results, "measured": measured or {}}
    files.check_regular(file)
    files.write(file, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return file
