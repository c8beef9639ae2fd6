"""Weights from files: the same as went out, trained further, and refused when anything is wrong with the file."""

import copy
import dataclasses
import errno
import io
import json
import os
import pickle
import time
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from exports import CASES, MLP, RESNET, fold, model_of, scrambled
from safetensors.numpy import save_file

import envs
from jaxzero import networks
from jaxzero.export import formats, parity
from jaxzero.export.convert import convert
from jaxzero.export.load import KINDS, load
from jaxzero.export.model import digest
from jaxzero.export.standalone import torch_module
from jaxzero.messages import ConfigError

TIC_TAC_TOE = envs.make("tic_tac_toe")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["resnet-batch-norm-wdl", "mlp-separate"])
def test_weights_come_back_as_they_left(tmp_path, kind, case):
    going = model_of(case)
    path = tmp_path / f"x.{kind}"
    formats.load(kind).write(path, going, "")
    params, metadata = load(path, going.env, CASES[case][1])
    assert metadata == going.metadata
    jax.tree.map(np.testing.assert_array_equal, params, going.params)
    half = model_of(case, half=True)
    formats.load(kind).write(path, half, "")
    params, _ = load(path, going.env, CASES[case][1])
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y.astype(np.float16)), params, going.params)


@pytest.mark.parametrize("case", ["resnet-batch-norm-wdl", "resnet", "mlp-separate"])
def test_unfolded_network_computes_the_same_and_trains_from_there(case):
    game, config = CASES[case]
    env = envs.make(game)
    network = networks.make(config, env)
    variables = scrambled(network)
    params = fold(network, variables)
    states = jax.tree.map(
        lambda *x: jnp.concatenate(x), *(games.states for games in parity.entered(env, jax.random.key(5))[1])
    )
    observation = jax.vmap(env.observe)(states)
    assert network.unfold is not None
    with jax.numpy_rank_promotion("allow"):
        found = network.unfold(params, lambda: observation)
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    wanted = network.infer(params, observation)
    given, _ = network.predict(found, observation)
    np.testing.assert_allclose(given.logits, wanted.logits, atol=1e-4)
    np.testing.assert_allclose(given.value, wanted.value, atol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), fold(network, found), params)
    if vars(config).get("norm") == "batch":
        # In training, normalisation takes the statistics of the batch: from these positions they are the ones found.
        training, _ = network.predict(found, observation, train=True, key=jax.random.key(0))
        np.testing.assert_allclose(training.logits, wanted.logits, atol=1e-3)
        for name in ("mean", "var"):
            assert float(jnp.std(found["stats"]["block0"]["first"]["norm"][name])) > 1e-3


# Broken and hostile files. Every one of them is read by `load`, compiles nothing, and ends with one line.


def small():
    going = model_of("mlp-dropout")
    return dict(going.weights), going.metadata


def save(kind, weights, metadata, path):
    """Writes anything that the format can hold."""
    if kind == "pt":
        tensors = {k: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for k, x in weights.items()}
        torch.save({"state_dict": tensors, "metadata": metadata}, path)
    elif kind == "safetensors":
        save_file({k: np.ascontiguousarray(x) for k, x in weights.items()}, path, {"jaxzero": json.dumps(metadata)})
    else:
        entries = {k: {"shape": list(x.shape), "data": x.ravel().tolist()} for k, x in weights.items()}
        path.write_text(json.dumps({"metadata": metadata, "weights": entries}))


def change(target, **facts):
    target.update(facts)


def reshape(weights, name, shape):
    weights[name] = weights[name].reshape(shape)


def one(weights, name, value):
    weights[name] = weights[name].copy()
    weights[name].flat[-1] = value


WEIGHT = {
    "missing": lambda w, m: w.pop("policy.bias"),
    "missing layer": lambda w, m: [w.pop(k) for k in list(w) if k.startswith("trunk.layer1")],
    "all missing": lambda w, m: w.clear(),
    "extra": lambda w, m: change(w, extra=np.zeros(3, np.float32)),
    "extra layer": lambda w, m: change(w, **{"trunk.layer2.weight": np.zeros((16, 16), np.float32)}),
    "renamed": lambda w, m: change(w, bias=w.pop("policy.bias")),
    "strange name": lambda w, m: change(w, **{"../../policy\n.bias": w.pop("policy.bias")}),
    "transposed": lambda w, m: change(w, **{"trunk.layer1.weight": w["trunk.layer1.weight"].T.copy()}),
    "flat": lambda w, m: reshape(w, "policy.weight", -1),
    "another axis": lambda w, m: reshape(w, "policy.bias", (-1, 1)),
    "longer": lambda w, m: change(w, **{"policy.bias": np.zeros(10, np.float32)}),
    "shorter": lambda w, m: change(w, **{"policy.bias": np.zeros(8, np.float32)}),
    "empty": lambda w, m: change(w, **{"policy.bias": np.zeros(0, np.float32)}),
    "scalar": lambda w, m: change(w, **{"value.bias": np.float32(1).reshape(())}),
    "nan": lambda w, m: one(w, "policy.weight", np.nan),
    "infinite": lambda w, m: one(w, "policy.weight", -np.inf),
}
STALE = {
    "changed": lambda w, m: one(w, "policy.weight", 0.125),
    "exchanged": lambda w, m: change(w, **{"policy.bias": w["policy.bias"][::-1].copy()}),
    "no digest": lambda w, m: m.pop("weights_sha256"),
    "other digest": lambda w, m: change(m, weights_sha256="0" * 64),
    "digest of another type": lambda w, m: change(m, weights_sha256=[1]),
}
TYPES = {  # JSON has one type of number
    "double": lambda w, m: change(w, **{"policy.bias": w["policy.bias"].astype(np.float64)}),
    "half": lambda w, m: change(w, **{"policy.bias": w["policy.bias"].astype(np.float16)}),
    "integers": lambda w, m: change(w, **{"policy.bias": np.arange(9, dtype=np.int32)}),
    "all half": lambda w, m: change(w, **{k: x.astype(np.float16) for k, x in w.items()}),
    "booleans": lambda w, m: change(w, **{"policy.bias": np.ones(9, bool)}),
}
METADATA = {
    "another game": lambda w, m: change(m, game={"name": "connect_four", "options": {}}),
    "other options": lambda w, m: change(m, game={"name": "tic_tac_toe", "options": {"size": 3}}),
    "game of another type": lambda w, m: change(m, game="tic_tac_toe"),
    "no game": lambda w, m: m.pop("game"),
    "other observations": lambda w, m: change(m, observation_shape=[3, 3, 3]),
    "observations of another type": lambda w, m: change(m, observation_shape=[3, 3, 2.0]),
    "other actions": lambda w, m: change(m, num_actions=10),
    "actions true": lambda w, m: change(m, num_actions=True),
    "kind": lambda w, m: change(m["network"], kind="resnet"),
    "unknown kind": lambda w, m: change(m["network"], kind="../../evil"),
    "value": lambda w, m: change(m["network"], value="wdl"),
    "sizes": lambda w, m: change(m["network"], sizes=[24]),
    "huge sizes": lambda w, m: change(m["network"], sizes=[10**12, 10**12]),
    "sizes of another type": lambda w, m: change(m["network"], sizes="24"),
    "shared": lambda w, m: change(m["network"], shared=0),
    "unknown fact": lambda w, m: change(m["network"], blocks=10**9),
    "no network": lambda w, m: m.pop("network"),
    "network a list": lambda w, m: change(m, network=[1]),
    "format": lambda w, m: change(m, format="something"),
    "no format": lambda w, m: m.pop("format"),
    "version": lambda w, m: change(m, format_version=2),
    "version as text": lambda w, m: change(m, format_version="1"),
    "dtype": lambda w, m: change(m, dtype="float64"),
    "dtype of another type": lambda w, m: change(m, dtype=["float32"]),
    "half said": lambda w, m: change(m, dtype="float16"),
    "empty": lambda w, m: m.clear(),
}


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


def test_half_a_character_becomes_a_question_mark(tmp_path):
    """As in the name of a run's folder that is no UTF-8."""
    going = model_of("mlp-dropout", training={"job": "l\udce4uf"})
    assert going.metadata["training"] == {"job": "l?uf"}


def test_refusals_say_what_to_change(tmp_path):
    formats.load("json").write(path := tmp_path / "x.json", model_of("mlp-dropout"), "")
    for config, message in (
        (
            dataclasses.replace(MLP, sizes=(24, 8)),
            r"sizes is \[24, 16\], this run has \[24, 8\]; set network.sizes",
        ),
        (RESNET, r"network.kind is mlp, this run has resnet; set network.kind"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(path, TIC_TAC_TOE, config)
    with pytest.raises(ConfigError, match=r'game is \{"name": "tic_tac_toe", .*, this run has .*connect_four'):
        load(path, envs.make("connect_four"), MLP)


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
