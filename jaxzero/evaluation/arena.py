"""`jaxzero match` and `jaxzero evaluate`: matches between any two players, in rounds.

Letters: G pairs of games.
"""

import contextlib
import datetime
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from envs import Env
from jaxzero import messages
from jaxzero.clock import timestamp
from jaxzero.config import settings
from jaxzero.config.games import make_env
from jaxzero.config.schema import GameConfig
from jaxzero.config.values import quoted
from jaxzero.evaluation import host, match_log, matches
from jaxzero.evaluation.base import Contestant, HostPlayer
from jaxzero.evaluation.matches import MatchResult
from jaxzero.evaluation.players import checkpoint_step, make_player, search_agent
from jaxzero.evaluation.sprt import Sprt, pair_counts
from jaxzero.messages import ConfigError
from jaxzero.runs import folder as folder_lib
from jaxzero.runs.progress import Watch
from jaxzero.runs.trouble import check_writable

_log = logging.getLogger(__name__)


class Match(NamedTuple):
    """What is to be played."""

    games: int  # at most; even
    opening_plies: int = 4  # each pair of games begins with 0 to so many random plies
    seed: int = 0
    at_once: int = 2048  # games of a round, at most; even
    sprt: Sprt | None = None  # stops the match after the round that decides it


def check(match: Match) -> None:
    """Raises:
    ConfigError: numbers that cannot be played.
    """
    for name, value in (("games", match.games), ("at_once", match.at_once)):
        if value < 2 or value % 2:
            raise ConfigError(f"{name}: must be even, as each opening is played from both sides; got {value}")
    if match.opening_plies < 0:
        raise ConfigError(f"opening_plies: must be 0 or more, got {match.opening_plies}")
    if not 0 <= match.seed < 2**32:
        raise ConfigError(f"seed: must be from 0 to {2**32 - 1}, got {match.seed}")


def check_opening(env: Env, plies: int) -> None:
    """ConfigError if random plies may fill a whole game."""
    if plies >= env.max_plies:
        raise ConfigError(f"opening_plies: must be from 0 to {env.max_plies - 1} in {env.name}, got {plies}")


def play(env: Env, a: Contestant, b: Contestant, match: Match, watch: Watch | None = None) -> MatchResult:
    """Plays in rounds of equal size, all on the device if both players are."""
    check(match)
    watch = watch or Watch()
    rounds = math.ceil(match.games / match.at_once)
    size = 2 * math.ceil(match.games / (2 * rounds))
    play_round = player_of_rounds(env, a, b, size, match.opening_plies, watch.tell)
    parts: list[MatchResult] = []
    with watch.match(f"{a.name} against {b.name}", match.games):
        for i in range(rounds):
            parts.append(jax.device_get(play_round(jax.random.fold_in(jax.random.key(match.seed), i))))
            watch.end_round()
            outcomes = joined(match, parts).outcomes
            if rounds > 1:
                _log.info("%d of %d games: score %.3f", outcomes.size, match.games, matches.tally(outcomes)["score"])
            if match.sprt and match.sprt.verdict(pair_counts(np.asarray(outcomes))):
                break
    return joined(match, parts)


def joined(match: Match, parts: Sequence[MatchResult]) -> MatchResult:
    """All rounds in one; the last may have played some pairs too many, as all are of one size."""
    return jax.tree.map(lambda *fields: np.concatenate(fields, 1)[:, : match.games // 2], *parts)


def player_of_rounds(
    env: Env, a: Contestant, b: Contestant, games: int, opening_plies: int, watch: matches.Watch | None
) -> Callable[[jax.Array], MatchResult]:
    if isinstance(a.player, HostPlayer) or isinstance(b.player, HostPlayer):
        return host.play(env, a, b, games, opening_plies, watch)
    on_device = matches.play(env, a.player, b.player, games, opening_plies, watch)
    return lambda key: on_device(a.params, b.params, key)


def report(
    game: GameConfig, a: Contestant, b: Contestant, match: Match, result: MatchResult, seconds: float
) -> dict[str, Any]:
    """A match as JSON-ready facts: `matches.summary` for `a`, and how it came about."""
    counts = pair_counts(np.asarray(result.outcomes))
    facts: dict[str, Any] = {
        "timestamp": timestamp(),
        "game": " ".join([game.source or game.name, *(f"{name}={value}" for name, value in game.options.items())]),
        "a": a.name,
        "b": b.name,
        **matches.summary(result),
        "pairs": counts.tolist(),
        "duplicates": duplicates(result.moves),
        "opening_plies": match.opening_plies,
        "seed": match.seed,
        "seconds": round(seconds, 3),
        "games_per_s": round(result.outcomes.size / seconds, 3),
    }
    if match.sprt:
        low, high = match.sprt.bounds
        facts["sprt"] = {
            "elo0": match.sprt.elo0, "elo1": match.sprt.elo1, "alpha": match.sprt.alpha, "beta": match.sprt.beta,
            "llr": match.sprt.llr(counts), "lower": low, "upper": high, "verdict": match.sprt.verdict(counts),
        }  # fmt: skip
    troubles = {side.name: side.player.report() for side in (a, b) if isinstance(side.player, HostPlayer)}
    facts["troubles"] = {name: counts for name, counts in troubles.items() if any(counts.values())}
    return facts


def duplicates(moves: Any) -> int:
    """Games that repeat another one move by move, with the same player beginning."""
    rows = np.asarray(moves)
    return int(sum(len(side) - len(np.unique(side, axis=0)) for side in rows)) if rows.shape[-1] else 0


def describe(facts: dict[str, Any]) -> str:
    """What a person wants to know, in a few lines."""
    counts = lambda part: f"{part['wins']} won, {part['draws']} drawn, {part['losses']} lost"  # noqa: E731
    low, high = facts["interval"]
    lines = [
        f"{facts['a']} against {facts['b']}, {facts['games']} games of {facts['game']}: {counts(facts)}",
        f"score {facts['score']:.3f} (95 % interval {low:.3f}–{high:.3f}), Elo difference "
        f"{elo(facts['score'])} ({elo(low)} to {elo(high)}), mean length {facts['mean_length']:.1f} plies",
        f"as first player: {counts(facts['as_first'])}; as second: {counts(facts['as_second'])}",
    ]
    if test := facts.get("sprt"):
        accepted = {"H0": test["elo0"], "H1": test["elo1"]}
        verdict = {
            name: f"{name} accepted: {difference:+g} Elo is the likelier" for name, difference in accepted.items()
        }
        lines.append(
            f"SPRT [{test['elo0']:g}, {test['elo1']:g}]: log-likelihood ratio {test['llr']:.2f} "
            f"({test['lower']:.2f} to {test['upper']:.2f}), {verdict.get(test['verdict'], 'undecided')}"
        )
    if repeats := facts["duplicates"]:
        advice = "; raise --opening-plies" if repeats > facts["games"] / 10 else ""
        lines.append(f"games that repeat another one: {repeats}{advice}")
    lines += [
        f"{name}: " + ", ".join(f"{n} {what}" for what, n in counts.items())
        for name, counts in facts["troubles"].items()
    ]
    return "\n".join(lines)


def elo(score: float) -> str:
    return f"{400 * math.log10(score / (1 - score)):+.0f}" if 0 < score < 1 else "∞" if score else "-∞"


# Commands


def game_of(game: str, options: dict[str, str], players: Sequence[str]) -> GameConfig:
    """The game of a match: the one named, a file's, or that of the first player that is a run.

    Raises:
        ConfigError: none of them.
    """
    if game:
        given: dict[str, Any] = {"game.source" if ".py:" in game else "game.name": game, "game.options": options}
        return settings.build(settings.read_options(given)).game
    if options:
        raise ConfigError("options: belong to --game; give it too, or leave them out")
    for player in players:
        with contextlib.suppress(ConfigError):
            return settings.load(folder_lib.find(re.split("[@:]", player)[0]) / folder_lib.CONFIG).game
    neither = " nor ".join(map(quoted, players))
    raise ConfigError(f"game: neither {neither} is a run whose game it could be; give --game")


def run(game: GameConfig, a: str, b: str, match: Match, out: Path | None, record: Path | None) -> dict[str, Any]:
    """A whole match with its match log and records; returns `report`."""
    env = make_env(game)
    check_opening(env, match.opening_plies)
    with contextlib.ExitStack() as stack:
        first, second = opened(stack, make_player(a, env, "A")), opened(stack, make_player(b, env, "B"))
        began = time.perf_counter()
        result = play(env, first, second, match, Watch(sys.stderr))
        facts = report(game, first, second, match, result, time.perf_counter() - began)
    if out:
        with messages.reported(out):
            match_log.append(out, facts)
    if record:
        with messages.reported(record):
            match_log.write_games(record, game, a, b, result)
    return facts


def opened(stack: contextlib.ExitStack, contestant: Contestant) -> Contestant:
    """The contestant, closed with the stack."""
    if isinstance(contestant.player, HostPlayer):
        stack.callback(contestant.player.close)
    return contestant


def evaluate(
    folder: Path, iteration: str, games: int, opponents: Sequence[str] | None, simulations: int | None,
    opening_plies: int | None, seed: int,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Plays a checkpoint of a run against each opponent and yields the reports; None stands for the run's settings.

    All are written to evaluations/iteration_N/evaluate_<time>.json.

    Raises:
        ConfigError: no such checkpoint or opponent, numbers that cannot be played, or a folder that cannot be written.
    """
    config = settings.load(folder / folder_lib.CONFIG)
    asked = config.evaluation
    match = Match(games, asked.opening_plies if opening_plies is None else opening_plies, seed, games)
    check(match)
    simulations = asked.simulations if simulations is None else simulations
    if simulations < 0:
        raise ConfigError(f"simulations: must be 0 or more, got {simulations}")
    try:
        step = checkpoint_step(folder, iteration)
    except ConfigError:
        raise
    except ValueError:
        raise ConfigError(f"iteration: {quoted(iteration)} is not latest, best or a number") from None
    loaded = folder_lib.load(folder, step)
    check_opening(loaded.env, match.opening_plies)
    agent = search_agent(loaded.env, loaded.network, loaded.config, simulations)
    agent = Contestant(f"{folder.name}@{loaded.step}:{simulations}", agent, loaded.params)
    reports: dict[str, Any] = {}
    stamp = datetime.datetime.now(datetime.UTC)
    with contextlib.ExitStack() as stack:
        rivals = [
            opened(stack, make_player(name, loaded.env, "opponent"))
            for name in dict.fromkeys(opponents or asked.opponents)
        ]
        check_writable(matches.results_folder(folder, loaded.step))
        for rival in rivals:
            began = time.perf_counter()
            result = play(loaded.env, agent, rival, match, Watch(sys.stderr))
            facts = report(config.game, agent, rival, match, result, time.perf_counter() - began)
            reports[rival.name] = facts
            name = f"evaluate_{stamp:%Y%m%dT%H%M%S_%f}"  # another one may run at the same time
            with messages.reported(folder):
                matches.write_results(folder, loaded.step, reports, timestamp(stamp), name)
            yield facts
