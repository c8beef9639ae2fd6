"""Hostile files of weights, through everything of ours that reads one.

Whatever a file is, it is refused in one line and good time, or it holds the very weights that it was made of.
"""

import contextlib
import io
import resource
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from exports import model_of

from gauntlet import Case, Outcome, command, one_line, refused_or_done
from gauntlet.pt_files import archives, tensors
from gauntlet.weight_files import (
    Base,
    File,
    damage,
    description,
    facts,
    headers,
    sound,
    special,
    texts,
    values,
)  # fmt: skip
from jaxzero.export.load import read
from jaxzero.export.standalone import play_torch, torch_module

COUNT = 700
FEW = 40
SECONDS = 10.0  # of a processor for one file; sound ones take less than one
HANGS = 120.0  # seconds of the clock, on a machine with other work too
MEMORY = 500  # MB that one file may take; sound ones take a few
SETTINGS = {
    "mlp-dropout": ("--network.kind=mlp", "--network.sizes", "24", "16"),
    "resnet-wdl": (
        "--network.kind=resnet", "--network.channels=8", "--network.blocks=2", "--network.value=wdl",
        "--learner.value_loss=wdl",
    ),
    "muzero-mlp": (),
}  # fmt: skip


class Late(BaseException):
    """Nothing that catches errors may catch this one."""


# Readers: the weights that were taken, or None, and the line of a refusal; or what was wrong.


def by_module(path: Path, base: Base, folder: Path) -> dict[str, np.ndarray] | str:
    try:
        network = torch_module.load(path)
    except (OSError, ValueError) as error:
        return one_line(f"error: {error}\n") or ("" if path.name in str(error) else f"does not name the file: {error}")
    return {name: x.numpy() for name, x in network.state_dict().items()}


def by_script(
    main: Callable[[list[str]], None], *words: str
) -> Callable[[Path, Base, Path], dict[str, np.ndarray] | str]:
    def read_by(path: Path, base: Base, folder: Path) -> dict[str, np.ndarray] | str:
        out, error, status = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                main([str(path), *words])
            except SystemExit as ending:
                status = ending.code
        if status not in (0, 2):
            return f"exit status {status}"
        if status == 2:
            return one_line(error.getvalue())
        if "nan" in out.getvalue().lower() or any(c != "\n" and not c.isprintable() for c in out.getvalue()):
            return f"printed {out.getvalue()[-200:]!r}"
        return by_module(path, base, folder)

    read_by.__name__ = main.__module__.rpartition(".")[2]
    return read_by


def ended(outcome: Outcome) -> str | None:
    """None if it did its work, else what was wrong with its refusal."""
    return refused_or_done(outcome) if outcome.status != 0 else None


def by_convert(path: Path, base: Base, folder: Path) -> dict[str, np.ndarray] | str:
    target = folder / "converted.json"
    fault = ended(command("convert", str(path), str(target), "--overwrite"))
    return read(target)[0] if fault is None else fault


def by_convert_to_pt(path: Path, base: Base, folder: Path) -> dict[str, np.ndarray] | str:
    target = folder / "converted.pt"
    fault = ended(command("convert", str(path), str(target), "--overwrite"))
    return by_module(target, base, folder) if fault is None else fault


def by_test(path: Path, base: Base, folder: Path) -> dict[str, np.ndarray] | str:
    fault = ended(command("convert", str(path), "--test"))
    return read(path)[0] if fault is None else fault


def by_training(path: Path, base: Base, folder: Path) -> dict[str, np.ndarray] | str:
    words = ("train", "tic_tac_toe_test", *SETTINGS[base.name], "--init-from", str(path), "--dry-run")
    fault = ended(command(*words))
    return read(path)[0] if fault is None else fault


KINDS = (values, description, tensors, archives, damage, description, facts, special, texts, headers)


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    def late(*_: Any) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def readers(kind: str, base: Base, sound: bool) -> list[Callable[[Path, Base, Path], dict[str, np.ndarray] | str]]:
    found = [by_convert, by_convert_to_pt]
    found += [by_training] * 2 * bool(SETTINGS[base.name]) + [by_test] * (not sound)  # which would compile
    if kind == "pt":
        moves = ("--move", "a1 b2", "--simulations", "4")
        found += [by_module, by_script(torch_module.main), by_script(play_torch.main, *moves)]
    return found


def judge(file: File, base: Base, path: Path, folder: Path, reader: Callable[..., Any]) -> str:
    """ "" or what was wrong with how a file was read."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    try:
        with at_most(HANGS):
            found = reader(path, base, folder)
    except Late:
        return f"took more than {HANGS:g} s"
    except Exception as error:
        return f"raised {type(error).__name__}: {str(error)[:200]}"
    if (folder / "evil").exists():
        (folder / "evil").rmdir()
        return "executed code"
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds, memory = after.ru_utime - before.ru_utime, (after.ru_maxrss - before.ru_maxrss) // 1024
    if seconds > SECONDS or memory > MEMORY:
        return f"took {seconds:.1f} s and {memory} MB"
    if isinstance(found, str):
        return found or ("refused" if file.sound else "")
    if not (file.sound or file.harmless):
        return "accepted"
    same = found.keys() == base.weights.keys() and all(np.array_equal(found[n], x) for n, x in base.weights.items())
    return "" if same else "accepted with other weights"


def placed(file: File, path: Path) -> None:
    if callable(file.content):
        file.content(path)
    else:
        path.write_bytes(file.content)


def attack(random: Random, count: int, folder: Path) -> Iterator[Case]:
    models = {name: model_of(name) for name in SETTINGS}
    bases = [Base(name, model.weights, model.metadata) for name, model in models.items()]
    command("train", "tic_tac_toe_test", "--dry-run")  # imports
    for i in range(count):
        base = random.choice(bases)
        make = sound if i < len(bases) else KINDS[i % len(KINDS)]
        place = folder / str(i)
        place.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = make(random, base, place)
        reader = random.choice(readers(file.kind, base, file.sound or file.harmless))
        placed(file, path := place / f"x.{file.kind}")
        yield Case(f"{file.what}, .{file.kind}, {reader.__name__}", judge(file, base, path, place, reader))
        shutil.rmtree(place)
