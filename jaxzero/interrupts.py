"""How a process is stopped from outside: by SIGINT (Ctrl-C), SIGTERM, or SIGHUP (its terminal was closed).

Python runs signal handlers in the main thread alone, once that is back from C++, where compiling a program or playing a
match takes minutes; what a handler raises there libraries swallow, and some crash of it. So in a process of its own
(`guard`) a thread is told of signals through a pipe, and ends the process, which is as safe as killing it: files are
written whole or not at all. Only a loop that has work to save is waited for.

Only the standard library is imported here, so that this is at work while the other imports take their seconds.
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
AGAIN = 0.2  # seconds in which signals count as one: some programs pass on what a terminal sends to all


class Interrupt:
    """While entered, SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt (or end a guarded process), unless `unsaved`
    says that work would be lost: then they are noted in `number`, for a loop that saves and ends, and only a second
    SIGINT acts at once.

    A signal that is ignored from the start stays so: SIGHUP under nohup, SIGINT of a script's background jobs.
    """

    def __init__(self):
        self.number = 0  # of the first signal
        self.unsaved = ""  # what is waited for before everything is saved, such as "iteration 3"
        self.outlook: Callable[[], str] = str  # what has become of the work, for the last line
        self.since = 0.0  # when it came
        self._before: dict[int, Any] = {}
        self._told = threading.Lock()  # held once the last line is

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

    def last_line(self) -> str:
        """The line on what has become of the work; "" for all but the first thread that asks."""
        if not self._told.acquire(blocking=False):
            return ""
        try:
            outlook = self.outlook()
        except Exception:  # it may look at anything in the middle of a change
            outlook = ""
        return "interrupted" + f": {outlook}" * bool(outlook)

    @property
    def status(self) -> int:
        """The exit status that shells give a process that a signal has ended."""
        return 128 + (self.number or signal.SIGINT)


current = Interrupt()  # that was entered last
_guarded = threading.Event()


def handle(number: int, _: Any) -> None:
    """The handler of our signals, in the main thread."""
    first, current.number = not current.number, current.number or number
    if first:
        current.since = time.monotonic()
    again = number == signal.SIGINT and time.monotonic() > current.since + AGAIN
    if not _guarded.is_set() and (again or not current.unsaved):
        raise KeyboardInterrupt


def guard() -> None:
    """Lets signals end this process, in which nothing else runs, whatever the main thread does."""
    pipe, end = os.pipe()
    os.set_blocking(end, False)
    signal.set_wakeup_fd(end, warn_on_full_buffer=False)
    _guarded.set()
    current.__enter__()
    # Not of `sys.stderr` later on: what a progress bar puts there has none.
    threading.Thread(target=watch, args=(pipe, sys.stderr.encoding), daemon=True).start()


def watch(pipe: int, encoding: str) -> None:
    """Ends the process at a signal; where work is to be saved, at a second SIGINT."""
    number = arrival(pipe, None)
    if unsaved := current.unsaved:
        time.sleep(AGAIN)
        while arrival(pipe, 0):
            pass
        if arrival(pipe, 0.5) != signal.SIGINT:  # by now most iterations have ended
            name = signal.Signals(number).name
            with contextlib.suppress(Exception):  # nothing may end this thread
                print(f"{name}: finishing {unsaved}, then saving; Ctrl-C stops at once", file=sys.stderr, flush=True)
            while arrival(pipe, None) != signal.SIGINT:
                pass
    current.number = current.number or number
    leave(current.status, current.last_line().encode(encoding, "replace"))


def arrival(pipe: int, seconds: float | None) -> int:
    """The next of our signals, 0 if none comes within so many seconds."""
    while select.select([pipe], [], [], seconds)[0]:
        if (number := os.read(pipe, 1)[0]) in SIGNALS:
            return number
    return 0


def leave(status: int, line: bytes = b"") -> NoReturn:
    """Ends the process and the programs that it started, at once: programs of XLA that still run would crash an
    interpreter that is torn down."""
    children = []
    with contextlib.suppress(Exception):
        children = sys.modules["psutil"].Process().children(recursive=True)
    sys.setswitchinterval(60)  # from here on no other thread shall start such a program anew
    if line:
        last(line)
    for child in children:
        with contextlib.suppress(Exception):
            child.kill()
    with contextlib.suppress(Exception):
        sys.modules["jaxzero.evaluation.engines"].kill_all()
    os._exit(status)


def last(line: bytes) -> None:
    """Writes to stderr, without waiting and without locks, which threads that are about to be ended may hold; what
    those still write, such as progress bars, is dropped."""
    # On a terminal: off the line of "^C", or of a bar, which hides the cursor.
    prefix = b"\x1b[?25h\n" if os.isatty(2) and os.environ.get("TERM") != "dumb" else b""
    with contextlib.suppress(OSError):
        stderr, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        if select.select([], [stderr], [], 0)[1]:
            os.write(stderr, prefix + line + b"\n")
