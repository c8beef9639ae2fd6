"""Which games to read: by ratings, date, length, result."""

import dataclasses
import datetime
import re
from typing import Any

import numpy as np
import pyarrow as pa

from jaxzero.data.rules import ragged
from jaxzero.messages import ConfigError
from jaxzero.records import RecordFormat

RESULTS = {"first": 1, "second": -1, "draw": 0, "unknown": None}
DAY = re.compile(r"(\d{4})(?:[-./](\d\d?|\?\?)(?:[-./](\d\d?|\?\?))?)?", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Filter:
    """Games to keep; a game that does not tell what is asked for is left out."""

    min_rating: int | None = None  # of both players
    after: str = ""  # a day: played then or later
    before: str = ""  # a day: played earlier
    min_plies: int = 0
    max_plies: int | None = None
    result: tuple[str, ...] = ()  # names of RESULTS

    def check(self) -> None:
        """Raises:
        ConfigError: a day or a result that is none.
        """
        for name in ("after", "before"):
            text = getattr(self, name)
            if text and not days(text):
                raise ConfigError(f"{name}: {text!r} is no day such as 2024-01-31")
        if unknown := [name for name in self.result if name not in RESULTS]:
            raise ConfigError(f"result: {unknown[0]!r} is none of {', '.join(RESULTS)}")

    def keep(self, games: pa.Table, form: RecordFormat) -> np.ndarray:
        """bool[G]"""
        plies = ragged(games.column("actions")).lengths
        kept = plies >= self.min_plies
        if self.max_plies is not None:
            kept &= plies <= self.max_plies
        if self.result:
            wanted = {RESULTS[name] for name in self.result}
            rewards = games.column("result").to_pylist()
            kept &= [None in wanted if r is None else float(np.sign(r[0])) in wanted for r in rewards]
        if self.min_rating is not None or self.after or self.before:
            kept &= [self.fits(dict(headers or ()), form) for headers in games.column("headers").to_pylist()]
        return kept

    def fits(self, headers: dict[str, Any], form: RecordFormat) -> bool:
        if self.min_rating is not None:
            ratings = [headers.get(name, "").strip() for name in form.ratings]
            if not ratings or not all(re.fullmatch(r"\d{1,5}\??", text, re.ASCII) for text in ratings):
                return False
            if min(int(text.rstrip("?")) for text in ratings) < self.min_rating:
                return False
        if self.after or self.before:
            texts = (headers[name] for name in form.dates if name in headers)
            played = next(filter(None, map(days, texts)), None)
            if not played:
                return False
            if self.after and played[0] < (days(self.after) or played)[0]:
                return False
            if self.before and played[1] >= (days(self.before) or played)[0]:
                return False
        return True


def days(text: str) -> tuple[datetime.date, datetime.date] | None:
    """The first and last day that a date such as 2024.01.31, 2024-01 or 2024.??.?? may mean; None for no date."""
    match = DAY.match(text.strip())
    if not match:
        return None
    year, month, day = (int(part) if part and part != "??" else None for part in match.groups())
    try:
        first = datetime.date(year or 0, month or 1, (month and day) or 1)
        if month is None:
            return first, datetime.date(first.year, 12, 31)
        if day is None:
            following = datetime.date(first.year + month // 12, month % 12 + 1, 1)
            return first, following - datetime.timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    return first, first
