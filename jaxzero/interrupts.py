"""How a process is stopped from outside: by SIGINT (Ctrl-C), SIGTERM, or SIGHUP (its terminal was closed).

Python runs signal handlers in the main thread alone, once that is back from C++, where compiling a program or playing a
match on the device takes minutes; and libraries swallow the exception that a handler raises. So `guard` starts a thread
that is told of signals through a pipe, and that ends the process if the main thread does not.

Only the standard library is imported here, so that all of this is at work while the other imports take their seconds.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 1.0  # seconds the main thread has to end by itself
AGAIN = 0.2  # seconds after a signal in which others count as the same: some programs pass on what a terminal sends to all


class Interrupt:
    """While entered, SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt; unless `unsaved` says that work would be lost:
    then they are noted in `number`, for a loop that saves and ends, and a second SIGINT raises.

    A signal that is ignored from the start stays so: SIGHUP under nohup, SIGINT of a script's background jobs.
    """

    def __init__(self):
        self.number = 0  # of the first signal
        self.unsaved = ""  # what is waited for before everything is saved, such as "iteration 3"
        self.outlook: Callable[[], str] = str  # what has become of the work, for the last line
        self.since = 0.0  # when it came
        self._before: dict[int, Any] = {}
        self._last_line = threading.Lock()  # held from then on by the thread that says it

    @property
    def name(self) -> str:
        return signal.Signals(self.number).name if self.number else ""

    def __enter__(self) -> "Interrupt":
        global current
        current = self
        with contextlib.suppress(ValueError):  # only the main thread may set handlers
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, handle)
        return self

    def __exit__(self, *_: object) -> None:
        self.unsaved = ""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ended(self) -> int:
        """Says once that the work was interrupted, and what has become of it -> the exit status."""
        if self._last_line.acquire(blocking=False):
            outlook = ""
            with contextlib.suppress(Exception):
                outlook = self.outlook()
            say("interrupted" + f": {outlook}" * bool(outlook))
        return 128 + (self.number or signal.SIGINT)


current = Interrupt()  # that was entered last
_stderr = 2  # where the last line goes
_guarded, _hushed = threading.Event(), threading.Lock()


def handle(number: int, _: Any) -> None:
    """The handler of our signals, in the main thread."""
    first, current.number = not current.number, current.number or number
    if first:
        current.since = time.monotonic()
    if not current.unsaved:
        hush()
    elif first or number != signal.SIGINT or time.monotonic() < current.since + AGAIN:
        return
    raise KeyboardInterrupt


def hush() -> None:
    """Drops what is written to stderr from now on: work that is broken off complains in many voices."""
    global _stderr
    if _guarded.is_set() and _hushed.acquire(blocking=False):
        _stderr = os.dup(2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def broken_off() -> bool:
    """Whether this process ends at once, whatever it still does or raises."""
    return _hushed.locked()


def guard() -> None:
    """Makes signals end this process, in which nothing else runs, whatever the main thread does."""
    pipe, end = os.pipe()
    os.set_blocking(end, False)
    signal.set_wakeup_fd(end, warn_on_full_buffer=False)
    current.__enter__()
    _guarded.set()
    threading.Thread(target=watch, args=(pipe,), name="interrupts", daemon=True).start()


def watch(pipe: int) -> None:
    """Waits for a signal, and ends the process if the main thread does not: soon, or at a second SIGINT where work is
    to be saved first."""
    number = arrival(pipe, None)
    unsaved = current.unsaved
    if not unsaved:
        hush()
    time.sleep(AGAIN)
    while arrival(pipe, 0):
        pass
    # Most iterations end in that time too, and nothing is waited for.
    second = arrival(pipe, PATIENCE - AGAIN)
    if unsaved and second != signal.SIGINT:
        say(f"{signal.Signals(number).name}: finishing {unsaved}, then saving; Ctrl-C stops at once")
        while arrival(pipe, None) != signal.SIGINT:
            pass
    hush()
    current.number = current.number or number
    leave(current.ended())


def arrival(pipe: int, seconds: float | None) -> int:
    """The next of our signals, 0 if none comes within so many seconds."""
    while select.select([pipe], [], [], seconds)[0]:
        if (number := os.read(pipe, 1)[0]) in SIGNALS:
            return number
    return 0


def say(text: str) -> None:
    """A line on stderr."""
    if _stderr == 2:
        print(text, file=sys.stderr, flush=True)
    elif select.select([], [_stderr], [], 0)[1]:  # else nobody reads it, and writing would wait
        with contextlib.suppress(OSError):
            # On a terminal: off the line of a progress bar, which hides the cursor, or of "^C".
            prefix = "\x1b[?25h\n" if os.isatty(_stderr) and os.environ.get("TERM") != "dumb" else ""
            os.write(_stderr, f"{prefix}{text}\n".encode(sys.stderr.encoding, "replace"))


def leave(status: int) -> NoReturn:
    """Ends the process at once: programs of XLA that still run would crash an interpreter that is torn down."""
    end_children()
    os._exit(status)


def end_children() -> None:
    """Ends the programs that play, some of which ignore the end of their input."""
    with contextlib.suppress(Exception):
        for child in sys.modules["psutil"].Process().children(recursive=True):
            child.kill()
    with contextlib.suppress(Exception):
        sys.modules["jaxzero.evaluation.engines"].kill_all()
