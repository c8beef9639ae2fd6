"""Commands that are interrupted at any moment, and whose streams are closed, full or unable to show what they write."""

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import fabricated
import psutil

from gauntlet import Case

COUNT, FEW = 60, 3
HERE = Path(__file__).parent.parent.parent
SOON = 4.0  # seconds to end after a signal: two are promised, the rest is for machines at work
SAVING = 120.0  # where an iteration is finished first
SIGNALS = (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

PRESET = """
iterations = 100000
devices = 1
network = {kind = "mlp", sizes = [8]}
search = {simulations = 2, max_considered = 2}
selfplay = {games = 8, plies = 8}
replay = {capacity = 256, window = 64}
learner = {batch = 16, replay_ratio = 1.0, warmup = 2, schedule = "constant"}
evaluation = {games = 2, opponents = ["random"], simulations = 2, final = false}
checkpoint = {every = 7}
log = {sinks = [], every = 5, plot_every = 1000}
export = {final = false}
"""
ENGINE = """
import sys, time
for line in sys.stdin:
    if line.startswith("genmove"):
        print(line, file=open("asked.txt", "a"), flush=True)
        time.sleep(90)
    print("=\\n", flush=True)
"""


OUT, ASKED = "stdout.txt", "asked.txt"


class Command(NamedTuple):
    """A command line, and when a signal comes: up to so many seconds after the start, or after a file holds a text."""

    words: tuple[str, ...]
    span: float
    file: str = OUT
    text: str = ""
    stdin: int = subprocess.DEVNULL


def prepare(folder: Path, few: bool) -> dict[str, Command]:
    """Writes what the commands read, among it a trained run, or with few cases, which do not read it, an empty one."""
    (folder / "tiny.toml").write_text(PRESET)
    (folder / "engine.py").write_text(ENGINE)
    if few:
        fabricated.run_folder(folder / "runs" / "mine")
    else:
        words = [sys.executable, "-m", "jaxzero", "train", "tiny.toml", "--name", "mine", "--iterations", "14"]
        subprocess.run(words, check=True, capture_output=True, cwd=folder, env=environment())
    engine = f"gtp:{sys.executable} engine.py:timeout=30,processes=2"
    train = ("train", "tiny.toml", "--name")
    evaluated = (
        *("--evaluation.every", "1", "--evaluation.opponents", "minimax:6", "--evaluation.games", "200"),
        *("--checkpoint.every", "1000"),
    )
    return {
        "go": Command(("match", "random", "random", "--game", "go", "--games", "2000"), 6.0),
        "start": Command((*train, "new"), 2.0),
        "compiling": Command((*train, "new"), 4.0, OUT, "compiling"),
        "training": Command((*train, "läuf"), 3.0, OUT, "iteration "),
        "evaluation": Command((*train, "shown", *evaluated), 3.0, OUT, "iteration "),
        "ending": Command((*train, "short", "--iterations", "9", "--export.final", "--overwrite"), 4.0, OUT, "9/9"),
        "engine": Command(("match", engine, "random", "--game", "go", "--games", "4"), 3.0, ASKED, "genmove"),
        "thinking": Command(("play", engine, "--game", "go", "--side", "second"), 3.0, ASKED, "genmove"),
        "waiting": Command(("play", "random", "--game", "tic_tac_toe"), 5.0, stdin=subprocess.PIPE),
        "evaluate": Command(("evaluate", "mine", "--games", "2000"), 9.0),
        "rate": Command(("rate", "mine", "--games", "2000"), 9.0),
        "report": Command(("report", "mine"), 8.0),
        "export": Command(("export", "mine", "--overwrite"), 8.0),
        "check": Command(("check",), 9.0),
    }


def environment(**more: str) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(HERE), "XLA_FLAGS": "",
        "JAX_COMPILATION_CACHE_DIR": str(HERE / ".cache/jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    } | more  # fmt: skip


# Signals


def interrupted(command: Command, number: signal.Signals, delay: float, twice: bool, folder: Path) -> str:
    """Starts a command, sends it a signal -> what is wrong with its end; "" if nothing."""
    for name in (OUT, ASKED):
        (folder / name).write_text("")
    with open(folder / OUT, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "jaxzero", *command.words], stdin=command.stdin, stdout=out, stderr=subprocess.PIPE,
            text=True, cwd=folder, start_new_session=True,
            # Compiled programs are read from the cache, not written there, as that might be broken off.
            env=environment(JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="1e9"),
        )  # fmt: skip
    try:
        while process.poll() is None and command.text not in (folder / command.file).read_text():
            time.sleep(0.02)
        try:
            process.wait(delay)
            error = process.communicate()[1]
            return f"ended by itself, status {process.returncode}, {error[-300:]!r}" * (process.returncode != 0)
        except subprocess.TimeoutExpired:
            children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        began = time.perf_counter()
        if twice:
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
        try:
            process.wait(SAVING)
        except subprocess.TimeoutExpired:
            return f"not ended {SAVING:.0f} s after it"
        seconds = time.perf_counter() - began
        error = process.communicate()[1]
        return (
            verdict(process.returncode, number, twice, seconds, error)
            or left_over(children)
            or kept(command, folder, error)
        )
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def verdict(status: int, number: signal.Signals, twice: bool, seconds: float, error: str) -> str:
    lines = error.splitlines()
    waited = [line for line in lines if re.match(r"SIG\w+: finishing .*, then saving; Ctrl-C stops at once$", line)]
    if status == -number and not lines:
        return ""  # before Python itself had started
    if status == 0 and not lines:
        return ""  # when all was done
    if status != 128 + number:
        return f"status {status}, {error[-300:]!r}"
    rest = [line for line in lines if line not in waited]
    if len(waited) > 1 or len(rest) != 1 or not rest[0].startswith("interrupted"):
        return f"not one line: {error[-400:]!r}"
    if seconds > SOON and (twice or not waited):
        return f"took {seconds:.1f} s"
    return ""


def left_over(children: list[psutil.Process]) -> str:
    _, there = psutil.wait_procs(children, 0.5)
    alive = [child for child in there if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    for child in alive:
        child.kill()
    return f"{len(alive)} processes left" if alive else ""


def kept(command: Command, folder: Path, error: str) -> str:
    """What a training says it saved is there."""
    if not (said := re.search(r"saved up to iteration (\d+)", error)):
        return ""
    run = folder / "runs" / command.words[command.words.index("--name") + 1]
    saved = max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdecimal())
    return f"said {said[0]}, but iteration {saved} is" * (saved != int(said[1]))


# Streams


STREAMS = {
    "head": '"$@" | head -1 >/dev/null; exit ${PIPESTATUS[0]}',
    "no reader": '"$@" | :; exit ${PIPESTATUS[0]}',
    "stdout closed": 'exec "$@" >&-',
    "stderr closed": 'exec "$@" 2>&-',
    "all closed": 'exec "$@" <&- >&- 2>&-',
    "stdin closed": 'exec "$@" <&-',
    "stdout full": 'exec "$@" >/dev/full',
    "stderr full": 'exec "$@" 2>/dev/full',
    "no UTF-8": "printf 'b2\\n\\377\\376\\n' | \"$@\"",
    "plain": 'exec "$@"',
}
ENCODINGS = ("ascii", "latin-1", "cp1252", "ascii:strict", "utf-8")
SHOWING = {
    "presets": ("presets",),
    "help": ("train", "--help"),
    "match": ("match", "random", "random", "--game", "tic_tac_toe", "--games", "2"),
    "play": ("play", "random", "--game", "tic_tac_toe", "--seed", "1"),
    "train": ("train", "tiny.toml", "--iterations", "3", "--overwrite", "--name", "läuf–ü"),
    "wrong": ("train", "tic_tac_toe_test", "--name", "ä/ö"),
}


def shown(name: str, streams: str, encoding: str, term: str, folder: Path) -> str:
    """Runs a command with its streams changed -> what is wrong; "" if nothing."""
    words = [sys.executable, "-m", "jaxzero", *SHOWING[name]]
    try:
        done = subprocess.run(
            ["bash", "-c", STREAMS[streams], "bash", *words], input="", capture_output=True, text=True,
            errors="replace", cwd=folder, timeout=SAVING, env=environment(PYTHONIOENCODING=encoding, TERM=term),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"not ended after {SAVING:.0f} s"
    lines = done.stderr.splitlines()
    wanted = 2 if name == "wrong" or (streams == "stdout full" and name != "train") else 0
    if done.returncode != wanted:
        return f"status {done.returncode} in place of {wanted}: {done.stderr[-300:]!r}"
    if len(lines) != (wanted == 2 and streams not in ("stderr closed", "all closed", "stderr full")):
        return f"{len(lines)} lines on stderr: {done.stderr[-300:]!r}"
    if name == "train" and not (folder / "runs" / "läuf–ü" / "checkpoints" / "3").is_dir():
        return "nothing was saved"
    if streams == "plain" and not wanted and len(done.stdout) < 20:
        return f"showed only {done.stdout!r}"
    return ""


def attack(random: random.Random, count: int, folder: Path) -> Iterator[Case]:
    commands = prepare(folder, count <= FEW)
    order = itertools.chain(["presets", "start", "go", "train"], itertools.cycle([*commands, *SHOWING]))
    for name in itertools.islice(order, count):
        if name in SHOWING:
            streams, encoding = random.choice(list(STREAMS)), random.choice(ENCODINGS)
            term = random.choice(("dumb", "xterm"))
            what = f"{name}, {streams}, {encoding}, TERM={term}"
            yield Case(what, shown(name, streams, encoding, term, folder))
        else:
            command, number = commands[name], random.choice(SIGNALS)
            delay, twice = random.uniform(0.1, command.span), random.random() < 0.2
            signals, moment = number.name + " and SIGINT" * twice, command.text or "the start"
            what = f"{signals} {delay:.2f} s after {moment} of {' '.join(command.words)}"
            yield Case(what, interrupted(command, number, delay, twice, folder))
