"""Programs that play, as sub-processes: UCI (chess) and GTP (Go, https://www.lysator.liu.se/~gunnar/gtp).

A program that ends, hangs or plays an illegal move is started anew and asked again; one that fails at a move for good
gives that game up. No state is kept in a program: every question tells the whole game, so any process of the pool may
be asked about any game.
"""

import logging
import os
import queue
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from envs import Env, suggest
from jaxzero.config import ConfigError
from jaxzero.evaluation.players import HostPlayer, Positions

_log = logging.getLogger(__name__)

ATTEMPTS = 3  # to get one move
HOPELESS = 9  # failures without a move between them after which a program is given up
PATHS = os.pathsep + "/usr/games"  # where Debian keeps them
PACKAGES = {"stockfish": "stockfish", "gnugo": "gnugo"}  # of apt, by program
ARGUMENTS = {"gnugo": ["--mode", "gtp", "--chinese-rules", "--capture-all-dead"]}  # area scoring without removal


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
SHARED = {"timeout": "seconds a move", "processes": "programs that run at once"}


class Engine(HostPlayer):
    """A pool of processes of one program.

    `argument` is PROGRAM[:OPTION=VALUE,...]: the program may have arguments of its own; options are those of `SHARED`,
    of `Protocol.own`, and the program's: set by UCI, or as --OPTION VALUE on the command line of a GTP program.

    Raises:
        ValueError: another game, no such program, a wrong option, or a program that does not answer.
    """

    def __init__(self, kind: str, argument: str, env: Env):
        self._protocol, self._env = PROTOCOLS[kind], env
        if env.name != self._protocol.game:
            raise ValueError(f"{kind} programs play {self._protocol.game} here, not {env.name}")
        program, _, text = argument.partition(":")
        options = read_options(text)
        timeout, processes = (read_number(options, *default) for default in (("timeout", 30.0), ("processes", 0.0)))
        command = find_program(program)
        self.name = os.path.basename(command[0])
        command += ARGUMENTS.get(self.name, []) if len(command) == 1 else []
        if self._protocol.as_arguments:
            command += [word for name, value in options.items() for word in (f"--{name}", value) if word]
        self._setup = Setup(command, options, timeout, env)
        self.restarts, self.forfeits = 0, 0
        self._failures, self._lock = 0, threading.Lock()
        try:
            first = self._start()
        except EngineError as error:
            raise ValueError(f"{command[0]} {error}; is it a {kind.upper()} program?") from error
        count = int(processes) or os.cpu_count() or 1
        self._idle: queue.SimpleQueue[Process | None] = queue.SimpleQueue()
        for process in [first, *[None] * (count - 1)]:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(count)

    def choose(self, positions: Positions, rng: np.random.Generator) -> Sequence[int | None]:
        return list(self._threads.map(lambda row: self._move(positions, row), range(len(positions.moves))))

    def report(self) -> dict[str, int]:
        return {"restarts": self.restarts, "forfeits": self.forfeits}

    def close(self) -> None:
        self._threads.shutdown()
        while not self._idle.empty():
            if process := self._idle.get():
                process.kill()

    def _start(self) -> Process:
        process = Process(self._setup.command)
        try:
            self._protocol.greet(process, self._setup)
        except BaseException:
            process.kill()
            raise
        return process

    def _move(self, positions: Positions, row: int) -> int | None:
        state = jax.tree.map(lambda x: x[row], positions.states)
        names = {self._env.action_to_str(state, int(a)): int(a) for a in np.flatnonzero(positions.legal[row])}
        process = self._idle.get()
        try:
            for _ in range(ATTEMPTS):
                try:
                    process = process or self._start()
                    answer = self._protocol.ask(process, self._setup, positions.moves[row])
                    if answer is not None and answer not in names:
                        raise EngineError(f"played {answer!r}, which is not legal there")
                    self._failures = 0
                    return None if answer is None else names[answer]
                except EngineError as error:
                    if process:
                        process.kill()
                    process = None
                    self._failed(str(error), positions.moves[row])
            with self._lock:
                self.forfeits += 1
            _log.warning("%s: no move in %d attempts; it loses that game", self.name, ATTEMPTS)
            return None
        finally:
            self._idle.put(process)

    def _failed(self, what: str, moves: Sequence[str]) -> None:
        with self._lock:
            self.restarts += 1
            self._failures += 1
        if self._failures >= HOPELESS:
            raise ConfigError(f"{self.name}: {self._failures} failures without a move between them; the last: {what}")
        _log.warning("%s %s, after %s; started anew", self.name, what, " ".join(moves) or "no move")


def read_options(text: str) -> dict[str, str]:
    """NAME=VALUE,… as a dict; a NAME alone has the value ""."""
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def read_number(options: dict[str, str], name: str, default: float) -> float:
    """Takes an option of ours out of the others."""
    text = options.pop(name, "")
    try:
        number = float(text) if text else default
    except ValueError:
        number = -1.0
    if number < 0:
        raise ValueError(f"{name} ({SHARED[name]}) must be a positive number, got {text!r}")
    return number


def find_program(text: str) -> list[str]:
    """The command, its program found on the path; arguments may follow it."""
    command = shlex.split(text)
    if not command:
        raise ValueError("no program given")
    found = shutil.which(command[0], path=os.environ.get("PATH", os.defpath) + PATHS)
    if not found:
        package = PACKAGES.get(os.path.basename(command[0]))
        hint = f"apt-get install {package}" if package else "give its path"
        raise ValueError(f"no program {command[0]!r} on the path; {hint}")
    return [found, *command[1:]]
