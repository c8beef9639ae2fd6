"""Programs that flood, hang, die, lie or chatter as opponents: whatever they do is bounded in time and memory, costs no
move that they have named, and leaves no process.

The programs are one script that follows a plan. They play games of a few moves by name, so that no rules are compiled.
"""

import itertools
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil

from gauntlet import Case, command, one_line
from jaxzero.evaluation.base import Contestant, HostPositions
from jaxzero.evaluation.engines import Engine
from jaxzero.evaluation.players import make_player
from jaxzero.messages import ConfigError

COUNT, FEW = 120, 6
TIMEOUT = 1.5  # seconds that broken programs get
SLACK = 8.0  # seconds on a loaded machine
MEMORY = 20 << 20  # bytes that a program may cost
NAMES = {"chess": ("e2e4", "d2d4", "e7e8q"), "go": ("c3", "d4", "pass")}
GAMES: dict[str, Any] = {
    name: SimpleNamespace(name=name, size=5, komi=7.5, action_to_str=lambda _, action, names=names: names[action])
    for name, names in NAMES.items()
}

PROGRAM = """
import json, os, signal, sys, time
plan = json.load(open(sys.argv[1]))
def say(text):
    data = text.encode("latin-1")
    while data:
        data = data[os.write(1, data[:plan["piece"]]):]
        if plan["slow"]:
            time.sleep(plan["slow"])
def misbehave(deed):
    if deed == "lines":
        flood = plan["flood"].encode("latin-1") * (10000 // len(plan["flood"]) + 1)
        while True: os.write(1, flood)
    if deed == "line":
        while True: os.write(1, b"x" * 65536)
    if deed == "hang": time.sleep(1000)
    if deed == "stop": os.kill(os.getpid(), signal.SIGSTOP)
    if deed == "die": os._exit(3)
    if deed == "abort": os.kill(os.getpid(), signal.SIGKILL)
    if deed == "half": os.write(1, plan["half"].encode()); os._exit(0)
    if deed == "mute": os.close(1); time.sleep(1000)
    if deed == "deaf": os.close(0); say("x\\n"); time.sleep(1000)
    if deed == "late": time.sleep(plan["late"]); say(plan["half"])
for name in plan["ignored"]:
    signal.signal(getattr(signal, name), signal.SIG_IGN)
for kind in plan["children"]:
    if os.fork() == 0:
        if kind == "session": os.setsid()
        time.sleep(1000)
once = plan["once"]
first = not (once and os.path.exists(once))
if once: open(once, "w").close()
deeds = plan["deeds"] if first else {}
asked = 0
say(plan["banner"])
misbehave(deeds.get("start"))
for line in sys.stdin:
    words = line.split()
    number = words.pop(0) if words and words[0].isdigit() else ""
    if not words or words[0] not in plan["answers"]:
        continue
    say(plan["noise"])
    if words[0] in ("go", "genmove"):
        asked += 1
    misbehave(deeds.get(words[0] if asked < 2 else words[0] + "2"))
    say(plan["answers"][words[0]].replace("#", number))
"""
ANSWERS = {
    "uci": {"uci": "id name x\noption name A B type button\nuciok\n", "isready": "readyok\n", "go": "bestmove e2e4\n"},
    "gtp": {
        **dict.fromkeys(("protocol_version", "boardsize", "komi", "clear_board", "play"), "=#\n\n"),
        "genmove": "=# c3\n\n",
    },
}  # fmt: skip
CALM = {
    "banner": "", "noise": "", "piece": 1 << 20, "slow": 0, "flood": "y\n", "half": "", "late": 0, "ignored": [],
    "children": [], "once": "", "deeds": {},
}  # fmt: skip
HEARD = {  # forms in which the move may be named, and the number of the action that it means, None if it resigns
    "uci": [
        ("bestmove e2e4", 0), ("bestmove d2d4 ponder e7e5", 1), ("  bestmove\te2e4  ponder  x", 0),
        ("bestmove E7E8Q", 2), ("bestmove\x00 D2D4", 1), ("info depth 1 pv d2d4\nbestmove e2e4", 0),
        ("bestmove e2e4\nbestmove d2d4", 0),
    ],
    "gtp": [
        ("=# c3\n", 0), ("=# D4\n", 1), ("=#\tPASS\n", 2), ("=#\nd4\n", 1), ("=# c3\n= d4\n", 0), 
        ("=#   d4 (0.53)\n", 1), ("=# resign\n", None), ("=#\x01 c3\n", 0), ("=# c3\n\n=# d4\n", 0),
    ],
}  # fmt: skip
NOISE = [
    "Toy engine 1.0", "threads: 4", "", "   47 %", "* thinking", "info string bestmove d2d4", "\xff\xfe\x80", "\0\0",
    "win = 47 %", "is it? yes", "\tbest = d4", "x" * 5000, "\x1b[32mok\x1b[0m", "10 %\r20 %\r99 %\r", "======", "????",
    "option name", "id", "info depth 3 pv e2e4", "readyok?", "uciok!", " = d4", " ? error", "bestmoves d2d4",
]  # fmt: skip
FLOODS = [
    "y\n", "\n", "bestmove\n", "=\n", "= \n\n", "info string x\n", "option name x type y\n", "\0\r",
    "\r" * 250_000 + "x\n", "ab\r" * 80_000 + "\n", "=" + "1" * 250_000 + "?\n",
]  # fmt: skip
DEEDS = ["lines", "line", "hang", "stop", "die", "abort", "half", "mute", "deaf", "late"]


class Table:
    """Where programs are written to; `check` says what one has left behind."""

    def __init__(self, random: Random, folder: Path):
        self.random, self.folder, self._numbers = random, folder, itertools.count()

    def program(self, protocol: str, **plan: Any) -> str:
        """The command of a new program, with its own files."""
        place = self.folder / f"e{next(self._numbers)}"
        place.mkdir()
        if plan.get("once"):
            plan["once"] = str(place / "once")
        (place / "engine.py").write_text(PROGRAM)
        (place / "plan.json").write_text(json.dumps(CALM | {"answers": ANSWERS[protocol]} | plan))
        return shlex.join([sys.executable, "-ISu", str(place / "engine.py"), str(place / "plan.json")])

    def left(self) -> str:
        """The processes that are left, of those that name the folder."""

        def mine() -> list[psutil.Process]:
            return [
                p for p in psutil.process_iter(["cmdline"]) if str(self.folder) in " ".join(p.info["cmdline"] or ())
            ]

        deadline = time.monotonic() + 5  # the system takes a moment to end what has been killed
        while (found := mine()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in found:
            process.kill()
        return f"left {len(found)} processes" if found else ""


def ask(engine: Engine, games: int = 1) -> list[int | None]:
    positions = HostPositions(np.zeros((games, 1)), np.ones((games, 3), bool), [["x"] * i for i in range(games)])
    return list(engine.choose(positions, np.random.default_rng(0)))


def either(random: Random) -> tuple[str, Any]:
    protocol = random.choice(("uci", "gtp"))
    return protocol, GAMES["chess" if protocol == "uci" else "go"]


def noise(random: Random, end: str) -> str:
    return "".join(random.choice(NOISE) + end for _ in range(random.randrange(6)))


def sized() -> int:
    """The most memory since `Path("/proc/self/clear_refs")` was last written to, bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


# The attacks: each returns what was tried and what went wrong.


def chatter(table: Table) -> tuple[str, str]:
    """Noise around good answers costs nothing."""
    random = table.random
    protocol, env = either(random)
    end = random.choice(("\n", "\r\n"))
    form, meant = random.choice(HEARD[protocol])
    answers = dict(ANSWERS[protocol])
    answers["go" if protocol == "uci" else "genmove"] = form + "\n"
    if protocol == "gtp" and "#" not in form.partition("\n\n")[2] and random.random() < 0.3:
        answers = {word: answer.replace("#", "") for word, answer in answers.items()}  # one that knows no numbers
    answers = {word: answer.replace("\n", end) for word, answer in answers.items()}
    plan = {
        "answers": answers, "banner": noise(random, end), "noise": noise(random, end),
        "piece": random.choice((1 << 20, 1 << 20, 7)),
    }  # fmt: skip
    what = f"{protocol} {json.dumps(plan)}"
    engine = Engine(protocol, f"{table.program(protocol, **plan)}:processes=1", env)
    chosen = ask(engine, 3)
    engine.close()
    if chosen != [meant] * 3 or any(engine.report().values()):
        return what, f"chose {chosen} for {meant}, {engine.report()}"
    return what, ""


def broken(table: Table) -> tuple[str, str]:
    """What does not answer is started anew, and given up in time; it costs no memory, and none of it is left."""
    random = table.random
    protocol, env = either(random)
    words = ("start", *ANSWERS[protocol], "go2" if protocol == "uci" else "genmove2")
    word, deed, once = random.choice(words), random.choice(DEEDS), random.random() < 0.5
    plan = {
        "deeds": {word: deed}, "once": once, "late": random.choice((2 * TIMEOUT, 1.05 * TIMEOUT)),
        "flood": random.choice(FLOODS),
        "half": random.choice(("bestmove d2d4", "= d4", "bestmove d2", "=")) + "\n" * (deed == "late"),
        "ignored": random.sample(("SIGTERM", "SIGPIPE", "SIGHUP", "SIGINT"), random.randrange(5)),
        "children": random.choices(("plain", "session"), k=random.randrange(3)),
    }  # fmt: skip
    program = table.program(protocol, **plan)
    if random.random() < 0.3:
        program = shlex.join(["sh", "-c", random.choice((f"{program}; true", f"{program} & wait", f"cat | {program}"))])
    what = f"{protocol} {json.dumps(plan)} {program}"
    Path("/proc/self/clear_refs").write_text("5")
    before, began = sized(), time.monotonic()
    engine = None
    try:
        engine = Engine(protocol, f"{program}:processes=1,timeout={TIMEOUT}", env)
        chosen = ask(engine, 3)
        wrong = set(chosen) - {0, None}
        fault = f"chose {chosen}" if wrong else ""
        if once and (None in chosen or engine.forfeits):
            fault = f"gave up {chosen} for one fault"
    except (ConfigError, ValueError) as error:
        fault = one_line(f"error: {error}\n")
        if once and not fault and engine:
            fault = f"gave up for one fault: {error}"
    seconds, grown = time.monotonic() - began, sized() - before
    if engine:
        engine.close()
    if seconds > 10 * TIMEOUT + SLACK:
        fault = f"took {seconds:.1f} s"
    if grown > MEMORY:
        fault = f"grew by {grown >> 20} MB"
    return what, fault


def interrupted(table: Table) -> tuple[str, str]:
    """Ctrl-C ends a wait at once and starts nothing anew."""
    random = table.random
    protocol, env = either(random)
    deed, after = random.choice(("lines", "hang", "stop")), random.random()
    word = random.choice(("start", *ANSWERS[protocol]))
    program = table.program(protocol, deeds={word: deed}, children=["plain"])
    what = f"SIGINT {after:.2f} s after {protocol} {word} {deed}"
    began = time.monotonic()
    timer = threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT))
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        engine = Engine(protocol, f"{program}:timeout=60", env)
        ask(engine, 3)
        return what, "was not interrupted"
    except KeyboardInterrupt:
        seconds = time.monotonic() - began - after
        return what, f"took {seconds:.1f} s" if seconds > 3 else ""
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGINT, handler)


def odd_options(table: Table) -> tuple[str, str]:
    """An option that cannot be is refused by its name before anything starts."""
    random = table.random
    protocol, env = either(random)
    name = random.choice(("timeout", "processes", *(("movetime", "nodes", "depth") if protocol == "uci" else ())))
    value = random.choice([
        "inf", "-inf", "nan", "-1", "0", "1e400", "9" * 400, "text", "", "٠", "0x10", "1e-30", '"1,5"', "--", "2 3",
    ])  # fmt: skip
    began = time.monotonic()
    what = f"{protocol} {name}={value[:20]}"
    try:
        make_player(f"{protocol}:{table.program(protocol)}:{name}={value}", env).player.close()  # pyright: ignore
        return what, "was accepted"
    except ConfigError as error:
        fault = one_line(f"error: {error}\n")
        if not fault and not (f"{name} (" in str(error) and "from" in str(error)):
            fault = f"does not name the option and its range: {error}"
        return what, fault or f"took {time.monotonic() - began:.1f} s" * (time.monotonic() - began > 5)


def odd_paths(table: Table) -> tuple[str, str]:
    """A program of any name can be written down."""
    random = table.random
    protocol, env = either(random)
    name = "".join(random.choice("ab :,='\"\\;&$*?[]()#~é-") for _ in range(random.randrange(1, 12)))
    run = table.folder / f"r{random.random()}" / name
    run.parent.mkdir()
    run.write_text(f"#!/bin/sh\nexec {table.program(protocol)}\n")
    run.chmod(0o755)
    quoted = "'" + str(run).replace("'", "'\"'\"'") + "'"
    spec = f"{protocol}:{quoted}:timeout=20,processes=1"
    contestant: Contestant = make_player(spec, env)
    assert isinstance(contestant.player, Engine)
    chosen = ask(contestant.player)
    contestant.player.close()
    return spec, "" if chosen == [0] else f"chose {chosen}"


def whole_command(table: Table) -> tuple[str, str]:
    """`jaxzero match` refuses a program that does not answer in one line, before it compiles."""
    random = table.random
    deed, protocol = random.choice(DEEDS), either(random)[0]
    word = random.choice(("start", next(iter(ANSWERS[protocol]))))
    program = table.program(protocol, deeds={word: deed}, late=1000)
    program = random.choice((program, "yes", "cat", "false", "sleep 1000", "sh -c 'exec sleep 1000 >&-'"))
    spec = f"{protocol}:{program}:timeout={TIMEOUT}"
    game = "chess" if protocol == "uci" else "go"
    out = str(table.folder / "arena")
    outcome = command("match", spec, "random", "--game", game, "--games", "2", "--out", out)
    fault = one_line(outcome.error) or f"exit status {outcome.status}" * (outcome.status != 2)
    if outcome.seconds > TIMEOUT + SLACK:
        fault = f"took {outcome.seconds:.1f} s"
    return f"{deed} at {word} of {spec}", fault


ATTACKS: list[Callable[[Table], tuple[str, str]]] = [
    chatter, broken, interrupted, odd_options, odd_paths, whole_command,
]  # fmt: skip


def attack(random: Random, count: int, folder: Path) -> Iterator[Case]:
    table = Table(random, folder)
    for tried in itertools.islice(itertools.cycle(ATTACKS), count):
        try:
            what, fault = tried(table)
        except Exception as error:
            what, fault = tried.__name__, f"raised {type(error).__name__}: {error}"
        yield Case(f"{tried.__name__}: {what}", table.left() or fault)
