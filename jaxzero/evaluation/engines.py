"""Programs that play, as sub-processes: a pool of processes of one program, any of which may be asked about any game.

One that ends, hangs or plays an illegal move is started anew and asked again; one that fails at a move for good gives
that game up.
"""

import logging
import math
import os
import queue
import re
import shlex
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

import jax
import numpy as np

from envs import Env
from jaxzero.evaluation.base import HostPlayer, HostPositions
from jaxzero.evaluation.processes import SLICE, EngineError, Process
from jaxzero.evaluation.processes import kill_all as kill_all  # for who ends the interpreter
from jaxzero.evaluation.protocols import PROTOCOLS, Number, Setup
from jaxzero.messages import ConfigError, shortened

_log = logging.getLogger(__name__)

ATTEMPTS = 3  # to get one move
HOPELESS = 9  # failures without a move between them after which a program is given up
PATHS = os.pathsep + "/usr/games"  # where Debian keeps them
PACKAGES = {"stockfish": "stockfish", "gnugo": "gnugo"}  # of apt, by program
ARGUMENTS = {"gnugo": ["--mode", "gtp", "--chinese-rules", "--capture-all-dead"]}  # area scoring without removal

CORES = os.cpu_count() or 1
TIMEOUT = 30.0
SHARED = {
    "timeout": Number(f"seconds a move, default {TIMEOUT:g}", 0.001, 86_400, whole=False),
    "processes": Number(f"programs that run at once, default {CORES}", 1, 16 * CORES),
}
# The program ends at the first colon that is not quoted.
SPEC = re.compile(r"""((?:[^:'"\\]|'[^']*'|"(?:[^"\\]|\\.)*"|\\.)*+)(?::(.*))?""", re.DOTALL)


class Engine(HostPlayer):
    """A pool of processes of one program.

    `argument` is PROGRAM[:OPTION=VALUE,...]: the program may have arguments of its own; options are those of `SHARED`,
    of `Protocol.own`, and the program's: set by UCI, or as --OPTION VALUE on the command line of a GTP program.
    Both parts are quoted as in a shell, so that the program may hold blanks and colons and a value commas:
    "/opt/my engine:2/sf" --arg:Book="a,b.bin",timeout=10 (in an option only quotes count, not the backslash).

    An interrupted or failed `choose` closes the player.

    Raises:
        ValueError: another game, no such program, a wrong option, or a program that does not answer.
    """

    reads_moves = True

    def __init__(self, kind: str, argument: str, env: Env):
        self._protocol, self._env = PROTOCOLS[kind], env
        if env.name != self._protocol.game:
            raise ValueError(f"{kind} programs play {self._protocol.game} here, not {env.name}")
        words, options = split(argument)
        shared, limits = (read_numbers(options, known) for known in (SHARED, self._protocol.own))
        timeout, count = shared.get("timeout", TIMEOUT), int(shared.get("processes", CORES))
        limits = limits or self._protocol.default
        if limits.get("movetime", 0) >= 1000 * timeout:
            raise ValueError(f"timeout ({timeout:g} s) must be longer than movetime ({limits['movetime']:g} ms)")
        command = find_program(words)
        self.name = os.path.basename(command[0])
        command += ARGUMENTS.get(self.name, []) if len(command) == 1 else []
        if self._protocol.as_arguments:
            command += [word for name, value in options.items() for word in (f"--{name}", value) if word]
        self._setup = Setup(command, options, limits, timeout, env)
        self.restarts, self.forfeits = 0, 0
        self._failures, self._moved, self._lock = 0, False, threading.Lock()
        self._stopped = threading.Event()
        self._threads = ThreadPoolExecutor(count)
        self._idle: queue.SimpleQueue[Process | None] = queue.SimpleQueue()
        for _ in range(count - 1):
            self._idle.put(None)
        try:
            self._results([lambda: self._idle.put(self._start())])
        except EngineError as error:
            raise ValueError(f"{shortened(command[0])} {error}; is it a {kind.upper()} program?") from error

    def choose(self, positions: HostPositions, rng: np.random.Generator) -> Sequence[int | None]:
        return self._results([lambda row=row: self._move(positions, row) for row in range(len(positions.moves))])

    def report(self) -> dict[str, int]:
        return {"restarts": self.restarts, "forfeits": self.forfeits}

    def close(self) -> None:
        """Ends all processes and all that waits for them, within about `SLICE` seconds."""
        self._stopped.set()
        self._threads.shutdown(cancel_futures=True)
        while not self._idle.empty():
            if process := self._idle.get():
                process.kill()

    def _results(self, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
        """What the tasks return. The main thread only waits here, so that a signal interrupts it at any time."""
        try:
            futures = [self._threads.submit(task) for task in tasks]
            pending = set(futures)
            while pending:
                done, pending = wait(pending, SLICE, FIRST_EXCEPTION)
                for future in done:
                    future.result()
            return [future.result() for future in futures]
        except BaseException:
            self.close()
            raise

    def _start(self) -> Process:
        process = Process(self._setup.command, self._stopped)
        try:
            process.allow(self._setup.timeout)
            self._protocol.greet(process, self._setup)
        except BaseException:
            process.kill()
            raise
        return process

    def _move(self, positions: HostPositions, row: int) -> int | None:
        state = jax.tree.map(lambda x: x[row], positions.states)
        names = {self._env.action_to_str(state, int(a)): int(a) for a in np.flatnonzero(positions.legal[row])}
        process, what = self._idle.get(), ""
        try:
            for _ in range(ATTEMPTS):
                try:
                    process = process or self._start()
                    process.allow(self._setup.timeout)
                    answer = self._protocol.ask(process, self._setup, positions.moves[row])
                    if answer == "":
                        return self._forfeit("named no move")
                    if answer is not None and answer not in names:
                        raise EngineError(f"played {shortened(answer)!r}, which is not legal there")
                    self._failures, self._moved = 0, True
                    return None if answer is None else names[answer]
                except EngineError as error:
                    if process:
                        process.kill()
                    process = None
                    what = str(error)
                    self._failed(what, positions.moves[row])
            return self._forfeit(f"no move in {ATTEMPTS} attempts; the last: {what}")
        finally:
            self._idle.put(process)

    def _forfeit(self, what: str) -> None:
        if not self._moved:
            raise ConfigError(f"{self.name} has not played any move: {what}")
        with self._lock:
            self.forfeits += 1
        _log.warning("%s: %s; it loses that game", self.name, what)

    def _failed(self, what: str, moves: Sequence[str]) -> None:
        with self._lock:
            self.restarts += 1
            self._failures += 1
        if self._failures >= HOPELESS:
            raise ConfigError(f"{self.name}: {self._failures} failures without a move between them; the last: {what}")
        _log.warning("%s %s, after %s; started anew", self.name, what, " ".join(moves) or "no move")


def split(argument: str) -> tuple[list[str], dict[str, str]]:
    """PROGRAM[:OPTION=VALUE,...] as the words of the program and the options; an OPTION alone has the value "".

    Raises:
        ValueError: quotes that do not match, control characters, or a value without a name.
    """
    if control := re.search(r"[\x00-\x1f\x7f]", argument):
        raise ValueError(f"the control character {control[0]!r} cannot be told to a program")
    try:
        program, text = SPEC.fullmatch(argument).groups("")  # pyright: ignore[reportOptionalMemberAccess]
        words, pairs = shlex.split(program), [part.partition("=") for part in parts(text)]
    except (AttributeError, ValueError):
        raise ValueError("its quotes do not match; they are those of a shell") from None
    options = {name.strip(): value.strip() for name, _, value in pairs}
    if "" in options:
        raise ValueError(f"a value without a name, {shortened(options[''])!r}; options are OPTION=VALUE,...")
    return words, options


def parts(text: str) -> list[str]:
    """What commas outside of quotes separate, without the quotes."""
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters, lexer.escape = ",", True, "", ""
    return [part for part in lexer if part.strip()]


def read_numbers(options: dict[str, str], known: Mapping[str, Number]) -> dict[str, float]:
    """Takes the known ones out of the options."""
    return {name: read_number(name, options.pop(name), number) for name, number in known.items() if name in options}


def read_number(name: str, text: str, number: Number) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not number.least <= value <= number.most or (number.whole and not value.is_integer()):
        kind = f"a {'whole ' * number.whole}number from {number.least} to {number.most:,}"
        raise ValueError(f"{name} ({number.about}) must be {kind}, got {shortened(text)!r}")
    return value


def find_program(command: list[str]) -> list[str]:
    """The command, its program found on the path."""
    if not command:
        raise ValueError("no program given")
    found = shutil.which(command[0], path=os.environ.get("PATH", os.defpath) + PATHS)
    if not found:
        name = shortened(command[0])
        if os.path.exists(command[0]):
            raise ValueError(f"{name!r} is no program; make it executable, or write what runs it before it")
        package = PACKAGES.get(os.path.basename(command[0]))
        hint = f"apt-get install {package}" if package else "give its path"
        raise ValueError(f"no program {name!r} on the path; {hint}")
    return [found, *command[1:]]
