"""The record of a run: rows in metrics.jsonl and TensorBoard, events and tracebacks in run.log.

metrics.jsonl is the truth: one JSON object a line, NaN and infinities as null. TensorBoard is a view of it.
"""

import contextlib
import json
import logging
import math
import os
import pathlib
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]

_GROUPS = {
    "loss": (
        *("loss", "policy_loss", "value_loss", "reward_loss", "follows_loss", "codes_loss", "consistency_loss"),
        *("reward_error", "latent_norm", "gradient_norm", "lr", "policy_entropy"),
    ),
    "selfplay": ("value_error", "value_correlation", "game_length", "points", "window"),
    "outcome": ("first_player_wins", "draws", "second_player_wins"),
    "total": ("seconds", "games", "positions", "updates"),
    "speed": ("games_per_s", "positions_per_s", "simulations_per_s", "samples_per_s"),
    "time": ("self_play_s", "learn_s", "evaluation_s", "promotion_s", "checkpoint_s", "compile_s"),
    "hardware": ("device_memory_mb", "device_utilisation", "cpu_percent", "memory_mb"),
}
_TAGS = {key: f"{group}/{key}" for group, keys in _GROUPS.items() for key in keys}


class MetricsLog:
    """Appends rows to `folder/metrics.jsonl` and `folder/tensorboard`. When resuming, call `cut_back` first."""

    def __init__(self, folder: str | os.PathLike[str], tensorboard: bool = True):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        rows = read(folder)
        self._file = _path(folder).open("a", encoding="utf-8")
        self._events = None
        if tensorboard:
            self._events = _Events(folder / "tensorboard", rows[-1]["iteration"] + 1 if rows else 0)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row. It is in the hands of the operating system on return, so it survives a killed process."""
        row = {key: value.item() if hasattr(value, "item") else value for key, value in row.items()}
        self._file.write(_line(row))
        self._file.flush()
        if self._events is not None:
            self._events.write(row)

    def close(self) -> None:
        """Flush and close the files; nothing is written afterwards."""
        self._file.close()
        if self._events is not None:
            self._events.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Events:
    """The numbers of rows as TensorBoard's events. Written in the caller's thread: the writing thread of tensorboardX
    ends on a full disk, and whoever writes on waits for it for ever."""

    def __init__(self, folder: pathlib.Path, purge: int):
        # Late: a slow import, and optional.
        from tensorboardX import event_file_writer, summary
        from tensorboardX.proto import event_pb2

        folder.mkdir(parents=True, exist_ok=True)
        proto: Any = event_pb2
        self._scalar, self._event, self._flushed = summary.scalar, proto.Event, time.monotonic()
        # The name has whole seconds: a second log opened within one would overwrite the first.
        self._writer = event_file_writer.EventsWriter(str(folder.absolute() / "events"), f".{time.time_ns()}")
        # Hides the events of rows that cut_back removed.
        start = proto.SessionLog(status=proto.SessionLog.START)
        self._writer.write_event(self._event(wall_time=time.time(), step=purge, session_log=start))
        self._writer.flush()

    def write(self, row: Row) -> None:
        numbers = ((k, v) for k, v in row.items() if isinstance(v, int | float) and k != "iteration")
        for key, value in numbers:
            summary = self._scalar(_tag(key), value)
            self._writer.write_event(self._event(wall_time=time.time(), step=row["iteration"], summary=summary))
        if time.monotonic() - self._flushed > 10:
            self._writer.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._writer.close()


def read(folder: str | os.PathLike[str]) -> list[Row]:
    """The rows of a run, oldest first. A last line torn by a crash is left out; a broken line elsewhere raises."""
    path = _path(folder)
    lines = path.read_bytes().splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise ValueError(f"{path}, line {number} is not JSON; mend or delete that line") from None
    return rows


def cut_back(folder: str | os.PathLike[str], iteration: int) -> None:
    """Remove what a run wrote after `iteration`, the one it resumes from: rows, evaluations, a torn last line."""
    path = _path(folder)
    rows = [row for row in read(folder) if row["iteration"] <= iteration]
    if path.exists():
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(map(_line, rows)), encoding="utf-8")
        os.replace(temporary, path)
    for evaluation in pathlib.Path(folder, "evaluations").glob("iteration_*"):
        number = evaluation.name.removeprefix("iteration_")
        if number.isdecimal() and int(number) > iteration:
            shutil.rmtree(evaluation)


class _LogFile(logging.FileHandler):
    """Says nothing when it cannot write, as on a full disk: whoever else needs the disk reports that, in one line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


def open_log(folder: str | os.PathLike[str]) -> logging.Logger:
    """The `jaxzero` logger, writing to `folder/run.log` and never to the terminal.

    Uncaught exceptions, also those of threads, go there with their traceback; the terminal gets one line. What Python
    can only ignore, such as an error while an object is deleted, goes there alone.
    """
    path = pathlib.Path(folder, "run.log")
    path.parent.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger("jaxzero")
    for handler in list(log.handlers):
        if isinstance(handler, logging.FileHandler):  # of an earlier run in the same process
            log.removeHandler(handler)
            handler.close()
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False

    def uncaught(kind, error, traceback, where="uncaught exception"):
        log.critical(where, exc_info=(kind, error, traceback))
        print(f"{kind.__name__}: {error} (traceback in {path})", file=sys.stderr)

    def uncaught_in_thread(args):
        name = args.thread.name if args.thread else "?"
        uncaught(args.exc_type, args.exc_value, args.exc_traceback, f"uncaught exception in thread {name}")

    def ignored(args):
        trace = (args.exc_type, args.exc_value, args.exc_traceback)
        log.warning("ignored: %s", args.err_msg or args.object, exc_info=trace)

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
    sys.unraisablehook = ignored
    return log


def _path(folder: str | os.PathLike[str]) -> pathlib.Path:
    return pathlib.Path(folder, "metrics.jsonl")


def _line(row: Row) -> str:
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"


def _tag(key: str) -> str:
    return key if "/" in key else _TAGS.get(key, f"other/{key}")
