"""The runs of a folder, a line each."""

import contextlib
import datetime
import fcntl
from pathlib import Path
from typing import NamedTuple

from jaxzero.config import settings
from jaxzero.messages import ConfigError, shortened
from jaxzero.runs import metrics
from jaxzero.runs.folder import CONFIG
from jaxzero.runs.table import is_score


class Line(NamedTuple):
    run: str
    game: str
    iterations: str  # done / in all; whether it trains now
    time: str  # trained, h:mm:ss
    last: str  # when the last row was written
    scores: str  # of the newest evaluation


def listed(root: Path) -> list[Line]:
    """Lines in the order of the last change, the newest last. A run that cannot be read says why.

    Raises:
        ConfigError: the folder cannot be read.
    """
    try:
        folders = [path for path in root.iterdir() if (path / CONFIG).is_file()] if root.exists() else []
    except OSError as error:
        raise ConfigError(f"{root}: cannot be read ({error.strerror}); give a folder of runs") from error
    return [line(folder) for folder in sorted(folders, key=changed)]


def line(folder: Path) -> Line:
    try:
        config = settings.load(folder / CONFIG)
        rows, _ = metrics.examine(folder)
    except ConfigError as error:
        return Line(folder.name, "?", "?", "", "", shortened(str(error), 120))
    last = rows[-1] if rows else {"iteration": 0, "seconds": 0}
    scored = next((row for row in reversed(rows) if any(map(is_score, row))), {})
    scores = {name.split("/")[1]: value for name, value in scored.items() if is_score(name) and value is not None}
    when = datetime.datetime.fromtimestamp(changed(folder)).strftime("%d %b %H:%M")
    return Line(
        folder.name,
        config.game.name or Path(config.game.source.partition(":")[0]).stem,
        f"{last['iteration']}/{config.iterations}{' training' if held(folder) else ''}",
        str(datetime.timedelta(seconds=round(last.get("seconds") or 0))),
        when,
        "  ".join(f"{opponent} {value:.0%}" for opponent, value in scores.items()),
    )


def changed(folder: Path) -> float:
    """When the run's rows last changed; its settings, where there are none."""
    file = folder / "metrics.jsonl"
    return (file if file.exists() else folder / CONFIG).stat().st_mtime


def held(folder: Path) -> bool:
    """Whether a process trains there now."""
    with contextlib.suppress(FileNotFoundError, PermissionError), open(folder / ".lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
