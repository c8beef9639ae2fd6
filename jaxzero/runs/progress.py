"""Progress on the terminal: a live bar of a run, or plain lines where stdout is a file or a pipe; a bar of a match."""

import collections
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

import jax
import rich.progress
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jaxzero.runs.table import is_score, text

LOSSES = ("loss", "policy_loss", "value_loss")  # shown


class Progress:
    """A context manager; `update` takes each row of the run."""

    def __init__(
        self,
        total_iterations: int,
        every: float = 10.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._every, self._clock = total_iterations, every, clock
        self._stream = stream or sys.stdout
        self._began = clock()
        self._marks: collections.deque[tuple[float, int]] = collections.deque(maxlen=100)
        self._printed = float("-inf")
        self._row: Mapping[str, Any] = {"iteration": 0}
        self._scores = ""
        self._live = None
        if is_terminal(self._stream):
            console = Console(file=self._stream)
            self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4)

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            with contextlib.suppress(OSError):
                self._live.stop()

    def update(self, row: Mapping[str, Any]) -> None:
        """Show a row. Plain lines come at most once in `every` seconds, but for evaluations and the last iteration."""
        self._row = row
        self._marks.append((self._clock(), row["iteration"]))
        scores = [f"{text(k)}={value:.0%}" for k, value in row.items() if is_score(k) and value is not None]
        if scores:
            self._scores = " ".join(scores)
        if self._live:
            return
        now = self._clock()
        if scores or row["iteration"] >= self._total or now - self._printed >= self._every:
            self._printed = now
            iteration = f"{row['iteration']}/{self._total}"
            parts = [f"iteration {iteration}", *self._times(), *self._figures(), self._scores if scores else ""]
            self._print("  ".join(filter(None, parts)))

    def message(self, text: str) -> None:
        """Print a line above the bar."""
        if self._live:
            with contextlib.suppress(OSError):
                self._live.console.print(text, markup=False, highlight=False)
        else:
            self._print(text)

    def eta(self) -> float | None:
        """Seconds left at the pace of the last rows; None before the second (what came before the first is compilation,
        or a run that is resumed)."""
        if len(self._marks) < 2:
            return None
        (begin, first), (end, last) = self._marks[0], self._marks[-1]
        if last <= first:
            return None
        return max(0.0, (self._total - last) * (end - begin) / (last - first) - (self._clock() - end))

    def _print(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a reader that went away, as in `| head`, must not stop the run
            print(text, file=self._stream, flush=True)

    def _times(self) -> list[str]:
        eta = self.eta()
        return [duration(self._clock() - self._began), f"eta {'?' if eta is None else duration(eta)}"]

    def _figures(self) -> list[str]:
        known = [name for name in ("positions_per_s", *LOSSES) if self._row.get(name) is not None]
        return [
            f"{text(name)} {self._row[name]:.3f}" if name in LOSSES else f"{short_number(self._row[name])} {text(name)}"
            for name in known
        ]

    def _render(self) -> Group:
        iteration = self._row["iteration"]
        bar = Table.grid(expand=True, padding=(0, 2, 0, 0))
        bar.add_column(ratio=1)
        cells = [f"{iteration}/{self._total}", f"{iteration / max(1, self._total):.0%}", *self._times()]
        for _ in cells:
            bar.add_column(no_wrap=True, justify="right")
        bar.add_row(ProgressBar(total=max(1, self._total), completed=iteration), *cells)
        lines = ["  ".join(self._figures()), f"evaluation  {self._scores}" if self._scores else ""]
        return Group(bar, *(Text(line) for line in lines if line))


class Watch:
    """How matches go, as a bar of the games that are over. `tell` is what a match calls each turn; it is None where
    `stream` is no terminal, so that nothing is computed for it."""

    def __init__(self, stream: TextIO | None = None):
        self.tell = self._tell if stream and is_terminal(stream) else None
        self._console = Console(file=stream)
        self._before = 0  # games over in earlier rounds
        self._over: dict[int, int] = {}  # in this one, by the first pair of a device
        self._lock = threading.Lock()  # each device tells from a thread of its own
        self._bar: rich.progress.Progress | None = None

    @contextlib.contextmanager
    def match(self, title: str, games: int) -> Iterator[None]:
        columns = [
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
        ]  # fmt: skip
        self._before, self._over = 0, {}
        bar = rich.progress.Progress(
            *columns, console=self._console, transient=True, redirect_stdout=False, disable=self.tell is None
        )
        with bar:
            bar.add_task(title, total=games, note="compiling")
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    def end_round(self) -> None:
        """Waits until all games of a round have been told of; what follows is of the next."""
        jax.effects_barrier()
        self._before, self._over = self._before + sum(self._over.values()), {}

    def _tell(self, pair: Any, over: Any, plies: Any) -> None:
        """Games that are over among those of a device, whose first pair is given, and the plies of the longest one."""
        pair, over, plies = int(pair), int(over), int(plies)
        with self._lock:
            self._over[pair] = over
            if self._bar:
                done = self._before + sum(self._over.values())
                self._bar.update(self._bar.task_ids[0], completed=done, note=f"ply {plies}")


def is_terminal(stream: TextIO) -> bool:
    """Not rich's own test, which FORCE_COLOR overrides."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def short_number(number: float) -> str:
    """Three digits and a unit: 12.3k."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:  # what would round to "1e+03"
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
