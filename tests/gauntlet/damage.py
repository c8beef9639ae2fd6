"""Files of a run's folder, damaged in every way that disks, editors, other programs and people damage them, and then
read by every command that they concern. Right is: the work is done and what was lost is told, or one line says why not.
"""

import contextlib
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

import fabricated

import gauntlet
from gauntlet import Case, Outcome

COUNT, FEW = 330, 12
PATIENCE = 300  # seconds after which a command hangs, also on a machine with much else to do
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
learner = {{batch = 16, replay_ratio = 1.0, warmup = 2, schedule = "constant"}}
evaluation = {{games = 2, opponents = ["random"], simulations = 2, every = 2, final = false}}
promotion = {{rule = "threshold", every = 1, games = 2, threshold = 0.0, simulations = 0}}
checkpoint = {{every = 1, keep = 2}}
log = {{sinks = [], plot_every = 1000}}
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
MAKERS = ("train", "train otherwise", "export", "report", "rate", "evaluate")  # what makes all those files
QUICKEST = ("report", "compare")  # which need no trained run


# Damage


class Damage(NamedTuple):
    what: str
    do: Callable[[random.Random, Path], None]


ODD = (
    *(
        "null",
        "[]",
        "{}",
        '""',
        '"x"',
        "true",
        "-1",
        "0",
        "0.5",
        "1e400",
        "-1e400",
        "NaN",
        "Infinity",
        "1e308",
        "2147483648",
    ),
    *(
        "9223372036854775808",
        "9" * 5000,
        "[" * 100_000,
        '{"a":' * 100_000,
        '[{"a": [null]}]',
        '"' + "x" * 100_000 + '"',
    ),
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
    junk = rng.choice(
        (b"\0" * 4096, b"\xff\xfe", b"\xc3", b"\n\n", b"\r", b"," * 50, b'"', b"\xef\xbb\xbf", b"\x1b[2J")
    )
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


class Hang(BaseException):
    """Nothing catches it, as it would an error."""


def attack(rng: random.Random, count: int, folder: Path) -> Iterator[Case]:
    few = count < len(READERS)
    with same_programs():
        base = make_base(folder / "base", few)
        pairs = [(pattern, name) for pattern, names in READERS.items() for name in names if not few or name in QUICKEST]
        targets = {pattern: files_of(base / NAME, pattern) for pattern in READERS}
        pairs = [(pattern, name) for pattern, name in pairs if targets[pattern]]
        assert few or {pattern for pattern, _ in pairs} == READERS.keys()
        plan: list[tuple[str, str]] = []
        while len(plan) < count:  # every reader of every file in turn
            rng.shuffle(pairs)
            plan += pairs
        for number, (pattern, name) in enumerate(plan[:count]):
            root = folder / f"{number}"
            shutil.copytree(base, root)
            file, state = rng.choice(targets[pattern]), rng.getrandbits(32)
            path = root / NAME / file
            damage = rng.choice(kinds(path))
            damage.do(random.Random(state), path)
            before = content_of(path)
            outcome = run([token.format(root=root, run=root / NAME) for token in COMMANDS[name]])
            fault = judged(name, path, base / NAME / file, before, outcome)
            yield Case(f"{name} after {damage.what} of {file} (number {number}, state {state})", fault)
            shutil.rmtree(root)


def files_of(run: Path, pattern: str) -> list[Path]:
    return sorted(path.relative_to(run) for path in run.glob(pattern) if path.is_file() or pattern.endswith("*/*"))


@contextlib.contextmanager
def same_programs() -> Iterator[None]:
    """Runs that differ in their folders or in how often they log share their traced functions."""
    from jaxzero.config import settings
    from jaxzero.training import iteration

    original, made = iteration.make, {}

    def make(config: Any, env: Any, network: Any = None) -> Any:
        key = re.sub(r"(?m)^(root|name|every|iterations) = .*\n", "", settings.dump(config)), env
        if key not in made:
            made[key] = original(config, env, network)
        return made[key]

    with mock.patch.object(iteration, "make", make):
        yield


def make_base(root: Path, few: bool) -> Path:
    """A finished run with all its files, or an untrained one with few, and another one to compare it with."""
    root.mkdir(parents=True)
    (root / "settings.toml").write_text(SETTINGS)
    if few:
        fabricated.run_folder(root / NAME)
    for name in () if few else MAKERS:
        outcome = gauntlet.command(*(token.format(root=root, run=root / NAME) for token in COMMANDS[name]))
        assert outcome.status == 0, (name, outcome)
    shutil.copytree(root / NAME, root / "other", ignore=shutil.ignore_patterns("checkpoints"))
    return root


def run(tokens: list[str]) -> Outcome:
    """The command, with nobody at the terminal; a `Hang` if it takes too long."""

    def hang(*_: object) -> None:
        raise Hang(f"after {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(PATIENCE)
    try:
        with mock.patch.object(sys, "stdin", io.StringIO("")):
            return gauntlet.command(*tokens)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def content_of(path: Path) -> Any:
    """What is at a path, to be compared."""
    if path.is_symlink():
        return os.readlink(path)
    if path.is_dir():
        return sorted(str(inner.relative_to(path)) for inner in path.rglob("*"))
    return path.read_bytes() if path.is_file() and path.stat().st_size < 1 << 30 else path.exists()


def judged(name: str, path: Path, original: Path, before: Any, outcome: Outcome) -> str:
    """What went wrong, or ""."""
    if outcome.status is None or outcome.status not in (0, 2) or "Traceback" in outcome.out + outcome.error:
        return gauntlet.refused_or_done(outcome)
    if drafts := [each.name for each in path.parent.rglob(f".*.{os.getpid()}")]:
        return f"drafts are left: {drafts}"
    if outcome.status == 2:
        kept = content_of(path) == before or path.name in ("run.log", "changes.jsonl")
        return gauntlet.one_line(outcome.error) or ("" if kept else "refused, but what was damaged has changed")
    told = (outcome.out + outcome.error).count(path.name)
    text = before.decode(errors="replace") if isinstance(before, bytes) else ""
    return LOSSES[path.name](name, path, original, text, told) if path.name in LOSSES else ""


def lost_rows(name: str, path: Path, original: Path, text: str, told: int) -> str:
    """A resumed run tells of every row that is gone, others of lines that they skip; but for a torn last line."""
    sound = [iteration_of(line) for line in text.splitlines()]
    lost = {iteration_of(line) for line in original.read_text().splitlines()} - {*sound}
    skips = None in sound[: None if text.endswith("\n") else -1]
    if name.startswith("train"):
        kept = {iteration_of(line) for line in path.read_text().splitlines()} if path.exists() else set()
        dropped = {*sound} & {*range(1, LAST + 1)} - kept  # as they do not fit the checkpoint
        if dropped and not (told and path.with_name("metrics.jsonl.old").read_text(errors="replace") == text):
            return f"rows {dropped} dropped, and not kept elsewhere"
        return f"rows {lost} lost in silence" if lost and not told else ""
    return "lines skipped in silence" if skips and not told else ""


def iteration_of(line: str) -> int | None:
    try:
        iteration = json.loads(line)["iteration"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return iteration if type(iteration) is int and 0 < iteration < 1 << 63 else None


def lost_promotions(name: str, path: Path, original: Path, text: str, told: int) -> str:
    wanted, found = (json.loads(each.read_text())["promotions"] for each in (original, path))
    return "" if found[: len(wanted)] == wanted else f"promotions are {found}"


def lost_matches(name: str, path: Path, original: Path, text: str, told: int) -> str:
    lines = path.read_bytes().decode(errors="replace") if path.is_file() else ""
    return "" if text.rstrip("\n") in lines else "lines of others have changed"


def lost_meetings(name: str, path: Path, original: Path, text: str, told: int) -> str:
    if name != "rate":
        return ""  # report says that there are none
    wanted, found = (
        {tuple(each["players"]) for each in json.loads(file.read_text())["meetings"]} for file in (original, path)
    )
    return f"{wanted - found} lost" if wanted - found else ""


LOSSES = {
    "metrics.jsonl": lost_rows, "metadata.json": lost_promotions, "arena.csv": lost_matches,
    "ratings.json": lost_meetings,
}  # fmt: skip
