"""Stages in several processes: the same folders, and no process outlives a stage that is killed."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

pytest.importorskip("pyarrow")
from test_data_records import content

from jaxzero.data import clean, imports, pieces, workers
from jaxzero.data.imports import Import
from jaxzero.messages import ConfigError


def double(x: int) -> int:
    if x == 5:
        raise ConfigError("five")
    return 2 * x


def test_results_come_in_order_and_errors_arrive():
    assert list(workers.ordered(double, range(5), 1)) == [(x, 2 * x) for x in range(5)]
    found = workers.ordered(double, range(30), 2)
    assert [next(found) for _ in range(5)] == [(x, 2 * x) for x in range(5)]
    with pytest.raises(ConfigError, match="five"):
        next(found)


def test_two_processes_make_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "BLOCK", 10_000)  # several batches
    monkeypatch.setattr(imports, "SHARD", 2000)
    lines = [f"#9,{a}1{b}2{c}3 1\n" for a in "abcdefghi" for b in "abcdefghi" for c in "abcdefghi"]
    lines[100] = "#9,a1a1\n"
    for name in "abcdefgh":
        (tmp_path / f"{name}.trmph").write_text("".join(lines))
    made = {}
    for count in (1, 2):
        read, cleaned = tmp_path / f"read{count}", tmp_path / "same" / f"cleaned{count}"
        imports.run(sorted(tmp_path.glob("*.trmph")), read, Import(), workers=count)
        clean.run([tmp_path / "read1"], cleaned, workers=count)
        made[count] = content(read), content(cleaned)
    assert made[1] == made[2]


def test_workers_end_with_a_stage_that_is_killed(tmp_path):
    (tmp_path / "a.trmph").write_text("#9,a1b2c3\n" * 1_000_000)
    words = ["data", "import", str(tmp_path / "a.trmph"), "--out", str(tmp_path / "out"), "--workers", "2"]
    process = psutil.Process(subprocess.Popen([sys.executable, "-m", "jaxzero", *words]).pid)
    while not [child for child in process.children() if "spawn_main" in " ".join(child.cmdline())]:
        assert process.is_running()
        time.sleep(0.05)
    children = process.children()
    process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
