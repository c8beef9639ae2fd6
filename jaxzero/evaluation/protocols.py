"""How programs are spoken to: UCI (chess) and GTP (Go, https://www.lysator.liu.se/~gunnar/gtp), line by line.

A new protocol is one `Protocol` and one line in `PROTOCOLS`. No state is kept in a program: every question tells the
whole game.
"""

import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from envs import suggest
from jaxzero.config import ConfigError


class EngineError(Exception):
    """What a program did wrong, on one line."""


class Process:
    """A program that is spoken to by lines."""

    def __init__(self, command: Sequence[str]):
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, errors="replace", bufsize=1
            )
        except OSError as error:
            raise EngineError(f"cannot be started ({error.strerror})") from error
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip())
        self._lines.put(None)

    def send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise EngineError(self._ending()) from error

    def line(self, deadline: float) -> str:
        """The next line; `deadline` in the seconds of `time.monotonic`."""
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise EngineError("did not answer in time") from None
        if line is None:
            raise EngineError(self._ending())
        return line

    def _ending(self) -> str:
        try:
            return f"has ended (exit status {self._process.wait(1)})"
        except subprocess.TimeoutExpired:
            return "has closed its output"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Setup(NamedTuple):
    """How a program is started and asked."""

    command: list[str]
    options: Mapping[str, str]  # of the protocol
    timeout: float  # seconds for the start, and for a move
    env: Any


class Protocol(NamedTuple):
    game: str  # that it plays
    own: Mapping[str, str]  # options that are not the program's, and what they mean
    as_arguments: bool  # the program's options are arguments of its command line
    greet: Callable[[Process, Setup], None]  # after the start
    ask: Callable[[Process, Setup, Sequence[str]], str | None]  # moves so far -> the next, None: gives up


# UCI


def uci_greet(process: Process, setup: Setup) -> None:
    process.send("uci")
    known = []
    for words in until(process, "uciok", setup.timeout):
        if words[:2] == ["option", "name"]:
            known.append(" ".join(words[2 : words.index("type") if "type" in words else None]))
    for name, value in setup.options.items():
        if name not in UCI.own:
            if name.lower() not in map(str.lower, known):
                raise ConfigError(f"{setup.command[0]}: no option {name!r}; {suggest(name, known)}")
            process.send(f"setoption name {name} value {value}")
    process.send("isready")
    until(process, "readyok", setup.timeout)


def uci_ask(process: Process, setup: Setup, moves: Sequence[str]) -> str | None:
    process.send("position startpos" + (" moves " + " ".join(moves) if moves else ""))
    limits = {name: setup.options[name] for name in UCI.own if name in setup.options} or {"movetime": "100"}
    process.send("go " + " ".join(f"{name} {value}" for name, value in limits.items()))
    words = until(process, "bestmove", setup.timeout)[-1]
    return words[1].lower() if len(words) > 1 else "nothing"


def until(process: Process, word: str, timeout: float) -> list[list[str]]:
    """The words of all lines up to the one that begins with `word`."""
    deadline, lines = time.monotonic() + timeout, []
    while True:
        words = process.line(deadline).split()
        lines.append(words)
        if words[:1] == [word]:
            return lines


# GTP


def gtp_greet(process: Process, setup: Setup) -> None:
    gtp(process, f"boardsize {setup.env.size}", setup.timeout)
    gtp(process, f"komi {setup.env.komi:g}", setup.timeout)


def gtp_ask(process: Process, setup: Setup, moves: Sequence[str]) -> str | None:
    gtp(process, "clear_board", setup.timeout)
    for i, move in enumerate(moves):
        gtp(process, f"play {'bw'[i % 2]} {move}", setup.timeout)
    answer = gtp(process, f"genmove {'bw'[len(moves) % 2]}", setup.timeout).lower()
    return None if answer == "resign" else answer


def gtp(process: Process, command: str, timeout: float) -> str:
    """The answer to a command."""
    process.send(command)
    deadline, lines = time.monotonic() + timeout, []
    while True:
        line = process.line(deadline)
        if line:
            lines.append(line)
        elif lines:
            break
    if not lines[0].startswith("="):
        raise EngineError(f"answered {lines[0]!r} to {command!r}")
    return " ".join([lines[0][1:].strip(), *lines[1:]]).strip()


UCI = Protocol(
    "chess",
    {"movetime": "milliseconds a move (default 100)", "nodes": "nodes a move", "depth": "depth of the search"},
    False,
    uci_greet,
    uci_ask,
)
GTP = Protocol("go", {}, True, gtp_greet, gtp_ask)
PROTOCOLS: dict[str, Protocol] = {"uci": UCI, "gtp": GTP}
