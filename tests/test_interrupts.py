"""Signals and streams of a process; no JAX is needed."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from jaxzero import interrupts, streams
from jaxzero.cli import app
from jaxzero.interrupts import Interrupt

HERE = Path(__file__).parent.parent
# The main thread is in C for minutes, as when XLA compiles.
BUSY = """
import hashlib, subprocess, sys, psutil
from jaxzero import interrupts, streams
streams.mend()
interrupts.guard()
child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
with interrupts.Interrupt() as interrupt:
    interrupt.unsaved = sys.argv[1]
    interrupt.outlook = lambda: "gespeichert bis läuf–3"
    print(child.pid, flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


def start(*words: str, **more: str) -> tuple[subprocess.Popen[str], int]:
    """A busy process and the number of its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(HERE)} | more,
    )  # fmt: skip
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def ended(child: int) -> bool:
    """Whether a killed process ends within seconds: the kernel may take a moment."""
    for _ in range(500):
        try:
            if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_a_process_that_has_nothing_to_save_ends_at_once(number: signal.Signals):
    process, child = start("", PYTHONIOENCODING="ascii")
    process.send_signal(number)
    assert process.communicate(timeout=20) == ("", "interrupted: gespeichert bis l?uf?3\n")
    assert process.returncode == 128 + number
    assert ended(child)


def test_what_is_unsaved_is_waited_for_until_a_second_ctrl_c():
    process, child = start("iteration 7")
    process.send_signal(signal.SIGHUP)
    assert process.stderr is not None
    assert process.stderr.readline() == "SIGHUP: finishing iteration 7, then saving; Ctrl-C stops at once\n"
    process.send_signal(signal.SIGHUP)  # of a terminal and its shell
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == "interrupted: gespeichert bis läuf–3\n"
    assert process.returncode == 128 + signal.SIGHUP
    assert ended(child)


BAR = """
import sys, threading, time
from rich.console import Console
from rich.progress import Progress
from jaxzero import interrupts, streams
streams.mend()
interrupts.guard()
with Progress(console=Console(file=sys.stderr), redirect_stdout=False) as bar:
    bar.add_task("läuft", total=9)
    print("ready", flush=True)
    time.sleep(60)
"""


def test_the_last_line_stays_below_a_progress_bar():
    terminal, end = os.openpty()
    environment = os.environ | {"PYTHONPATH": str(HERE), "TERM": "xterm", "COLUMNS": "80"}
    words = [sys.executable, "-c", BAR]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=end, text=True, env=environment)
    os.close(end)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux tells of the end
        while part := os.read(terminal, 1 << 16):
            shown += part
    os.close(terminal)
    assert process.returncode == 130
    assert shown.endswith(b"\x1b[?25h\r\ninterrupted\r\n")


def test_in_a_process_of_others():
    with pytest.raises(KeyboardInterrupt), Interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
    with Interrupt() as interrupt:
        interrupt.unsaved = "iteration 1"
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert (interrupt.name, interrupt.status) == ("SIGHUP", 129)
        time.sleep(interrupts.AGAIN)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (interrupt.last_line(), interrupt.last_line()) == ("interrupted", "")


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupt.number == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_command_of_an_installation_begins_with_the_guard():
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["jaxzero"].partition(":")
    assert module == "jaxzero.__main__"
    assert callable(getattr(import_module(module), function))


# Streams


def test_what_an_encoding_lacks_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with open(tmp_path / "out", "wb") as file:
        monkeypatch.setattr(sys, "stdout", streams.lenient(file.fileno(), "ascii"))
        assert app.main(["presets"]) == 0
        print("läuf –")
    text = (tmp_path / "out").read_bytes().decode("ascii")
    assert "tic_tac_toe_test" in text
    assert "+--" in text
    assert text.endswith("l?uf ?\n")


def test_a_full_disk_is_told_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    with open("/dev/full", "wb") as file:
        monkeypatch.setattr(sys, "stdout", streams.lenient(file.fileno(), "utf-8"))
        assert app.main(["presets"]) == 2
    assert capsys.readouterr().err == "error: stdout: No space left on device; what was to be shown is lost\n"


def test_a_reader_that_has_had_enough_is_not_told_of():
    source, end = os.pipe()
    stream = streams.lenient(end, "utf-8")
    os.close(source)
    print("x" * 100_000, file=stream)
    stream.close()
    assert stream.buffer.raw.failure.errno == errno.EPIPE  # pyright: ignore[reportAttributeAccessIssue]
    assert streams.lost(stream) == ""
    os.close(end)


def test_a_descriptor_that_another_program_made_non_blocking():
    source, end = os.pipe()
    os.set_blocking(end, False)
    stream, read = streams.lenient(end, "utf-8"), bytearray()

    def reader() -> None:
        while part := os.read(source, 1 << 16):
            read.extend(part)

    thread = threading.Thread(target=reader)
    thread.start()
    print("x" * 1_000_000, file=stream)
    stream.close()
    os.close(end)
    thread.join(10)
    assert (len(read), streams.lost(stream)) == (1_000_001, "")


def test_closed_descriptors_are_not_given_to_files(tmp_path: Path):
    code = (
        "import sys; from jaxzero import streams; streams.mend(); file = open('found', 'w')\n"
        "print('lost'); print('lost', file=sys.stderr); print(file.fileno() > 2, repr(sys.stdin.read()), file=file)\n"
    )
    words = ["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", sys.executable, "-c", code]
    subprocess.run(words, env=os.environ | {"PYTHONPATH": str(HERE)}, timeout=20, cwd=tmp_path, check=True)
    assert (tmp_path / "found").read_text() == "True ''\n"
