"""Hostile files of weights, through everything of ours that reads one.

Whatever a file is, it is refused in one line and good time, or it holds the very weights that it was made of.
"""

import collections
import contextlib
import copy
import io
import json
import os
import pickle
import resource
import shutil
import signal
import socket
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
import torch
from exports import model_of

from gauntlet import Case, Outcome, command, one_line, refused_or_done
from jaxzero.export.load import read
from jaxzero.export.model import digest
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


class Base(NamedTuple):
    """A sound network."""

    name: str
    weights: dict[str, np.ndarray]
    metadata: dict[str, Any]


class File(NamedTuple):
    what: str
    kind: str
    content: bytes | Callable[[Path], None]  # or what makes it
    sound: bool = False  # it must be accepted
    harmless: bool = False  # it may be


class Late(BaseException):
    """Nothing that catches errors may catch this one."""


class Call:
    """Calls a function when it is unpickled without care."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.facts = function, arguments

    def __reduce__(self):
        return self.facts


# Files.


def pickled(contents: Any, **options: Any) -> bytes:
    torch.save(contents, file := io.BytesIO(), **options)
    return file.getvalue()


def packed(kind: str, weights: dict[str, Any], metadata: Any) -> bytes:
    if kind == "pt":
        tensors = {name: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for name, x in weights.items()}
        return pickled({"state_dict": tensors, "metadata": metadata})
    if kind == "safetensors":
        arrays = {name: np.ascontiguousarray(x) for name, x in weights.items()}
        return safetensors.numpy.save(arrays, {"jaxzero": json.dumps(metadata)})
    entries = {name: {"shape": list(x.shape), "data": x.ravel().tolist()} for name, x in weights.items()}
    return json.dumps({"metadata": metadata, "weights": entries}).encode()


def any_kind(random: Random) -> str:
    return random.choice(["pt", "safetensors", "json"])


def rezipped(
    content: bytes, change: Callable[[list[tuple[str, bytes]]], Any], method: int = zipfile.ZIP_STORED
) -> bytes:
    """An archive whose entries went through a function."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        entries = [(name, old.read(name)) for name in old.namelist()]
    change(entries)
    with zipfile.ZipFile(file := io.BytesIO(), "w", method) as new:
        for name, part in entries:
            new.writestr(name, part)
    return file.getvalue()


def sound(random: Random, base: Base, folder: Path) -> File:
    kind = any_kind(random)
    return File(f"{base.name} as it is", kind, packed(kind, base.weights, base.metadata), sound=True)


def values(random: Random, base: Base, folder: Path) -> File:
    """One number of one weight that is none, under a right digest."""
    kind, name = any_kind(random), random.choice(list(base.weights))
    value = random.choice([np.nan, np.inf, -np.inf])
    weights = copy.deepcopy(base.weights)
    index = random.randrange(weights[name].size)
    weights[name].flat[index] = value
    metadata = base.metadata | {"weights_sha256": digest(weights)}
    content = packed(kind, weights, metadata)
    if kind == "json":  # too large for float32, and for any float
        text = random.choice(["NaN", "Infinity", "-Infinity", "1e39", "-1e400", "9" * 400, "1e99999"])
        content = content.replace(json.dumps(float(value)).encode(), text.encode())
        value = text[:9]
    return File(f"{base.name}: {name}[{index}] = {value}", kind, content)


HUGE = [10**5, 10**6, 10**9, 2**31, 2**63, 10**30, 10**600]
ODD = [
    -1, -(10**9), 0, True, False, 2.0, 1e300, float("nan"), float("inf"), "3", "x" * 10**5, "\ud800", "\x1b[2J\n", "\0",
    None, [], {}, [[]], {"a": {"b": []}}, [1] * 10**4, [10**6] * 100, [-1], [True], ["a"],
]  # fmt: skip


def description(random: Random, base: Base, folder: Path) -> File:
    """One fact of the game or network is another, or gone."""
    kind, metadata = any_kind(random), copy.deepcopy(base.metadata)
    places: list[tuple[Any, Any]] = [
        (metadata, key) for key in ("num_actions", "observation_shape", "network", "dtype", "format", "game")
    ]
    places += [(metadata["network"], key) for key in metadata["network"]] * 3
    places += [
        (metadata["network"], key) for key in ("blocks", "sizes", "support", "codes", "projection", "hidden_dim")
    ]
    shape = metadata["network"].get("sizes", metadata["observation_shape"])
    places += [(metadata["observation_shape"], 2), (shape, 0)]
    place, key = random.choice(places)
    old = place[key] if isinstance(place, list) else place.get(key)
    value = random.choice(HUGE if random.random() < 0.5 else ODD)
    if isinstance(value, int) and value > 2**62 and kind != "pt" and random.random() < 0.2:
        value = 10**4200
    place[key] = value
    if value is None and isinstance(place, dict):
        del place[key]
    if isinstance(old, type(value)) and old == value:
        return sound(random, base, folder)
    # A fact that has no bearing on the weights may be believed, such as a support without bins.
    return File(f"{base.name}: {key} = {str(value)[:30]}", kind, packed(kind, base.weights, metadata), harmless=True)


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


def laughs() -> list[Any]:
    inner = ["ha"]
    for _ in range(60):
        inner = [inner, inner]
    return inner


def facts(random: Random, base: Base, folder: Path) -> File:
    """Something strange among what is only shown."""
    kind = any_kind(random)
    strange: dict[str, Any] = {
        "deep": nested(random.choice([60, 400])), "giant": 10**600, "negative": -(10**600), "text": "x" * 10**6,
        "escape": "\x1b[2J\x07\r\x00", "surrogate": "\udc80", "many": list(range(10**4)), "nan": float("nan"),
        "wide": {str(i): i for i in range(10**4)},
    }  # fmt: skip
    if kind == "pt":
        loop: list[Any] = []
        loop.append(loop)
        strange |= {
            "laughs": laughs(), "loop": loop, "bytes": b"x" * 100, "set": {1, 2}, "tuple": (1, 2), "complex": 1j,
            "numbers as names": {1: 2}, "nothing as a name": {None: 1}, "tuple as a name": {(1,): 1},
            "tensor": torch.zeros(3), "dtype": torch.float32, "counter": collections.Counter("aab"),
            "memory": Call(bytearray, 3 * 10**9), "code": Call(os.mkdir, str(folder / "evil")),
        }  # fmt: skip
    elif kind == "json":
        strange["digits"] = 10**4200
    name = random.choice(list(strange))
    metadata = base.metadata | {random.choice(["training", "notes", "first_moves", "new"]): strange[name]}
    return File(f"{base.name}: metadata {name}", kind, packed(kind, base.weights, metadata), harmless=True)


class Strange(torch.Tensor):
    pass


class Shadowed:
    """A dict one of whose methods is hidden by an attribute."""

    def __init__(self, entries: dict[Any, Any]):
        self.entries = entries

    def __reduce__(self):
        return collections.OrderedDict, (), {"items": "hidden"}, None, iter(self.entries.items())


def tensors(random: Random, base: Base, folder: Path) -> File:
    """One weight is no plain tensor."""
    state: Any = {name: torch.from_numpy(x.copy()) for name, x in base.weights.items()}
    name = random.choice([name for name, x in state.items() if x.numel() > 1])
    x, other = state[name], next(key for key in state if key != name)
    flat = x.reshape(-1)
    storage = flat._typed_storage()  # pyright: ignore[reportAttributeAccessIssue]
    grown = Call(torch._utils._rebuild_tensor_v2, storage, 0, (10**10,), (1,), False, {})  # pyright: ignore
    options: dict[str, Callable[[], Any]] = {
        "double": x.double, "bfloat16": x.bfloat16, "half": x.half, "int": x.int, "bool": x.bool,
        "complex": lambda: torch.complex(x, x), "conjugated": lambda: torch.complex(x, x).conj(),
        "negated": lambda: torch._neg_view(x),  # pyright: ignore[reportPrivateImportUsage]
        "quantized": lambda: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8),
        "sparse": x.to_sparse, "meta": lambda: x.to("meta"), "nested": lambda: torch.nested.nested_tensor([flat, flat]),
        "expanded": lambda: torch.zeros(1).expand(x.shape), "billions": lambda: torch.zeros(1).expand(10**6, 10**6),
        "view": lambda: torch.zeros(2 * flat.numel())[: flat.numel()].view(x.shape), "grown": lambda: grown,
        "strided": lambda: torch.zeros(*x.shape, 2)[..., 0], "alias": lambda: state[other],
        "subclass": lambda: x.as_subclass(Strange), "empty": lambda: torch.zeros(0),
        "scalar": lambda: torch.tensor(1.0), "more axes": lambda: x[None], "longer": lambda: torch.cat([x, x]),
        "a number": lambda: 3.0, "nothing": lambda: None, "a list": x.tolist, "bytes": lambda: bytearray(8),
        "storage": x.untyped_storage, "code": lambda: Call(os.mkdir, str(folder / "evil")),
    }  # fmt: skip
    what = random.choice([*options, "renamed", "gone", "extra", "number as a name", "shadowed", "many"])
    if what in options:
        state[name] = options[what]()
    elif what == "renamed":
        state[random.choice(["../" + name, name + "\n", name + "\ud800", "\x1b[2J", "x" * 10**5, ""])] = state.pop(name)
    elif what == "gone":
        del state[name]
    elif what == "extra":
        state["extra"] = torch.zeros(2)
    elif what == "number as a name":
        state[7] = state.pop(name)
    elif what == "shadowed":
        state = Shadowed(state)
    else:
        state |= {f"block{i}.{j}": torch.zeros(1) for i in range(1000) for j in range(2)}
    metadata = copy.deepcopy(base.metadata)
    if what == "many":
        metadata["network"]["blocks"] = 1000
    with contextlib.suppress(Exception):
        metadata["weights_sha256"] = torch_module.digest(state)
    return File(f"{base.name}: {name} {what}", "pt", pickled({"state_dict": state, "metadata": metadata}))


def archives(random: Random, base: Base, folder: Path) -> File:
    """The archive of a .pt file, or the pickle in it, is no plain one."""
    whole = packed("pt", base.weights, base.metadata)
    code = Call(os.mkdir, str(folder / "evil"))
    state = {name: torch.from_numpy(x) for name, x in base.weights.items()}
    contents = {"state_dict": state, "metadata": base.metadata}

    def change(name: str, part: bytes) -> Callable[[list[tuple[str, bytes]]], None]:
        def make(entries: list[tuple[str, bytes]]) -> None:
            entries[:] = [(n, part if n == name else old) for n, old in entries]

        return make

    def drop(name: str) -> Callable[[list[tuple[str, bytes]]], None]:
        def make(entries: list[tuple[str, bytes]]) -> None:
            entries[:] = [entry for entry in entries if entry[0] != name]

        return make

    def add(*new: tuple[str, bytes]) -> Callable[[list[tuple[str, bytes]]], None]:
        return lambda entries: entries.extend(new)

    old_form = pickled(contents | {"x": Call(bytearray, 2 * 10**9)}, _use_new_zipfile_serialization=False)
    options: dict[str, Callable[[], bytes]] = {
        "compressed": lambda: rezipped(whole, lambda _: None, zipfile.ZIP_DEFLATED),
        "bomb": lambda: rezipped(whole, add(("archive/data/99", bytes(1 << 26))), zipfile.ZIP_BZIP2),
        "outside": lambda: rezipped(whole, add(("../../evil", b"x"))),
        "absolute": lambda: rezipped(whole, add(("/tmp/evil", b"x"))),
        "twice": lambda: rezipped(whole, add(("archive/data.pkl", pickle.dumps(code, 2)))),
        "other case": lambda: rezipped(whole, add(("archive/DATA.PKL", pickle.dumps(code, 2)))),
        "no pickle": lambda: rezipped(whole, drop("archive/data.pkl")),
        "no data": lambda: rezipped(whole, drop("archive/data/0")),
        "short data": lambda: rezipped(whole, change("archive/data/0", b"123")),
        "code": lambda: rezipped(whole, change("archive/data.pkl", pickle.dumps(code, 2))),
        "protocol 4": lambda: rezipped(whole, change("archive/data.pkl", pickle.dumps(code, 4))),
        "half a pickle": lambda: rezipped(whole, change("archive/data.pkl", b"\x80\x02}q\x00(X")),
        "other order of bytes": lambda: rezipped(whole, change("archive/byteorder", b"big")),
        "thousands": lambda: rezipped(whole, add(*((f"archive/data/{1000 + i}", b"") for i in range(5_000)))),
        "something before": lambda: old_form + whole,
        "something after": lambda: whole + b"x" * 1000,
        "old form": lambda: old_form,
        "two": lambda: whole + whole,
        "plain pickle": lambda: pickle.dumps(code),
        "a module": lambda: pickled(torch.nn.Linear(2, 2)),
        "a program": lambda: torch.jit.script(torch.nn.Linear(2, 2)).save_to_buffer(),
        "a list": lambda: pickled([1, 2]),
        "weights alone": lambda: pickled(state),
        "code beside": lambda: pickled(contents | {"x": code}),
        "memory beside": lambda: pickled(contents | {"x": Call(bytearray, 2 * 10**9)}),
    }
    what = random.choice(list(options))
    harmless = what in ("thousands", "something after", "two", "other order of bytes")
    return File(f"{base.name}: archive with {what}", "pt", options[what](), harmless=harmless)


def damage(random: Random, base: Base, folder: Path) -> File:
    """Bytes of a sound file are lost, changed or added."""
    kind = any_kind(random)
    whole = packed(kind, base.weights, base.metadata)
    at, size = random.randrange(len(whole)), random.randint(1, 40)
    part = random.randbytes(size)
    what = random.choice(["cut", "flip", "flip", "lost", "added", "zeroed", "written over", "moved"])
    content = {
        "cut": whole[: len(whole) * random.randrange(51) // 50],
        "flip": whole[:at] + bytes([whole[at] ^ (1 << random.randrange(8))]) + whole[at + 1 :],
        "lost": whole[:at] + whole[at + size :],
        "added": whole[:at] + part + whole[at:],
        "zeroed": whole[:at] + bytes(len(whole[at : at + size])) + whole[at + size :],
        "written over": whole[:at] + part + whole[at + size :],
        "moved": whole[at:] + whole[:at],
    }[what]
    return File(f"{base.name}: {what} at {at} of {len(whole)}", kind, content, harmless=True)


def special(random: Random, base: Base, folder: Path) -> File:
    """What is no file, or a file without end."""
    kind = any_kind(random)
    whole = packed(kind, base.weights, base.metadata)

    def sparse(start: bytes, end: bytes) -> Callable[[Path], None]:
        def make(path: Path) -> None:
            path.write_bytes(start)
            os.truncate(path, 5 << 30)
            with path.open("ab") as file:
                file.write(end)

        return make

    def bound(path: Path) -> None:
        short = Path(tempfile.mkdtemp(prefix="s")) / "s"  # the name of a socket has a short limit
        with socket.socket(socket.AF_UNIX) as it:
            it.bind(str(short))
        shutil.move(short, path)
        short.parent.rmdir()

    options: dict[str, bytes | Callable[[Path], None]] = {
        "a folder": Path.mkdir,
        "a pipe": os.mkfifo,
        "a socket": bound,
        "zeros without end": lambda path: path.symlink_to("/dev/zero"),
        "random numbers without end": lambda path: path.symlink_to("/dev/urandom"),
        "a terminal": lambda path: path.symlink_to("/dev/tty"),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a link to nothing": lambda path: path.symlink_to("nothing"),
        "a link to a pipe": lambda path: (os.mkfifo(folder / "pipe"), path.symlink_to("pipe"))[1],
        "nothing": b"",
        "text": b"hello",
        "no file": lambda path: None,
        "sparse": sparse(whole[: random.choice([0, 1, 8, 100, len(whole)])], random.choice([b"", whole])),
    }
    what = random.choice(list(options))
    return File(f"{base.name}: {what}", kind, options[what])


def texts(random: Random, base: Base, folder: Path) -> File:
    """JSON that no writer of ours writes."""
    name = random.choice(list(base.weights))
    contents = json.loads(packed("json", base.weights, base.metadata))
    entry = contents["weights"][name]
    size = len(entry["data"])
    entries = {
        "base64": {"data": "AAAA" * size}, "short": {"data": entry["data"][1:]}, "long": {"data": [*entry["data"], 0]},
        "texts": {"data": ["1"] * size}, "truths": {"data": [True] * size}, "lists": {"data": [[1]] * size},
        "nothing": {"data": None}, "giants": {"data": [10**400] * size}, "shape of text": {"shape": "9"},
        "giant shape": {"shape": [10**30]}, "negative shape": {"shape": [-1]}, "empty shape": {"shape": [0, 10**30]},
        "many axes": {"shape": [1] * 1000}, "shape of floats": {"shape": [float(size)]}, "shape 1": {"shape": size},
        "half nothing": {"data": [None, *entry["data"][1:]]}, "object": {"data": {"0": 1}},
    }  # fmt: skip
    what = random.choice(
        [*entries, "wholes", "doubled", "trailing", "utf-16", "bom", "deep", "long number", "not an object"]
    )
    if what in entries:
        contents["weights"][name] = entry | entries[what]
    text = json.dumps(contents)
    other = {
        "wholes": '{"metadata": {}, "weights": []}',
        "doubled": text.replace('"metadata": {', '"metadata": {"format": "other", ', 1),
        "trailing": text + "}",
        "deep": text.replace('"weights"', '"x": ' + "[" * 10**5 + "]" * 10**5 + ', "weights"', 1),
        "long number": text.replace('"weights"', '"x": ' + "9" * 10**6 + ', "weights"', 1),
        "not an object": random.choice(["[]", "null", "1", '"a"', "[" * 10**6, '{"a":' * 10**5]),
    }
    content = other.get(what, text).encode()
    content = text.encode("utf-16") if what == "utf-16" else b"\xef\xbb\xbf" + content if what == "bom" else content
    return File(f"{base.name}: {name} {what}", "json", content)


def headers(random: Random, base: Base, folder: Path) -> File:
    """A header of safetensors that says something else than what is there."""
    whole = packed("safetensors", base.weights, base.metadata)
    length = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    name = random.choice(list(base.weights))
    first, last = header[name]["data_offsets"]
    entries = {
        "overlap": {"data_offsets": [first + 4, last + 4]}, "outside": {"data_offsets": [first, 10**12]},
        "backwards": {"data_offsets": [last, first]}, "negative": {"data_offsets": [-4, last]},
        "giant shape": {"shape": [10**18, 10**18]}, "giant": {"shape": [10**40]}, "zero": {"shape": [0]},
        "double": {"dtype": "F64"}, "bfloat16": {"dtype": "BF16"}, "half": {"dtype": "F16"},
        "fp8": {"dtype": "F8_E4M3"}, "unknown": {"dtype": "X9"}, "no dtype": {"dtype": None},
        "integers": {"dtype": "I32"}, "booleans": {"dtype": "BOOL"},
    }  # fmt: skip
    what = random.choice(
        [*entries, "no metadata", "list of metadata", "broken metadata", "deep metadata", "long", "short"]
    )
    if what in entries:
        header[name] |= entries[what]
    elif what == "no metadata":
        del header["__metadata__"]
    elif "metadata" in what:
        header["__metadata__"] = {
            "list of metadata": {"jaxzero": "[]"}, "broken metadata": {"jaxzero": "{"},
            "deep metadata": {"jaxzero": "[" * 10**5},
        }[what]  # fmt: skip
    text = json.dumps(header).encode()
    size = len(text) + {"long": random.choice([9, 10**6, 2**40, 2**63]), "short": -9}.get(what, 0)
    return File(f"{base.name}: {name} {what}", "safetensors", size.to_bytes(8, "little") + text + data)


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
