"""Sends what the package logs to the terminal."""

import contextlib
import logging
import sys
from collections.abc import Iterator

from jaxzero import interrupts
from jaxzero.runs.progress import Progress


@contextlib.contextmanager
def shown(progress: Progress) -> Iterator[None]:
    """Sends what the package logs to the terminal too, without tracebacks (run.log has them); after an interruption
    `main` says the last line."""
    handler = logging.Handler(logging.INFO)
    handler.addFilter(lambda record: not record.exc_info and not interrupts.current.number)
    handler.emit = lambda record: progress.message(record.getMessage())
    logging.getLogger("jaxzero").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("jaxzero").removeHandler(handler)


@contextlib.contextmanager
def notices(name: str = "jaxzero") -> Iterator[None]:
    """Sends what the package, or one of its parts, warns of to stderr, a line each."""
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: print(record.getMessage(), file=sys.stderr, flush=True)
    log = logging.getLogger(name)
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.propagate = False  # libraries may have given the root logger a handler of its own
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = True
