"""Files written whole or not at all, what to do when they cannot be, and texts cut to a length that fits a message."""

import contextlib
import errno
import os
import re
from pathlib import Path

_PLACE = "permit writing there, or choose another place"
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space, or choose another place"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of file descriptors, as by ulimit -n 1024"),
    **dict.fromkeys((errno.EACCES, errno.EROFS), _PLACE),
    errno.EIO: "check the disk",
}
_GONE = "it was moved or deleted meanwhile; put it back, or start anew"


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


def drafts(folder: Path) -> list[Path]:
    """What `write` has left in a folder, or in folders within, because its process was killed."""
    found = [(path, re.fullmatch(r"\..+\.(\d{1,9})", path.name)) for path in folder.rglob(".*")]
    return [path for path, match in found if match and not _runs(int(match[1]))]


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def trouble(error: BaseException) -> tuple[str, str] | None:
    """What the operating system refused and what to do about it; None for an error that is not the system's.

    Libraries tell of a full disk by errors of their own, in the system's words.
    """
    chain: BaseException | None = error
    while chain is not None:
        for code, advice in _ADVICE.items():
            if code == getattr(chain, "errno", None) or os.strerror(code) in str(chain):
                return os.strerror(code), advice
        if isinstance(chain, OSError):
            return chain.strerror or str(chain), _GONE if chain.errno == errno.ENOENT else _PLACE
        chain = chain.__cause__
    return None
