"""Fair timing: every side warm, in turns, each call waited for."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from scipy.stats import quantile_test


def interleave(
    calls: Mapping[str, Callable[[], Any]], rounds: int, clock: Callable[[], Any] = time.perf_counter
) -> dict[str, list[Any]]:
    """Seconds of each call in each round; two unmeasured rounds come first (compilation, then mid-game states)."""
    seconds: dict[str, list[Any]] = {name: [] for name in calls}
    for i in range(rounds + 2):
        for name, call in calls.items():
            start = clock()
            jax.block_until_ready(call())
            if i >= 2:
                seconds[name].append(clock() - start)
    return seconds


def row(label: str, work: float | list[float], seconds: list[float], unit: str) -> str:
    """A line of min, median and max of work / seconds; `work` may differ from round to round. From six rounds on with
    the 95 % interval of the median, by order statistics."""
    works = work if isinstance(work, list) else [work] * len(seconds)
    rates = [amount / spent for amount, spent in zip(works, seconds, strict=True)]
    low, middle, high = min(rates), statistics.median(rates), max(rates)
    line = f"{label:36s} {low:14,.2f} {middle:14,.2f} {high:14,.2f}  {unit} (min, median, max)"
    sure = quantile_test(rates).confidence_interval() if len(rates) >= 6 else None  # of fewer there is none
    return f"{line}; 95 % of medians {sure.low:,.2f} to {sure.high:,.2f}" if sure else line
