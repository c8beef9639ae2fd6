"""`jaxzero rate`: checkpoints of runs and anchors play each other, and all are rated together.

Every checkpoint meets the next one of its run and every anchor; the newest ones of different runs meet. What was played
is kept in `ratings.json` of the first run, so that a later call plays only what is new, and checkpoints that have been
deleted since keep their place.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from envs import Env
from jaxzero import files, messages
from jaxzero.clock import timestamp
from jaxzero.config.schema import Config
from jaxzero.evaluation import arena, host, matches, players, rating
from jaxzero.evaluation.base import Contestant, HostPlayer, Player
from jaxzero.evaluation.sprt import SCORES, pair_counts
from jaxzero.messages import ConfigError
from jaxzero.runs import folder as folder_lib
from jaxzero.runs import plot
from jaxzero.runs.checkpoint import Checkpointer
from jaxzero.runs.curves import RATED
from jaxzero.runs.progress import Watch
from jaxzero.runs.trouble import check_writable

PICTURE, LOCK = "elo.png", ".ratings.lock"
PAIRS = (int,) * 5  # pairs of games by their points, as `pair_counts` gives them
MOST_PAIRS = 1 << 40  # of two players
SHAPE: dict[str, Any] = {
    "zero": str, "ratings": [RATED], "opening_plies": int,
    "players": {str: {"run": str, "iteration": int, "digest": str}},
    "meetings": [{"players": (str, str), "pairs": PAIRS}],
}  # fmt: skip
Row = dict[str, Any]
Say = Callable[[str], None]


class Entrant(NamedTuple):
    """Who plays: a checkpoint, or an anchor (whose `run` is "")."""

    name: str
    run: str
    iteration: int
    digest: str
    player: Player | HostPlayer
    params: Callable[[], Any]


class RateOptions(NamedTuple):
    """What a call asks for."""

    anchors: tuple[str, ...] = ("random", "minimax:2")
    games: int = 100  # of every two that meet
    simulations: int | None = None  # None: evaluation.simulations of each run
    opening_plies: int = 4
    overwrite: bool = False  # what is kept


def rate(folders: Sequence[Path], options: RateOptions, say: Say = print) -> list[Row]:
    """Plays what has not been played yet; returns a row for every player, strongest first, and writes them.

    Raises:
        ConfigError: no run or no checkpoint there, runs of different games, results that were played otherwise, or a
            folder that cannot be written.
    """
    if options.games < 2 or options.games % 2:
        raise ConfigError(f"--games: must be even and at least 2 (half from each side), got {options.games}")
    if options.simulations is not None and options.simulations < 0:
        raise ConfigError(f"--simulations: must be 0 or more, got {options.simulations}")
    if len({folder.resolve().name for folder in folders}) < len(folders):
        raise ConfigError("rate: two runs have the same name, so that their players would too; rename a folder")
    loaded = [folder_lib.load(folder) for folder in folders]
    env = loaded[0].env
    for folder, run in zip(folders, loaded, strict=True):
        if run.env != env:
            raise ConfigError(f"{folder}: a run of {run.env}, the first one is of {env}; rate runs of one game")
    if not 0 <= options.opening_plies < env.max_plies:
        raise ConfigError(
            f"--opening-plies: must be 0 to {env.max_plies - 1} in {env.name}, got {options.opening_plies}"
        )
    lines = [checkpoints(folder, run, options.simulations) for folder, run in zip(folders, loaded, strict=True)]
    kept = PlayedGames(folders[0] / folder_lib.RATINGS, options)
    for name in (folder_lib.RATINGS, LOCK, PICTURE):
        files.check_target(folders[0] / name, "rate")
    with contextlib.ExitStack() as stack:
        anchors = [anchor(name, env, stack) for name in options.anchors]
        check_writable(folders[0])
        announce(folders, loaded, [*anchors, *itertools.chain(*lines)], kept, say)
        play(env, schedule(lines, anchors), kept, options, say)
    try:
        rows = kept.rated(anchors[0].name if anchors else lines[0][0].name)
    except ValueError as error:
        advice = "give the --anchors of before too, or --overwrite to rate anew"
        raise ConfigError(f"{kept.file}: {error}; {advice}") from error
    with messages.reported(folders[0]):
        plot.elo_curve(rows, folders[0] / PICTURE, env.name)
    return rows


def announce(
    folders: Sequence[Path],
    loaded: Sequence[folder_lib.Loaded],
    entrants: Iterable[Entrant],
    kept: "PlayedGames",
    say: Say,
) -> None:
    """Notes who plays, and says which results and checkpoints are missing."""
    for entrant in entrants:
        if kept.add(entrant):
            say(f"{entrant.name} is not what it was when it played; its old results are dropped")
    for folder, run in zip(folders, loaded, strict=True):
        if text := deleted(folder, run.config, kept.players):
            say(text)


def checkpoints(folder: Path, run: folder_lib.Loaded, simulations: int | None) -> list[Entrant]:
    """Those of a run, oldest first."""
    count = run.config.evaluation.simulations if simulations is None else simulations
    agent, name = players.search_agent(run.env, run.network, run.config, count), folder.resolve().name
    with Checkpointer(folder / "checkpoints", run.config.checkpoint.keep) as stored:
        digests = {step: stored.digest(step) for step in stored.steps()}

    def params(step: int) -> Any:
        return folder_lib.load(folder, step, run.env).params

    return [
        Entrant(f"{name}@{step}:{count}", name, step, digest, agent, functools.partial(params, step))
        for step, digest in digests.items()
    ]


def anchor(spec: str, env: Env, stack: contextlib.ExitStack) -> Entrant:
    found = arena.opened(stack, players.make_player(spec, env, "--anchors"))
    weights = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(found.params))
    digest = hashlib.blake2b(weights, digest_size=16).hexdigest() if weights else ""  # another run may have learned on
    return Entrant(spec, "", 0, digest, found.player, lambda: found.params)


def deleted(folder: Path, config: Config, rated: Iterable[str]) -> str:
    """One line on the checkpoints that are gone and never were rated, or ""."""
    with Checkpointer(folder / "checkpoints", config.checkpoint.keep) as stored:
        steps = stored.steps()
    name = folder.resolve().name
    known = {player.partition(":")[0] for player in rated}
    due = range(config.checkpoint.every, max(steps) + 1, config.checkpoint.every)
    gone = [step for step in due if step not in steps and f"{name}@{step}" not in known]
    if not gone:
        return ""
    return (
        f"{name}: {len(gone)} checkpoints, of iterations {gone[0]} to {gone[-1]}, have been deleted; "
        f"to rate them too, train with a checkpoint.keep above {config.checkpoint.keep}"
    )


def schedule(lines: Sequence[Sequence[Entrant]], anchors: Sequence[Entrant]) -> list[tuple[Entrant, Entrant]]:
    """Who meets whom."""
    neighbours = [pair for line in lines for pair in itertools.pairwise(line)]
    newest = itertools.pairwise(line[-1] for line in lines)
    return [*neighbours, *itertools.product(itertools.chain(*lines), anchors), *newest]


def play(
    env: Env, meetings: Sequence[tuple[Entrant, Entrant]], kept: "PlayedGames", options: RateOptions, say: Say
) -> None:
    """Plays what is missing and keeps it, meeting by meeting."""

    watch = Watch(sys.stderr)

    @functools.cache
    def params(entrant: Entrant) -> Any:
        return entrant.params()

    @functools.cache
    def on_device(agent: Player, opponent: Player, games: int) -> Callable[..., matches.MatchResult]:
        return matches.play(env, agent, opponent, games, options.opening_plies, watch.tell)

    def match(a: Entrant, b: Entrant, games: int, key: jax.Array) -> matches.MatchResult:
        if isinstance(a.player, HostPlayer) or isinstance(b.player, HostPlayer):
            first, second = (Contestant(each.name, each.player, params(each)) for each in (a, b))
            return host.play(env, first, second, games, options.opening_plies, watch.tell)(key)
        return on_device(a.player, b.player, games)(params(a), params(b), key)

    due = [(a, b) for a, b in meetings if kept.pairs(a, b).sum() < options.games // 2]
    for number, (a, b) in enumerate(due, 1):
        played = kept.pairs(a, b)
        # Others for every two who meet, and anew for what is played on a later call.
        key = jax.random.fold_in(jax.random.key(zlib.crc32(f"{a.name} {b.name}".encode())), int(played.sum()))
        games = options.games - 2 * int(played.sum())
        with watch.match(f"{number}/{len(due)}  {a.name} against {b.name}", games):
            counts = played + pair_counts(np.asarray(match(a, b, games, key).outcomes))
            watch.end_round()
        kept.put(a, b, counts)
        say(f"{number}/{len(due)}  {a.name} against {b.name}: {counts @ SCORES / counts.sum():.1%}")


class Played(NamedTuple):
    """The content of `ratings.json`."""

    players: dict[str, Row]  # run, iteration and digest by name
    meetings: dict[tuple[str, str], np.ndarray]  # i64[5]  pairs of games by their points
    ratings: list[Row]  # as of when a call last came to its end
    zero: str  # the player whose Elo was 0 then


class PlayedGames:
    """What has been played, in a file that is written after each meeting. Others may write it at the same time: what
    they have played is read again before each writing, and kept."""

    def __init__(self, file: Path, options: RateOptions):
        self.file, self.opening_plies, self.overwrite = file, options.opening_plies, options.overwrite
        self.players, self.meetings, *_ = self.read()

    def read(self) -> Played:
        """What the file holds now; nothing if it is to be overwritten."""
        if self.overwrite:
            files.check_regular(self.file)
            return Played({}, {}, [], "")
        content = files.read_json(self.file, SHAPE, "mend it, or use --overwrite to rate anew")
        if content is None:
            return Played({}, {}, [], "")
        meetings = {tuple(each["players"]): np.array(each["pairs"]) for each in content["meetings"]}
        sound = all(pairs.any() and pairs.min() >= 0 and pairs.max() < MOST_PAIRS for pairs in meetings.values())
        if not sound or any(a == b or not {a, b} <= content["players"].keys() for a, b in meetings):
            raise ConfigError(f"{self.file}: meetings that cannot be; use --overwrite to rate anew")
        if content["opening_plies"] != self.opening_plies:
            raise ConfigError(
                f"{self.file}: was played with --opening-plies {content['opening_plies']}; give the same, or "
                "--overwrite to play anew"
            )
        return Played(content["players"], meetings, content["ratings"], content["zero"])

    def add(self, entrant: Entrant) -> bool:
        """Notes a player; whether results of another one of its name had to go."""
        before = self.players.get(entrant.name)
        self.players[entrant.name] = {"run": entrant.run, "iteration": entrant.iteration, "digest": entrant.digest}
        if before is None or before["digest"] == entrant.digest:
            return False
        self.meetings = {names: pairs for names, pairs in self.meetings.items() if entrant.name not in names}
        return True

    def pairs(self, a: Entrant, b: Entrant) -> np.ndarray:
        """i64[5]"""
        return self.meetings.get((a.name, b.name), np.zeros(5, np.int64))

    def put(self, a: Entrant, b: Entrant, counts: np.ndarray) -> None:
        self.meetings[a.name, b.name] = counts
        with self.held() as played:
            self.write(played)

    @contextlib.contextmanager
    def held(self) -> Iterator[Played]:
        """The file for this process alone; yields what has been played by this one and by others."""
        with messages.reported(self.file), files.locked(self.file.with_name(LOCK)):
            others = self.read()
            same = {name for name, it in others.players.items() if self.players.get(name, it)["digest"] == it["digest"]}
            meetings = {names: pairs for names, pairs in others.meetings.items() if same.issuperset(names)}
            for names, pairs in self.meetings.items():
                if names not in meetings or pairs.sum() >= meetings[names].sum():  # played by both: the longer
                    meetings[names] = pairs
            yield Played(others.players | self.players, meetings, others.ratings, others.zero)
            self.overwrite = False  # what was there is gone; what others write from now on is kept

    def rated(self, zero: str) -> list[Row]:
        """A row for every player, strongest first; they are written too."""
        with self.held() as played:
            try:
                rows = rated(played, zero)
            except ValueError:  # what others are playing may not be linked to the rest yet
                rows = rated(played._replace(players=self.players, meetings=self.meetings), zero)
            met = {name for names in played.meetings for name in names}
            players = {name: facts for name, facts in played.players.items() if name in met}
            self.write(played._replace(players=players, ratings=rows, zero=zero))
        return rows

    def write(self, played: Played) -> None:
        meetings = [{"players": names, "pairs": pairs.tolist()} for names, pairs in played.meetings.items()]
        content = {
            "timestamp": timestamp(), "zero": played.zero,
            "ratings": played.ratings, "opening_plies": self.opening_plies, "players": played.players,
            "meetings": meetings,
        }  # fmt: skip
        files.write(self.file, json.dumps(content, indent=1) + "\n")


def rated(played: Played, zero: str) -> list[Row]:
    """A row for every player who has met another, strongest first; `zero` has Elo 0.

    Raises:
        ValueError: no meetings link some players to it.
    """
    ratings = rating.fit(played.meetings, zero)
    rows = [row(played, name, float(elo), ratings) for name, elo in zip(ratings.players, ratings.elo, strict=True)]
    return sorted(rows, key=lambda row: -row["elo"])


def row(played: Played, name: str, elo: float, ratings: rating.Ratings) -> Row:
    counts = sum(
        pairs if names[0] == name else pairs[::-1] for names, pairs in played.meetings.items() if name in names
    )
    run, iteration = played.players[name]["run"], played.players[name]["iteration"]
    row = {
        "player": name, "run": run, "iteration": iteration, "elo": elo, "interval": ratings.interval(name),
        "games": int(2 * np.sum(counts)), "score": float(counts @ SCORES / np.sum(counts)),
    }  # fmt: skip
    mode = name.partition(":")[2]
    earlier = {
        other["iteration"]: key
        for key, other in played.players.items()
        if run and other["run"] == run and other["iteration"] < iteration and key.partition(":")[2] == mode
    }
    if earlier:
        before = earlier[max(earlier)]
        gain = elo - float(ratings.elo[ratings.players.index(before)])
        row["gain"] = {"on": before, "elo": gain, "interval": ratings.interval(name, before)}
    return row
