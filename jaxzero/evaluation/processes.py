"""Programs as sub-processes that are spoken to by lines, bounded in time and memory."""

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Sequence
from typing import IO

import psutil

CHUNK = 1 << 16  # bytes read at once
LONGEST = 1 << 18  # bytes of a line
SLICE = 0.1  # seconds after which a wait looks whether it shall end
UNSEEN = dict.fromkeys([*(code for code in range(32) if chr(code) not in "\t\n\r"), 127, 0xFEFF])


MARK = "JAXZERO_ENGINE"  # in the environment of a program and its children, also of those that begin a session
_running: dict[int, weakref.finalize] = {}  # what kills a program, by its process
_over = threading.Event()


class EngineError(Exception):
    """What a program did wrong, on one line."""


class Stopped(Exception):  # noqa: N818
    """Nobody waits for the answer any more."""


class Process:
    """A program in a session of its own. It ends with the object, and its children with it, except those that have
    left both its session and its environment.

    At most `CHUNK` bytes that nobody has asked for are read; a program that writes on has to wait. To be used by one
    thread at a time.

    Raises:
        EngineError: it cannot be started. Sending and reading: it has ended, or is too late; reading: too long a line.
        Stopped: `stopped` is set while it is waited for, or nothing is started any more.
    """

    def __init__(self, command: Sequence[str], stopped: threading.Event):
        pipe, mark = subprocess.PIPE, uuid.uuid4().hex
        try:
            program = subprocess.Popen(
                command, bufsize=0, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, MARK: os.environ.get(MARK, "") + mark},
            )  # fmt: skip
        except OSError as error:
            raise EngineError(f"cannot be started ({error.strerror})") from error
        assert program.stdin is not None
        assert program.stdout is not None
        self.kill = _running[program.pid] = weakref.finalize(self, kill, program, mark)  # when the interpreter ends too
        if _over.is_set():
            self.kill()
            raise Stopped
        self._program, self._in, self._out, self._stopped = program, program.stdin, program.stdout, stopped
        os.set_blocking(self._in.fileno(), False)
        self._lines: deque[str] = deque()
        self._rest = bytearray()  # of a line that has not ended yet
        self.sent = 0  # lines
        self.numbered = False  # whether it repeats the numbers of GTP commands
        self.allow(0)

    def allow(self, seconds: float) -> None:
        """Begins the time for all that is sent and read from now on."""
        self._seconds, self._deadline = seconds, time.monotonic() + seconds

    def send(self, line: str) -> None:
        self.sent += 1
        left = f"{line}\n".encode(errors="surrogateescape")
        while left:
            self._wait(self._in, select.POLLOUT)
            try:
                left = left[os.write(self._in.fileno(), left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise EngineError(self._ending("input")) from error

    def line(self) -> str:
        """The next line, without control characters and blanks at its end."""
        while not self._lines:
            self._read()
        self._check()
        return self._lines.popleft().rstrip()

    def _read(self) -> None:
        self._wait(self._out, select.POLLIN)
        data = os.read(self._out.fileno(), CHUNK)
        if not data:
            raise EngineError(self._ending("output"))
        self._rest += data
        if (end := data.rfind(b"\n") + 1) > 0:
            end += len(self._rest) - len(data)
            text = self._rest[:end].decode(errors="replace").translate(UNSEEN)
            for line in text.split("\n")[:-1]:
                self._lines.extend(line.rstrip().split("\r"))  # progress bars are written with it
            del self._rest[:end]
        if len(self._rest) > LONGEST:
            raise EngineError(f"wrote a line of more than {LONGEST:,} bytes")

    def _wait(self, pipe: IO[bytes], event: int) -> None:
        """Returns when something can be done with a pipe."""
        self._check()
        poll = select.poll()
        poll.register(pipe, event)
        while not poll.poll(1000 * min(SLICE, max(0.0, self._deadline - time.monotonic()))):
            self._check()

    def _check(self) -> None:
        if self._stopped.is_set() or _over.is_set():
            raise Stopped
        if time.monotonic() > self._deadline:
            raise EngineError(f"did not answer within {self._seconds:g} s")

    def _ending(self, pipe: str) -> str:
        try:
            return f"has ended (exit status {self._program.wait(1)})"
        except subprocess.TimeoutExpired:
            return f"has closed its {pipe}"


def kill(program: subprocess.Popen[bytes], mark: str) -> None:
    """Ends a program with its children: its session, and whatever else has its mark."""
    _running.pop(program.pid, None)
    with contextlib.suppress(OSError):  # there is nobody left
        os.killpg(program.pid, signal.SIGKILL)
    for process in psutil.process_iter(["environ"]):
        if mark in (process.info["environ"] or {}).get(MARK, ""):
            with contextlib.suppress(psutil.Error):
                process.kill()
    for pipe in (program.stdin, program.stdout):
        if pipe:
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        program.wait(5)


def kill_all() -> None:
    """Ends all programs, for a process that is about to end: none is started any more."""
    _over.set()
    for ending in list(_running.values()):
        ending()
