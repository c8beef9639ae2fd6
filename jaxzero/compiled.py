"""Compiled programs kept between runs: JAX's persistent cache, in the user's cache folder.

JAX's own store is replaced. It writes files in place, so that a kill leaves half an entry, which it then neither uses
nor replaces; and once a kill has left an entry without its time stamp, a store bounded in size takes nothing more.
"""

import contextlib
import hashlib
import logging
import os
import platform
import re
import sys
from pathlib import Path

import jax
from jax._src import compilation_cache  # the only way to another store

from jaxzero import files
from jaxzero.messages import shortened, unusable

MOST_BYTES = 1 << 30  # of all entries; those of one preset take some 10 MiB
_log = logging.getLogger(__name__)


def keep() -> None:
    """Keeps compiled programs between runs; a folder that cannot be used is one warning.

    Where JAX was given a folder, as by JAX_COMPILATION_CACHE_DIR, all is left to JAX; with
    JAX_ENABLE_COMPILATION_CACHE=false it keeps nothing.
    """
    config = jax.config.values
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or config["jax_compilation_cache_dir"]:
        return
    if not config["jax_enable_compilation_cache"]:
        return
    try:
        path = folder()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        _log.warning("compiling without a cache: %s", shortened(str(error), 200))
        return
    compilation_cache.get_file_cache = lambda path: (Store(Path(path)), path)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def folder() -> Path:
    """Where this machine's programs are kept. A home folder may be shared by machines, and a program for a CPU holds
    instructions that another may lack."""
    if sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))
        caches = given if given.is_absolute() else Path.home() / ".cache"
    return caches / "jaxzero" / "compiled" / f"{platform.machine()}-{features()}"


def features() -> str:
    """A short name for what the CPU can do."""
    described = platform.processor()
    with contextlib.suppress(OSError):
        described += "".join(re.findall(r"^(?:flags|Features)\s*:.*", Path("/proc/cpuinfo").read_text(), re.M)[:1])
    return hashlib.sha256(described.encode()).hexdigest()[:8]


class Store:
    """Keeps values as files of a folder, each after its SHA-256; the least recently used are deleted when together they
    exceed `most` bytes. Several processes may share the folder. No failure raises; the first is logged."""

    def __init__(self, path: Path, most: int = MOST_BYTES):
        self._path, self._most = path, most  # JAX shows `_path`
        self._bytes: int | None = None  # in the folder, as far as this process knows
        self._warned = False

    def get(self, key: str) -> bytes | None:
        file = self._file(key)
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(file, error)
            return None
        digest, value = content[:32], content[32:]
        if hashlib.sha256(value).digest() != digest:
            _log.warning("%s: damaged; compiling anew", shortened(str(file), 200))
            with contextlib.suppress(OSError):
                file.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(file)
        return value

    def put(self, key: str, value: bytes) -> None:
        file = self._file(key)
        try:
            files.write(file, hashlib.sha256(value).digest() + value)
            if self._bytes is None or self._bytes + len(value) > self._most:
                self._bytes = self._trim()
            else:
                self._bytes += len(value)
        except OSError as error:
            self._warn(file, error)

    def _file(self, key: str) -> Path:
        return self._path / key[-200:]  # ends with a hash of the program

    def _trim(self) -> int:
        """Bytes in the folder, after what was not used for longest is deleted, a tenth of the bound at least."""
        entries = []
        for file in os.scandir(self._path):
            with contextlib.suppress(FileNotFoundError):  # another process trims too
                if file.is_file():
                    entries.append((file.stat().st_mtime_ns, file.stat().st_size, file.path))
        total = sum(size for _, size, _ in entries)
        if total > self._most:
            for _, size, path in sorted(entries):
                if total <= 0.9 * self._most:
                    break
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                total -= size
        return total

    def _warn(self, file: Path, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("%s; compiling without it", unusable(file, error))
