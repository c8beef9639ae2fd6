"""Strict JAX for every test (implicit rank promotion raises; compiled programs are kept between runs), the command.

Programs run a few times here, so compiling takes most of the time. XLA's older emitters and little optimising by LLVM
compile them in less than half of it; XLA_FLAGS= JAX_DISABLE_MOST_OPTIMIZATIONS=0 compiles them as for users.
"""

import os
import pathlib
from collections.abc import Callable, Iterator

import pytest

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# For `jaxzero` as a process of its own.
os.environ["XDG_CACHE_HOME"] = str(pathlib.Path(__file__).parent.parent / ".cache")
import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", os.environ["XDG_CACHE_HOME"] + "/jax")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture(autouse=True)
def few_programs() -> Iterator[None]:
    """Drops compiled programs before they fill the 65,530 memory maps that Linux gives a process, which ends it."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Run:
    """`jaxzero` with these words: exit status, stdout and stderr."""
    from jaxzero.cli import app  # late: JAX is configured above

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*tokens: str) -> tuple[int, str, str]:
        status = app.main(tokens)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call
