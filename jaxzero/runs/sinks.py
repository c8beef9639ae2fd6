"""Where the rows of a run go beside metrics.jsonl. A new kind is one class or function, and one line in `SINKS`.

A sink begins at the given iteration: what an interrupted run has written of it or later no longer counts.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from jaxzero.messages import ConfigError
from jaxzero.runs import table


class Sink(Protocol):
    def write(self, row: dict[str, Any]) -> None:
        """Takes one row; OSError where it cannot."""

    def close(self) -> None:
        """Ends the sink; nothing is written afterwards."""


@contextlib.contextmanager
def without_torch() -> Iterator[None]:
    """Lets torch seem absent: tensorboardX imports it for functions unused here, 1.3 of 5 s of a second start."""
    loaded = "torch" in sys.modules
    if not loaded:
        sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        if not loaded:
            del sys.modules["torch"]


class TensorBoard:
    """The numbers of rows as TensorBoard's events.

    They are written in the caller's thread: the writing thread of tensorboardX ends on a full disk, and whoever writes
    on waits for it for ever.
    """

    def __init__(self, folder: Path, begin: int):
        with without_torch():  # late: a slow import
            from tensorboardX import event_file_writer, summary
            from tensorboardX.proto import event_pb2

        folder = folder / "tensorboard"
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder}: is not a folder; move it aside, or leave tensorboard out of log.sinks")
        folder.mkdir(parents=True, exist_ok=True)
        proto: Any = event_pb2
        self._scalar, self._event, self._flushed = summary.scalar, proto.Event, time.monotonic()
        # The name has whole seconds: a second log opened within one would overwrite the first.
        self._writer = event_file_writer.EventsWriter(str(folder.absolute() / "events"), f".{time.time_ns()}")
        # Hides the events of rows that a resumed run repeats.
        start = proto.SessionLog(status=proto.SessionLog.START)
        self._writer.write_event(self._event(wall_time=time.time(), step=begin, session_log=start))
        self._writer.flush()

    def write(self, row: dict[str, Any]) -> None:
        numbers = ((k, v) for k, v in row.items() if isinstance(v, int | float) and k not in ("iteration", "span"))
        for name, value in numbers:
            summary = self._scalar(table.tag(name), value)
            self._writer.write_event(self._event(wall_time=time.time(), step=row["iteration"], summary=summary))
        if time.monotonic() - self._flushed > 10:
            self._writer.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._writer.close()


SINKS: dict[str, Callable[[Path, int], Sink]] = {"tensorboard": TensorBoard}
"""By their names in `log.sinks`: made of the run's folder and the iteration to begin with."""
