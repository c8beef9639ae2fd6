"""Hostile .pt files: weights that are no plain tensors, archives and pickles that are no plain ones."""

import collections
import contextlib
import copy
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

from gauntlet.weight_files import Base, Call, File, packed, pickled
from jaxzero.export.standalone import torch_module


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
