"""What goes wrong with the files of a run, as one line that names the folder and says what to do."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxzero import messages
from jaxzero.messages import ConfigError


class CheckpointError(ConfigError):
    """A checkpoint that cannot be written, read or used; one line that names it and says what to do."""


def check_writable(folder: Path) -> None:
    """Creates the folder and writes a temporary file there; CheckpointError if that fails."""
    with reported(folder, "cannot write there"):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))


@contextlib.contextmanager
def reported(folder: Path, what: str) -> Iterator[None]:
    """Turns whatever is raised into a CheckpointError: the folder, what failed, the cause and what to do."""
    try:
        yield
    except Exception as error:  # TensorStore reports a full disk as ValueError
        cause, advice = messages.trouble(error) or (
            root_cause(error),
            "see that the folder is still there and its disk sound",
        )
        raise CheckpointError(f"{folder}: {what} ({cause}); {advice}") from error


def root_cause(error: BaseException) -> str:
    """The root cause; of a long text the two ends, which name the file and the reason."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()).partition(" [tensorstore_spec=")[0] or type(error).__name__
    return text if len(text) <= 240 else f"{text[:100]} … {text[-140:]}"
