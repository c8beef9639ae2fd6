"""How programs are spoken to: UCI (chess) and GTP (Go, https://www.lysator.liu.se/~gunnar/gtp), line by line.

A new protocol is one `Protocol` and one line in `PROTOCOLS`. No position is kept in a program: every question tells the
whole game. Whatever else a program says before, between and in its answers is skipped.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from envs import suggest
from jaxzero.config.schema import ConfigError
from jaxzero.evaluation.processes import EngineError, Process
from jaxzero.messages import shortened


class Number(NamedTuple):
    """An option that is a number."""

    about: str
    least: int | float
    most: int
    whole: bool = True


class Setup(NamedTuple):
    """How a program is started and asked."""

    command: list[str]
    options: Mapping[str, str]  # the program's
    limits: Mapping[str, float]  # of a move, by the names of `Protocol.own`
    timeout: float  # seconds for the start, and for a move
    env: Any


class Protocol(NamedTuple):
    game: str  # that it plays
    own: Mapping[str, Number]  # limits of a move, options that are not the program's
    default: Mapping[str, float]  # those where none is given
    as_arguments: bool  # the program's options are arguments of its command line
    greet: Callable[[Process, Setup], None]  # after the start
    ask: Callable[[Process, Setup, Sequence[str]], str | None]  # moves so far -> the next; "": none, None: resigns


# UCI

NO_MOVES = ("", "(none)", "none", "null", "0000")
MOST_OPTIONS = 1000


def uci_greet(process: Process, setup: Setup) -> None:
    process.send("uci")
    known: dict[str, tuple[str, str]] = {}
    while (words := process.line().split())[:1] != ["uciok"]:
        if words[:2] == ["option", "name"] and len(known) < MOST_OPTIONS:
            name, _, kind = " ".join(words[2:]).partition(" type ")
            known[name.lower()[:80]] = name[:80], kind.partition(" ")[0]
    for name, value in setup.options.items():
        if name.lower() not in known:
            hint = suggest(shortened(name), [each for each, _ in known.values()])
            raise ConfigError(f"{shortened(setup.command[0])}: no option {shortened(name)!r}; {shortened(hint, 400)}")
        name, kind = known[name.lower()]
        process.send(f"setoption name {name}" + f" value {value}" * (kind != "button"))
    wait_until_ready(process)


def uci_ask(process: Process, setup: Setup, moves: Sequence[str]) -> str | None:
    wait_until_ready(process)  # what it says until then belongs to nothing that is asked now
    process.send("position startpos" + (" moves " + " ".join(moves) if moves else ""))
    process.send(" ".join(["go", *(f"{name} {value:.0f}" for name, value in setup.limits.items())]))
    words = until(process, "bestmove")
    move = words[1].lower() if len(words) > 1 else ""
    return "" if move in NO_MOVES else move


def wait_until_ready(process: Process) -> None:
    process.send("isready")
    until(process, "readyok")


def until(process: Process, word: str) -> list[str]:
    """The words of the next line that begins with `word`."""
    while (words := process.line().split())[:1] != [word]:
        pass
    return words


# GTP

ANSWER = re.compile(r"([=?])([0-9]*)(?![=?0-9])\s*(.*)")


def gtp_greet(process: Process, setup: Setup) -> None:
    process.send("1 protocol_version")
    _, number, _ = gtp_answer(process, "", "1")
    process.numbered = bool(number)
    gtp(process, f"boardsize {setup.env.size}")
    gtp(process, f"komi {setup.env.komi:g}")


def gtp_ask(process: Process, setup: Setup, moves: Sequence[str]) -> str | None:
    gtp(process, "clear_board")
    for i, move in enumerate(moves):
        gtp(process, f"play {'bw'[i % 2]} {move}")
    answer = gtp(process, f"genmove {'bw'[len(moves) % 2]}").lower().split()
    if not answer:
        raise EngineError("named no move")
    return None if answer[0] == "resign" else answer[0]


def gtp(process: Process, command: str) -> str:
    """The first line of the answer to a command."""
    number = str(process.sent + 1) if process.numbered else ""
    process.send(f"{number} {command}".strip())
    sign, _, text = gtp_answer(process, number)
    if sign != "=":
        raise EngineError(f"answered {shortened(f'? {text}')!r} to {command!r}")
    return text


def gtp_answer(process: Process, *numbers: str) -> tuple[str, str, str]:
    """Sign, number and first line of the next answer with one of these numbers, read to its end."""
    while not (begin := ANSWER.match(process.line())) or begin[2] not in numbers:
        pass
    text = begin[3]
    while line := process.line():
        text = text or line.strip()
    return begin[1], begin[2], text


UCI = Protocol(
    "chess",
    {
        "movetime": Number("milliseconds a move, default 100", 1, 86_400_000),
        "nodes": Number("nodes a move", 1, 10**12),
        "depth": Number("depth of the search", 1, 1000),
    },
    {"movetime": 100},
    False,
    uci_greet,
    uci_ask,
)
GTP = Protocol("go", {}, {}, True, gtp_greet, gtp_ask)
PROTOCOLS: dict[str, Protocol] = {"uci": UCI, "gtp": GTP}
