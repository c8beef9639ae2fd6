"""Networks as .pt files: what leaves computes what was trained, and says what it is."""

import dataclasses
import importlib.metadata
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from exports import CASES, contents, export, fold, model_of, scrambled, write_pt

import envs
from jaxzero import networks
from jaxzero.config import presets as presets_lib
from jaxzero.config import settings
from jaxzero.config.games import make_env
from jaxzero.export import FORMATS, formats, parity, publish
from jaxzero.export.formats import pt
from jaxzero.export.model import ExportError, make
from jaxzero.export.standalone import torch_module
from jaxzero.networks import NetworkConfig


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """An exported win / draw / loss network for Connect Four."""
    folder = tmp_path_factory.mktemp("export")
    export(folder, "resnet-batch-norm-wdl")
    return folder / "n_step000007.pt"


def write(path, case, **changes):
    write_pt(path, case, **changes)
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
    class Transformer(NetworkConfig):
        kind = "transformer"

    strange = Transformer()
    for call in (lambda: publish.check(["pt"], strange), lambda: model_of("mlp", config=strange)):
        with pytest.raises(ExportError, match=r"'transformer' cannot be exported: .*; train with export.final = false"):
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
