"""Sequential probability ratio test of a match: stop as soon as it is clear which player is the better one.

The unit is a pair of games, one opening played from both sides; its score for the agent is 0, ¼, ½, ¾ or 1, so that the
dependence of the two games and the share of draws are measured, not assumed ("pentanomial", as in fishtest). H0 says
that the agent's strength is `elo0`, H1 that it is `elo1`; all else about the five probabilities is fitted under each
(Li, Liu and Ying 2014, "Generalized sequential probability ratio test for separate families of hypotheses"; Van den
Bergh, "The generalized maximum likelihood ratio for the expectation value of a distribution", proposition 1.1).
"""

import dataclasses
import math
from typing import Any, Literal

import numpy as np

from jaxzero.config.schema import ConfigError

SCORES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])  # of a pair, for the agent
UNSEEN = 1e-3  # counted for a score that has not been seen, so that it stays possible


@dataclasses.dataclass(frozen=True)
class Sprt:
    """A test of H0, `elo0`, against H1, `elo1`: `alpha` is the probability to accept H1 where H0 holds, `beta` that to
    accept H0 where H1 holds.

    Raises:
        ConfigError: bounds not in order, or an error rate not between 0 and ½.
    """

    elo0: float = 0.0
    elo1: float = 20.0
    alpha: float = 0.05
    beta: float = 0.05

    def __post_init__(self) -> None:
        if not -math.inf < self.elo0 < self.elo1 < math.inf:
            raise ConfigError(f"elo0, elo1: must be finite and elo0 below elo1, got {self.elo0} and {self.elo1}")
        if max(abs(self.elo0), abs(self.elo1)) > 2000:
            raise ConfigError(f"elo0, elo1: must be from -2000 to 2000, got {self.elo0} and {self.elo1}")
        for name in ("alpha", "beta"):
            if not 0 < getattr(self, name) < 0.5:
                raise ConfigError(f"{name}: must be an error rate above 0 and below 0.5, got {getattr(self, name)}")

    @property
    def bounds(self) -> tuple[float, float]:
        """Log-likelihood ratios at which H0 and H1 are accepted (Wald 1945)."""
        return math.log(self.beta / (1 - self.alpha)), math.log((1 - self.beta) / self.alpha)

    def llr(self, counts: np.ndarray) -> float:
        """Log-likelihood ratio of H1 to H0 after `counts` int[5], pairs by score."""
        if not np.any(counts):
            return 0.0
        seen = np.where(np.asarray(counts) == 0, UNSEEN, counts)
        return log_likelihood(seen, expected_score(self.elo1)) - log_likelihood(seen, expected_score(self.elo0))

    def verdict(self, counts: np.ndarray) -> Literal["H0", "H1", ""]:
        """The hypothesis accepted, or "" while neither is."""
        (lower, upper), ratio = self.bounds, self.llr(counts)
        return "H1" if ratio >= upper else "H0" if ratio <= lower else ""


def expected_score(elo: float) -> float:
    """Score per game of a player `elo` points stronger than the other."""
    return 1 / (1 + 10 ** (-elo / 400))


def pair_counts(outcomes: Any) -> np.ndarray:
    """Pairs by score, i64[5], from a match's outcomes i8[2, G] (1, 0, -1)."""
    return np.bincount(np.asarray(outcomes, np.int64).sum(0) + 2, minlength=5)


def log_likelihood(counts: np.ndarray, mean: float) -> float:
    """Of the likeliest five probabilities whose expected score is `mean`, less that of the likeliest of all.

    They are p / (1 + x (score - mean)), p the observed shares, with the x that makes the mean right.
    """
    from scipy.optimize import brentq  # late: takes half a second, and few runs need it

    share, offset = counts / counts.sum(), SCORES - mean
    # The expectation falls from ∞ to -∞ between the two x at which a probability would be infinite.
    low, high = -1 / offset[-1], -1 / offset[0]
    x: Any = brentq(lambda x: share @ (offset / (1 + x * offset)), low * (1 - 1e-12), high * (1 - 1e-12))
    return -float(counts @ np.log1p(x * offset))
