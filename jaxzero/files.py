"""Files written whole or not at all, and texts cut to a length that fits a message."""

import contextlib
import os
from pathlib import Path


def write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file, text as UTF-8; interrupted, or on a full disk, it leaves what was there before.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def shortened(value: object, most: int = 80) -> str:
    """A text, or the `repr` of another value, on one line of at most `most` characters."""
    if isinstance(value, str):
        text = value
    else:
        try:
            text = repr(value)
        except (RecursionError, ValueError):  # nested deeply; an integer of thousands of digits
            text = f"a {type(value).__name__} too large to show"
    text = " ".join(text[: 4 * most].split()) + text[4 * most :][:1]
    return text if len(text) <= most else f"{text[: most - 1]}…"
