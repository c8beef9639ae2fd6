"""Promotion: the latest network replaces `best`, which plays the games that are learned from, when it beats it.

AlphaGo Zero's gate (Silver et al. 2017, methods, "Evaluator"): a score above a threshold; or a sequential test. Kept in
the run's folder are metadata.json (which network is best, what was promoted when and why; checkpoints know it too) and
the match log.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from envs import Env
from jaxzero import files
from jaxzero.config.schema import Config, PromotionConfig
from jaxzero.evaluation import arena, match_log, matches
from jaxzero.evaluation.base import Contestant, Player
from jaxzero.evaluation.matches import MatchResult
from jaxzero.evaluation.players import search_agent
from jaxzero.evaluation.sprt import Sprt, pair_counts
from jaxzero.messages import ConfigError
from jaxzero.networks import Network

METADATA = "metadata.json"
FEW = 300  # games below which a threshold of 0.55 promotes equals too often


class Decision(NamedTuple):
    result: MatchResult  # of the latest network against the best
    promoted: bool
    reason: str


Entry = dict[str, Any]  # a promotion: its iteration, the match that decided it
Match = Callable[[Any, Any, jax.Array], MatchResult]
Decide = Callable[[Any, Any, jax.Array], Decision]
"""`decide(latest, best, key)` of folded parameters."""


class Gate(NamedTuple):
    agent: Player
    decide: Decide


def make(env: Env, network: Network, config: Config) -> Gate:
    """The match that decides, in one traced function."""
    settings = config.promotion
    agent = search_agent(env, network, config, settings.simulations)
    games = settings.games if settings.rule == "threshold" else min(settings.batch, settings.games)
    match = matches.play(env, agent, agent, games, settings.opening_plies)
    rule = threshold_rule(match, settings) if settings.rule == "threshold" else sprt_rule(match, settings, games)
    return Gate(agent, rule)


def threshold_rule(match: Match, settings: PromotionConfig) -> Decide:
    def decide(latest: Any, best: Any, key: jax.Array) -> Decision:
        result = jax.device_get(match(latest, best, key))
        counts = matches.tally(result.outcomes)
        promoted = counts["score"] > settings.threshold
        relation = "above" if promoted else "not above"
        reason = f"score {counts['score']:.3f} of {counts['games']} games is {relation} {settings.threshold:g}"
        return Decision(result, promoted, reason)

    return decide


def sprt_rule(match: Match, settings: PromotionConfig, games: int) -> Decide:
    """Looks at the result after every `games` games."""
    sprt, rounds = sprt_of(settings), arena.Match(settings.games)

    def decide(latest: Any, best: Any, key: jax.Array) -> Decision:
        parts: list[MatchResult] = []
        for number in range(settings.games // games):
            parts.append(jax.device_get(match(latest, best, jax.random.fold_in(key, number))))
            if sprt.verdict(pair_counts(arena.joined(rounds, parts).outcomes)):
                break
        result = arena.joined(rounds, parts)
        counts, (lower, upper) = pair_counts(result.outcomes), sprt.bounds
        verdict = sprt.verdict(counts)
        place = {"H1": f"reached {upper:.2f}", "H0": f"fell to {lower:.2f}", "": "is undecided"}[verdict]
        hypotheses = f"Elo {sprt.elo1:g} against {sprt.elo0:g}"
        reason = f"log-likelihood ratio {sprt.llr(counts):.2f} of {hypotheses} {place} after {2 * counts.sum()} games"
        return Decision(result, verdict == "H1", reason)

    return decide


def sprt_of(settings: PromotionConfig) -> Sprt:
    return Sprt(settings.elo0, settings.elo1, settings.alpha, settings.beta)


def false_promotion(games: int, threshold: float) -> float:
    """Probability that an equal challenger scores more than the threshold, if no game is drawn and none depends on
    another: draws and shared openings make it smaller."""
    from scipy.stats import binom  # late: takes half a second, and few runs need it

    return float(binom.sf(math.floor(threshold * games + 1e-9), games, 0.5))


def risk(settings: PromotionConfig) -> tuple[str, str]:
    """What the settings risk, and a warning or ""."""
    if settings.rule == "sprt":
        return f"promotion: no stronger a network is promoted with probability {settings.alpha:.1%} at most", ""
    chance = false_promotion(settings.games, settings.threshold)
    text = (
        f"promotion: no stronger a network is promoted with probability {chance:.1%} "
        f"(score above {settings.threshold:g} in {settings.games} games without draws)"
    )
    warning = (
        f"promotion.games: {settings.games} games are few for a threshold; use {FEW} or more, or promotion.rule sprt"
    )
    return text, warning if settings.games < FEW else ""


def record(
    folder: Path,
    config: Config,
    agent: Player,
    iteration: int,
    best: int,
    decision: Decision,
    seconds: float,
    promotions: list[Entry],
) -> dict[str, Any]:
    """Keeps the match of the latest network, of `iteration`, against that of iteration `best`; returns its facts.
    A promotion is added to `promotions`, those of the run so far."""
    settings = config.promotion
    latest, other = (Contestant(f"{folder.name}@{step}:{settings.simulations}", agent) for step in (iteration, best))
    sprt = sprt_of(settings) if settings.rule == "sprt" else None
    match = arena.Match(settings.games, settings.opening_plies, config.seed, settings.batch, sprt)
    facts = arena.report(config.game, latest, other, match, decision.result, seconds)
    facts |= {"iteration": iteration, "against": best, "promoted": decision.promoted, "reason": decision.reason}
    match_log.append(folder, facts)
    kept = "iteration", "against", "timestamp", "score", "interval", "games", "wins", "draws", "losses", "reason"
    if decision.promoted:
        promotions.append({name: facts[name] for name in kept})
    write_metadata(folder, promotions)
    return facts


def cut_back(folder: Path, iteration: int, promotions: list[Entry] | None) -> tuple[list[Entry], str]:
    """Prepares the match log of a run that resumes from `iteration`: removes the matches after it, and writes
    metadata.json anew if it does not tell of the `promotions` that the checkpoint knows (None: those of the file, in
    a run from before checkpoints held them). Returns the promotions, and one line if the file lacked any, or "".

    Raises:
        ConfigError: files that cannot be read or written, and that no checkpoint can restore.
    """
    match_log.cut_back(folder, iteration)
    file, wrong = folder / METADATA, ""
    try:
        found = files.read_json(file, {"promotions": [{"iteration": int}]})
    except ConfigError as error:
        if promotions is None:
            raise
        found, wrong = None, str(error)
    earlier = [entry for entry in found["promotions"] if entry["iteration"] <= iteration] if found else []
    promotions = earlier if promotions is None else promotions
    if (found or wrong or promotions) and found != content_of(folder, promotions):
        write_metadata(folder, promotions)
    if not wrong and earlier != promotions:
        wrong = f"{file}: does not tell of the promotions that the checkpoint knows"
    return promotions, f"{wrong}; written anew with the {len(promotions)} of the checkpoint" if wrong else ""


def content_of(folder: Path, promotions: list[Entry]) -> dict[str, Any]:
    return {
        "name": folder.name,
        "best": promotions[-1]["iteration"] if promotions else 0,
        "promotions": promotions,
    }


def write_metadata(folder: Path, promotions: list[Entry]) -> None:
    files.check_regular(folder / METADATA)
    files.write(folder / METADATA, json.dumps(content_of(folder, promotions), indent=2) + "\n")
