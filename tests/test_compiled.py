"""Compiled programs kept between runs."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxzero import compiled

SCRIPT = """
import jax
from jaxzero import compiled
compiled.keep()
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
print(jax.jit(lambda x: (x * 3.0).sum())(jax.numpy.arange(5.0)))
print(hits.count("/jax/compilation_cache/cache_hits"))
"""


def start(tmp_path: Path, **variables: str) -> tuple[float, int, list[str]]:
    """A process that compiles -> its result, programs taken from the cache, lines on stderr."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    environ |= {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)} | variables
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environ, capture_output=True, text=True, check=True, timeout=60
    )
    result, hits = done.stdout.split()
    return float(result), int(hits), done.stderr.splitlines()


def test_a_second_process_compiles_nothing_and_a_damaged_entry_is_replaced(tmp_path: Path):
    assert start(tmp_path) == (30.0, 0, [])
    entries = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert start(tmp_path) == (30.0, len(entries), [])
    for path in entries:
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    result, hits, lines = start(tmp_path)
    assert (result, hits, len(lines)) == (30.0, 0, len(entries))
    assert all(line.endswith(": damaged; compiling anew") for line in lines)
    assert start(tmp_path) == (30.0, len(entries), [])


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path):
    (tmp_path / "jaxzero").write_text("")
    result, hits, lines = start(tmp_path)
    assert (result, hits, len(lines)) == (30.0, 0, 1)
    assert lines[0].startswith("compiling without a cache: ")


@pytest.mark.parametrize("variables", [
    {"JAX_ENABLE_COMPILATION_CACHE": "false"}, {"JAX_COMPILATION_CACHE_DIR": ""},
])  # fmt: skip
def test_the_environment_turns_it_off(tmp_path: Path, variables: dict[str, str]):
    assert start(tmp_path, **variables) == (30.0, 0, [])
    assert not list(tmp_path.iterdir())


def test_a_store_is_bounded_and_drops_what_was_not_used_for_longest(tmp_path: Path):
    store = compiled.Store(tmp_path, most=1000)
    for number in range(4):
        store.put(f"{number}", bytes(200))
        os.utime(tmp_path / f"{number}", (number, number))
    assert store.get("0") == bytes(200)
    store.put("4", bytes(200))
    assert [name for name in "01234" if store.get(name)] == ["0", "3", "4"]


def test_a_store_that_cannot_be_written_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    store = compiled.Store(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
        with caplog.at_level(logging.WARNING):
            store.put(name, b"program")
            assert store.get(name) is None
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/a: cannot be used (Is a directory); compiling without it"
    ]
