"""Checkpoints of a run: one atomic Orbax commit a step, verified by digests of our own when it is read.

A commit is a folder `<step>` that is renamed into place when complete and holds
    learner/  data/   arrays by name, such as learner['params']['w']; `data` is dropped from older commits
    record/           JSON: layout, step, score, info, and [dtype, shape, digest] of every array
    data.dropped      empty file: `data` was removed on purpose
Beside commits there may be `<step>.damaged` (unreadable, set aside when its step was saved again), `superseded/`
(commits that a rewind set aside) and leftovers of a killed process, which the next start removes: `rewound` names the
step that a rewind goes back to until all newer commits are aside.
"""

import contextlib
import dataclasses
import errno
import itertools
import json
import logging
import math
import os
import re
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from jaxzero import files, messages
from jaxzero.messages import ConfigError
from jaxzero.runs import orbax
from jaxzero.runs.arrays import any_elements, describe, digest_json, host_copies, mismatch, named, place
from jaxzero.runs.trouble import CheckpointError, reported, root_cause

LAYOUT = 2  # of the arrays' names; raise it when they change, so that older runs are refused in one line
_log = logging.getLogger(__name__)
_WITH_DATA = 2  # newest commits that keep their data part
_READ_BACK = 64 << 20  # bytes of a part up to which a save is verified by reading every array, not only its metadata
_NO_DAMAGE = [os.strerror(code) for code in (errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM)]
_DESCRIPTORS = 24  # free ones below which event loops of Orbax abort the process
_PLAIN = re.compile(r"(?!/(gs|s3|az|hf)(/|$))(?!.*/\.\.(/|$))[\w ./,+=@~-]*")


class _DamagedError(CheckpointError):
    """The commit itself is at fault, so an older one may do."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a commit held. Trees have the structure, dtypes, shapes and shardings of the templates."""

    step: int
    learner: Any
    data: Any  # None: not asked for, or dropped from this commit
    info: dict[str, Any]
    score: float | None


class Checkpointer:
    """Saves and restores a run in `folder`; a context manager that waits for the last save.

    One process writes to a folder; others may read. Kept are the newest `keep` steps and the best by score; the
    newest two hold their data part. A save that failed raises CheckpointError at the next call that waits.
    """

    def __init__(self, folder: Path, keep: int = 3):
        if keep < 1:
            raise CheckpointError(f"checkpoint.keep = {keep} keeps nothing; set it to 1 or more")
        self._folder = Path(folder).absolute()
        with reported(self._folder, "cannot be used"), contextlib.ExitStack() as opened:
            for _ in range(_DESCRIPTORS):
                opened.enter_context(open(os.devnull, "rb"))
        self._keep = keep
        self._damaged: set[int] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._link: tempfile.TemporaryDirectory[str] | None = None
        self._visible = self._folder if _PLAIN.fullmatch(str(self._folder)) else self._linked()
        orbax.quieten()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, kind, error: BaseException | None, trace) -> None:
        try:
            self.close()
        except CheckpointError as failure:
            if error is None:
                raise
            error.add_note(str(failure))

    def close(self) -> None:
        """Waits for the save in progress and ends the writing thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            if self._link:
                self._link.cleanup()

    def wait(self) -> None:
        """Waits for the save in progress; CheckpointError if it failed."""
        if self._pending is not None:
            error = self._pending.exception()
            self._pending = None
            if error is not None:
                raise error

    def steps(self) -> list[int]:
        """Complete commits, ascending, without those found damaged; their arrays are verified by `restore` only."""
        return [s for s in self._folders() if s not in self._damaged and (self._path(s) / "record").is_dir()]

    def digest(self, step: int) -> str:
        """Of the learner part of a commit: equal if and only if its arrays are."""
        return digest_json(self._record(step)["arrays"]["learner"])

    def best(self) -> int | None:
        """Step of the highest score, the newest of equals; None if no commit has a score."""
        self.wait()
        return self._best()

    def save(self, step: int, learner: Any, data: Any, info: dict[str, Any], score: float | None = None) -> None:
        """Copies the arrays to host memory, then writes and prunes in the background.

        The arrays may be donated once this returns. `info` is JSON; a score that is not finite counts as none.
        CheckpointError: the previous save failed, or `step` is not newer than every commit.
        """
        self.wait()
        newest = max(self.steps(), default=-1)
        if step <= newest:
            raise CheckpointError(
                f"{self._folder}: step {step} is not newer than step {newest}; rewind to resume earlier"
            )
        parts = {"learner": host_copies("learner", learner), "data": host_copies("data", data)}
        score = None if score is None or not math.isfinite(score) else float(score)
        record = {"layout": LAYOUT, "step": step, "score": score, "info": json.loads(json.dumps(info))}
        self._pending = self._thread.submit(self._commit, step, parts, record)

    def restore(self, learner_template: Any, data_template: Any, step: int | None = None) -> Restored | None:
        """The commit of `step`, or else the newest undamaged one; None if the folder holds no commit.

        Templates are trees of arrays or of `jax.ShapeDtypeStruct` with shardings. Damaged commits are skipped with a
        warning each when `step` is None. CheckpointError: `step` is missing or damaged, every commit is damaged, or
        names, dtypes or shapes differ from the templates.
        """
        return self._restore({"learner": learner_template, "data": data_template}, step)

    def restore_learner(self, learner_template: Any, step: int | None = None) -> Restored | None:
        """`restore` that neither reads nor verifies the data part."""
        return self._restore({"learner": learner_template}, step)

    def rewind(self, step: int) -> list[Path]:
        """Moves the commits newer than `step` to `superseded/<k>-<step>`, k counting rewinds; returns the new paths.

        Restore `step` first, to know that it is sound. CheckpointError: there is no such commit.
        """
        self.wait()
        if step not in self.steps():
            raise self._missing(step)
        with reported(self._folder, f"cannot set aside the commits after step {step}"):
            if self._stored()[-1] == step:
                return []
            files.write(self._folder / "rewound", str(step))  # a kill from here on leaves none of the newer commits
            return self._finish_rewind()

    def tidy(self) -> None:
        """Finishes what a killed process began: a rewind, pruning, deleting. For the one process that writes, after it
        has restored: newer commits that are damaged are known then, and no older one goes in their favour."""
        self.wait()
        with reported(self._folder, "cannot remove old commits"):
            self._finish_rewind()
            self._retain()
        self._sweep()

    def _linked(self) -> Path:
        """The folder by a name that Orbax takes literally: a link to it. Orbax finds its own files by patterns that
        begin with the folder, TensorStore reads a backslash as a slash, and `gs:` means a cloud."""
        with reported(self._folder, "cannot make a link to it for Orbax"):
            self._link = tempfile.TemporaryDirectory(prefix="jaxzero-")
            link = Path(self._link.name) / "checkpoints"
            link.symlink_to(self._folder, target_is_directory=True)
        if not _PLAIN.fullmatch(str(link)):
            self._link.cleanup()
            raise CheckpointError(f"{self._folder}: choose a --name and --root of letters, digits and ._- only")
        return link

    def _path(self, step: int) -> Path:
        return self._folder / str(step)

    def _stored(self) -> list[int]:
        """Steps whose folder is not empty (Orbax would count an empty one as the latest commit), ascending."""
        names = [path.name for path in self._folder.glob("*") if any(path.glob("*"))]
        return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))

    def _folders(self) -> list[int]:
        """Those of `_stored` that no unfinished rewind sets aside."""
        rewound = self._rewound()
        return [step for step in self._stored() if rewound is None or step <= rewound]

    def _rewound(self) -> int | None:
        try:
            return int((self._folder / "rewound").read_text())
        except (OSError, ValueError):
            return None

    def _finish_rewind(self) -> list[Path]:
        """Sets aside what is newer than the step in the file `rewound`; returns the new paths, the newest first."""
        rewound = self._rewound()
        if rewound is None:
            return []
        aside = self._folder / "superseded"
        aside.mkdir(exist_ok=True)
        k = next(k for k in itertools.count(1) if not any(aside.glob(f"{k}-*")))
        newer = [step for step in reversed(self._stored()) if step > rewound]
        moved = [self._path(step).rename(aside / f"{k}-{step}") for step in newer]
        (self._folder / "rewound").unlink()
        return moved

    def _missing(self, step: int) -> CheckpointError:
        there = ", ".join(map(str, self.steps())) or "none"
        return CheckpointError(f"{self._folder}: no checkpoint of step {step}; there are: {there}")

    def _skip(self, step: int, error: CheckpointError) -> None:
        self._damaged.add(step)
        _log.warning("skipping a damaged checkpoint: %s", error)

    # Reading

    def _restore(self, templates: dict[str, Any], step: int | None) -> Restored | None:
        self.wait()
        folders = self._folders()
        if step is not None:
            if step not in folders:
                raise self._missing(step)
            return self._read(step, templates)
        damaged: dict[int, CheckpointError] = {}
        for candidate in reversed(folders):
            try:
                found = self._read(candidate, templates)
            except _DamagedError as error:
                damaged[candidate] = error
                continue
            for skipped, error in damaged.items():
                self._skip(skipped, error)
            return found
        if folders:
            newest = messages.shortened(str(damaged[folders[-1]]).removeprefix(f"{self._folder}/"), 300)
            raise CheckpointError(
                f"{self._folder}: every checkpoint is damaged ({newest}); move the folder aside to start anew"
            )
        return None

    def _read(self, step: int, templates: dict[str, Any]) -> Restored:
        record = self._record(step)
        trees = {"data": None}
        for part, template in templates.items():
            if not (part == "data" and self._data_dropped(step)):
                trees[part] = self._read_part(step, part, template, record["arrays"][part])
        return Restored(step, trees["learner"], trees["data"], record["info"], record["score"])

    def _data_dropped(self, step: int) -> bool:
        return (self._path(step) / "data.dropped").exists() and not (self._path(step) / "data").exists()

    def _read_part(self, step: int, part: str, template: Any, described: dict[str, Any]) -> Any:
        wanted = named(part, template)
        if difference := mismatch(wanted, described):
            raise CheckpointError(f"{self._path(step)}: {difference}; resume with the settings that wrote it")
        stored = self._load(step, part) if any_elements(described) else {}
        placed = []
        for name, leaf in wanted.items():
            array = stored.get(name) if math.prod(leaf.shape) else np.empty(leaf.shape, leaf.dtype)
            if not isinstance(array, np.ndarray) or describe(array) != described[name]:
                raise _DamagedError(f"{self._path(step)}: array {name} differs from its digest")
            placed.append(place(array, leaf))
        return jax.tree.unflatten(jax.tree.structure(template), placed)

    def _record(self, step: int) -> dict[str, Any]:
        sealed = self._load(step, "record")
        if sealed.get("digest") != digest_json(sealed.get("record")) or sealed["record"]["step"] != step:
            raise _DamagedError(f"{self._path(step)}: record/data.json differs from its digest")
        if sealed["record"].get("layout") != LAYOUT:
            raise CheckpointError(
                f"{self._folder}: another version of jaxzero wrote these checkpoints; use the version that its "
                "versions.json names, or train anew under another --name (--overwrite deletes this run)"
            )
        return sealed["record"]

    def _load(self, step: int, part: str) -> dict[str, Any]:
        try:
            _check_files(self._path(step), part)
            return dict(ocp.load_checkpointables(str(self._visible / str(step)), {part: None})[part])
        except Exception as error:  # Orbax and TensorStore raise nearly anything on a damaged file
            cause, advice = messages.trouble(error) or ("", "")
            if cause in _NO_DAMAGE:
                raise CheckpointError(f"{self._path(step)}: cannot read {part} ({cause}); {advice}") from error
            raise _DamagedError(f"{self._path(step)}: cannot read {part}: {root_cause(error)}") from error

    # Writing, in the background thread

    def _commit(self, step: int, parts: dict[str, dict[str, np.ndarray]], record: dict[str, Any]) -> None:
        record["arrays"] = {part: {name: describe(a) for name, a in arrays.items()} for part, arrays in parts.items()}
        items: dict[str, Any] = {"record": {"record": record, "digest": digest_json(record)}}
        for part, arrays in parts.items():
            if any_elements(record["arrays"][part]):
                items[part] = {name: a for name, a in arrays.items() if a.size}  # Orbax refuses empty arrays and trees
        with reported(self._folder, f"saving step {step} failed, older checkpoints are intact"):
            try:
                self._folder.mkdir(exist_ok=True)
                self._finish_rewind()
                self._set_aside(step)
                with orbax.context():
                    ocp.save_checkpointables(str(self._visible / str(step)), items)
                self._verify(step, parts)
                self._retain()
            finally:
                self._sweep()

    def _verify(self, step: int, parts: dict[str, dict[str, np.ndarray]]) -> None:
        """Reads back what was saved, before anything older is deleted; a commit that cannot be read is removed.

        Of a large part only which arrays there are, their dtypes and shapes.
        """
        try:
            described = self._record(step)["arrays"]
            for part, arrays in parts.items():
                arrays = {name: array for name, array in arrays.items() if array.size}
                if sum(array.nbytes for array in arrays.values()) > _READ_BACK:
                    found = ocp.checkpointables_metadata(str(self._visible / str(step))).metadata[part] or {}
                    found = {name: [str(leaf.dtype), list(leaf.shape)] for name, leaf in found.items()}
                else:
                    found = {name: describe(array) for name, array in self._load(step, part).items()} if arrays else {}
                for name in arrays:
                    if not found.get(name) or found[name] != described[part][name][: len(found[name])]:
                        raise _DamagedError(f"{self._path(step)}: array {name} cannot be read back")
        except BaseException:
            self._path(step).rename(self._folder / f"{step}.deleting")
            raise

    def _set_aside(self, step: int) -> None:
        if self._path(step).exists():
            names = itertools.chain([f"{step}.damaged"], (f"{step}.damaged-{k}" for k in itertools.count(2)))
            self._path(step).rename(next(p for p in (self._folder / name for name in names) if not p.exists()))
            self._damaged.discard(step)

    def _best(self) -> int | None:
        scored = []
        for step in self.steps():
            try:
                score = self._record(step)["score"]
            except _DamagedError as error:
                self._skip(step, error)
                continue
            if score is not None:
                scored.append((score, step))
        return max(scored)[1] if scored else None

    def _retain(self) -> None:
        """Drops data parts and commits that are no longer kept; each leaves by one rename, so a kill does no harm."""
        best = self._best()
        steps = self.steps()
        for step in steps[:-_WITH_DATA]:
            if (self._path(step) / "data").exists():
                (self._path(step) / "data.dropped").touch()
                (self._path(step) / "data").rename(self._folder / f"{step}-data.deleting")
        for step in steps[: -self._keep]:
            if step != best:
                self._path(step).rename(self._folder / f"{step}.deleting")

    def _sweep(self) -> None:
        """Deletes what was renamed for deletion and what a killed or failed save left unfinished."""
        for path in [*self._folder.glob("*.deleting"), *self._folder.glob("*.orbax-checkpoint-tmp")]:
            shutil.rmtree(path, ignore_errors=True)


def _check_files(commit: Path, part: str) -> None:
    """Raises ConfigError for what Orbax would read without end: a pipe, a device, or a huge file of those it reads
    whole (all but the arrays, which are in folders named d)."""
    for path in [*commit.glob("*"), *(commit / part).rglob("*")]:
        if not path.is_dir():
            files.check_regular(path)
            if path.parent.name != "d" and path.exists() and path.stat().st_size > files.MOST_BYTES:
                raise ConfigError(f"{path.name} is larger than {files.MOST_BYTES >> 20} MiB")
