"""Files written whole or not at all, and read with suspicion."""

import contextlib
import errno
import fcntl
import itertools
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxzero.messages import ConfigError, shortened, unusable

MOST_BYTES = 1 << 26  # of a file of JSON
MOST_WHOLE = 1 << 63  # a whole number of JSON is smaller
KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


# Writing


def write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file, text as UTF-8; interrupted, or on a full disk, it leaves what was there before.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    draft = draft_of(path)
    try:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def draft_of(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(f".{path.name}.{os.getpid()}")


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


def append(path: str | os.PathLike[str], line: str, header: str = "") -> bool:
    """Adds a line to a file, after `header` if it is empty, whole or not at all. Whether the file ended within a line,
    which a line break then ends.

    Raises:
        ConfigError: the file is no file.
        OSError: it cannot be written.
    """
    check_regular(path)
    with open(path, "a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        content = ("\n" * torn + (header if size == 0 else "") + line).encode("utf-8", "surrogateescape")
        try:
            if file.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except BaseException:
            file.truncate(size)
            raise
    return torn


def aside(path: Path) -> Path:
    """A free name beside a file or folder, under which to keep it."""
    names = itertools.chain([f"{path.name}.old"], (f"{path.name}.old-{number}" for number in itertools.count(2)))
    return next(free for name in names if not os.path.lexists(free := path.with_name(name)))


def check_target(path: Path, what: str, overwrite: bool = True) -> None:
    """Asks whether `write` could write a file, without writing it: worth asking before long work.

    Raises:
        ConfigError: it is there already, it is no file, or nothing can be written there; `what` names the setting.
    """
    try:
        check_regular(path)
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from error
    if path.exists() and not overwrite:
        raise ConfigError(f"{what}: {shortened(str(path), 200)} exists; choose another name or give --overwrite")
    try:
        draft_of(path).touch()
        draft_of(path).unlink()
    except OSError as error:
        raise ConfigError(f"{what}: {unusable(path, error)}; choose another {what}") from error


@contextlib.contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Waits for every other process that holds this lock file, then holds it.

    Raises:
        ConfigError: the lock file cannot be made.
    """
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise ConfigError(f"{unusable(lock, error)}; move it aside, or choose another folder") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


# Reading


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raises:
    ConfigError: there is something else than a file, such as a folder, or a pipe, which would be waited for.
    """
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise ConfigError(f"{unusable(path, error)}; move it aside") from error
    if not regular:
        raise ConfigError(f"{shortened(str(path), 200)}: is not a file; move it aside")


def read(path: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes | None:
    """The content of a file; None if there is none.

    Raises:
        ConfigError: something else is there, more than `most` bytes, or what cannot be read.
    """
    check_regular(path)
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{unusable(path, error)}; permit reading it, or move it aside") from error
    if len(content) > most:
        raise ConfigError(f"{shortened(str(path), 200)}: is larger than {most >> 20} MiB; move it aside")
    return content


def read_json(path: str | os.PathLike[str], shape: Any, advice: str = "mend it or move it aside") -> Any:
    """The content of a file of JSON that has the shape (see `check_shape`); None if there is no file.

    Raises:
        ConfigError: it cannot be read, or is not so; one line that names the place.
    """
    content = read(path)
    if content is None:
        return None
    try:
        value = parse_json(content)
        check_shape(value, shape)
    except ValueError as error:
        raise ConfigError(f"{shortened(str(path), 200)}: cannot be read ({error}); {advice}") from error
    return value


def parse_json(content: bytes) -> Any:
    """A value of JSON as others read it too: UTF-8, finite numbers, whole ones of 64 bits, no half characters.

    Raises:
        ValueError: it is not; a short line.
    """
    try:
        value = json.loads(content.decode(), parse_int=_whole, parse_float=_finite, parse_constant=_finite)
        if b"\\u" in content:
            json.dumps(value, ensure_ascii=False).encode()  # raises on half a surrogate pair
        return value
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None


def check_shape(value: Any, shape: Any, place: str = "") -> None:
    """Compares a value of JSON with a shape: a type (float takes whole numbers too), a list [shape of each], a tuple of
    as many shapes, a dict {str: shape of each value} or {name: shape, ...}, where "name?" may be missing.

    Raises:
        ValueError: it differs; names the first such place.
    """
    where = place or "it"
    match shape:
        case dict():
            expect(isinstance(value, dict), f"{where} is not an object", value)
            if str in shape:
                parts = [(f".{shortened(key, 40)}", item, shape[str]) for key, item in value.items()]
            else:
                lacking = [key for key in shape if not key.endswith("?") and key not in value]
                expect(not lacking, f"{where} lacks {lacking[:1]}", value)
                names = {key.removesuffix("?"): inner for key, inner in shape.items()}
                parts = [(f".{name}", value[name], inner) for name, inner in names.items() if name in value]
        case list() | tuple():
            expect(isinstance(value, list), f"{where} is not a list", value)
            if isinstance(shape, tuple):
                expect(len(value) == len(shape), f"{where} is not a list of {len(shape)}", value)
            shapes = shape if isinstance(shape, tuple) else shape * len(value)
            parts = [(f"[{i}]", item, inner) for i, (item, inner) in enumerate(zip(value, shapes, strict=True))]
        case _:
            fits = type(value) in ((float, int) if shape is float else (shape,))
            expect(fits, f"{where} is not {KINDS[shape]}", value)
            parts = []
    for name, item, inner in parts:
        check_shape(item, inner, f"{place}{name}".removeprefix("."))


def expect(condition: bool, wrong: str, value: Any) -> None:
    if not condition:
        raise ValueError(f"{wrong}: {shortened(value, 40)}")


def _whole(text: str) -> int:
    if len(text) > 20 or abs(int(text)) >= MOST_WHOLE:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"a number that is not finite: {shortened(text, 20)}")
    return float(text)
