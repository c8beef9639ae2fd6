"""Games by self-play, written to shards as they end.

Game k of a seed is fixed by the seed and k alone: its random keys are folded from both. Games are numbered from 0 and
written in blocks of consecutive numbers, one shard a block; a worker plays the blocks that are its own. So a worker
that was killed plays only the games that are missing, and ends with the same shards.

Letters: B games at once (lanes), n plies of a chunk, L legal-move slots.
"""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env, State
from envs.core import begins_alike, opening_moves, where
from jaxzero import files
from jaxzero.config.schema import Config, SearchConfig, SelfPlayConfig
from jaxzero.data import shards
from jaxzero.messages import ConfigError, shortened
from jaxzero.parallel import keys_by_index
from jaxzero.search import Search
from jaxzero.training import selfplay
from jaxzero.training.transitions import Chunk

START = 2**31 - 1  # in the place of a ply, of a game's opening


@dataclasses.dataclass(frozen=True)
class Player:
    """Who plays both sides, by a search, and how it is written down."""

    search: Search
    params: Any
    name: str
    step: int = -1  # iteration of the network, if it is one
    digest: str = ""


class Work(NamedTuple):
    """What one worker is to play."""

    games: int  # of all workers
    seed: int = 0
    block: int = 4096  # games of a shard
    worker: int = 0  # of `workers`; plays every `workers`-th block
    workers: int = 1

    @property
    def blocks(self) -> list[int]:
        return list(range(math.ceil(self.games / self.block)))[self.worker :: self.workers]

    def indices(self, block: int) -> range:
        return range(block * self.block, min((block + 1) * self.block, self.games))

    def name(self, block: int) -> str:
        return f"seed{self.seed}-{block:06d}"


class WorkProgress(NamedTuple):
    """How far a worker is."""

    done: int  # of its games, earlier ones included
    games: int  # that it is to play
    plies: int  # played by this process


def generate(env: Env, player: Player, config: Config, folder: Path, work: Work) -> Generator[WorkProgress, None, None]:
    """Plays what is missing of a worker's games in a folder made by `shards.create`, and says after each chunk how far
    it is; of `config` the parts about search and self-play are used.

    Raises:
        ConfigError: a shard is damaged or cannot be written.
    """
    finished = {path.stem for path in folder.glob("*.parquet")}
    todo: list[int] = []
    total, opened = 0, {}
    for block in work.blocks:
        indices = work.indices(block)
        total += len(indices)
        for draft in files.drafts(folder):  # of this worker; others may write now
            if work.name(block) in draft.name:
                draft.unlink()
        if work.name(block) in finished:
            (folder / f"{work.name(block)}.open").unlink(missing_ok=True)  # killed at the end of the shard
            continue
        if (folder / f"{work.name(block)}.open").exists():
            opened[block] = shards.Open(folder, work.name(block))
            indices = [index for index in indices if index not in opened[block].indices]
        todo += indices
    plies, done = 0, total - len(todo)
    yield WorkProgress(done, total, plies)
    try:
        for block in list(opened):  # killed between its last game and its end
            finish_if_full(work, opened, block)
        for played, rows in play(env, player, config, work.seed, np.asarray(todo, np.int32)) if todo else ():
            plies += played
            done += len(rows)
            for block, games in by_block(work, rows).items():
                if block not in opened:
                    opened[block] = shards.Open(folder, work.name(block))
                opened[block].append(shards.rows(games))
                finish_if_full(work, opened, block)
            yield WorkProgress(done, total, plies)
    finally:
        for shard in opened.values():
            shard.close()


def by_block(work: Work, rows: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["index"] // work.block].append(row)
    return found


def finish_if_full(work: Work, opened: dict[int, shards.Open], block: int) -> None:
    if len(opened[block].indices) == len(work.indices(block)):
        opened.pop(block).finish()


# On the device


def game_keys(seed: jax.Array, index: jax.Array, ply: jax.Array) -> jax.Array:
    """Of plies i32[B] of the games i32[B]: [B]."""
    return jax.vmap(jax.random.fold_in)(keys_by_index(seed, index), ply)


class Programs(NamedTuple):
    """Jitted for games numbered i32[N], of which each lane plays every B-th, and the key of the seed."""

    begin: Callable[[jax.Array, jax.Array], selfplay.Games]  # (key, numbers)
    chunk: Callable[..., tuple[selfplay.Games, "Written"]]  # (params, games, key, numbers, which chunk i32[])


@lru_cache(maxsize=4)
def programs(env: Env, search: Search, searching: SearchConfig, playing: SelfPlayConfig, lanes: int) -> Programs:
    config = Config(search=searching, selfplay=playing)

    def number(games: selfplay.Games, numbers: jax.Array, later: int = 0) -> jax.Array:
        return numbers[jnp.minimum(games.lane + (games.number + later) * lanes, len(numbers) - 1)]

    @jax.jit
    def begin(key: jax.Array, numbers: jax.Array) -> selfplay.Games:
        keys = game_keys(key, numbers[:lanes], jnp.full(lanes, START))
        return selfplay.begin(env, search, keys, jnp.arange(lanes, dtype=jnp.int32), playing.opening_plies)

    @partial(jax.jit, donate_argnums=1)
    def chunk(
        params: Any, games: selfplay.Games, key: jax.Array, numbers: jax.Array, part: jax.Array
    ) -> tuple[selfplay.Games, Written]:
        def keys_of(_: jax.Array, games: selfplay.Games) -> jax.Array:
            ply = game_keys(key, number(games, numbers), games.length)
            following = game_keys(key, number(games, numbers, 1), jnp.full(lanes, START))
            return jnp.concatenate([jax.vmap(jax.random.split)(ply), following[:, None]], 1)

        play = selfplay.make_play(env, search, config, keys_of=keys_of)
        games, played = play(params, games, jax.random.fold_in(key, part))
        return games, kept(played)

    return Programs(begin, chunk)


def play(
    env: Env, player: Player, config: Config, seed: int, todo: np.ndarray
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Plays the games i32[N]; after each chunk, the plies played and the rows of the games that ended."""
    lanes, key = config.selfplay.games, jax.random.key(seed)
    size = 1 << (len(todo) + lanes - 1).bit_length()  # few lengths, as each is compiled
    numbers = jnp.asarray(np.append(todo, np.full(size - len(todo), todo[-1])))  # lanes without a game repeat the last
    begin, chunk = programs(env, player.search, config.search, config.selfplay, lanes)
    games, collected = begin(key, numbers), Collector(env, player, seed, config.selfplay.opening_plies)
    left, part = len(todo), 0
    while left:
        games, played = chunk(player.params, games, key, numbers, jnp.int32(part))
        host = jax.device_get(played)
        rows = collected.add(host, todo, lanes)
        left, part = left - len(rows), part + 1
        yield host.action.size, rows


class Written(NamedTuple):
    """What is written down of a chunk; fields [n, B], slots [n, B, L]."""

    game: jax.Array  # of its lane
    player: jax.Array
    action: jax.Array
    outcome: jax.Array | None
    reward: jax.Array
    value: jax.Array
    end: jax.Array
    moves: jax.Array
    weights: jax.Array
    policy_weight: jax.Array


def kept(chunk: Chunk) -> Written:
    t = chunk.transitions
    return Written(
        chunk.game, t.state.player, t.action, t.outcome, t.reward, t.value, t.end, t.moves, t.weights, t.policy_weight
    )


# On the host


class Collector:
    """Puts the plies of each lane together to whole games."""

    def __init__(self, env: Env, player: Player, seed: int, opening_plies: int):
        self.env, self.player, self.seed = env, player, seed
        self.pieces: dict[int, list[Written]] = defaultdict(list)  # of the game in flight in each lane
        self.openings = openings_of(env, seed, opening_plies)

    def add(self, chunk: Written, todo: np.ndarray, lanes: int) -> list[dict[str, Any]]:
        """The rows of the games that end in a chunk; games beyond those to play are left out."""
        ended: list[tuple[int, Written]] = []
        for lane in range(chunk.end.shape[1]):
            begin = 0
            for last in np.flatnonzero(chunk.end[:, lane]):
                place = lane + int(chunk.game[last, lane]) * lanes
                pieces = [*self.pieces.pop(lane, ()), cut(chunk, lane, begin, int(last) + 1)]
                if place < len(todo):
                    whole = jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)
                    ended.append((int(todo[place]), whole))
                begin = int(last) + 1
            if begin < len(chunk.end):
                self.pieces[lane].append(cut(chunk, lane, begin, len(chunk.end)))
        openings = self.openings(np.asarray([index for index, _ in ended], np.int32))
        return [
            row(self.env, self.player, self.seed, index, game, opening)
            for (index, game), opening in zip(ended, openings, strict=True)
        ]


def cut(chunk: Written, lane: int, begin: int, end: int) -> Written:
    return jax.tree.map(lambda x: np.array(x[begin:end, lane]), chunk)


def row(env: Env, player: Player, seed: int, index: int, game: Written, opening: "Opening") -> dict[str, Any]:
    """A game as a row of a shard."""
    used = game.moves >= 0
    searched = game.weights * used
    used &= searched > 0
    before = len(opening.actions)
    result = opening.rewards.astype(np.float32)
    np.add.at(result, game.player, game.reward)
    if env.num_players == 2:
        np.subtract.at(result, 1 - game.player, game.reward)
    outcomes = None if game.outcome is None else [*opening.outcomes, *game.outcome.tolist()]
    return {
        "id": f"{seed}-{index}", "player": player.name, "step": player.step, "digest": player.digest,
        "seed": seed, "index": index, "start": opening.start, "opening": before,
        "actions": [*opening.actions, *game.action.tolist()], "outcomes": outcomes,
        "values": [*[math.nan] * before, *game.value.tolist()],
        "policy_sizes": [*[0] * before, *used.sum(-1).tolist()],
        "policy_actions": game.moves[used].tolist(), "policy_weights": game.weights[used],
        "policy_trained": [*np.zeros(before, np.float16), *game.policy_weight],
        "result": result.tolist(),
    }  # fmt: skip


class Opening(NamedTuple):
    """How a game began."""

    start: str | None  # the first position as text, None where all games of this kind begin alike
    actions: list[int]
    outcomes: list[int]
    rewards: np.ndarray  # f32[P]  earned in it


@lru_cache(maxsize=4)
def openings_of(env: Env, seed: int, plies: int) -> Callable[[np.ndarray], list[Opening]]:
    """A function from the numbers of games i32[N] to their openings."""
    alike = begins_alike(env)

    @jax.jit
    def find(index: jax.Array) -> Any:
        keys = game_keys(jax.random.key(seed), index, jnp.full(len(index), START))
        first, _, actions, outcomes = jax.vmap(partial(opening_moves, env, plies=plies))(keys)
        return first, actions, outcomes, jax.vmap(partial(earned, env))(first, actions, outcomes)

    def openings(index: np.ndarray) -> list[Opening]:
        none = np.zeros(env.num_players, np.float32)
        if alike and not plies:
            return [Opening(None, [], [], none) for _ in index]
        found = []
        size = 64  # of a batch: compiled once
        for part in range(0, len(index), size):
            batch = index[part : part + size]
            first, actions, outcomes, rewards = jax.device_get(find(np.resize(batch, size)))
            for i in range(len(batch)):
                length = int((actions[i] >= 0).sum())
                text = None if alike else env.to_text(jax.tree.map(lambda x, i=i: x[i], first))
                found.append(Opening(text, actions[i, :length].tolist(), outcomes[i, :length].tolist(), rewards[i]))
        return found

    return openings


def earned(env: Env, state: State, actions: jax.Array, outcomes: jax.Array) -> jax.Array:
    """Rewards f32[P] of the moves i32[n] from a position, -1 after the last, with these outcomes of chance."""

    def ply(t: jax.Array, carry: Any) -> Any:
        state, rewards = carry
        after = env.step(state, jnp.maximum(actions[t], 0))
        if env.num_outcomes:
            after = env.resolve(after, outcomes[t])
        played = actions[t] >= 0
        return where(played, after, state), rewards + jnp.where(played, after.rewards, 0)

    none = jnp.zeros(env.num_players, jnp.float32)
    return jax.lax.fori_loop(0, len(actions), ply, (state, none))[1]


def work_of(games: int, seed: int, block: int, worker: str) -> Work:
    """The work of worker I/N.

    Raises:
        ConfigError: it is no such share.
    """
    share = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", worker, re.ASCII)
    if not share or int(share[1]) > int(share[2]):
        raise ConfigError(f"--worker: {shortened(worker, 40)!r} is no share; give I/N, such as 1/2 and 2/2")
    return Work(games, seed, block, int(share[1]) - 1, int(share[2]))


def check(env: Env, settings: SelfPlayConfig) -> None:
    """Raises:
    ConfigError: random plies may fill a whole game.
    """
    if settings.opening_plies >= env.max_plies:
        raise ConfigError(f"--opening-plies: must be from 0 to {env.max_plies - 1} in {env.name}")
