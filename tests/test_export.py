"""The .pt file and `torch_module.py`, which reads it without JAX."""

import copy
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from exports import CASES, MLP, export, fold, model_of, scrambled

import envs
from jaxzero import networks
from jaxzero.config import presets as presets_lib
from jaxzero.config import settings
from jaxzero.config.games import make_env
from jaxzero.export import FORMATS, formats, parity, publish
from jaxzero.export.formats import pt
from jaxzero.export.model import ExportError, make
from jaxzero.export.standalone import torch_module


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """An exported win / draw / loss network for Connect Four."""
    folder = tmp_path_factory.mktemp("export")
    export(folder, "resnet-batch-norm-wdl")
    return folder / "n_step000007.pt"


def contents(path):
    return torch.load(path, weights_only=True)


def rewrite(path, tmp_path, change, fresh_digest=True):
    """A copy of an exported file whose contents went through `change`."""
    parts = contents(path)
    change(parts)
    if fresh_digest:
        parts["metadata"]["weights_sha256"] = torch_module.digest(parts["state_dict"])
    torch.save(parts, tmp_path / "changed.pt")
    return tmp_path / "changed.pt"


def write(path, case, **changes):
    """A .pt file without its certificate, which would have to be compiled."""
    formats.load("pt").write(path, model_of(case, **changes), "predict")
    return torch_module.load(path)


@pytest.mark.parametrize("case", CASES)
def test_loaded_network_computes_what_the_trained_one_does(case, tmp_path):
    """Against the unfolded `predict` of training, not the folded form that certificates compare with."""
    game, config = CASES[case]
    env = envs.make(game)
    network = networks.make(config, env)
    variables = scrambled(network)
    module = write(tmp_path / "n.pt", case, params=fold(network, variables))

    states = jax.tree.map(
        lambda *x: jnp.concatenate(x), *(games.states for games in parity.entered(env, jax.random.key(5))[1])
    )
    observation, legal = (np.asarray(jax.vmap(read)(states)) for read in (env.observe, env.legal_actions))
    with jax.default_matmul_precision("highest"):
        expected, _ = jax.jit(network.predict)(variables, observation)
    given = torch.from_numpy(observation.copy())
    with torch.inference_mode():
        logits, value = module(given)
    np.testing.assert_allclose(logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(value, expected.value, atol=1e-5)
    best = [np.where(legal, x, -np.inf).argmax(-1) for x in (logits, expected.logits)]
    assert (best[0] == best[1]).all()
    assert np.std(expected.logits) > 0.1, "a network that says nothing would prove nothing"
    assert np.ptp(expected.value) > 0.03
    assert not module.training
    if config.value == "wdl":
        np.testing.assert_allclose(module.wdl(given).detach(), jax.nn.softmax(expected.heads["wdl"]), atol=1e-5)
    else:
        with pytest.raises(ValueError, match="scalar value"):
            module.wdl(given)


@pytest.mark.parametrize("name", [name for name in presets_lib.files() if name.endswith("_test")])
def test_network_of_every_game_leaves(name, tmp_path):
    """The small preset of every game, on observations of zeros and ones; the others: benchmarks/exported.py."""
    config = settings.load(presets_lib.files()[name])
    env = make_env(config.game)
    network = networks.make(dataclasses.replace(config.network, dtype="float32"), env)
    variables = scrambled(network)
    going = make(env, config.network, fold(network, variables), {})
    formats.load("pt").write(tmp_path / "n.pt", going, "predict")
    observation = np.random.default_rng(0).integers(0, 2, (32, *env.observation_shape)).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        expected = jax.jit(network.predict)(variables, observation)[0]
    logits, value = formats.load("pt").run(tmp_path / "n.pt", "predict", [observation])
    np.testing.assert_allclose(logits, expected.logits, atol=1e-4)
    # A value is at most 1, or a return of any size: here up to 120.
    np.testing.assert_allclose(value, expected.value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("case", "functions"), [
    ("muzero-mlp-codes", ["represent", "dynamics", "predict", "settle"]),
    ("muzero-conv-codes", ["represent", "dynamics", "predict", "settle"]),
    ("muzero-conv", ["represent", "dynamics", "predict"]),
])  # fmt: skip
def test_every_function_of_a_model_is_certified(case, functions, tmp_path):
    export(tmp_path, case, ["pt", "stablehlo"])
    for function in functions:
        assert (tmp_path / f"n_step000007_{function}.stablehlo").is_file()
    record = json.loads((tmp_path / "n_step000007.pt.parity.json").read_text())
    assert [proof["function"] for proof in record["parity"]] == functions
    assert list(record["parity"][1]["differences"]) == ["next_latent", "reward", "discount"]


def test_half_is_stored_in_float16_and_computed_in_float32(file, tmp_path):
    module = write(tmp_path / "half.pt", "resnet-batch-norm-wdl", half=True)
    assert contents(tmp_path / "half.pt")["state_dict"]["stem.weight"].dtype == torch.float16
    assert (tmp_path / "half.pt").stat().st_size < 0.6 * file.stat().st_size
    observation = torch.ones(3, 6, 7, 2)
    logits, value = module(observation)
    assert logits.dtype == value.dtype == torch.float32
    whole = torch_module.load(file)(observation)
    assert 0 < (logits - whole[0]).abs().max() < 0.02
    assert module.half()(observation)[0].dtype == torch.float16


def test_network_trained_in_torch_is_saved_with_a_fresh_digest(file, tmp_path):
    module = torch_module.load(file)
    module.train()
    loss = module(torch.ones(2, 6, 7, 2))[1].square().sum()
    loss.backward()
    with torch.no_grad():
        for weights in module.parameters():
            weights -= 0.01 * (weights.grad if weights.grad is not None else 0)
    torch_module.save(module, tmp_path / "tuned.pt")
    again = torch_module.load(tmp_path / "tuned.pt")
    assert torch.equal(again(torch.ones(2, 6, 7, 2))[1], module(torch.ones(2, 6, 7, 2))[1])
    assert again.metadata["weights_sha256"] != contents(file)["metadata"]["weights_sha256"]


def test_file_is_plain_and_says_what_it_is(file):
    metadata = contents(file)["metadata"]
    assert metadata["game"] == {"name": "connect_four", "options": {}}
    assert metadata["observation_shape"] == [6, 7, 2]
    assert metadata["observation"].startswith("Planes, top row first")
    assert metadata["num_actions"] == 7
    assert "Action = column" in metadata["actions"]
    assert metadata["first_moves"] == {str(column + 1): column for column in range(7)}
    assert metadata["training"] == {"step": 7}
    assert "not masked" in metadata["notes"]
    assert metadata["versions"] == {
        "python": ".".join(map(str, sys.version_info[:3])), "jaxzero": importlib.metadata.version("jaxzero"),
        "jax": jax.__version__, "jaxlib": importlib.metadata.version("jaxlib"),
        "torch": importlib.metadata.version("torch"),
    }  # fmt: skip
    assert metadata["network"] == {
        "kind": "resnet", "value": "wdl", "channels": 8, "blocks": 2, "pooling": True, "head_channels": 16,
        "value_hidden": 64,
    }  # fmt: skip
    assert metadata["functions"] == {
        "predict": {
            "inputs": {"observation": {"shape": [6, 7, 2], "dtype": "float32"}},
            "outputs": {"logits": {"shape": [7], "dtype": "float32"}, "value": {"shape": [], "dtype": "float32"}},
        }
    }


def test_digest_is_the_same_in_numpy_and_in_torch():
    going = model_of("mlp", half=True)
    assert going.metadata["weights_sha256"] == torch_module.digest(pt.tensors(going.weights))


def test_export_does_not_touch_random_numbers_of_torch(tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    write(tmp_path / "n.pt", "mlp")
    assert torch.equal(torch.get_rng_state(), before)


def test_same_network_gives_the_same_bytes(tmp_path):
    for name in ("a.pt", "b.pt"):
        write(tmp_path / name, "mlp")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_copied_module_runs_where_jax_is_missing(file, tmp_path):
    shutil.copy(pathlib.Path(torch_module.__file__), tmp_path / "reader.py")
    program = (
        "import runpy, sys\n"
        "for name in ('jax', 'jaxlib', 'flax', 'numpy', 'envs', 'jaxzero'): sys.modules[name] = None\n"
        f"sys.argv = ['reader.py', {str(file)!r}]\n"
        "runpy.run_path('reader.py', run_name='__main__')\n"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    module = torch_module.load(file)
    logits, value = module(torch.zeros(1, 6, 7, 2))
    assert "connect_four" in run.stdout
    assert float(re.findall(r"value ([+-][\d.]+)", run.stdout)[0]) == pytest.approx(value.item(), abs=1e-5)
    best = {int(a): float(x) for a, x in re.findall(r"action (\d): logit (\S+)", run.stdout)}
    assert best == pytest.approx({a: logits[0, a].item() for a in best}, abs=1e-4)
    assert len(best) == 5


def test_package_hides_no_module_from_its_own_script():
    """`python jaxzero/export/standalone/torch_module.py` searches that folder first."""
    names = {path.stem for path in pathlib.Path(torch_module.__file__).parent.glob("*.py")} - {"__init__"}
    assert not names & (set(sys.stdlib_module_names) | {"torch", "numpy", "onnx", "safetensors"})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_neither_read_nor_written(file, tmp_path, value):
    def spoil(parts):
        parts["state_dict"]["block0.second.bias"][-1] = value

    path = rewrite(file, tmp_path, spoil)  # under a right digest
    with pytest.raises(ValueError, match=r"block0.second.bias is not finite") as excinfo:
        torch_module.load(path)
    one_line(excinfo, path)
    module = torch_module.load(file)
    with torch.no_grad():
        module.state_dict()["block0.second.bias"][-1] = value
    (older := tmp_path / "tuned.pt").write_bytes(b"older")
    with pytest.raises(ValueError, match=r"block0.second.bias is not finite"):
        torch_module.save(module, older)
    assert older.read_bytes() == b"older"


def test_halving_that_overflows_is_not_saved(file, tmp_path):
    module = torch_module.load(file)
    with torch.no_grad():
        module.state_dict()["stem.bias"][0] = 70_000  # float16 ends at 65,504
    torch_module.save(module, tmp_path / "n.pt")
    with pytest.raises(ValueError, match=r"stem.bias is not finite"):
        torch_module.save(module.half(), tmp_path / "n.pt")
    assert torch_module.load(tmp_path / "n.pt").state_dict()["stem.bias"][0] == 70_000
    assert {path.name for path in tmp_path.iterdir()} == {"n.pt"}


def test_full_disk_keeps_the_file_that_was_there(file, tmp_path):
    (path := tmp_path / "n.pt").write_bytes(b"older")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    network = torch_module.load(file)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            torch_module.save(network, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"n.pt": b"older"}


HUGE_OR_ODD = [10**6, 10**12, 2**63, 10**30, -1, True, 2.5, float("nan"), "3", None, 0, [], [10**6] * 10_000, {"a": 1}]


@pytest.mark.parametrize("case", ["resnet-batch-norm-wdl", "mlp-2048", "muzero-mlp-codes", "muzero-conv-codes"])
def test_description_of_another_network_is_refused_before_it_is_built(case, tmp_path):
    """Every fact, each of many values: all in the time in which one of these networks could not be built."""
    write(path := tmp_path / "n.pt", case)
    parts = contents(path)
    network = parts["metadata"]["network"]
    began, tried = time.process_time(), 0
    for name in [*network, "num_actions", "observation_shape"]:
        for value in HUGE_OR_ODD:
            if value is network.get(name):
                continue
            changed = copy.deepcopy(parts)
            (changed["metadata"]["network"] if name in network else changed["metadata"])[name] = value
            with pytest.raises(ValueError, match=r"^(?!.*\n).{1,300}$"):
                torch_module.rebuild(changed)
            tried += 1
    assert tried > 50
    assert time.process_time() - began < 20


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_only_regular_files_are_read(tmp_path, make):
    make(path := tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x.pt: not a regular file"):
        torch_module.load(path)
    (tmp_path / "loop.pt").symlink_to("loop.pt")
    with pytest.raises(OSError, match=r"loop.pt"):
        torch_module.load(tmp_path / "loop.pt")


def test_memory_that_a_pickle_asks_for_is_not_taken(file, tmp_path):
    """torch's own reader would make these 3 GB; a file of the same names twice could hide it from ours."""

    class Memory:
        def __reduce__(self):
            return bytearray, (3 * 10**9,)

    torch.save(contents(file) | {"more": Memory()}, path := tmp_path / "x.pt")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"it asks for '(__builtin__|builtins) bytearray'"):
        torch_module.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def one_line(excinfo, path):
    assert str(path) in str(excinfo.value)
    assert "\n" not in str(excinfo.value)


def test_damaged_weights_are_noticed(file, tmp_path):
    def flip(parts):
        parts["state_dict"]["stem.weight"][0, 0, 0, 0] += 1e-3

    path = rewrite(file, tmp_path, flip, fresh_digest=False)
    with pytest.raises(ValueError, match="weights are damaged") as excinfo:
        torch_module.load(path)
    one_line(excinfo, path)
    torch_module.load(rewrite(file, tmp_path, flip))


@pytest.mark.parametrize("where", [0.0, 0.3, 0.6, 0.9])
def test_flipped_byte_or_lost_end_is_noticed(file, tmp_path, where):
    whole = file.read_bytes()
    weights = contents(file)["state_dict"]["policy.out.weight"]
    at = whole.index(bytes(weights.untyped_storage())) + int(where * weights.nbytes)
    path = tmp_path / "broken.pt"
    for broken in (whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], whole[:at]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"damaged|not a readable") as excinfo:
            torch_module.load(path)
        one_line(excinfo, path)


def narrower(parts):
    parts["metadata"]["network"]["channels"] = 4


def deeper(parts):
    parts["metadata"]["network"]["blocks"] = 3


def shallower(parts):
    parts["metadata"]["network"]["blocks"] = 1


def coarser(parts):
    parts["state_dict"]["stem.bias"] = parts["state_dict"]["stem.bias"].half()


def unknown_kind(parts):
    parts["metadata"]["network"]["kind"] = "transformer"


def no_channels(parts):
    del parts["metadata"]["network"]["channels"]


def later_version(parts):
    parts["metadata"]["format_version"] = 2


def other_format(parts):
    parts["metadata"]["format"] = "something"


def no_metadata(parts):
    parts["metadata"] = {}
    del parts["state_dict"]["stem.bias"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (narrower, r"block0.first.bias is torch.float32 \[8\], the network description asks for torch.float32 \[4\]"),
        (deeper, r"block2.first.bias is nothing"),
        (shallower, r"block1.first.bias is torch.float32 \[8\], the network description asks for nothing"),
        (coarser, r"stem.bias is torch.float16"),
        (unknown_kind, r"cannot be followed: KeyError 'transformer'"),
        (no_channels, r"cannot be followed: KeyError 'channels'"),
        (later_version, r"format version 2, this file reads 1"),
        (other_format, r"its format is 'something'"),
        (no_metadata, r"its format is None"),
    ],
)
def test_file_that_does_not_fit_together(file, tmp_path, change, message):
    path = rewrite(file, tmp_path, change)
    with pytest.raises(ValueError, match=message) as excinfo:
        torch_module.load(path)
    one_line(excinfo, path)


@pytest.mark.parametrize("stranger", [[1, 2], {"epoch": 1}, torch.zeros(2), {"state_dict": 1, "metadata": 2}])
def test_file_of_someone_else(tmp_path, stranger):
    torch.save(stranger, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not written by jaxzero") as excinfo:
        torch_module.load(tmp_path / "other.pt")
    one_line(excinfo, tmp_path / "other.pt")


@pytest.mark.parametrize(("words", "message"), [
    (["text.pt"], r"^error: text.pt: not a readable .pt file.*\n$"),
    (["missing.pt"], r"^error: .*missing.pt.*\n$"),
    (["a\nb.pt"], r"^error: .*\n$"),
    ([], r"^error: usage.*\n$"),
])  # fmt: skip
def test_script_ends_with_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(SystemExit) as ended:
        torch_module.main(words)
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_observation_of_another_shape(file):
    module = torch_module.load(file)
    for outputs in (module, module.wdl):
        with pytest.raises(ValueError, match=r"an observation is \[B, 6, 7, 2\], got \[1, 2, 6, 7\]"):
            outputs(torch.zeros(1, 2, 6, 7))
    assert module(torch.zeros(1, 6, 7, 2, dtype=torch.uint8))[0].dtype == torch.float32


def test_weights_that_are_not_finite_do_not_leave():
    game, config = CASES["mlp"]
    network = networks.make(config, envs.make(game))
    params = fold(network, scrambled(network))
    params["value"]["bias"] = params["value"]["bias"] * np.nan
    with pytest.raises(ExportError, match=r"weights not finite: value.bias"):
        model_of("mlp", params=params)
    params["value"]["bias"] = np.full(1, 1e5, np.float32)
    with pytest.raises(ExportError, match=r"weights not finite in float16: value.bias"):
        model_of("mlp", params=params, half=True)


def test_metadata_of_other_types():
    with pytest.raises(ExportError, match="int64"):
        model_of("mlp", training={"step": np.int64(3)})


def test_kind_that_cannot_leave():
    class Transformer(type(MLP)):
        kind = "transformer"

    strange = Transformer()
    for call in (lambda: publish.check(["pt"], strange), lambda: model_of("mlp", config=strange)):
        with pytest.raises(ExportError, match=r"'transformer' cannot be exported; known are resnet, mlp"):
            call()


def test_without_torch_a_line_says_what_to_install():
    """In a process of its own: every format says which package it lacks, and nothing else of jaxzero needs one."""
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'onnx', 'onnxruntime', 'safetensors'):\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import jaxzero.training.train\n"
        "from jaxzero.export import FORMATS, formats\n"
        "from jaxzero.messages import ConfigError\n"
        "for name in FORMATS:\n"
        "    try: print(name, formats.load(name).PROGRAM)\n"
        "    except ConfigError as error: print(error)\n"
    )
    root = pathlib.Path(torch_module.__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    extra = "pip install 'jaxzero[export]'"
    assert run.stdout.splitlines() == [
        f".pt files need torch: {extra}", f".pt2 files need torch: {extra}", f".onnx files need onnx: {extra}",
        f".safetensors files need safetensors: {extra}", "json False", "stablehlo True",
    ]  # fmt: skip
    assert list(FORMATS) == ["pt", "pt2", "onnx", "safetensors", "json", "stablehlo"]
