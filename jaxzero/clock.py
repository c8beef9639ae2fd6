"""The time of day as it is written into files."""

import datetime


def timestamp(moment: datetime.datetime | None = None) -> str:
    """ISO 8601 to the second, in UTC; of now, or of a moment with a time zone."""
    return (moment or datetime.datetime.now(datetime.UTC)).astimezone(datetime.UTC).isoformat(timespec="seconds")
