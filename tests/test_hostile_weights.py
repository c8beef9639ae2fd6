"""Broken and hostile weight files: `load` compiles nothing and refuses each in one line."""

import copy
import io
import json
import os
import pickle
import zipfile

import jax
import numpy as np
import pytest
import torch
from exports import CASES, MLP, model_of
from mutated_weights import METADATA, STALE, TYPES, WEIGHT, save, small
from plain_rules import TIC_TAC_TOE
from safetensors.numpy import save_file

from jaxzero.export import formats
from jaxzero.export.convert import convert
from jaxzero.export.load import KINDS, load
from jaxzero.export.model import digest
from jaxzero.export.standalone import torch_module
from jaxzero.messages import ConfigError


def refused(path):
    """The one line with which a file is refused."""
    before = path.read_bytes()
    with pytest.raises(ConfigError) as excinfo:
        load(path, TIC_TAC_TOE, CASES["mlp-dropout"][1], "init_from: ")
    line = str(excinfo.value)
    assert line.startswith(f"init_from: {path}: ")
    assert "\n" not in line.replace("\\n", "")
    assert len(line) < 700
    assert path.read_bytes() == before
    return line


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_contents_are_refused(tmp_path, kind):
    """46 to 52 mutations in each of three formats."""
    weights, metadata = small()
    save(kind, weights, metadata, path := tmp_path / f"x.{kind}")
    params, _ = load(path, TIC_TAC_TOE, CASES["mlp-dropout"][1])
    jax.tree.map(np.testing.assert_array_equal, params, model_of("mlp-dropout").params)
    for group in (WEIGHT, STALE, METADATA, {} if kind == "json" else TYPES):
        for name, mutate in group.items():
            weights, metadata = copy.deepcopy(small())
            mutate(weights, metadata)
            if group in (WEIGHT, TYPES):  # by someone who knows the format
                metadata["weights_sha256"] = digest(weights)
            save(kind, weights, metadata, path)
            assert refused(path), name


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_are_refused_or_harmless(tmp_path, kind):
    """120 files a format: cut off, with a byte changed, with bytes in between or lost."""
    rng = np.random.default_rng(0)
    formats.load(kind).write(path := tmp_path / f"x.{kind}", going := model_of("mlp-dropout"), "")
    whole = path.read_bytes()
    harmless = 0
    for i in range(120):
        at = int(rng.integers(len(whole)))
        changed = bytes([whole[at] ^ (1 << int(rng.integers(8)))])
        path.write_bytes([whole[:at], whole[:at] + changed + whole[at + 1 :], whole[:at] + b"\0\1" + whole[at:],
                          whole[:at] + whole[at + 3 :]][i % 4])  # fmt: skip
        try:
            params, _ = load(path, going.env, CASES["mlp-dropout"][1])
        except ConfigError:
            refused(path)
        else:
            jax.tree.map(np.testing.assert_array_equal, params, going.params)
            harmless += 1
    assert harmless < 60


class Evil:
    """Unpickled without care, this makes a directory."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def archive(change_entries, compression=zipfile.ZIP_STORED):
    """The .pt file as a zip archive whose entries went through a function."""
    save_to = io.BytesIO()
    weights, metadata = small()
    torch.save({"state_dict": {k: torch.from_numpy(x) for k, x in weights.items()}, "metadata": metadata}, save_to)
    entries = {}
    with zipfile.ZipFile(save_to) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    change_entries(entries)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as new:
        for name, content in entries.items():
            new.writestr(name, content)
    return out.getvalue()


def same(tensor, **facts):
    weights, metadata = small()
    state = {k: torch.from_numpy(x) for k, x in weights.items()}
    state["policy.weight"] = tensor
    content = io.BytesIO()
    torch.save({"state_dict": state, "metadata": metadata | facts}, content)
    return content.getvalue()


def test_hostile_pt_files_are_refused_and_nothing_is_executed(tmp_path):
    evil = Evil(tmp_path / "evil")
    weights, metadata = small()
    pickled = io.BytesIO()
    torch.save({"state_dict": weights | {"x": evil}, "metadata": metadata}, pickled)
    hidden = io.BytesIO()
    torch.save({"state_dict": {}, "metadata": metadata | {"training": evil}}, hidden)
    whole = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), whole)
    loop = dict(metadata)
    loop["training"] = loop
    laughs = ["ha"]
    for _ in range(60):
        laughs = [laughs, laughs]
    deep = []
    for _ in range(400):
        deep = [deep]
    files = {
        "code in the state_dict": pickled.getvalue(),
        "code in the metadata": hidden.getvalue(),
        "plain pickle": pickle.dumps(evil),
        "a module": whole.getvalue(),
        "compressed": archive(lambda entries: None, zipfile.ZIP_DEFLATED),
        "bomb": archive(lambda e: e.update({"archive/data/99": bytes(1 << 26)}), zipfile.ZIP_DEFLATED),
        "outside": archive(lambda e: e.update({"../../evil": b"x"})),
        "absolute": archive(lambda e: e.update({"/tmp/evil": b"x"})),
        "no pickle": archive(lambda e: e.pop("archive/data.pkl")),
        "no data": archive(lambda e: e.pop("archive/data/0")),
        "other pickle": archive(lambda e: e.update({"archive/data.pkl": pickle.dumps(evil)})),
        "one number as many": same(torch.zeros(1, 1).expand(9, 16)),
        "one number as a billion": same(torch.zeros(1, 1).expand(10**6, 10**6)),
        "view": same(torch.zeros(9, 32)[:, :16]),
        "large storage": same(torch.zeros(90, 16)[:9]),
        "sparse": same(torch.zeros(9, 16).to_sparse()),
        "no memory": same(torch.zeros(9, 16, device="meta")),
        "bfloat16": same(torch.zeros(9, 16, dtype=torch.bfloat16)),
        "complex": same(torch.zeros(9, 16, dtype=torch.complex64)),
        "a number": same(3.0),
        "a list": same([1, 2]),
        "itself": same(torch.zeros(9, 16), **loop),
        "laughs": same(torch.zeros(9, 16), training=laughs),
        "tensor as a fact": same(torch.zeros(9, 16), format_version=torch.zeros(3)),
        "bytes as a fact": same(torch.zeros(9, 16), jaxzero_version=b"x"),
        "deep": same(torch.zeros(9, 16), training=deep),
        "empty file": b"",
        "text": b"hello",
    }
    for name, content in files.items():
        (path := tmp_path / "x.pt").write_bytes(content)
        assert refused(path), name
        with pytest.raises(ValueError, match=r"x\.pt: "):  # and by the file that is copied elsewhere
            torch_module.load(path)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["x.pt"], name


def test_hostile_json_and_safetensors_are_refused(tmp_path):
    weights, metadata = small()

    def text(**entry):
        entries = {k: {"shape": list(x.shape), "data": x.ravel().tolist()} for k, x in weights.items()}
        entries["policy.bias"] |= entry
        return json.dumps({"metadata": metadata, "weights": entries}).encode()

    files = {
        "x.json": [
            b"", b"{", b"[]", b"null", b'{"metadata": {}, "weights": []}', b"[" * 100_000, b"\xff\xfe", b"1" * 10_000,
            text(data=["1"] * 9), text(data=[True] * 9), text(data=[[1, 2]]), text(data="123456789"), text(data=None),
            text(shape=[-1]), text(shape=[10**30]), text(shape=9), text(shape=[9.0]), text(shape=[True] * 9),
            text().replace(b'"metadata": {', b'"metadata": {"format": "other", ', 1), text(data="AAAA"),
            text().replace(b'"data": [', b'"data": [NaN, ', 1), text(data=[10**400] * 9), text(data=[1e300] * 9),
            text().replace(b'"weights"', b'"other"'),
        ],
        "x.safetensors": [
            b"", b"\xff" * 8, b"\xff" * 64, (8).to_bytes(8, "little") + b"{}      ",
            (1 << 40).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]",
        ],
        "x.onnx": [b""], "x": [b""], "x.pt2": [b""],
    }  # fmt: skip
    for name, contents in files.items():
        for content in contents:
            (path := tmp_path / name).write_bytes(content)
            assert refused(path)
            path.unlink()
    for meta in (None, {}, {"other": "x"}, {"jaxzero": "{"}, {"jaxzero": "[]"}, {"jaxzero": "[" * 100_000}):
        save_file(weights, path := tmp_path / "x.safetensors", meta)
        assert refused(path)
    with pytest.raises(ConfigError, match="No such file or directory; give a file that can be read"):
        load(tmp_path / "none.pt", TIC_TAC_TOE, MLP)
    (tmp_path / "loop.json").symlink_to("loop.json")
    with pytest.raises(ConfigError, match="Too many levels of symbolic links"):
        load(tmp_path / "loop.json", TIC_TAC_TOE, MLP)


def sparse(path):
    path.write_bytes(b"{")
    os.truncate(path, 5 << 30)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero"), sparse])
def test_only_regular_files_of_a_sane_size_are_read(tmp_path, kind, make):
    make(path := tmp_path / f"x.{kind}")
    with pytest.raises(ConfigError, match=r"not a regular file|more than a network has"):
        load(path, TIC_TAC_TOE, MLP)
    with pytest.raises(ConfigError, match=r"not a regular file|more than a network has"):
        convert(path, tmp_path / "y.json")
