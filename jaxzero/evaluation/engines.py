"""Programs that play, as sub-processes: a pool of processes of one program, any of which may be asked about any game.

One that ends, hangs or plays an illegal move is started anew and asked again; one that fails at a move for good gives
that game up.
"""

import logging
import os
import queue
import shlex
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from envs import Env
from jaxzero.config import ConfigError
from jaxzero.evaluation.base import HostPlayer, Positions
from jaxzero.evaluation.protocols import PROTOCOLS, EngineError, Process, Setup

_log = logging.getLogger(__name__)

ATTEMPTS = 3  # to get one move
HOPELESS = 9  # failures without a move between them after which a program is given up
PATHS = os.pathsep + "/usr/games"  # where Debian keeps them
PACKAGES = {"stockfish": "stockfish", "gnugo": "gnugo"}  # of apt, by program
ARGUMENTS = {"gnugo": ["--mode", "gtp", "--chinese-rules", "--capture-all-dead"]}  # area scoring without removal


SHARED = {"timeout": "seconds a move", "processes": "programs that run at once"}


class Engine(HostPlayer):
    """A pool of processes of one program.

    `argument` is PROGRAM[:OPTION=VALUE,...]: the program may have arguments of its own; options are those of `SHARED`,
    of `Protocol.own`, and the program's: set by UCI, or as --OPTION VALUE on the command line of a GTP program.

    Raises:
        ValueError: another game, no such program, a wrong option, or a program that does not answer.
    """

    reads_moves = True

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
