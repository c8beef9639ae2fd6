"""Elo of all players at once, from the matches between them: one Bradley-Terry fit.

A draw counts half, and every two players that met count as having drawn one game more, which keeps the ratings of who
won or lost everything finite (choix gives the maximum of the likelihood: Maystre and Grossglauser 2015, "Fast and
accurate inference of Plackett-Luce models"). The 95 % intervals are percentiles of ratings fitted to pairs drawn anew
(Efron's bootstrap): the two games of a pair share their opening, so a pair is drawn as a whole.

Letters: P players, R draws of the bootstrap.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import choix
import numpy as np

from jaxzero.evaluation.sprt import SCORES

SCALE = 400 / math.log(10)  # Elo of a strength of e
DRAWS = 400
SPREAD = np.array([0.5, 0, 0, 0, 0.5])  # pairs added to those drawn from, so that a clean sweep does not look certain

Meetings = Mapping[tuple[str, str], Sequence[int] | np.ndarray]
"""(player, opponent) -> pairs by the player's score, int[5]."""


class Ratings(NamedTuple):
    """Elo of P players, that of `zero` being 0."""

    players: list[str]
    elo: np.ndarray  # f64[P]
    drawn: np.ndarray  # f64[R, P]  Elo of the bootstrap

    def interval(self, player: str, against: str | None = None) -> tuple[float, float]:
        """95 % interval of a player's Elo, or of its difference to another's."""
        column = self.drawn[:, self.players.index(player)]
        if against is not None:
            column = column - self.drawn[:, self.players.index(against)]
        low, high = np.percentile(column, [2.5, 97.5])
        return float(low), float(high)


def fit(meetings: Meetings, zero: str, seed: int = 0) -> Ratings:
    """The ratings of all who met.

    Raises:
        ValueError: some players are not linked to `zero` by matches.
    """
    players = list(dict.fromkeys(name for names in meetings for name in names))
    if apart := unlinked(players, meetings, zero):
        raise ValueError(f"no chain of matches links {', '.join(apart)} to {zero}")
    place = {name: i for i, name in enumerate(players)}
    pairs = [(place[a], place[b]) for a, b in meetings]
    counts = np.array(list(meetings.values()), float)  # [meetings, 5]
    strength = strengths(len(players), pairs, counts, None)
    rng, totals = np.random.default_rng(seed), counts.sum(1)
    shares = (counts + SPREAD) / (totals + SPREAD.sum())[:, None]
    middle = strengths(len(players), pairs, shares * totals[:, None], strength)  # which the draws lie around
    drawn = strength - middle + np.stack([
        strengths(len(players), pairs, rng.multinomial(totals.astype(int), shares), middle) for _ in range(DRAWS)
    ])  # fmt: skip
    origin = place[zero]
    return Ratings(players, SCALE * (strength - strength[origin]), SCALE * (drawn - drawn[:, origin, None]))


def strengths(number: int, pairs: list[tuple[int, int]], counts: np.ndarray, start: np.ndarray | None) -> np.ndarray:
    """Log-strengths f64[P] of the likeliest Bradley-Terry model, found from `start`."""
    points = np.zeros((number, number))
    for (a, b), count in zip(pairs, counts, strict=True):
        won = 2 * count @ SCORES
        points[a, b] += won + 0.5
        points[b, a] += 2 * count.sum() - won + 0.5
    return choix.ilsr_pairwise_dense(points, initial_params=start, max_iter=1000)


def unlinked(players: Sequence[str], meetings: Iterable[tuple[str, str]], zero: str) -> list[str]:
    """The players that no chain of matches links to `zero`."""
    reached, before = {zero}, 0
    while len(reached) > before:
        before = len(reached)
        reached |= {name for names in meetings if reached & set(names) for name in names}
    return [name for name in players if name not in reached]
