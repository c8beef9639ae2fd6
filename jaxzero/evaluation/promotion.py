"""Promotion: the latest network replaces `best`, which plays the games that are learned from, when it beats it.

AlphaGo Zero's gate (Silver et al. 2017, methods, "Evaluator"): a score above a threshold; or a sequential test. Kept in
the run's folder are metadata.json (which network is best, what was promoted when and why), arena.csv (every match) and
last_arena.json (the last one).
"""

import csv
import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.stats import binom

from envs import Env
from jaxzero.config import Config, PromotionConfig
from jaxzero.evaluation import matches
from jaxzero.evaluation.players import search_agent
from jaxzero.evaluation.sprt import Sprt, pair_counts
from jaxzero.networks import Network

Row = dict[str, Any]
METADATA, HISTORY, LAST = "metadata.json", "arena.csv", "last_arena.json"
COLUMNS: tuple[str, ...] = (
    "iteration", "against", "timestamp", "promoted", "games", "wins", "draws", "losses", "score", "low", "high",
    "mean_length", "reason",
)  # fmt: skip
FEW = 300  # games below which a threshold of 0.55 promotes equals too often


def make(env: Env, network: Network, config: Config) -> Callable[[Any, Any, jax.Array], Row]:
    """The match `(latest, best, key) -> summary` of folded parameters, with "promoted" and "reason"."""
    settings = config.promotion
    agent = search_agent(env, network, config, settings.simulations)
    games = settings.games if settings.rule == "threshold" else min(settings.batch, settings.games)
    match = matches.play(env, agent, agent, games, settings.opening_plies)
    return threshold_rule(match, settings) if settings.rule == "threshold" else sprt_rule(match, settings, games)


def threshold_rule(match: Callable[..., matches.MatchResult], settings: PromotionConfig) -> Callable[..., Row]:
    def decide(latest: Any, best: Any, key: jax.Array) -> Row:
        result = matches.summary(match(latest, best, key))
        promoted = result["score"] > settings.threshold
        relation = "above" if promoted else "not above"
        reason = f"score {result['score']:.3f} of {result['games']} games is {relation} {settings.threshold:g}"
        return {**result, "promoted": promoted, "reason": reason}

    return decide


def sprt_rule(match: Callable[..., matches.MatchResult], settings: PromotionConfig, games: int) -> Callable[..., Row]:
    sprt = Sprt(settings.elo0, settings.elo1, settings.alpha, settings.beta)
    hypotheses = f"Elo {sprt.elo1:g} against {sprt.elo0:g}"

    def decide(latest: Any, best: Any, key: jax.Array) -> Row:
        results: list[matches.MatchResult] = []
        for number in range(settings.games // games):
            results.append(jax.device_get(match(latest, best, jax.random.fold_in(key, number))))
            if sprt.verdict(pair_counts(joined(results).outcomes)):
                break
        result, counts = matches.summary(joined(results)), pair_counts(joined(results).outcomes)
        verdict, ratio, (lower, upper) = sprt.verdict(counts), sprt.llr(counts), sprt.bounds
        place = {"H1": f"reached {upper:.2f}", "H0": f"fell to {lower:.2f}", "": "is undecided"}[verdict]
        reason = f"log-likelihood ratio {ratio:.2f} of {hypotheses} {place} after {result['games']} games"
        return {**result, "llr": ratio, "promoted": verdict == "H1", "reason": reason}

    return decide


def joined(results: list[matches.MatchResult]) -> matches.MatchResult:
    return jax.tree.map(lambda *x: np.concatenate(x, 1), *results)


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


def record(folder: Path, iteration: int, best: int, result: Row, timestamp: str) -> None:
    """Keeps the match of the latest network, of `iteration`, against that of iteration `best`."""
    entry = {"iteration": iteration, "against": best, "timestamp": timestamp, **result}
    write(folder / LAST, json.dumps(entry, indent=2) + "\n")
    write_history(folder, [*read_history(folder), flat(entry)])
    write_metadata(folder, promotions(folder) + ([entry] if result["promoted"] else []))


def cut_back(folder: Path, iteration: int) -> None:
    """Removes what was recorded after `iteration`, the one that the run resumes from."""
    rows, kept = read_history(folder), [entry for entry in promotions(folder) if entry["iteration"] <= iteration]
    if any(int(row["iteration"]) > iteration for row in rows):
        write_history(folder, [row for row in rows if int(row["iteration"]) <= iteration])
        write_metadata(folder, kept)
        (folder / LAST).unlink(missing_ok=True)


def promotions(folder: Path) -> list[Row]:
    file = folder / METADATA
    return json.loads(file.read_text(encoding="utf-8"))["promotions"] if file.exists() else []


def write_metadata(folder: Path, entries: list[Row]) -> None:
    content = {"name": folder.name, "best": entries[-1]["iteration"] if entries else 0, "promotions": entries}
    write(folder / METADATA, json.dumps(content, indent=2) + "\n")


def flat(entry: Row) -> Row:
    """A match as a row of arena.csv."""
    low, high = entry["interval"]
    return {name: entry[name] for name in COLUMNS if name in entry} | {"low": low, "high": high}


def read_history(folder: Path) -> list[Row]:
    file = folder / HISTORY
    if not file.exists():
        return []
    with open(file, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def write_history(folder: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write(folder / HISTORY, text.getvalue())


def write(file: Path, text: str) -> None:
    """Whole or not at all."""
    draft = file.with_name(file.name + ".tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, file)
