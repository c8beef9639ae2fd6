"""What the commands on games and positions on disk share."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from jaxzero.cli.options import whole
from jaxzero.messages import ConfigError

Flag = Annotated[bool, Parameter(negative=())]
Plies = whole(0, 65_536)
Workers = Annotated[int, whole(0, 1024)]


def check_extra() -> None:
    """Raises:
    ConfigError: the libraries for games on disk are not installed.
    """
    if lacking := [name for name in ("pyarrow",) if not find_spec(name)]:
        raise ConfigError(f"data: needs {lacking[0]}; pip install 'jaxzero[data]'")


@contextlib.contextmanager
def bar(what: str, unit: str = "games") -> Iterator[Callable[[int, int, int], None]]:
    """A progress bar on stderr, told of what is done, of how much, and what was counted."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, TextColumn(f"{{task.fields[counted]:,}} {unit}"), console=Console(stderr=True), transient=True,
             disable=not sys.stderr.isatty()) as shown:  # fmt: skip
        task = shown.add_task(what, counted=0)
        yield lambda done, total, counted: shown.update(task, completed=done, total=total, counted=counted)


def rate(count: int, began: float, unit: str = "games") -> str:
    seconds = time.perf_counter() - began
    return f"{seconds:.1f} s, {count / max(seconds, 1e-3):,.0f} {unit}/s"
