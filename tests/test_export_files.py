"""Files of every format: certificates, what proves them wrong, card, registry, and what is never overwritten."""

import contextlib
import errno
import json
import os
import re
import resource
import shutil

import fabricated
import jax
import numpy as np
import onnxruntime
import pytest
import torch
from exports import CASES, export, model_of

from jaxzero.export import FORMATS, formats, parity, publish
from jaxzero.export.model import ExportError, make
from jaxzero.runs import folder as folder_lib

PRECISE = [name for name in FORMATS if name != "onnx"]
CASE = "resnet-batch-norm-wdl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Everything that is slow to make, made once: all formats, half, int8."""
    folder = tmp_path_factory.mktemp("exports")
    lines = export(folder, CASE, list(FORMATS))
    lines += export(folder, CASE, list(FORMATS), half=True)
    lines += export(folder, CASE, ["onnx"], int8=True)
    (folder / "lines.txt").write_text("\n".join(lines))
    return folder


def entry(folder, name):
    return json.loads((folder / f"{name}.parity.json").read_text())


def test_each_file_has_a_certificate_that_is_printed_too(folder):
    lines = (folder / "lines.txt").read_text().splitlines()
    assert len(lines) == 2 * len(FORMATS) + 1
    for line, kind in zip(lines, FORMATS, strict=False):
        name = f"n_step000007.{kind}"
        certificate = entry(folder, name)
        (proof,) = certificate["parity"]
        assert line.startswith(f"{folder / name} (parity over 1280 positions: logits max ")
        assert certificate["bytes"] == (folder / name).stat().st_size
        assert (proof["function"], proof["precision"], proof["positions"]) == ("predict", "float32", 1280)
        assert proof["distinct"] > 1000
        assert proof["agreement"] == 1.0
        for output in ("logits", "value"):
            assert 0 < proof["differences"][output]["mean"] < proof["differences"][output]["max"] < 1e-5


def test_half_and_int8_differ_by_as_much_as_they_should(folder):
    for kind in FORMATS:
        (proof,) = entry(folder, f"n_step000007_half.{kind}")["parity"]
        assert 1e-5 < proof["differences"]["logits"]["max"] < 0.1, kind
        assert proof["agreement"] > 0.98
    (proof,) = entry(folder, "n_step000007_int8.onnx")["parity"]
    assert proof["differences"]["logits"]["mean"] > 1e-3, "nothing was quantised"
    assert proof["differences"]["value"]["mean"] < 0.1
    assert proof["agreement"] > 0.9
    assert (folder / "n_step000007_half.pt").stat().st_size < 0.6 * (folder / "n_step000007.pt").stat().st_size


@pytest.mark.parametrize("batch", [1, 5])
def test_programs_take_any_batch(folder, batch):
    observation = np.ones((batch, 6, 7, 2), np.float32)
    names = [f"n_step000007{part}" for part in ("", "_half")]
    for kind in ("pt2", "onnx", "stablehlo"):
        for path in [folder / f"{name}.{kind}" for name in names]:
            logits, value = formats.load(kind).run(path, "predict", [observation])
            assert (logits.shape, value.shape) == ((batch, 7), (batch,))
            assert logits.dtype == value.dtype == np.float32


def test_programs_run_by_their_own_library_alone(folder):
    observation = np.zeros((2, 6, 7, 2), np.float32)
    expected = formats.load("pt").run(folder / "n_step000007.pt", "predict", [observation])
    session = onnxruntime.InferenceSession(folder / "n_step000007.onnx", providers=["CPUExecutionProvider"])
    assert [x.name for x in [*session.get_inputs(), *session.get_outputs()]] == ["observation", "logits", "value"]
    assert json.loads(session.get_modelmeta().custom_metadata_map["jaxzero"])["num_actions"] == 7
    program = torch.export.load(folder / "n_step000007.pt2", extra_files=(extra := {"metadata.json": ""}))
    assert json.loads(extra["metadata.json"])["game"]["name"] == "connect_four"
    stablehlo = jax.export.deserialize(bytearray((folder / "n_step000007.stablehlo").read_bytes()))
    assert set(stablehlo.platforms) == {"cpu", "cuda", "rocm", "tpu"}
    for given in (
        session.run(["logits", "value"], {"observation": observation}),
        [x.detach().numpy() for x in program.module()(torch.from_numpy(observation))],
        stablehlo.call(observation),
    ):
        for ours, theirs in zip(expected, given, strict=True):
            np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_quantised_program_is_quantised(folder):
    import onnx

    for name, kinds in (("n_step000007", set()), ("n_step000007_int8", {"QuantizeLinear", "DequantizeLinear"})):
        program = onnx.load(folder / f"{name}.onnx")
        found = {node.op_type for node in program.graph.node}
        assert found & {"QuantizeLinear", "DequantizeLinear"} == kinds
        assert not any(x.external_data for x in program.graph.initializer)
        assert program.opset_import[0].version >= 21


def test_json_is_exact_and_readable_by_anyone(folder):
    contents = json.loads((folder / "n_step000007.json").read_text())
    state_dict = torch.load(folder / "n_step000007.pt", weights_only=True)["state_dict"]
    for name, weights in state_dict.items():
        given = np.array(contents["weights"][name]["data"], np.float32).reshape(contents["weights"][name]["shape"])
        assert np.array_equal(given, weights.numpy()), name
    assert contents["weights"].keys() == state_dict.keys()
    assert contents["metadata"]["network"]["channels"] == 8


def test_card_and_registry_say_what_there_is(folder):
    card = json.loads((folder / "model.json").read_text())
    book = json.loads((folder / "registry.json").read_text())["versions"]
    assert list(book) == ["n_step000007"]
    assert book["n_step000007"]["card"] == card
    assert card["version"] == "n_step000007"
    assert card["parameters"] == sum(x.size for x in model_of(CASE).weights.values())
    assert card["game"]["name"] == "connect_four"
    files = book["n_step000007"]["files"]
    assert len(files) == 2 * len(FORMATS) + 1
    assert files["n_step000007.pt"] == {k: v for k, v in entry(folder, "n_step000007.pt").items() if k != "file"}
    assert {path.name for path in folder.iterdir()} == (
        set(files) | {f"{name}.parity.json" for name in files} | {"model.json", "registry.json", "lines.txt", ".lock"}
    ), "no drafts are left"


def test_elo_is_told_where_it_is_known(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    assert publish.rating(folder, 7) is None
    rows = [
        {
            "player": f"run@{step}:32",
            "run": "run",
            "iteration": step,
            "elo": 100.0 * step,
            "interval": [1, 2],
            "games": 9,
        }
        for step in (6, 7)
    ]
    (folder / "ratings.json").write_text(json.dumps({"zero": "random", "ratings": rows}))
    assert publish.rating(folder, 7) == {"player": "run@7:32", "elo": 700.0, "interval": [1, 2], "zero": "random"}
    assert publish.rating(folder, 8) is None


def test_another_network_is_not_overwritten(tmp_path):
    export(tmp_path, "mlp", ["json"])
    before = (tmp_path / "n_step000007.json").read_bytes()
    other = model_of("mlp")
    params = dict(other.params) | {"value": jax.tree.map(np.zeros_like, other.params["value"])}
    with pytest.raises(ExportError, match=r"n_step000007.json: is there already and not known to hold this"):
        export(tmp_path, "mlp", ["json"], params=params)
    assert (tmp_path / "n_step000007.json").read_bytes() == before
    export(tmp_path, "mlp", ["json"])  # the same again is no loss
    assert (tmp_path / "n_step000007.json").read_bytes() == before
    export(tmp_path, "mlp", ["json"], version="n_step000008", params=params)
    assert list(json.loads((tmp_path / "registry.json").read_text())["versions"]) == ["n_step000007", "n_step000008"]
    export(tmp_path, "mlp", ["json"], params=params, overwrite=True)
    assert (tmp_path / "n_step000007.json").read_bytes() != before


def test_damaged_registry_is_named(tmp_path):
    (tmp_path / "registry.json").write_text("{")
    with pytest.raises(ExportError, match=r"registry.json: not a readable registry; move it aside"):
        export(tmp_path, "mlp", ["json"])
    assert (tmp_path / "registry.json").read_text() == "{"


@pytest.mark.parametrize("name", ["policy.weight", "policy.bias", "trunk.layer0.weight", "value.weight"])
@pytest.mark.parametrize("kind", ["pt", "json"])
def test_one_wrong_weight_fails_and_nothing_is_written(tmp_path, monkeypatch, kind, name):
    """Of thousands of weights one is off: the certificate must see it."""
    module = formats.load(kind)
    right = module.write

    def wrong(path, model, function):
        weights = {key: array.copy() for key, array in model.weights.items()}
        weights[name].flat[weights[name].size // 2] += 0.5
        facts = {"weights_sha256": digest(weights)}
        right(path, dataclasses.replace(model, weights=weights, metadata=model.metadata | facts), function)

    import dataclasses

    from jaxzero.export.model import digest

    monkeypatch.setattr(module, "write", wrong)
    with pytest.raises(ExportError, match=r"not written: it differs from the JAX network \(parity over 1280"):
        export(tmp_path, "mlp", [kind])
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


@contextlib.contextmanager
def room(size):
    """No file can become larger than this many bytes: a disk that is full, by the system itself."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", FORMATS)
def test_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, monkeypatch, kind):
    module, right = formats.load(kind), formats.load(kind).write

    def full(*words):
        with room(2048):
            right(*words)

    (tmp_path / f"n_step000007.{kind}").write_bytes(b"older")
    monkeypatch.setattr(module, "write", full)
    with pytest.raises(ExportError, match=rf"{tmp_path}: File too large; nothing was written: free space") as found:
        export(tmp_path, "mlp", [kind], overwrite=True)
    assert "\n" not in str(found.value)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", f"n_step000007.{kind}"}
    assert (tmp_path / f"n_step000007.{kind}").read_bytes() == b"older"


@pytest.mark.parametrize("name", ["n_step000007.json.parity.json", "model.json", "registry.json"])
def test_disk_full_at_the_last_leaves_all_as_it_was(tmp_path, monkeypatch, name):
    export(tmp_path, "mlp", ["json"])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    right = publish.write_json

    def full(path, content):
        if path.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        right(path, content)

    monkeypatch.setattr(publish, "write_json", full)
    params = jax.tree.map(lambda x: x * 0.9, model_of("mlp").params)
    with pytest.raises(ExportError, match="No space left on device"):
        export(tmp_path, "mlp", ["json"], params=params, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_certificate_of_outputs_that_are_not_numbers_does_not_hold():
    going = model_of("mlp")
    function = going.functions["predict"]
    good = [np.zeros((2, 7), np.float32), np.zeros(2, np.float32)]
    positions = parity.ParityPositions(np.zeros((2, 6, 7, 2), np.float32), np.ones((2, 7), bool), *good)
    assert parity.compare("predict", function, "float32", positions, good, good).holds()
    for k, wrong in ((0, np.nan), (1, np.nan), (0, 1e-3), (1, 1e-3)):
        bad = [x.copy() for x in good]
        bad[k].flat[1] = wrong
        assert not parity.compare("predict", function, "float32", positions, good, bad).holds()
    # Returns of any size: within 1e-4 of their size, or of 1.
    scores = [good[0], np.array([5000, 0.5], np.float32)]
    for error, holds in (([0.02, 5e-5], True), ([2, 0], False), ([0, 2e-4], False)):
        near = [good[0], scores[1] + np.array(error, np.float32)]
        assert parity.compare("predict", function, "float32", positions, scores, near, points=True).holds() == holds
        assert not parity.compare("predict", function, "float32", positions, scores, near).holds()
    with pytest.raises(ExportError, match=r"predict gives value of shape \(2, 1\)"):
        parity.compare("predict", function, "float32", positions, good, [good[0], good[1][:, None]])


def test_positions_are_of_self_play_and_reach_the_end():
    model = model_of("resnet")
    positions = parity.self_play(model, 0)
    answers = parity.reference(model, model.functions["predict"], positions.observation)[1]
    for given, expected in zip((positions.logits, positions.value), answers, strict=True):
        np.testing.assert_allclose(given, expected, atol=1e-5)
    stones = positions.observation.sum((1, 2))  # [N, 2] mover's, other's
    assert positions.observation.shape == (1280, 6, 7, 2)
    assert set(stones[:, 1] - stones[:, 0]) == {0, 1}
    assert (positions.legal == (positions.observation[:, 0].sum(-1) == 0)).all()
    assert stones.sum(-1).min() == 0, "games begin anew"
    assert stones.sum(-1).max() > 20
    assert len(np.unique(positions.observation, axis=0)) > 1000


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["pz"], {}, r"--format: unknown format 'pz'; .*did you mean 'pt'|--format: unknown format 'pz'"),
        (["pt", "onnx"], {"int8": True}, r"--int8: there is no int8 form of pt; use --format onnx"),
        (["onnx"], {"int8": True, "half": True}, r"--half and --int8 are two precisions"),
    ],
)
def test_formats_that_are_refused(names, options, message):
    with pytest.raises(ExportError, match=message):
        publish.check(names, CASES["mlp"][1], **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "trial"
    fabricated.run_folder(folder)
    return folder


def test_the_rules_are_compiled_once(trained, caplog):
    loaded = folder_lib.load(trained)
    model = make(loaded.env, loaded.config.network, loaded.params, {})
    jax.clear_caches()
    with jax.log_compiles(), caplog.at_level("WARNING"):
        parity.self_play(model, 3)
    assert sum("Finished XLA compilation of jit(ply)" in line for line in caplog.messages) == 1


def nothing(folder):
    pass


def no_checkpoints(folder):
    shutil.rmtree(folder / "checkpoints")


def damaged_checkpoint(folder):
    for path in (folder / "checkpoints" / "40" / "learner" / "d").iterdir():
        path.write_bytes(path.read_bytes()[:-9])


def exports_is_a_file(folder):
    (folder / "exports").write_text("mine")


def file_is_a_folder(folder):
    (folder / "exports" / "trial_step000040.json").mkdir(parents=True)


def file_of_someone_else(folder):
    (folder / "exports").mkdir()
    (folder / "exports" / "trial_step000040.json").write_text("mine")


def registry_is_a_folder(folder):
    (folder / "exports" / "registry.json").mkdir(parents=True)


def broken_settings(folder):
    (folder / "config.toml").write_text("[game")


def unknown_game(folder):
    (folder / "config.toml").write_text('[game]\nname = "ludo"\n')


def other_network(folder):
    path = folder / "config.toml"
    path.write_text(path.read_text().replace("sizes = [8]", "sizes = [9]"))


@pytest.mark.parametrize(("spoil", "words", "message"), [
    (nothing, ["--format", "json", "pz"], r"unknown format 'pz'"),
    (nothing, ["--format", "json,pt"], r"unknown format 'json,pt'"),
    (nothing, ["--format", ""], r"unknown format ''"),
    (nothing, ["--format"], r"--format: give one or more of pt, pt2, onnx"),
    (nothing, ["--format", "JSON"], r"unknown format 'JSON'"),
    (nothing, ["--step", "7"], r"no checkpoint of step 7.*40"),
    (nothing, ["--step", "-1"], r"-1"),
    (nothing, ["--step", "latest"], r"expected a whole number, got 'latest'"),
    (nothing, ["--int8"], r"there is no int8 form of pt; use --format onnx"),
    (nothing, ["--half", "--int8", "--format", "onnx"], r"two precisions"),
    (nothing, ["--promoted"], r"nothing is promoted there"),
    (no_checkpoints, [], r"no checkpoint yet; train it first"),
    (damaged_checkpoint, [], r"checkpoints: every checkpoint is damaged"),
    (exports_is_a_file, ["--overwrite"], r"exports: cannot write there"),
    (file_is_a_folder, ["--format", "json", "--overwrite"], r"trial_step000040.json: is there already"),
    (file_of_someone_else, ["--format", "json"], r"trial_step000040.json: is there already .* use --overwrite"),
    (registry_is_a_folder, ["--format", "json", "--overwrite"], r"registry.json: not a readable registry"),
    (broken_settings, [], r"config.toml"),
    (unknown_game, [], r"ludo"),
    (other_network, [], r"trial.*"),
])  # fmt: skip
def test_mistakes_are_one_line_and_nothing_is_written(run, trained, tmp_path, spoil, words, message):
    folder = tmp_path / "trial"
    shutil.copytree(trained, folder)
    spoil(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    status, out, error = run("export", str(folder), *words)
    assert (status, out) == (2, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error), error
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before


def test_the_same_format_twice_is_one_file(run, trained, tmp_path):
    folder = tmp_path / "trial"
    shutil.copytree(trained, folder)
    status, out, error = run("export", str(folder), "--format", "json", "json")
    assert (status, error, out.count("\n")) == (0, "", 1)
    assert (folder / "exports" / "trial_step000040.json").is_file()
