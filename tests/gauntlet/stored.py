"""Games and positions on disk: damaged files and then every command that reads them; stages killed and started again.

Right is: damage is named, or it does not change what comes out; a stage ends with the bytes of an undisturbed one.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gauntlet
from gauntlet import Case, Outcome
from gauntlet.damage import kinds

COUNT, FEW = 200, 8
KILLS = 50  # of a full run; the other cases are damage
HERE = Path(__file__).parent.parent.parent

GAMES: dict[str, tuple[str, ...]] = {  # commands that read a folder of games; {out} is what they make
    "verify": ("data", "verify", "{root}/games"),
    "stats": ("data", "stats", "{root}/games", "--file", "{root}/out.png"),
    "clean": ("data", "clean", "{root}/games", "--out", "{root}/out"),
    "export": ("data", "export", "{root}/games", "--out", "{root}/out.jsonl"),
    "convert": ("data", "convert", "{root}/games", "--out", "{root}/out"),
}
POSITIONS: dict[str, tuple[str, ...]] = {
    "verify": ("data", "verify", "{root}/positions"),
    "shuffle": ("data", "shuffle", "{root}/positions", "--out", "{root}/out"),
    "train": (),  # only what it reads
}
STAGES: dict[str, tuple[str, ...]] = {  # that are killed
    "generate": (
        *("data", "generate", "random", "--game", "tic_tac_toe", "--games", "60", "--shard", "20"),
        *("--at-once", "8", "--out", "{root}/out"),
    ),
    "import": ("data", "import", "{base}/games.jsonl", "--out", "{root}/out"),
    "clean": ("data", "clean", "{base}/games", "--out", "{root}/out", "--chunk", "15"),
    "convert": ("data", "convert", "{base}/games", "--out", "{root}/out"),
    "shuffle": ("data", "shuffle", "{base}/positions", "--out", "{root}/out"),
}

KILLED = """
import os, sys
from gauntlet.kills import Changes
from jaxzero.cli import app
changes = Changes(sys.argv[1], int(sys.argv[2]), 0)
with changes:
    status = app.main(sys.argv[3:])
print(changes.count, flush=True)
os._exit(status)
"""


def attack(rng: random.Random, count: int, folder: Path) -> Iterator[Case]:
    base = make_base(folder / "base")
    kills = 0 if count <= FEW else count * KILLS // COUNT
    yield from damaged(rng, count - kills, base, folder)
    if kills:
        yield from killed(rng, kills, base, folder)


def make_base(root: Path) -> Path:
    root.mkdir()
    for tokens in (
        ("data", "generate", "random", "--game", "tic_tac_toe", "--games", "60", "--shard", "20", "--out", "{}/games"),
        ("data", "export", "{}/games", "--out", "{}/games.jsonl"),
        ("data", "convert", "{}/games", "--out", "{}/positions"),
    ):
        outcome = gauntlet.command(*(token.format(root) for token in tokens))
        assert outcome.status == 0, outcome
    return root


# Damage


def damaged(rng: random.Random, count: int, base: Path, folder: Path) -> Iterator[Case]:
    pairs = [("games", name) for name in GAMES] + [("positions", name) for name in POSITIONS]
    sound = {pair: result(*pair, carry_out(*pair, copied(base, folder / "_".join(pair))), folder / "_".join(pair))
             for pair in pairs}  # fmt: skip
    for number in range(count):
        kind, name = pairs[number % len(pairs)]
        root = copied(base, folder / f"{number}")
        path = rng.choice(sorted((root / kind).iterdir()))
        damage, state = rng.choice(kinds(path)), rng.getrandbits(32)
        before = path.read_bytes()
        damage.do(random.Random(state), path)
        if not path.is_file() or path.is_symlink() or path.stat().st_size > 1 << 30 or path.read_bytes() != before:
            outcome = carry_out(kind, name, root)
            fault = judged(name, path, outcome, result(kind, name, outcome, root) == sound[kind, name])
        else:
            fault = ""  # nothing changed
        yield Case(f"{name} after {damage.what} of {kind}/{path.name} (number {number}, state {state})", fault)
        shutil.rmtree(root)


def copied(base: Path, root: Path) -> Path:
    shutil.copytree(base, root)
    return root


def carry_out(kind: str, name: str, root: Path) -> Outcome:
    tokens = (GAMES if kind == "games" else POSITIONS)[name]
    if tokens:
        return gauntlet.command(*(token.format(root=root) for token in tokens))
    return read(root / kind)


def read(folder: Path) -> Outcome:
    """What a training does with positions before it compiles, without the rest."""
    import envs
    from jaxzero.data.reader import Folder, Reader
    from jaxzero.messages import ConfigError

    began = time.perf_counter()
    try:
        records = Reader(envs.make("tic_tac_toe"), [Folder(folder)], batch=16, seed=1).records(0, 20)
        return Outcome(0, records.tobytes().hex(), "", time.perf_counter() - began)
    except ConfigError as error:
        return Outcome(2, "", f"error: {error}\n", time.perf_counter() - began)
    except Exception as raised:
        return Outcome(None, "", f"{type(raised).__name__}: {raised}", time.perf_counter() - began)


def result(kind: str, name: str, outcome: Outcome, root: Path) -> object:
    """What came out, to be compared."""
    place = str(root).encode()
    made = {path.name: path.read_bytes().replace(place, b"") for path in files_in(root / "out")}
    lines = root / "out.jsonl"
    said = outcome.out if name in ("stats", "train") else ""
    return outcome.status, made, lines.read_bytes() if lines.exists() else b"", said.replace(str(root), "")


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def judged(name: str, path: Path, outcome: Outcome, same: bool) -> str:
    """What went wrong, or ""."""
    said = outcome.out + outcome.error
    if name == "verify" and outcome.status == 1:
        return "" if path.stem in said else f"not named: {said[-200:]!r}"
    if fault := gauntlet.refused_or_done(outcome):
        return fault
    if outcome.status == 2:
        return "" if path.stem in said or path.parent.name in said else f"not named: {said[-200:]!r}"
    if name == "verify":
        return "" if path.name == "finished" else "not noticed"
    return "" if same else "used in silence"


# Kills


def killed(rng: random.Random, count: int, base: Path, folder: Path) -> Iterator[Case]:
    whole = {}
    for name in STAGES:
        root = folder / f"whole_{name}"
        root.mkdir()
        ended = start(name, root, base, 0)
        assert ended.returncode == 0, (name, ended.stderr)
        whole[name] = contents(root), int(ended.stdout.split()[-1])
    for number in range(count):
        name = list(STAGES)[number % len(STAGES)]
        expected, changes = whole[name]
        root = folder / f"kill_{number}"
        root.mkdir()
        moments = [rng.randint(1, changes) for _ in range(rng.choice((1, 1, 2)))]
        for moment in moments:
            start(name, root, base, moment)
        ended = start(name, root, base, 0)
        fault = "" if ended.returncode == 0 else f"did not go on: {ended.stderr[-200:]!r}"
        if not fault and (found := contents(root)) != expected:
            fault = f"differs in {[each for each in found if found[each] != expected.get(each)]}"
        yield Case(f"{name} killed at changes {moments} of {changes} (number {number})", fault)
        shutil.rmtree(root)


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in files_in(root / "out")}


def start(name: str, root: Path, base: Path, at: int) -> "subprocess.CompletedProcess[str]":
    """The stage in a process of its own, killed at change `at` of a file."""
    tokens = [token.format(root=root, base=base) for token in STAGES[name]]
    environment = os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE / 'tests'}"}
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(root), str(at), *tokens]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
