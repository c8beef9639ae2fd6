"""The sequential test against hand-worked ratios, a general optimiser and simulated error rates."""

import math

import numpy as np
import pytest
from scipy.linalg import null_space
from scipy.optimize import minimize

from jaxzero.evaluation.sprt import Sprt, expected_score, pair_counts
from jaxzero.messages import ConfigError

SCORES = np.arange(5) / 4  # of a pair of games: two lost, lost and drawn, …, two won


def test_pairs_of_wins_and_losses_are_a_binomial_test():
    """Worked by hand: with two scores alone a pair is won with probability s, so LLR = W·ln(s1/s0) + L·ln(…)."""
    sprt = Sprt(elo0=0, elo1=400 * math.log10(0.6 / 0.4))  # expected scores ½ and 0.6
    by_hand = 60 * math.log(0.6 / 0.5) + 40 * math.log(0.4 / 0.5)  # 2.0136
    assert sprt.llr(np.array([40, 0, 0, 0, 60])) == pytest.approx(by_hand, abs=0.01)
    assert by_hand == pytest.approx(2.0136, abs=1e-4)


def test_the_ratio_is_that_of_two_constrained_fits():
    """The same two maxima by a general optimiser over the five probabilities."""

    def best(counts, mean):
        free = null_space(np.stack([np.ones(5), SCORES]))
        start = 0.2 + (mean - 0.5) * (SCORES - 0.5) / ((SCORES - 0.5) ** 2).sum()  # sums to 1, has that mean

        def loss(x):
            p = start + free @ x
            return math.inf if p.min() <= 0 else -counts @ np.log(p)

        options = {"xatol": 1e-9, "fatol": 1e-9, "maxiter": 5000, "maxfev": 5000}
        found = minimize(loss, np.zeros(3), method="Nelder-Mead", options=options)
        assert found.success
        return -found.fun

    for counts, bounds in (([3, 21, 60, 28, 7], (0, 20)), ([9, 30, 24, 10, 2], (-5, 5)), ([1, 2, 5, 40, 70], (0, 50))):
        counts = np.array(counts)
        wanted = best(counts, expected_score(bounds[1])) - best(counts, expected_score(bounds[0]))
        assert Sprt(*bounds).llr(counts) == pytest.approx(wanted, abs=1e-5)


def test_bounds_and_verdicts():
    sprt = Sprt(elo0=0, elo1=20, alpha=0.05, beta=0.1)
    assert sprt.bounds == pytest.approx((math.log(0.1 / 0.95), math.log(0.9 / 0.05)))
    assert sprt.verdict(np.zeros(5, int)) == ""
    assert sprt.verdict(np.array([0, 1, 2, 1, 0])) == ""
    assert sprt.verdict(np.array([0, 0, 0, 0, 60])) == "H1"  # 60·ln(0.529 / 0.5) = 3.3
    assert sprt.verdict(np.array([60, 0, 0, 0, 0])) == "H0"
    assert sprt.verdict(np.array([0, 0, 500, 0, 0])) == "H0"  # a deterministic player against itself


def test_pairs_are_counted_by_the_sum_of_their_two_games():
    outcomes = np.array([[1, 1, 1, 0, -1, 0], [1, 0, -1, 0, -1, -1]], np.int8)
    assert pair_counts(outcomes).tolist() == [1, 1, 2, 1, 1]


@pytest.mark.parametrize("bad", [(5, 5), (0, math.inf), (0, 10, 0), (0, 10, 0.05, 0.5)])
def test_a_test_that_cannot_be_made_is_refused(bad):
    with pytest.raises(ConfigError, match=r"elo0|alpha|beta"):
        Sprt(*bad)


@pytest.mark.parametrize(("elo", "wrong"), [(0.0, "H1"), (60.0, "H0")])
def test_error_rates_are_kept(elo, wrong):
    """Pairs of correlated games with draws, drawn at the edge of either hypothesis: wrong in at most about 5 of 100."""
    shape = np.array([0.12, 0.18, 0.4, 0.18, 0.12])
    tilt = next(t for t in np.linspace(0, 3, 3001) if tilted(shape, t) @ SCORES >= expected_score(elo))
    sprt, rng, verdicts = Sprt(0, 60), np.random.default_rng(0), []
    for _ in range(200):
        counts = np.zeros(5, int)
        while not (verdict := sprt.verdict(counts)):
            counts += rng.multinomial(10, tilted(shape, tilt))
        verdicts.append(verdict)
    assert verdicts.count(wrong) <= 17  # 5 % of 200, and 2.3 standard deviations


def tilted(shape: np.ndarray, tilt: float) -> np.ndarray:
    weights = shape * np.exp(tilt * SCORES)
    return weights / weights.sum()
