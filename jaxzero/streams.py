"""Standard streams that never end the work: what cannot be shown is replaced, what nobody takes is dropped."""

import errno
import io
import os
import select
import sys
from typing import Any

GONE = (errno.EPIPE, errno.EIO)  # a reader, as in `| head`, or a terminal that was closed


class Lenient(io.FileIO):
    """Output to a descriptor; from the first failure on it is dropped."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        while self.failure is None:
            try:
                if (count := super().write(data)) is not None:
                    return count
                select.select([], [self], [])  # others that share the descriptor may have made it non-blocking
            except OSError as failure:
                self.failure = failure
        return len(data)


def mend() -> None:
    """Replaces the streams of this process by lenient ones, also where a descriptor is closed (`>&-`)."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, this one; else the next file would
    sys.stdin = open(0, encoding=encoding(sys.stdin), errors="replace", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = (lenient(number, encoding(it)) for number, it in ((1, sys.stdout), (2, sys.stderr)))


def encoding(stream: Any) -> str:
    return stream.encoding if stream else "utf-8"


def lenient(descriptor: int, encoding: str) -> io.TextIOWrapper:
    raw = Lenient(descriptor, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "replace", line_buffering=True)


def lost(stream: Any) -> str:
    """Why a stream has lost what was written to it; "" if it has not, or if its reader had enough."""
    failure = getattr(getattr(getattr(stream, "buffer", None), "raw", None), "failure", None)
    return "" if failure is None or failure.errno in GONE else failure.strerror
