"""SIGKILL at every kind of moment of a run: first compile, self-play, saving, pruning, evaluation, promotion, rewind,
overwriting, export, plotting, beginning with weights. The next start goes on, or begins anew as if nothing had been.

Children are killed at their k-th change of a file (of all that Python makes) or some time after it, while they compile,
compute or write by C++. They are forked from a server that has imported everything but has not started JAX.
"""

import builtins
import csv
import io
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gauntlet import Case

COUNT = 120
FEW = 8
HERE = Path(__file__).parent.parent.parent
KILLS = 4  # of a run that is then left to end
PATIENCE = 300.0  # seconds of one start, on a machine that does much else

PRESET = """
name = "run"
devices = 1
game = {name = "tic_tac_toe"}
network = {kind = "mlp", sizes = [8]}
search = {simulations = 2, max_considered = 2}
selfplay = {games = 8, plies = 8}
replay = {capacity = 256, window = 64}
learner = {batch = 16, replay_ratio = 1.0, warmup = 2, schedule = "constant"}
evaluation = {every = 2, games = 4, opponents = ["random"], simulations = 2}
promotion = {rule = "threshold", every = 2, games = 4, simulations = 2, threshold = 0.1}
checkpoint = {every = 1, keep = 2}
log = {plot_every = 2}
"""


class Outcome(NamedTuple):
    status: int  # -9: killed
    error: str
    changes: int  # of files, counted by the child, if it ended by itself


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
        """Waits for a start of a run as `perform` takes it."""
        assert self._process.stdin
        assert self._process.stdout
        report = self._folder / "report.json"
        report.unlink(missing_ok=True)
        self._process.stdin.write(json.dumps({"report": str(report), **job}) + "\n")
        self._process.stdin.flush()
        status = json.loads(self._process.stdout.readline())
        told = json.loads(report.read_text()) if report.exists() else {"error": "", "changes": 0}
        return Outcome(status, told["error"], told["changes"])


# In the server


def serve() -> None:
    import jaxzero.training.train  # noqa: F401  before the fork: importing takes longest
    from jaxzero.config import settings  # noqa: F401

    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            perform(job)
        timer = threading.Timer(PATIENCE, os.kill, (child, signal.SIGABRT))
        timer.start()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        timer.cancel()
        timer.join()
        print(json.dumps(status), flush=True)


def perform(job: dict[str, Any]) -> None:
    """Trains, or opens the folder only, until change `at` of a file and `after` seconds more; never returns."""
    from jaxzero.config import settings
    from jaxzero.messages import ConfigError
    from jaxzero.runs import folder as folder_lib
    from jaxzero.training import train

    error, status, changes = "", 0, Changes(job["root"], job.get("at", 0), job.get("after", 0))
    os.dup2(os.open(job["report"] + ".out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(1, 2)
    if job.get("at"):  # a compiled program that is written by halves would be read by others
        import jax

        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
    try:
        config = settings.load(Path(job["preset"]))
        overwrite = job.get("overwrite", False)
        with changes:
            if job.get("only_open"):
                with folder_lib.opened(config, (), overwrite):
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
    """Counts what Python does to files below a folder; kills the process just before number `at`, or `after` it."""

    def __init__(self, root: str, at: int, after: float):
        self._root, self._at, self._after, self.count = root, at, after, 0
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
                    if self.count == self._at and self._after:
                        threading.Timer(self._after, os.kill, (os.getpid(), signal.SIGKILL)).start()
                    elif self.count == self._at:
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
    share: float  # of the changes of files that the reference took


SCENARIOS = (
    Scenario("train", "", "run", {}, "run", 1.0),
    Scenario("resume", "run", "longer", {}, "longer", 1.0),
    Scenario("rewind", "run", "run", {"from_step": 3}, "run", 0.5),
    Scenario("overwrite", "other", "run", {"overwrite": True}, "run", 1.0),
    Scenario("finish", "run", "run", {}, "run", 0.2),
    Scenario("init_from", "", "tuned", {}, "tuned", 1.0),
)


def attack(random: random.Random, count: int, folder: Path) -> Iterator[Case]:
    with Server(folder) as server:
        opening = min(count, FEW if count <= FEW else 20)
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
    most, new = 0, set()
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
    """Each scenario in turn, killed a few times, then left to end: it must equal what nothing disturbed."""
    references, changes = make_references(server, folder)
    for scenario in itertools.cycle(SCENARIOS):
        if count <= 0:
            return
        for case in chain(server, random, folder, scenario, min(count, KILLS), references, changes):
            count -= 1
            yield case


def make_references(server: Server, folder: Path) -> tuple[dict[str, Path], dict[str, int]]:
    """Undisturbed runs by name, and how many changes of files each took."""
    references = {name: folder / "references" / name for name in ("run", "other", "tuned", "longer")}
    changes = {}
    for name, root in references.items():
        root.mkdir(parents=True)
        if name == "longer":
            shutil.copytree(references["run"] / "run", root / "run")
        ended = server.start(root=str(root / "run"), preset=str(write_presets(folder, root)[name]))
        assert ended.status == 0, ended.error
        changes[name] = ended.changes
    return references, changes


def chain(
    server: Server,
    random: random.Random,
    folder: Path,
    scenario: Scenario,
    kills: int,
    references: dict[str, Path],
    changes: dict[str, int],
) -> Iterator[Case]:
    """Kills until a start gets to its end; the last case tells what was wrong then."""
    root = folder / "killed"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    if scenario.base:
        shutil.copytree(references[scenario.base] / "run", root / "run")
    job = {"root": str(root / "run"), "preset": str(write_presets(folder, root)[scenario.preset])}
    old = content(root / "run") if scenario.name == "overwrite" else None
    options, most, moments, fault = scenario.first, changes[scenario.end] * scenario.share, [], ""

    def start(**moment: float) -> Outcome:
        """One that is refused as the old run gets the options again: nothing has happened to it."""
        nonlocal fault, options
        ended = server.start(**job, **options, **moment)
        if ended.status == 2 and old and "seed: 1 -> 0" in ended.error:
            fault = fault or ("" if content(root / "run") == old else "refused as the old run, which is not whole")
            options = scenario.first
            ended = server.start(**job, **options, **moment)
        options = {}
        return ended

    last = None
    while last is None and len(moments) < kills:
        at, after = random.randint(1, max(1, round(most))), random.choice((0.0, 0.0, random.uniform(0.0, 2.0)))
        ended = start(at=at, after=after)
        if ended.status != -signal.SIGKILL:
            last = ended
        else:
            moments.append(f"change {at} + {after:.2f} s")
            most = changes[scenario.end] / 4  # later starts mend, go on and compile again
            if len(moments) < kills:
                yield Case(f"{scenario.name}, killed at {moments[-1]}", "")
    last = last or start()
    fault = fault or last.error or differences(references[scenario.end] / "run", root / "run")
    if moments and len(moments) == kills:
        yield Case(f"{scenario.name}, killed at {', '.join(moments)}", fault)
    elif fault:
        yield Case(f"{scenario.name}, killed at {', '.join(moments)}, then ended", fault)


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
