"""Orbax as checkpoints use it: one JSON file beside the arrays, and no noise of its own on the terminal."""

import logging
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from orbax.checkpoint import v1 as ocp


def context() -> ocp.Context:
    """Orbax settings under which `record` is written as one JSON file."""
    registry = ocp.handlers.local_registry()
    registry.add(ocp.handlers.JsonHandler, checkpointable_name="record")
    context = ocp.Context()
    context.checkpointables.registry = registry
    return context


def quieten() -> None:
    """Orbax logs every failure as hundreds of lines of tracebacks and drops coroutines, and TensorStore complains that
    Orbax has closed the event loop; we raise the failure as one line."""
    dropped = r"coroutine '(\w+Handler\.|run_sync\.|synchronize_).* was never awaited"
    warnings.filterwarnings("ignore", dropped, RuntimeWarning)
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(not_from_orbax)
    if getattr(sys.unraisablehook, "func", None) is not unraisable:
        sys.unraisablehook = partial(unraisable, sys.unraisablehook)


def unraisable(before: Callable[[Any], Any], unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        before(unraisable)


def not_from_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname and "tensorstore" not in record.getMessage()
