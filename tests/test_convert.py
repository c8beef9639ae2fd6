"""Weight files in other formats: same weights, refusals in one line, nothing written when something goes wrong."""

import copy
import errno
import json
import os
import time

import numpy as np
import pytest
from exports import model_of
from mutated_weights import METADATA, save, small

from jaxzero.export import formats, parity
from jaxzero.export.convert import convert
from jaxzero.export.model import digest
from jaxzero.messages import ConfigError


@pytest.mark.parametrize("changes", [
    {"sizes": [1] * 65}, {"sizes": [10**12]}, {"sizes": [True]}, {"sizes": [-1]}, {"sizes": []}, {"shared": 1},
    {"value": "nope"}, {"kind": "resnet", "channels": 1, "blocks": 10**5, "pooling": True},
    {"kind": "resnet", "channels": 10**9, "blocks": True, "pooling": True}, {"kind": ["mlp"]},
    {"value": "categorical", "support": -3}, {"value": "categorical", "support": 10**12},
])  # fmt: skip
def test_conversion_refuses_a_huge_description_before_it_is_built(tmp_path, changes):
    weights, metadata = small()
    weights |= {f"w{i}": np.zeros(1, np.float32) for i in range(200)}  # more parts than there may be layers
    metadata = metadata | {"network": metadata["network"] | changes, "weights_sha256": digest(weights)}
    save("json", weights, metadata, path := tmp_path / "x.json")
    began = time.process_time()
    with pytest.raises(ConfigError, match=r"x.json: .{1,400}$"):
        convert(path, tmp_path / "y.pt")
    assert time.process_time() - began < 10


@pytest.mark.parametrize(("fact", "message"), [
    (10**4000, r"y.pt: metadata of type int is no text, .*; nothing was written$"),
    (float("nan"), r"x.json: export metadata must be finite numbers"),
    (json.loads("[" * 200 + "]" * 200), r"y.pt: the metadata is nested deeply"),
])  # fmt: skip
def test_metadata_that_a_format_cannot_hold_is_one_line(tmp_path, fact, message):
    weights, metadata = small()
    save("json", weights, metadata | {"training": {"x": fact}}, path := tmp_path / "x.json")
    with pytest.raises(ConfigError, match=message):
        convert(path, tmp_path / "y.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_conversion_that_goes_wrong_names_the_users_file(tmp_path, monkeypatch):
    formats.load("json").write(source := tmp_path / "x.json", model_of("mlp"), "")
    (target := tmp_path / "y.pt").write_bytes(b"older")
    right = parity.compare

    def off(name, function, precision, positions, expected, given, points=False):
        return right(name, function, precision, positions, expected, [x + 1 for x in given], points)

    with monkeypatch.context() as patch:
        patch.setattr(parity, "compare", off)
        with pytest.raises(ConfigError, match=rf"^{target} not written: it differs"):
            convert(source, target, test=True, overwrite=True)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(formats.load("pt"), "write", full)
    with pytest.raises(ConfigError, match=rf"^{target}: No space left on device"):
        convert(source, target, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"x.json", "y.pt"}
    assert target.read_bytes() == b"older"


def test_convert_and_its_test(tmp_path):
    going = model_of("mlp-dropout")
    formats.load("json").write(source := tmp_path / "x.json", going, "")
    (line,) = convert(source, None, test=True)
    assert line.startswith(f"{source}: parity over 1280 positions: ")
    (line,) = convert(source, tmp_path / "x.pt", test=True)
    assert line.startswith(f"{tmp_path / 'x.pt'} (parity over 1280")
    convert(tmp_path / "x.pt", tmp_path / "x.safetensors")
    convert(tmp_path / "x.safetensors", tmp_path / "y.json")
    assert (tmp_path / "y.json").read_bytes() == source.read_bytes()
    with pytest.raises(ConfigError, match=r"y.json: is there already; move it, or use --overwrite"):
        convert(source, tmp_path / "y.json")
    with pytest.raises(ConfigError, match=r"y.onx: cannot be written; give one of .pt, .pt2, .onnx, .safetensors"):
        convert(source, tmp_path / "y.onx")
    formats.load("json").write(several := tmp_path / "several.json", model_of("muzero-mlp"), "")
    with pytest.raises(ConfigError, match=r"y.stablehlo: a program is one function, and this network has more"):
        convert(several, tmp_path / "y.stablehlo")
    several.unlink()
    (line,) = convert(source, tmp_path / "y.stablehlo")
    assert line.startswith(f"{tmp_path / 'y.stablehlo'} (parity over 1280")
    with pytest.raises(ConfigError, match="give a file to write, or --test"):
        convert(source, None)
    weights, metadata = small()
    for name, mutate in METADATA.items():
        changed = copy.deepcopy(metadata)
        mutate(weights, changed)
        save("json", weights, changed, tmp_path / "bad.json")
        with pytest.raises(ConfigError, match=r"bad.json: "):
            convert(tmp_path / "bad.json", tmp_path / f"{name}.pt")
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".pt", ".safetensors", ".stablehlo"}
    assert len(list(tmp_path.iterdir())) == 6
