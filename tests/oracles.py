"""How deep the tests of games go: `CONFORMANCE=1` (`make conformance`) makes them go deep."""

import os

FULL = os.environ.get("CONFORMANCE") == "1"


def games(few: int, many: int = 10_000) -> int:
    """How many games to compare: `many` in a conformance run."""
    return many if FULL else few
