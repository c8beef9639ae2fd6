"""Attacks on the whole program, seeded and counted: `make gauntlet`, a short form in `make test`.

An attack is one file with `COUNT`, the cases of a full run, `FEW`, those of `make test`, and `attack`; and one line in
`ATTACKS`. It yields one `Case` for each thing tried, as soon as it is known.
"""

import contextlib
import importlib
import io
import logging
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ATTACKS: tuple[str, ...] = (  # modules of this package
    "engines",
    "interrupts",
    "options",
    "damage",
    "weights",
    "records",
    "kills",
    "stored",
)
MOST = 600  # characters of an error message
PATIENCE = 20.0  # seconds that refusing bad input may take, far above what it takes


class Case(NamedTuple):
    what: str  # what was tried, enough to try it again
    fault: str  # what went wrong; "" if nothing did


Attack = Callable[[random.Random, int, Path], Iterator[Case]]
"""`attack(random, count, folder)` yields `count` cases; every choice is drawn from `random`, files go to `folder`."""


class Outcome(NamedTuple):
    """How a command ended."""

    status: int | None  # None: it raised
    out: str
    error: str  # stderr, or what it raised
    seconds: float


def load(name: str) -> ModuleType:
    """The module of an attack, with `COUNT`, `FEW` and `attack`."""
    return importlib.import_module(f"{__name__}.{name}")


def command(*tokens: str) -> Outcome:
    """Runs a `jaxzero` command line in this process."""
    from jaxzero.cli import app  # late: JAX is configured by whoever runs the attacks

    out, error = io.StringIO(), io.StringIO()
    began = time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            status = app.main(tokens)
        except SystemExit as ending:
            status = ending.code if isinstance(ending.code, int) else 1
        except BaseException as raised:  # an attack reports whatever gets through
            return Outcome(None, out.getvalue(), f"{type(raised).__name__}: {raised}", time.perf_counter() - began)
    return Outcome(status, out.getvalue(), error.getvalue(), time.perf_counter() - began)


def refused_or_done(outcome: Outcome) -> str:
    """ "" if a command did its work or refused it in one clear line in good time, else what was wrong."""
    if outcome.status is None:
        return f"raised {outcome.error[:200]}"
    if "Traceback" in outcome.out + outcome.error:
        return f"a traceback: {outcome.error[-200:]!r}"
    if outcome.seconds > PATIENCE:
        return f"took {outcome.seconds:.0f} s"
    if outcome.status == 0:
        return ""
    if outcome.status != 2:
        return f"exit status {outcome.status}: {outcome.error[-200:]!r}"
    return one_line(outcome.error)


def one_line(error: str) -> str:
    """ "" if this is an error message as ours are, else what is wrong with it."""
    if not error.startswith("error: ") or error.count("\n") != 1:
        return f"not one line that begins with 'error: ': {error[:200]!r}"
    return f"a message of {len(error)} characters: {error[:80]!r}" if len(error) > MOST else ""


class Report(NamedTuple):
    name: str
    cases: int
    faults: list[Case]
    seconds: float


def carry_out(name: str, seed: int, count: int, progress: Any) -> Report:
    """Runs one attack, in a process of its own; `progress` is a queue that is told of each case."""
    log = logging.getLogger("jaxzero")
    log.propagate = False  # warnings would run through the bar
    log.addHandler(logging.NullHandler())
    began, cases, faults = time.perf_counter(), 0, []
    with tempfile.TemporaryDirectory(prefix=f"gauntlet_{name}_") as folder:
        for case in load(name).attack(random.Random(f"{name} {seed}"), count, Path(folder)):
            cases += 1
            if case.fault:
                faults.append(case)
            progress.put((name, bool(case.fault)))
    return Report(name, cases, faults, time.perf_counter() - began)
