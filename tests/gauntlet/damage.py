"""Files of a run's folder, damaged in every way that disks, editors, other programs and people damage them, and then
read by every command that they concern. Right is: the work is done and what was lost is told, or one line says why not.
"""

import contextlib
import functools
import io
import json
import os
import random
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import gauntlet
from gauntlet import Case, Outcome

COUNT, FEW = 400, 6
PATIENCE = 60  # seconds after which a command hangs
NAME, LAST = "run", 4  # of the run, and its iterations

SETTINGS = f"""
name = "{NAME}"
devices = 1
iterations = {LAST}
game = {{name = "tic_tac_toe"}}
network = {{kind = "mlp", sizes = [8]}}
search = {{simulations = 2, max_considered = 2}}
selfplay = {{games = 8, plies = 8}}
replay = {{capacity = 256, window = 64}}
learner = {{batch = 16, reuse = 1.0, warmup = 2, schedule = "constant"}}
evaluation = {{games = 2, opponents = ["random"], simulations = 2, every = 2, final = false}}
promotion = {{rule = "threshold", every = 1, games = 2, threshold = 0.0, simulations = 0}}
checkpoint = {{every = 1, keep = 2}}
log = {{tensorboard = false, plot_every = 1000}}
export = {{final = false}}
"""

QUICK = "--simulations", "0", "--games", "2"
TRAIN = "train", "{root}/settings.toml", "--root", "{root}"
COMMANDS: dict[str, tuple[str, ...]] = {
    "train": TRAIN,
    "train on": (*TRAIN, "--iterations", str(LAST + 1)),
    "train otherwise": (*TRAIN, "--log.every", "2"),
    "export": ("export", "{run}", "--format", "json"),
    "report": ("report", "{run}", *QUICK, "--opponent", ""),
    "compare": ("compare", "{run}", "{root}/other", "--file", "{root}/picture.png", "--overwrite"),
    "rate": ("rate", "{run}", *QUICK, "--anchors", "random"),
    "evaluate": ("evaluate", "{run}", *QUICK),
    "match": ("match", "{run}:0", "random", "--games", "2", "--out", "{run}"),
    "play": ("play", "{run}:0"),
}
WEIGHTS = ("train", "export", "report", "rate", "evaluate", "match", "play")
READERS: dict[str, tuple[str, ...]] = {  # commands that read or write the files that fit a pattern, each file once
    "config.toml": (*COMMANDS,),
    "metrics.jsonl": ("train", "train on", "export", "report", "compare"),
    "prechecks.json": ("train",),
    "metadata.json": ("train", "train on"),
    "arena.csv": ("train", "train on", "match"),
    "last_arena.json": ("train on", "match"),
    "ratings.json": ("rate", "report", "export"),
    "changes.jsonl": ("train otherwise",),
    "run.log": ("train",),
    "learning_curve.png": ("train",),
    "elo.png": ("rate",),
    "report.html": ("report",),
    "evaluations/*/results.json": ("report",),
    "evaluations/*/evaluate_*.json": ("report", "evaluate"),
    "exports/*.json": ("export",),
    "checkpoints/*/record/*": WEIGHTS,
    "checkpoints/*/learner/**/*": WEIGHTS,
    "checkpoints/*/data/**/*": ("train", "train on"),
    "checkpoints/*/*": WEIGHTS,
}
DERIVED = ("prechecks.json", "last_arena.json", "run.log", "report.html", "changes.jsonl")  # made anew, or only added to


# Damage


class Damage(NamedTuple):
    what: str
    do: Callable[[random.Random, Path], None]


ODD = (
    *("null", "[]", "{}", '""', '"x"', "true", "-1", "0", "0.5", "1e400", "-1e400", "NaN", "Infinity", "1e308", "2147483648"),
    *("9223372036854775808", "9" * 5000, "[" * 100_000, '{"a":' * 100_000, '[{"a": [null]}]', '"' + "x" * 100_000 + '"'),
    *('"\\ud800"', '"\\u0000"', '"../../x"', "[1, 2, 3, 4, 5]", "1" + "0" * 300, '"<script>"', '"[b]"', '"$x^{2}$"'),
)


def cut(rng: random.Random, path: Path) -> None:
    path.write_bytes(path.read_bytes()[: rng.randrange(max(1, path.stat().st_size))])


def cut_front(rng: random.Random, path: Path) -> None:
    path.write_bytes(path.read_bytes()[rng.randrange(max(1, path.stat().st_size)) :])


def empty(rng: random.Random, path: Path) -> None:
    path.write_bytes(b"")


def double(rng: random.Random, path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def flip(rng: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    for _ in range(rng.choice((1, 3, 30))):
        content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
    path.write_bytes(content)


def insert(rng: random.Random, path: Path) -> None:
    content = path.read_bytes()
    place = rng.randrange(len(content) + 1)
    junk = rng.choice((b"\0" * 4096, b"\xff\xfe", b"\xc3", b"\n\n", b"\r", b"," * 50, b'"', b"\xef\xbb\xbf", b"\x1b[2J"))
    path.write_bytes(content[:place] + junk + content[place:])


def lines_changed(rng: random.Random, path: Path) -> None:
    """A line is gone, doubled, torn, or elsewhere."""
    lines = path.read_bytes().splitlines(keepends=True) or [b""]
    place = rng.randrange(len(lines))
    line = lines[place]
    change = rng.randrange(5)
    if change == 0:
        del lines[place]
    elif change == 1:
        lines.insert(rng.randrange(len(lines) + 1), line)
    elif change == 2:
        lines[place] = line[: len(line) // 2]
    elif change == 3:
        rng.shuffle(lines)
    else:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(ODD).encode() + b"\n")
    path.write_bytes(b"".join(lines))


def odd(rng: random.Random, path: Path) -> None:
    path.write_text(rng.choice(ODD))


def odd_places(rng: random.Random, path: Path) -> None:
    """Odd values, one at each of some places of the JSON, or the JSON of one line; other files get one at the end."""
    text = path.read_text(errors="replace")
    lines = text.splitlines(keepends=True) if path.suffix == ".jsonl" else [text]
    number = rng.randrange(max(1, len(lines)))
    try:
        value = json.loads(lines[number])
    except (ValueError, IndexError):
        path.write_text(text + rng.choice(ODD))
        return
    holder = [value]
    placed = {}
    for i in range(rng.choice((1, 1, 2, 5))):
        places = list(places_of(holder))
        inside, key = rng.choice(places)
        if rng.random() < 0.2 and inside is not holder:
            del inside[key]
        else:
            placed[f"odd {i} odd"] = rng.choice(ODD)
            inside[key] = f"odd {i} odd"
    shown = json.dumps(holder[0])
    for name, odd_value in placed.items():
        shown = shown.replace(f'"{name}"', odd_value)
    lines[number] = shown + "\n"
    path.write_text("".join(lines))


def places_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """(list or dict, index or key) of every value inside."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from places_of(inner)


def gone(rng: random.Random, path: Path) -> None:
    path.unlink() if path.is_file() else shutil.rmtree(path)


def replaced(make: Callable[[Path], Any]) -> Callable[[random.Random, Path], None]:
    def do(rng: random.Random, path: Path) -> None:
        gone(rng, path)
        make(path)

    return do


INSIDE = [Damage(do.__name__, do) for do in (cut, cut_front, empty, double, flip, insert, odd)]
LINES = [Damage("lines_changed", lines_changed)] * 4
PLACES = [Damage("odd_places", odd_places)] * 6
OTHERWISE = [
    Damage("gone", gone),
    Damage("a folder", replaced(Path.mkdir)),
    Damage("a pipe", replaced(os.mkfifo)),
    Damage("a loop of links", replaced(lambda path: path.symlink_to(path))),
    Damage("a link to nothing", replaced(lambda path: path.symlink_to(path.with_name("nothing")))),
    Damage("a link to a device", replaced(lambda path: path.symlink_to("/dev/zero"))),
    Damage("a large hole", replaced(lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40))),
]


def kinds(path: Path) -> list[Damage]:
    if path.is_dir():
        return [each for each in OTHERWISE if each.what != "a folder"]
    extra = LINES if path.suffix in (".jsonl", ".csv", ".toml") else []
    return [*INSIDE, *OTHERWISE, *extra, *(PLACES if path.suffix in (".json", ".jsonl") else [])]


# Cases


def attack(rng: random.Random, count: int, folder: Path) -> Iterator[Case]:
    with same_programs():
        base = make_base(folder / "base")
        targets = {pattern: found for pattern in READERS if (found := files_of(base / NAME, pattern))}
        assert len(targets) == len(READERS), READERS.keys() - targets.keys()
        whole = [(pattern, command) for pattern, commands in READERS.items() for command in commands]
        plan: list[tuple[str, str]] = []
        while len(plan) < count:  # every reader of every file in turn
            rng.shuffle(whole)
            plan += whole
        for number, (pattern, command) in enumerate(plan[:count]):
            root = folder / f"{number}"
            shutil.copytree(base, root, symlinks=True)
            path = root / NAME / rng.choice(targets[pattern])
            damage = rng.choice(kinds(path))
            state = rng.getrandbits(64)
            damage.do(random.Random(state), path)
            before = content_of(path)
            what = f"{command} after {path.relative_to(root / NAME)}: {damage.what} (state {state})"
            tokens = [token.format(root=root, run=root / NAME) for token in COMMANDS[command]]
            yield Case(what, judged(command, path, root, base, before, run(tokens)))
            shutil.rmtree(root)


def files_of(run: Path, pattern: str) -> list[Path]:
    return sorted(path.relative_to(run) for path in run.glob(pattern) if path.is_file() or pattern.endswith("*/*"))


@contextlib.contextmanager
def same_programs() -> Iterator[None]:
    """Runs of one configuration share their traced functions."""
    from jaxzero import iteration, settings

    original = iteration.make

    @functools.cache
    def made(text: str, env: Any) -> Any:
        return original(settings.build(settings.read_tree(settings.tomllib.loads(text), "")), env)

    def make(config: Any, env: Any, network: Any = None) -> Any:
        text = settings.dump(config)
        return made(re.sub(r'(?m)^(root|name|every|init_from) = .*\n', "", text), env)

    with mock.patch.object(iteration, "make", make):
        yield


def make_base(root: Path) -> Path:
    """A finished run with all its files, and another one to compare it with."""
    root.mkdir(parents=True)
    (root / "settings.toml").write_text(SETTINGS)
    for name, command in COMMANDS.items():
        if name in ("train on", "compare", "play", "match"):
            continue
        outcome = run([token.format(root=root, run=root / NAME) for token in command])
        assert outcome.status == 0, (name, outcome)
    shutil.copytree(root / NAME, root / "other", ignore=shutil.ignore_patterns("checkpoints"))
    assert metrics_of(root / NAME / "metrics.jsonl")
    return root


def run(tokens: list[str]) -> Outcome:
    """The command with stdin closed, or, if it hangs, what it was doing."""

    def hang(*_: object) -> None:
        raise TimeoutError(f"hangs after {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(PATIENCE)
    try:
        with mock.patch.object(sys, "stdin", io.StringIO("")):
            return gauntlet.command(*tokens)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def content_of(path: Path) -> Any:
    """What is at a path now, to be compared."""
    if path.is_symlink():
        return os.readlink(path)
    if path.is_dir():
        return sorted(str(inner.relative_to(path)) for inner in path.rglob("*"))
    return path.read_bytes() if path.is_file() and path.stat().st_size < 1 << 30 else path.exists()


def judged(command: str, path: Path, root: Path, base: Path, before: Any, outcome: Outcome) -> str:
    """What went wrong, or ""."""
    if fault := gauntlet.refused_or_done(outcome):
        return fault
    if drafts := [each.name for each in (root / NAME).rglob(f".*.{os.getpid()}")]:
        return f"drafts are left: {drafts}"
    added = path.name in ("run.log", "changes.jsonl")
    if outcome.status == 2:
        return "" if added or content_of(path) == before else "refused, but what was damaged has changed"
    told = path.name in outcome.out + outcome.error or "checkpoint" in outcome.out + outcome.error
    if told or path.name in DERIVED:
        return ""
    return silent(command, path, base / path.relative_to(root), before)


def silent(command: str, path: Path, original: Path, before: Any) -> str:
    """What was lost without a word, or ""."""
    if path.name == "metrics.jsonl":
        lost = metrics_of(original).keys() - (metrics_of(path).keys() if path.is_file() else set())
        if command == "compare" or command == "report" or command == "export":
            lost = set() if isinstance(before, bytes) and (b"\n" in before) and not torn(before) else lost
        return f"rows {sorted(lost)} lost in silence" if lost and command.startswith("train") else ""
    return ""


def torn(content: bytes) -> bool:
    return not content.endswith(b"\n")


def metrics_of(path: Path) -> dict[int, dict[str, Any]]:
    return {row["iteration"]: row for row in map(json.loads, path.read_text().splitlines())}
