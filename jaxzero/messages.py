"""Mistakes of users and errors of the operating system as one line, and texts cut to a length that fits one."""

import contextlib
import errno
import os
from collections.abc import Iterator

_PLACE = "permit writing there, or choose another place"
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space, or choose another place"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of file descriptors, as by ulimit -n 1024"),
    **dict.fromkeys((errno.EACCES, errno.EROFS), _PLACE),
    errno.EIO: "check the disk",
}
_GONE = "it was moved or deleted meanwhile; put it back, or start anew"


class ConfigError(ValueError):
    """A setting that cannot work; the message names the field and says what to do."""


@contextlib.contextmanager
def reported(path: str | os.PathLike[str]) -> Iterator[None]:
    """Makes a failure to write there a ConfigError: one line that says what to do."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{unusable(path, error)}; free space or permit writing there, and try again") from error


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


def unusable(path: str | os.PathLike[str], error: Exception) -> str:
    """Which file, and why not, on one line."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{shortened(str(path), 200)}: cannot be used ({shortened(reason)})"


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
