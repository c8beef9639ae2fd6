"""A run's network into files, each proven equal, with a card and a registry of all versions.

In the run's folder `exports/`: `<job>_stepXXXXXX.<format>`, beside each `<file>.parity.json`, its certificate;
`model.json`, the card of the version exported last; `registry.json`, every version's card and files.
"""

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from envs import Env
from jaxzero import files, messages
from jaxzero.clock import timestamp
from jaxzero.config import catalog, settings
from jaxzero.config.schema import Config, NetworkConfig
from jaxzero.export import FORMATS, formats, parity
from jaxzero.export.formats import ExportFormat
from jaxzero.export.model import ExportedModel, ExportError, description, make
from jaxzero.messages import ConfigError
from jaxzero.runs import folder as folder_lib
from jaxzero.runs import metrics
from jaxzero.runs.curves import RATED
from jaxzero.runs.trouble import check_writable

_log = logging.getLogger(__name__)

PRIVATE = ("root", "devices", "game.source", "evaluation.metric", "init_from")  # facts of the machine
REGISTRY = {"format": "jaxzero registry", "format_version": 1}
CARD, REGISTRY_FILE, DRAFTS = (
    "model.json",
    "registry.json",
    ".export-",
)  # and folders of drafts, by how their names begin
CALIBRATION = 1  # seed of the positions that int8 ranges are taken from; those of the certificate have 0


class Job(NamedTuple):
    """One file to be written."""

    format: ExportFormat
    kind: str  # the format's name
    path: Path
    function: str  # that a program computes; of weights: the first
    precision: str


def check(names: Sequence[str], config: NetworkConfig, half: bool = False, int8: bool = False) -> list[ExportFormat]:
    """The modules of formats. ExportError if this network cannot leave so, here: worth asking before a long run."""
    description(config)
    if not names:
        raise ExportError(f"--format: give one or more of {', '.join(FORMATS)}")
    if half and int8:
        raise ExportError("--half and --int8 are two precisions; give one of them")
    modules = {name: formats.load(name) for name in names}
    if refused := [name for name, module in modules.items() if int8 and not hasattr(module, "quantize")]:
        raise ExportError(f"--int8: there is no int8 form of {', '.join(refused)}; use --format onnx")
    return list(modules.values())


def check_final(config: NetworkConfig) -> None:
    """`check(["pt"], config)` without importing PyTorch, which takes seconds. ExportError."""
    description(config)
    if importlib.util.find_spec("torch") is None:
        raise ExportError(".pt files need torch: pip install 'jaxzero[export]'")


def export_run(
    folder: str | Path,
    step: int | None = None,
    names: Sequence[str] = ("pt",),
    *,
    half: bool = False,
    int8: bool = False,
    licence: str = "",
    overwrite: bool = False,
    promoted: bool = False,
    env: Env | None = None,
) -> list[str]:
    """Exports a run's checkpoint, the newest if `step` is None; one line a file, its path and certificate.

    Args:
        names: of formats.
        licence: of the weights; that of the run's configuration if empty.
        overwrite: replace files of other weights under the same names.
        promoted: the network that was `best` by then, instead of the latest; files are named `<job>_best_stepXXXXXX`.
        env: a game made in a script.

    Raises:
        ExportError: a format that is not to be had, files that would be overwritten, or outputs past the bounds; then
            nothing was written.
    """
    folder = Path(folder)
    if not (folder / folder_lib.CONFIG).is_file():
        raise ExportError(f"{folder}: no run here (no {folder_lib.CONFIG}); give a run's folder")
    modules = check(names, settings.load(folder / folder_lib.CONFIG).network, half, int8)
    loaded = folder_lib.load(folder, step, env, promoted)
    job = folder.resolve().name + ("_best" if promoted else "")
    training = origin(folder, loaded.step, loaded.info, loaded.config)
    training |= {"job": job, "licence": licence or loaded.config.export.licence or None}
    model = make(loaded.env, loaded.config.network, loaded.params, training, half=half)
    version = f"{job}_step{loaded.step:06d}"
    precision = "int8" if int8 else model.metadata["dtype"]
    jobs = plan(folder / "exports", version, dict(zip(dict.fromkeys(names), modules, strict=True)), model, precision)
    return publish(folder / "exports", version, model, jobs, overwrite)


def origin(folder: Path, step: int, info: dict[str, Any], config: Config) -> dict[str, Any]:
    """How the network came about: iteration, totals, settings, and the numbers measured at that iteration."""
    rows, skipped = metrics.examine(folder)
    if skipped:
        _log.warning(skipped)
    row = next((row for row in reversed(rows) if row["iteration"] == step), {})
    layer = {name: value for name, value in catalog.values(config).items() if name not in PRIVATE}
    return {"iteration": step, **info, "elo": rating(folder, step), "metrics": row, "config": layer}


def rating(folder: Path, step: int) -> dict[str, Any] | None:
    """Elo of a checkpoint with its 95 % interval and the player whose Elo is 0, if `jaxzero rate` has found it."""
    try:
        content = files.read_json(folder / folder_lib.RATINGS, {"zero": str, "ratings": [RATED]})
    except ConfigError as error:
        _log.warning("%s; exporting without Elo", error)
        return None
    rows = content["ratings"] if content else []
    for row in rows:
        if (row["run"], row["iteration"]) == (folder.resolve().name, step):
            return {**{key: row[key] for key in ("player", "elo", "interval")}, "zero": content["zero"]}
    return None


def plan(
    folder: Path, version: str, modules: dict[str, ExportFormat], model: ExportedModel, precision: str
) -> list[Job]:
    """Weights go into one file, programs into one a function, which the names tell if there are several."""
    suffix = {"float32": "", "float16": "_half", "int8": "_int8"}[precision]
    jobs = []
    for kind, module in modules.items():
        functions = list(model.functions) if module.PROGRAM else list(model.functions)[:1]
        for function in functions:
            part = f"_{function}" if len(functions) > 1 else ""
            jobs.append(Job(module, kind, folder / f"{version}{part}{suffix}.{kind}", function, precision))
    return jobs


def publish(folder: Path, version: str, model: ExportedModel, jobs: list[Job], overwrite: bool) -> list[str]:
    """Everything is written and proven elsewhere in the folder first: an error, as of a full disk, changes nothing."""
    check_writable(folder)
    with files.locked(folder / ".lock"), unless_full(folder):
        for left in folder.glob(f"{DRAFTS}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        registry = read_registry(folder / REGISTRY_FILE)
        entry = registry.setdefault(version, {"card": None, "files": {}})
        refuse_overwriting(jobs, model, entry if not overwrite else None)
        for name in places(jobs):
            files.check_target(folder / name, "export")
        reference = parity.references(model)
        lines, written = [], {}
        with tempfile.TemporaryDirectory(dir=folder, prefix=DRAFTS) as place:
            draft = Path(place)
            for job in jobs:
                name = job.path.name
                write(job, draft / name, model)
                proofs = prove(job, draft / name, model, reference)
                written[name] = record(job, draft / name, model, proofs)
                lines.append(f"{job.path} ({'; '.join(map(str, proofs))})")
                write_json(draft / f"{name}.parity.json", {"file": name, **written[name]})
            card = {"version": version, **model.metadata, "parameters": sum(x.size for x in model.weights.values())}
            kept = {name: file for name, file in entry["files"].items() if (folder / name).is_file()}
            ordered = dict(sorted((registry | {version: {"card": card, "files": kept | written}}).items()))
            write_json(draft / CARD, card)
            write_json(draft / REGISTRY_FILE, {**REGISTRY, "versions": ordered})
            for name in places(jobs):
                replace(draft / name, folder / name)
    return lines


def places(jobs: list[Job]) -> list[str]:
    """Names of all files that are written, in the order in which they appear."""
    names = [job.path.name for job in jobs]
    return [*names, *(f"{name}.parity.json" for name in names), CARD, REGISTRY_FILE]


def refuse_overwriting(jobs: list[Job], model: ExportedModel, entry: dict[str, Any] | None) -> None:
    """ExportError if a file that is there holds anything but this network, or is none."""
    for job in jobs:
        known = entry and entry["files"].get(job.path.name, {}).get("weights_sha256")
        other = entry is not None and job.path.exists() and known != model.metadata["weights_sha256"]
        if other or job.path.is_dir():
            raise ExportError(
                f"{job.path}: is there already and not known to hold this network; move it, or use --overwrite"
            )


def write(job: Job, path: Path, model: ExportedModel) -> None:
    if job.precision == "int8":
        positions = parity.self_play(model, CALIBRATION)
        examples = parity.reference(model, model.functions[job.function], positions.observation)[0]
        job.format.quantize(path, model, job.function, examples)
    else:
        job.format.write(path, model, job.function)


def prove(job: Job, path: Path, model: ExportedModel, reference: parity.Reference) -> list[parity.Certificate]:
    """A certificate for each function that the file computes. ExportError: one does not hold."""
    names = [job.function] if job.format.PROGRAM else list(model.functions)
    proofs = []
    for name in names:
        inputs, expected = reference.functions[name]
        given = job.format.run(path, name, inputs)
        points = model.metadata["network"]["value"] in ("transformed", "categorical")
        proof = parity.compare(name, model.functions[name], job.precision, reference.positions, expected, given, points)
        if not proof.holds():
            bounds = ", ".join(f"{key} {bound:g}" for key, bound in proof.bounds.items())
            raise ExportError(f"{job.path} not written: it differs from the JAX network ({proof}; bounds: {bounds})")
        proofs.append(proof)
    return proofs


def record(job: Job, path: Path, model: ExportedModel, proofs: list[parity.Certificate]) -> dict[str, Any]:
    return {
        "format": job.kind,
        "precision": job.precision,
        **({"half": job.format.HALF} if job.precision == "float16" else {}),
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "weights_sha256": model.metadata["weights_sha256"],
        "created": timestamp(),
        "parity": [proof.record() for proof in proofs],
    }


@contextlib.contextmanager
def unless_full(path: Path) -> Iterator[None]:
    """A system that cannot write becomes an ExportError. Libraries tell of it by errors of their own, in words."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if (trouble := messages.trouble(error)) is None:
            raise
        raise ExportError(f"{path}: {trouble[0]}; nothing was written: {trouble[1]}") from error


def read_registry(path: Path) -> dict[str, Any]:
    shape = {"versions": {str: {"card": {}, "files": {str: {}}}}}
    try:
        content = files.read_json(path, shape, "")
    except ConfigError as error:
        raise ExportError(f"{path}: not a readable registry; move it aside and export again ({error})") from error
    return content["versions"] if content else {}


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def replace(draft: Path, path: Path) -> None:
    """Into place, whole, also if the power fails."""
    with open(draft, "rb") as file:
        os.fsync(file.fileno())
    os.replace(draft, path)
