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
from collections.abc import Iterable, Mapping
from typing import Any

from jaxzero import files, messages
from jaxzero.config.schema import ConfigError

Row = dict[str, Any]
MOST_BYTES = 1 << 31  # of metrics.jsonl

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
            if (events := folder / "tensorboard").exists() and not events.is_dir():
                raise ConfigError(f"{events}: is not a folder; move it aside, or use --no-log.tensorboard")
            self._events = _Events(events, rows[-1]["iteration"] + 1 if rows else 0)

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
        numbers = ((k, v) for k, v in row.items() if isinstance(v, int | float) and k not in ("iteration", "span"))
        for key, value in numbers:
            summary = self._scalar(_tag(key), value)
            self._writer.write_event(self._event(wall_time=time.time(), step=row["iteration"], summary=summary))
        if time.monotonic() - self._flushed > 10:
            self._writer.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._writer.close()


def read(folder: str | os.PathLike[str]) -> list[Row]:
    """The rows of a run in the order of the file, without what `examine` says is none."""
    return examine(folder)[0]


def examine(folder: str | os.PathLike[str]) -> tuple[list[Row], str]:
    """The rows of a run in the order of the file, and one line on the lines that were skipped as they are none, or "".

    A row is an object of strict JSON whose "iteration" is a whole number above 0. A last line without a line break,
    torn by a crash, is no loss: a resumed run writes it again.

    Raises:
        ConfigError: metrics.jsonl is no file.
    """
    rows, skipped = [], []
    lines = (files.read(_path(folder), MOST_BYTES) or b"").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            row = files.parse_json(line)
            files.check_shape(row, {"iteration": int})
            if row["iteration"] < 1:
                raise ValueError("iteration is not above 0")
            rows.append(row)
        except ValueError as error:
            if line.endswith(b"\n"):
                skipped.append(f"line {number}: {error}")
    if not skipped:
        return rows, ""
    return rows, f"{_path(folder)}: {len(skipped)} of {len(lines)} lines skipped, as they are no rows ({skipped[0]})"


def cut_back(
    folder: str | os.PathLike[str], iteration: int, totals: Mapping[str, float] | None = None, every: int = 0
) -> str:
    """Prepares the record of a run that resumes from `iteration`: removes rows and evaluations after it, orders the
    rows, and drops doubled ones and what is no row of this run.

    Args:
        totals: of the checkpoint: seconds, games, positions and updates at `iteration`.
        every: iterations that rows cover, at most, which do not say it themselves ("span").

    Returns:
        One line on rows that are missing or were dropped, or ""; the file as it was is then kept beside it.

    Raises:
        ConfigError: metrics.jsonl is no file, or cannot be read.
    """
    path, evaluations = _path(folder), pathlib.Path(folder, "evaluations")
    rows, skipped = examine(folder)
    earlier = [row for row in rows if row["iteration"] <= iteration]
    own = [row for row in earlier if _fits(row, iteration, totals or {})]
    kept = {row["iteration"]: row for row in sorted(own, key=lambda row: row["iteration"])}  # the last one of doubles
    told = [skipped.removeprefix(f"{path}: ")]
    if len(own) < len(earlier):
        told.append(f"{len(earlier) - len(own)} rows that do not fit the checkpoint dropped")
    if len(kept) < len(own):
        twice = sorted({row["iteration"] for row in own if kept[row["iteration"]] is not row})
        told.append(f"doubled rows of iterations {_ranges((i, i) for i in twice)} dropped")
    damaged = any(told)
    if rows and not iteration:
        told.append(f"there is no checkpoint of its {max(row['iteration'] for row in rows)} iterations: starting anew")
        # The second row that tells of a commit was written after the first commit was done: it has been lost since,
        # while a run that was killed before is repeated to the letter.
        damaged |= sum("checkpoint_s" in row for row in rows) > 1
    if damaged:
        shutil.copyfile(path, kept_as := files.aside(path))
        told.append(f"the file as it was is {kept_as.name}")
        if not iteration and evaluations.is_dir():
            evaluations.rename(files.aside(evaluations))
    if path.exists():
        files.write(path, "".join(map(_line, kept.values())))
    if missing := _missing(list(kept.values()), iteration, every):
        told.append(f"rows of iterations {_ranges(missing)} are missing")
    for evaluation in evaluations.glob("iteration_*"):
        number = evaluation.name.removeprefix("iteration_")
        if number.isdecimal() and int(number) > iteration:
            evaluation.unlink() if evaluation.is_symlink() or not evaluation.is_dir() else shutil.rmtree(evaluation)
    return f"{path}: {'; '.join(filter(None, told))}" if any(told) else ""


def _fits(row: Row, iteration: int, totals: Mapping[str, float]) -> bool:
    """Whether a row up to `iteration` can be of the run that has these totals then."""
    for name, total in totals.items():
        value = row.get(name)
        if value is None:
            continue
        if not isinstance(value, int | float) or value > total or (row["iteration"] == iteration and value != total):
            return False
        if name == "positions" and value * iteration != total * row["iteration"]:  # as many in each iteration
            return False
    return True


def _missing(rows: list[Row], iteration: int, every: int) -> list[tuple[int, int]]:
    """Iterations up to `iteration` that no row covers, as first and last of each gap."""
    before, gaps = 0, []
    for row in rows:
        span = row.get("span", every)
        if type(span) is int and span > 0 and row["iteration"] - span > before:
            gaps.append((before + 1, row["iteration"] - span))
        before = row["iteration"]
    return gaps if before >= iteration else [*gaps, (before + 1, iteration)]


def _ranges(gaps: Iterable[tuple[int, int]]) -> str:
    return messages.shortened(", ".join(f"{a}-{b}" if a < b else f"{a}" for a, b in gaps), 120)


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
