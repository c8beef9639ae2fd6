"""Files of weights: sound ones, and ones that are hostile, damaged, odd or none."""

import collections
import copy
import io
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
import torch

from jaxzero.export.model import digest


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
