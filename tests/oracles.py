"""How deep and how broad tests go: `CONFORMANCE=1` (`make conformance`) makes them go all the way."""

import os
from typing import Any

FULL = os.environ.get("CONFORMANCE") == "1"


def games(few: int, many: int = 10_000) -> int:
    """How many games to compare: `many` in a conformance run."""
    return many if FULL else few


def also(*cases: Any) -> tuple[Any, ...]:
    """Cases of a test that only a conformance run tries."""
    return cases if FULL else ()
