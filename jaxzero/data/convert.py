"""Games to positions: replays the games of shards by the rules, and writes the chosen plies with their targets.

Letters: G games, T plies, N positions, L legal-move slots, A actions, P players.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa

from envs import Env
from jaxzero.config.games import make_env
from jaxzero.data import positions, shards
from jaxzero.data.plies import Plies, by_ply, cut, start_replay
from jaxzero.data.rules import Ragged, ragged
from jaxzero.data.stage import Stage, check_finished
from jaxzero.messages import ConfigError
from jaxzero.training import targets

REPLAYED = 1 << 26  # bytes of the positions that are replayed at once
DENSE = 1 << 20  # bytes of policies over all actions: fewer than a cache holds
COLUMNS = (
    "start", "opening", "actions", "outcomes", "values", "policy_sizes", "policy_actions", "policy_weights",
    "policy_trained", "result",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Conversion:
    """Which plies become positions, and what is learned from them."""

    select: str = "all"  # all, final, penultimate, every:K
    from_ply: int = 0
    label: str = "outcome"  # outcome, lambda:X, steps:N, value
    policy: str = "search"  # search, played, soft:EPS

    def __post_init__(self) -> None:
        """Raises:
        ConfigError: a word that means nothing.
        """
        _parse("select", self.select, {"all": None, "final": None, "penultimate": None, "every": (int, 1, 2**31 - 1)})
        _parse("label", self.label, {
            "outcome": None, "value": None, "lambda": (float, 0, 1), "steps": (int, 1, 2**31 - 1),
        })  # fmt: skip
        _parse("policy", self.policy, {"search": None, "played": None, "soft": (float, 0, 1)})
        if self.from_ply < 0:
            raise ConfigError(f"from-ply: {self.from_ply} is negative; plies count from 0")

    def words(self, field: str) -> tuple[str, float]:
        """The name and the number of a choice, such as ("lambda", 0.9)."""
        name, _, number = getattr(self, field).partition(":")
        return name, float(number or 0)


def _parse(field: str, text: str, known: dict[str, Any]) -> None:
    name, colon, number = text.partition(":")
    choices = ", ".join(key + (":NUMBER" if kind else "") for key, kind in known.items())
    if name not in known or bool(colon) != bool(known[name]):
        raise ConfigError(f"{field}: {text!r} is none of {choices}")
    if known[name]:
        kind, low, high = known[name]
        try:
            fits = low <= kind(number) <= high
        except ValueError:
            fits = False
        if not fits:
            what = "a whole number" if kind is int else "a number"
            raise ConfigError(f"{field}: {text!r} needs {what} of {low} to {high} after the colon")


class Converted(NamedTuple):
    """The positions of a table of games, and what was left out."""

    records: np.ndarray  # [N]
    counts: dict[str, int]


def run(
    folders: Sequence[Path],
    out: Path,
    conversion: Conversion,
    overwrite: bool = False,
    report: Callable[[int, int, int], None] = lambda done, total, positions: None,
) -> dict[str, int]:
    """Converts the games of folders into a new folder of positions, going on where a killed process stopped ->
    counts of "games", "positions", "chunks", and of what was left out: games that are "illegal", games "unfinished"
    whose outcome the label needs, positions "unlabelled" for want of a root value.

    Raises:
        ConfigError: folders that cannot be used, damaged shards, nothing to write, or a full disk.
    """
    if not folders:
        raise ConfigError("folders: none given; name one or more folders of games")
    for folder in folders:
        check_finished(folder)
    game = shards.game_of(folders[0])
    for folder in folders[1:]:
        if shards.game_of(folder) != game:
            raise ConfigError(f"{folder}: holds another game than {folders[0]}; give folders of one game")
    env = make_env(game)
    sizes = [(path, shards.count(path)) for folder in folders for path in shards.shards(folder)]
    words = {"convert": dataclasses.asdict(conversion), "folders": list(map(str, folders)), "games": _digest(sizes)}
    stage = Stage(out, words, overwrite)
    if stage.counts is not None:
        return stage.counts
    positions.create(out, game, dataclasses.asdict(conversion))
    none = {"games": 0, "positions": 0, "chunks": 0, "illegal": 0, "unfinished": 0, "unlabelled": 0}
    counts = none | stage.state
    total = sum(size for _, size in sizes)
    dtype = positions.record_type(env)
    tables = batches(sizes, counts["games"], at_once(env, dtype))
    parts: list[np.ndarray] = []
    for converted in convert_all(env, conversion, tables):
        parts.append(converted.records)
        counts = {name: counts[name] + converted.counts.get(name, 0) for name in counts}
        report(counts["games"], total, counts["positions"])
        if sum(map(len, parts)) >= positions.chunk_size(dtype) or counts["games"] == total:
            if count := sum(map(len, parts)):
                positions.write_chunk(out, counts["chunks"], iter(parts), count, dtype)
                counts["chunks"] += 1
            parts = []
            stage.save(counts)
    if not counts["positions"]:
        raise ConfigError(
            f"folders: no position to write: of {counts['games']} games {counts['illegal']} are illegal and "
            f"{counts['unfinished']} unfinished, {counts['unlabelled']} positions have no root value; choose another "
            "select, from-ply or label"
        )
    stage.finish(counts)
    return counts


def _digest(sizes: list[tuple[Path, int]]) -> str:
    listing = json.dumps([(path.name, size) for path, size in sizes])
    return hashlib.blake2b(listing.encode(), digest_size=16).hexdigest()


def at_once(env: Env, dtype: np.dtype) -> int:
    """Games that are replayed at once."""
    fitting = REPLAYED // (dtype.itemsize * env.max_plies)
    return min(4096, max(32, 1 << max(0, fitting.bit_length() - 1)))


def batches(sizes: list[tuple[Path, int]], skip: int, size: int) -> Iterator[pa.Table]:
    """The games of shards after the first `skip`, in tables of `size` games, the last one of the rest."""
    waiting: list[pa.Table] = []
    for path, count in sizes:
        if skip >= count:
            skip -= count
            continue
        for table in shards.read(path, COLUMNS):
            left = table.slice(skip)
            skip = max(0, skip - len(table))
            waiting.append(left)
            while sum(map(len, waiting)) >= size:
                whole = pa.concat_tables(waiting)
                yield whole.slice(0, size).combine_chunks()
                waiting = [whole.slice(size)]
    if rest := sum(map(len, waiting)):
        yield pa.concat_tables(waiting).slice(0, rest).combine_chunks()


def convert_all(env: Env, conversion: Conversion, tables: Iterator[pa.Table]) -> Iterator[Converted]:
    """The positions of each table; the next one is replayed on the device while one is packed on the host."""
    size = at_once(env, positions.record_type(env))
    ahead = None
    for table in tables:
        begun = table, *start_replay(env, table, size)
        if ahead:
            yield convert(env, conversion, *ahead)
        ahead = begun
    if ahead:
        yield convert(env, conversion, *ahead)


def convert(env: Env, conversion: Conversion, games: pa.Table, replayed: Plies, plausible: np.ndarray) -> Converted:
    """The positions of a table of G games from its replay: ordered by game, then by ply."""
    count = len(games)
    plies: Plies = jax.tree.map(lambda x: np.asarray(x), replayed)
    actions, result = ragged(games.column("actions")), ragged(games.column("result"))
    fits = plausible & plies.sound[:count] & consistent(env, games)
    told = fits & (result.lengths == env.num_players)
    known = fits & (plies.ended[:count] | told)  # how the game ended

    target, value = label(env, conversion, games, plies, told, known)
    place = np.arange(len(target))[:, None]
    last, opening = actions.lengths - 1, games.column("opening").to_numpy().astype(np.int64)
    chosen = fits[None] & choose(conversion, place, np.maximum(opening, conversion.from_ply)[None], last[None])
    labelled = chosen & ~np.isnan(target)
    unfinished = fits & ~known & (conversion.words("label")[0] != "value")
    game, ply = np.nonzero(labelled.T)
    records = np.zeros(len(game), positions.record_type(env))
    records["target"], records["value"] = target[ply, game], value[ply, game]
    records["game"] = numbers(games)[game]
    records["ply"] = ply
    records["action"] = actions.values[actions.offsets[game] + ply]
    records["reward"] = plies.reward[ply, game]
    records["end"] = plies.ended[game] & (ply == last[game])
    records["moves"] = plies.moves[ply, game]
    for (name, _, _), leaf in zip(positions.state_fields(env)[0], jax.tree.leaves(plies.state), strict=True):
        records[name] = leaf[ply, game]
    fill_policy(env, conversion, games, records, actions.offsets[game] + ply)
    return Converted(records, {
        "games": count, "positions": len(records), "illegal": int((~fits).sum()), "unfinished": int(unfinished.sum()),
        "unlabelled": int((chosen & ~labelled & ~unfinished[None]).sum()),
    })  # fmt: skip


def consistent(env: Env, games: pa.Table) -> np.ndarray:
    """bool[G]: columns with an entry for each move have as many."""
    plies = ragged(games.column("actions")).lengths
    fits = np.ones(len(games), bool)
    for name in ("values", "policy_sizes", "policy_trained"):
        given = games.column(name).is_valid().to_numpy()
        fits &= ~given | (ragged(games.column(name)).lengths == plies)
    sizes = ragged(games.column("policy_sizes"))
    sums = np.concatenate([[0], np.cumsum(sizes.values, dtype=np.int64)])[sizes.offsets]
    for name in ("policy_actions", "policy_weights"):
        fits &= ragged(games.column(name)).lengths == np.diff(sums)
    return fits


def choose(conversion: Conversion, ply: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """bool[T, G]: the plies of each game that are selected, none before the first ply that is trained on."""
    name, number = conversion.words("select")
    inside = (ply >= first) & (ply <= last)
    if name == "every":
        return inside & ((ply - first) % int(number) == 0)
    return inside & (ply == last - {"final": 0, "penultimate": 1}[name]) if name != "all" else inside


def label(
    env: Env, conversion: Conversion, games: pa.Table, plies: Plies, told: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Value targets f32[T, G], NaN where there is none, and the root values f32[T, G], NaN where not known.

    A game that the rules have not ended, but whose result was written down (it was given up, say), has earned what is
    missing of that result with its last ply. Without a result its outcome is not known.
    """
    name, number = conversion.words("label")
    length, size = plies.reward.shape
    count = len(games)
    values = ragged(games.column("values"))
    values = cut(values, np.minimum(values.lengths, length))
    value = np.full((length, size), np.nan, np.float32)
    value[:, :count] = by_ply(values, length, np.nan)
    if name == "value":
        return value[:, :count], value[:, :count]
    last = np.zeros(size, np.int64)
    last[:count] = np.minimum(ragged(games.column("actions")).lengths, length) - 1
    end = np.zeros((length, size), bool)
    end[last[:count][known], np.flatnonzero(known)] = True
    reward = np.where(np.arange(length)[:, None] <= last[None], plies.reward, 0).astype(np.float32)
    given_up = np.flatnonzero(told & ~plies.ended[:count])
    results = ragged(games.column("result"))
    for player in range(env.num_players):
        at = given_up[plies.state.player[last[given_up], given_up] == player]
        reward[last[at], at] += results.values[results.offsets[at] + player] - plies.earned[at, player]
    target, found = _returns(name, number, reward, plies.state.player, end, value)
    return np.where(found, target, np.nan)[:, :count], value[:, :count]


def _returns(name: str, number: float, reward: Any, mover: Any, end: Any, value: Any) -> tuple[np.ndarray, np.ndarray]:
    if name == "outcome":
        value, number = np.zeros_like(value), 1.0  # a root value that is not known must not count, not even 0 times
    if name == "steps":
        target = _steps(reward, mover, end, value, int(number))
        return np.asarray(target), np.asarray(_lambda(reward, mover, end, np.zeros_like(value), 1.0)[1])
    target, found = _lambda(reward, mover, end, value, number)
    return np.asarray(target), np.asarray(found)


_lambda, _steps = jax.jit(targets.returns), jax.jit(targets.n_step_returns)


def numbers(games: pa.Table) -> np.ndarray:
    """i64[G]: digests of first positions, moves and outcomes of chance."""
    actions, outcomes = ragged(games.column("actions")), ragged(games.column("outcomes"))
    parts = zip(
        games.column("start").to_pylist(), _pieces(actions), _pieces(outcomes), strict=True
    )  # fmt: skip
    found = [
        int.from_bytes(hashlib.blake2b(b"%b;%b;%b" % ((start or "").encode(), *moves), digest_size=8).digest()) >> 1
        for start, *moves in parts
    ]
    return np.array(found, np.int64)


def _pieces(of: Ragged) -> list[bytes]:
    content, width = of.values.astype("<i2").tobytes(), 2
    ends = (of.offsets * width).tolist()
    return [content[begin:end] for begin, end in pairwise(ends)]


def fill_policy(env: Env, conversion: Conversion, games: pa.Table, records: np.ndarray, flat: np.ndarray) -> None:
    """Gives records [N] their policies; `flat` i64[N] are their plies among those of all games, ascending."""
    name, number = conversion.words("policy")
    moves = np.ascontiguousarray(records["moves"])
    if name != "search":
        hit, used = moves == records["action"][:, None], moves >= 0
        even = used / np.maximum(used.sum(1, keepdims=True), 1)
        records["weights"] = (1 - number) * hit + number * even
        records["policy_weight"] = 1
        return
    per_ply = Policies(games)
    records["policy_weight"] = np.where(per_ply.sizes[flat] > 0, per_ply.trained[flat], 0)
    width = max(1, DENSE // (2 * env.num_actions))
    for begin in range(0, len(records), width):
        part = slice(begin, begin + width)
        dense = per_ply.dense(flat[part], env.num_actions)
        found = np.take_along_axis(dense, np.maximum(moves[part], 0).astype(np.int64), 1)
        records["weights"][part] = np.where(moves[part] >= 0, found, 0)


class Policies:
    """The policies of all plies of games, one after the other."""

    def __init__(self, games: pa.Table):
        plies = ragged(games.column("actions"))
        total = int(plies.offsets[-1])
        sizes, trained = ragged(games.column("policy_sizes")), ragged(games.column("policy_trained"))
        self.sizes = np.zeros(total, np.int64)
        self.trained = np.ones(total, np.float16)
        actions, weights = ragged(games.column("policy_actions")), ragged(games.column("policy_weights"))
        for values, to in ((sizes, self.sizes), (trained, self.trained)):
            given = (values.lengths == plies.lengths) & (plies.lengths > 0)
            to[np.repeat(given, plies.lengths)] = values.values[np.repeat(given, values.lengths)]
        self.actions, self.weights = actions.values, weights.values
        # Each game's entries begin at a place of their own: those of a game that is left out may be too few.
        before = np.cumsum(self.sizes) - self.sizes
        first = np.minimum(plies.offsets[:-1], max(0, total - 1))
        shift = actions.offsets[:-1] - (before[first] if total else 0)
        self.begins = before + np.repeat(shift, plies.lengths)

    def dense(self, flat: np.ndarray, num_actions: int) -> np.ndarray:
        """f16[N, A]: the policies of some plies over all actions."""
        sizes = self.sizes[flat]
        row = np.repeat(np.arange(len(flat)), sizes)
        entry = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(self.begins[flat], sizes)
        dense = np.zeros((len(flat), num_actions), np.float16)
        action = self.actions[entry]
        inside = (action >= 0) & (action < num_actions)
        dense[row[inside], action[inside]] = self.weights[entry[inside]]
        return dense
