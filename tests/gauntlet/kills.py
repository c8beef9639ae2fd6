"""SIGKILL at every kind of moment of a run: first compile, self-play, saving, pruning, evaluation, promotion, rewind,
overwriting, export, plotting, beginning with weights. The next start goes on, or begins anew as if nothing had been.

Children are killed at their k-th change of a file (of all that Python makes) or after a random time. They are forked
from a server that has imported everything but has not started JAX.
"""

import builtins
import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gauntlet import Case

COUNT = 120
FEW = 8
HERE = Path(__file__).parent.parent.parent
PATIENCE = 300.0  # seconds of one start, on a machine that does much else

PRESET = """
name = "run"
devices = 1
game = {name = "tic_tac_toe"}
network = {kind = "mlp", sizes = [8]}
search = {simulations = 2, max_considered = 2}
selfplay = {games = 8, plies = 8}
replay = {capacity = 256, window = 64}
learner = {batch = 16, reuse = 1.0, warmup = 2, schedule = "constant"}
evaluation = {every = 2, games = 4, opponents = ["random"], simulations = 2}
promotion = {rule = "threshold", every = 2, games = 4, simulations = 2, threshold = 0.1}
checkpoint = {every = 1, keep = 2}
log = {plot_every = 2}
"""


class Outcome(NamedTuple):
    status: int  # -9: killed
    error: str
    changes: int  # of files, counted by the child, if it ended by itself
    seconds: float


class Server:
    """Forks a child for each start of a run: `start` waits for its end."""

    def __init__(self, folder: Path):
        self._folder = folder
        environment = os.environ | {
            "XLA_FLAGS": "",
            "PYTHONPATH": f"{HERE}{os.pathsep}{HERE / 'tests'}",
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_COMPILATION_CACHE_DIR": str(HERE / ".cache" / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        command = [sys.executable, "-W", "ignore", "-m", __spec__.name if __name__ == "__main__" else __name__]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def start(self, **job: Any) -> Outcome:
        """`root`, and what `perform` takes; killed `at` a change of a file or after `seconds`, 0 for neither."""
        assert self._process.stdin
        assert self._process.stdout
        report = self._folder / "report.json"
        report.unlink(missing_ok=True)
        self._process.stdin.write(json.dumps({"report": str(report), **job}) + "\n")
        self._process.stdin.flush()
        status, seconds = json.loads(self._process.stdout.readline())
        told = json.loads(report.read_text()) if report.exists() else {"error": "", "changes": 0}
        return Outcome(status, told["error"], told["changes"], seconds)


# In the server


def serve() -> None:
    import jaxzero.train  # noqa: F401  before the fork: importing takes longest
    from jaxzero import runs, settings  # noqa: F401

    for line in sys.stdin:
        job = json.loads(line)
        began = time.perf_counter()
        child = os.fork()
        if child == 0:
            perform(job)
        timer = threading.Timer(job.get("seconds") or PATIENCE, os.kill, (child, signal.SIGKILL))
        timer.start()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        timer.cancel()
        timer.join()
        print(json.dumps([status, time.perf_counter() - began]), flush=True)


def perform(job: dict[str, Any]) -> None:
    """Trains, or only opens the folder; never returns."""
    from jaxzero import runs, settings, train
    from jaxzero.config import ConfigError

    error, status, changes = "", 0, Changes(Path(job["root"]), job.get("at", 0))
    os.dup2(os.open(job["report"] + ".out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(1, 2)
    if job.get("at") or job.get("seconds"):  # a compiled program that is written by halves would be read by others
        import jax

        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
    try:
        config = settings.load(Path(job["preset"]))
        overwrite = job.get("overwrite", False)
        with changes:
            if job.get("only_open"):
                with runs.opened(config, (), overwrite):
                    pass
            else:
                for _ in train.run(config, overwrite=overwrite, from_step=job.get("from_step")):
                    pass
    except ConfigError as refused:
        error, status = str(refused), 2
    except BaseException:
        error, status = traceback.format_exc(), 1
    Path(job["report"]).write_text(json.dumps({"error": error, "changes": changes.count}))
    os._exit(status)


class Changes:
    """Counts what Python does to files below a folder, and kills the process just before number `at`."""

    def __init__(self, root: Path, at: int):
        self._root, self._at, self.count = str(root), at, 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        for name in ("rename", "replace", "unlink", "remove", "rmdir", "mkdir"):
            setattr(os, name, self._counted(getattr(os, name), lambda *_, **__: True))
        opened = self._counted(builtins.open, lambda *a, mode="r", **_: bool(set((*a, mode)[1]) & set("wax+")))
        builtins.open = io.open = opened

    def __exit__(self, *_: object) -> None:
        self._root = "\0"

    def _counted(self, function: Callable[..., Any], changes: Callable[..., bool]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            inside = options.get("dir_fd") is not None or str(arguments[0]).startswith(self._root)
            if self._root != "\0" and inside and changes(*arguments, **options):
                with self._lock:
                    self.count += 1
                    if self.count == self._at:
                        os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call


# The attack


class Scenario(NamedTuple):
    """A command that is killed, from a run as it was before, and what the run is in the end."""

    name: str
    base: str  # the reference that the folder is a copy of, "" for none
    preset: str
    first: dict[str, Any]  # options of the first start; later ones are plain
    end: str  # the reference that it must equal


SCENARIOS = (
    Scenario("train", "", "run", {}, "run"),
    Scenario("resume", "run", "longer", {}, "longer"),
    Scenario("rewind", "run", "run", {"from_step": 3}, "run"),
    Scenario("overwrite", "other", "run", {"overwrite": True}, "run"),
    Scenario("finish", "run", "run", {}, "run"),
    Scenario("init_from", "", "tuned", {}, "tuned"),
)


def attack(random: random.Random, count: int, folder: Path) -> Iterator[Case]:
    with Server(folder) as server:
        opening = min(count, FEW)
        yield from kill_while_opening(server, random, opening, folder)
        if count > opening:
            yield from kill_while_training(server, random, count - opening, folder)


def write_presets(folder: Path, root: Path) -> dict[str, Path]:
    weights = folder / "references" / "run" / "run" / "exports" / "run_step000004.pt"
    texts = {
        "run": "iterations = 4\nseed = 0\n",
        "longer": "iterations = 6\nseed = 0\n",
        "other": "iterations = 4\nseed = 1\n",
        "tuned": f"iterations = 3\nseed = 2\ninit_from = {json.dumps(str(weights))}\n",
    }
    for name, text in texts.items():
        (root / f"{name}.toml").write_text(f"{text}root = {json.dumps(str(root))}\n{PRESET}")
    return {name: root / f"{name}.toml" for name in texts}


def kill_while_opening(server: Server, random: random.Random, count: int, folder: Path) -> Iterator[Case]:
    """--overwrite of a made-up run: the old one stays whole, or the next start finds none and begins."""
    root = folder / "opening"
    root.mkdir()
    presets, run, old = write_presets(folder, root), root / "run", root / "old"
    server.start(root=str(run), preset=str(presets["other"]), only_open=True)
    for name in ("metrics.jsonl", "checkpoints/3/record/data.json", "exports/a.pt", "tensorboard/events"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("old")
    run.rename(old)
    before = content(old)
    job = {"root": str(run), "preset": str(presets["run"]), "only_open": True}
    most = 0
    for number in range(-1, count):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(old, run)
        if number < 0:
            most = server.start(**job, overwrite=True).changes
            new = set(content(run))
            continue
        at = 1 + number * most // count if number < most else random.randint(1, most)
        killed = server.start(**job, overwrite=True, at=at)
        found, again = content(run), server.start(**job)
        fault = "" if killed.status == -signal.SIGKILL else f"not killed: {killed.error}"
        if again.status == 2 and "seed: 1 -> 0" in again.error:
            fault = fault or ("" if found == before else f"refused as the old run, of which is left {sorted(found)}")
        elif again.status:
            fault = fault or again.error
        elif set(content(run)) | {"versions.json"} != new:  # that one is written again as training begins
            fault = fault or f"a mixture: {sorted(content(run))}"
        yield Case(f"overwrite, only opened, killed at change {at} of {most}", fault)


def content(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def kill_while_training(server: Server, random: random.Random, count: int, folder: Path) -> Iterator[Case]:
    """Each scenario in turn, killed one to three times, then left to end: it must equal what nothing disturbed."""
    references, most = make_references(server, folder)
    turns = 0
    while count > 0:
        scenario = SCENARIOS[turns % len(SCENARIOS)]
        kills = min(count, random.randint(1, 3))
        what, fault = chain(server, random, folder, scenario, kills, references, most)
        yield from (Case(f"{what} (kill {k + 1})", fault if k == kills - 1 else "") for k in range(kills))
        count, turns = count - kills, turns + 1


def make_references(server: Server, folder: Path) -> tuple[dict[str, Path], dict[str, Outcome]]:
    """Undisturbed runs by name, and what each scenario's command took."""
    references = {name: folder / "references" / name for name in ("run", "other", "tuned", "longer")}
    for root in references.values():
        root.mkdir(parents=True)
    most = {}
    for name, root in references.items():
        if name == "longer":
            shutil.copytree(references["run"] / "run", root / "run")
        ended = server.start(root=str(root / "run"), preset=str(write_presets(folder, root)[name]))
        assert ended.status == 0, ended.error
        most[name] = ended
    return references, most


def chain(
    server: Server,
    random: random.Random,
    folder: Path,
    scenario: Scenario,
    kills: int,
    references: dict[str, Path],
    most: dict[str, Outcome],
) -> tuple[str, str]:
    """What was done, and what was wrong in the end."""
    root = folder / "killed"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    if scenario.base:
        shutil.copytree(references[scenario.base] / "run", root / "run")
    preset, ended = write_presets(folder, root)[scenario.preset], most[scenario.end]
    job, options, moments = {"root": str(root / "run"), "preset": str(preset)}, scenario.first, []
    for _ in range(kills):
        if random.random() < 0.7:
            # Changes come in bunches: at the start, at each commit and in the end.
            moment = {"at": random.randint(1, max(1, min(ended.changes, 400)))}
        else:
            moment = {"seconds": random.uniform(0.0, 1.1 * ended.seconds)}
        killed = server.start(**job, **options, **moment)
        moments.append(", ".join(f"{k} {v:.2f}" for k, v in moment.items()) + ("" if killed.status else " (ended)"))
        if killed.status not in (0, -signal.SIGKILL):
            if killed.status == 2 and scenario.base == "other" and "seed: 1 -> 0" in killed.error:
                options = scenario.first
                continue
            return f"{scenario.name}: {moments}", killed.error
        options = {} if scenario.name != "overwrite" or (root / "run" / "config.toml").exists() else options
    last = server.start(**job)
    if last.status == 2 and scenario.base == "other" and "seed: 1 -> 0" in last.error:
        if content(root / "run") != content(references["other"] / "run"):
            return f"{scenario.name}: {moments}", "refused as the old run, which is no longer whole"
        last = server.start(**job, **scenario.first)
    fault = last.error or differences(references[scenario.end] / "run", root / "run")
    return f"{scenario.name}: {moments}", fault


def differences(wanted: Path, found: Path) -> str:
    """How two finished runs differ in what they computed and kept, "" if they do not."""
    for name, read in {"arrays": arrays, "rows": rows, "promotions": promotions, "files": names}.items():
        a, b = read(wanted), read(found)
        if a != b:
            apart = sorted(map(str, set(a) ^ set(b)))[:6]
            return f"other {name}: {apart or [key for key in a if a[key] != b[key]]}"
    return ""


def arrays(run: Path) -> dict[str, bytes]:
    """Of the newest checkpoint: all bytes, of learner, key, replay and games."""
    from orbax.checkpoint import v1 as ocp

    newest = max((run / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    found = {name: np.asarray(array).tobytes() for part in ("learner", "data")
             for name, array in ocp.load_checkpointables(str(newest), {part: None})[part].items()}  # fmt: skip
    assert len(found) > 20
    return {"step": newest.name.encode(), **found}


def rows(run: Path) -> dict[int, str]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = "iteration", "loss", "policy_entropy", "updates", "games", "eval/random/score", "promotion/score"
    text = [json.dumps([line.get(key) for key in kept]) for line in lines]
    return {number: f"{number}: {line}" for number, line in enumerate(text)}


def promotions(run: Path) -> dict[str, str]:
    kept = "iteration", "against", "score", "games"
    entries = json.loads((run / "metadata.json").read_text())["promotions"]
    with open(run / "arena.csv", newline="") as file:
        matches = [[row["a"], row["b"], row["wins"], row["losses"]] for row in csv.DictReader(file)]
    return {"promotions": str([[entry[key] for key in kept] for entry in entries]), "matches": str(matches)}


def names(run: Path) -> dict[str, str]:
    """Files by name but for those whose names or presence depend on time or on earlier starts."""
    free = ("tensorboard", "superseded", "changes.jsonl")
    found = [path.relative_to(run) for path in run.rglob("*") if path.is_file()]
    kept = [path for path in found if not set(path.parts) & set(free) and "ocdbt.process_0" not in path.parts]
    return {str(path): str(path) for path in kept if path.parent.name != "d"}


if __name__ == "__main__":
    serve()
