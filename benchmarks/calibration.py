"""Do the numbers of `jaxzero rate` and of promotion hold up? Players of known strength, thousands of games.

    python -m benchmarks.calibration

The player of tic-tac-toe is perfect but for a share of random moves. Its expected score against the same player with
another share is computed exactly, by recursion over all positions; played games must agree with it. Then

- 100 times 200 games are rated; the 95 % interval must hold the exact Elo difference in 90 or more of them;
- 100 times an equal challenger meets `best`; SPRT (alpha 0.05) may promote it in 10 of them at most, and a threshold as
  often as `false_promotion` says, or less.

Prints one JSON object a line.
"""

import functools
import json
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import random_action
from envs.tic_tac_toe import FULL, TicTacToe
from jaxzero.config.schema import PromotionConfig
from jaxzero.evaluation import matches, promotion, rating
from jaxzero.evaluation.base import Player
from jaxzero.evaluation.sprt import pair_counts
from jaxzero.solvers.tic_tac_toe import LINES, move_values

OPENING_PLIES = 2
REPEATS, GAMES = 100, 200
SHARES = ((0.3, 0.3), (0.2, 0.3), (0.1, 0.6), (0.0, 0.9))  # of random moves, of the player and the other


def best_moves() -> np.ndarray:
    """bool[512, 512, 9]: the moves that keep the value, by the mover's squares and the other's."""
    table = np.ones((FULL + 1, FULL + 1, 9), bool)

    def visit(mine: int, theirs: int) -> None:
        values = move_values(mine, theirs)
        table[mine, theirs] = [values.get(square, -2) == max(values.values()) for square in range(9)]
        for square in values:
            after = mine | 1 << square
            if not ended(after, theirs) and table[theirs, after].all():
                visit(theirs, after)

    visit(0, 0)
    return table


def ended(mine: int, theirs: int) -> bool:
    return any(mine & line == line for line in LINES) or mine | theirs == FULL


def erring(env: TicTacToe) -> Player:
    """Its parameters are (table, share): a random best move by the table, or in that share of its moves any."""

    def play(params, keys, states):
        table, share = params

        def choose(key, state):
            slip, draw = jax.random.split(key)
            mine, theirs = state.stones[state.player], state.stones[1 - state.player]
            legal = env.legal_actions(state)
            return random_action(draw, jnp.where(jax.random.uniform(slip) < share, legal, legal & table[mine, theirs]))

        return jax.vmap(choose)(keys, states)

    return play


def expected_score(first: float, second: float) -> float:
    """Exact mean score of the player with the share `first` of random moves, openings and both sides included."""
    shares = first, second

    @functools.cache
    def value(mine: int, theirs: int, mover: int, random_plies: int) -> float:
        """Expected score of player 0 of `shares`, when `mover` is to move."""
        values = move_values(mine, theirs)
        best = [square for square, v in values.items() if v == max(values.values())]
        share = 1.0 if random_plies else shares[mover]
        total = 0.0
        for square in values:
            chance = share / len(values) + (1 - share) * (square in best) / len(best)
            after = mine | 1 << square
            if any(after & line == line for line in LINES):
                total += chance * (1.0 - mover)
            elif after | theirs == FULL:
                total += chance / 2
            else:
                total += chance * value(theirs, after, 1 - mover, max(0, random_plies - 1))
        return total

    return float(np.mean([value(0, 0, mover, n) for mover in (0, 1) for n in range(OPENING_PLIES + 1)]))


def coverage(play: Callable[[float, float], np.ndarray], first: float, second: float) -> dict[str, Any]:
    """How often the interval of a rating holds the exact difference."""
    score = expected_score(first, second)
    elo = 400 * math.log10(score / (1 - score))
    outcomes = play(first, second)
    ratings = [
        rating.fit({("a", "b"): pair_counts(part)}, "b", seed)
        for seed, part in enumerate(np.split(outcomes, REPEATS, 1))
    ]
    inside = sum(low <= elo <= high for low, high in (each.interval("a") for each in ratings))
    return {
        "random_moves": [first, second], "exact_score": round(score, 4), "exact_elo": round(elo, 1),
        "played_score": round(float((outcomes.mean() + 1) / 2), 4),
        "mean_elo": round(float(np.mean([each.elo[0] for each in ratings])), 1),
        "mean_width": round(float(np.mean([np.ptp(each.interval("a")) for each in ratings])), 1),
        "inside": inside, "of": REPEATS,
    }  # fmt: skip


def promoted(pool: np.ndarray, settings: PromotionConfig, repeats: int) -> dict[str, Any]:
    """How often the rule promotes a challenger whose pairs are drawn from those played, i8[2, G]."""
    rng = np.random.default_rng(0)

    def play(games: int) -> Callable[..., matches.MatchResult]:
        def match(latest: Any, best: Any, key: jax.Array) -> matches.MatchResult:
            outcomes = pool[:, rng.integers(pool.shape[1], size=games // 2)]
            return matches.MatchResult(outcomes, np.zeros(outcomes.shape, np.int32))  # pyright: ignore[reportArgumentType]

        return match

    if settings.rule == "threshold":
        decide = promotion.threshold_rule(play(settings.games), settings)
        facts: dict[str, Any] = {"threshold": settings.threshold, "games": settings.games}
        facts["stated"] = round(promotion.false_promotion(settings.games, settings.threshold), 4)
    else:
        decide = promotion.sprt_rule(play(settings.batch), settings, settings.batch)
        facts = {"elo1": settings.elo1, "alpha": settings.alpha, "games": settings.games}
    results = [decide(None, None, jax.random.key(0)) for _ in range(repeats)]
    facts["mean_games"] = round(float(np.mean([decision.result.outcomes.size for decision in results])))
    return {"rule": settings.rule, **facts, "promoted": sum(r.promoted for r in results), "of": repeats}


def main() -> None:
    env, table = TicTacToe(), jnp.asarray(best_moves())
    player, keys = erring(env), iter(jax.random.split(jax.random.key(0), 10))
    match = matches.play(env, player, player, REPEATS * GAMES, OPENING_PLIES)

    def play(first: float, second: float) -> np.ndarray:
        return np.asarray(match((table, jnp.float32(first)), (table, jnp.float32(second)), next(keys)).outcomes)

    for first, second in SHARES:
        print(json.dumps(coverage(play, first, second)), flush=True)
    for name, share in (("equal", 0.3), ("stronger", 0.2)):
        pool = play(share, 0.3)
        for settings in (
            PromotionConfig("sprt"), PromotionConfig("sprt", games=10_000), PromotionConfig("threshold", games=20),
            PromotionConfig("threshold", games=100), PromotionConfig("threshold", games=300),
        ):  # fmt: skip
            print(json.dumps({"challenger": name, **promoted(pool, settings, REPEATS)}), flush=True)


if __name__ == "__main__":
    main()
