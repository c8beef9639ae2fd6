"""Promotion: the latest network replaces `best`, which plays the games that are learned from, when it beats it.

AlphaGo Zero's gate (Silver et al. 2017, methods, "Evaluator"): a score above a threshold; or a sequential test. Kept in
the run's folder are metadata.json (which network is best, what was promoted when and why) and the books of matches.
"""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from scipy.stats import binom

from envs import Env
from jaxzero.config import Config, PromotionConfig
from jaxzero.evaluation import arena, books, matches
from jaxzero.evaluation.base import Contestant, Player
from jaxzero.evaluation.matches import MatchResult
from jaxzero.evaluation.players import search_agent
from jaxzero.evaluation.sprt import Sprt, pair_counts
from jaxzero.networks import Network

METADATA = "metadata.json"
FEW = 300  # games below which a threshold of 0.55 promotes equals too often


class Decision(NamedTuple):
    result: MatchResult  # of the latest network against the best
    promoted: bool
    reason: str


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
    folder: Path, config: Config, agent: Player, iteration: int, best: int, decision: Decision, seconds: float
) -> dict[str, Any]:
    """Keeps the match of the latest network, of `iteration`, against that of iteration `best`; returns its facts."""
    settings = config.promotion
    latest, other = (Contestant(f"{folder.name}@{step}:{settings.simulations}", agent) for step in (iteration, best))
    sprt = sprt_of(settings) if settings.rule == "sprt" else None
    match = arena.Match(settings.games, settings.opening_plies, config.seed, settings.batch, sprt)
    facts = arena.report(config.game, latest, other, match, decision.result, seconds)
    facts |= {"iteration": iteration, "against": best, "promoted": decision.promoted, "reason": decision.reason}
    books.enter(folder, facts)
    kept = "iteration", "against", "timestamp", "score", "interval", "games", "wins", "draws", "losses", "reason"
    entry = [{name: facts[name] for name in kept}] if decision.promoted else []
    write_metadata(folder, promotions(folder) + entry)
    return facts


def cut_back(folder: Path, iteration: int) -> None:
    """Removes promotions and their matches after `iteration`, the one that the run resumes from."""
    books.cut_back(folder, iteration)
    entries = promotions(folder)
    kept = [entry for entry in entries if entry["iteration"] <= iteration]
    if len(kept) < len(entries):
        write_metadata(folder, kept)


def promotions(folder: Path) -> list[dict[str, Any]]:
    """What has been promoted, oldest first."""
    file = folder / METADATA
    return json.loads(file.read_text(encoding="utf-8"))["promotions"] if file.exists() else []


def write_metadata(folder: Path, entries: list[dict[str, Any]]) -> None:
    content = {"name": folder.name, "best": entries[-1]["iteration"] if entries else 0, "promotions": entries}
    draft = folder / (METADATA + ".tmp")
    draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(draft, folder / METADATA)
