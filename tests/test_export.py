import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import envs
from jaxzero import networks
from jaxzero.config import ConfigError, NetworkConfig
from jaxzero.export import FORMATS, ExportError, check_pt, export_pt, pt, torch_module

RESNET = NetworkConfig(kind="resnet", channels=8, blocks=2, dtype="float32")
MLP = NetworkConfig(kind="mlp", sizes=(24, 16), dtype="float32")
CASES = {
    "resnet": ("connect_four", RESNET),
    "resnet-batch-norm-wdl": ("connect_four", dataclasses.replace(RESNET, norm="batch", value="wdl")),
    "resnet-batch-norm-no-pooling": ("tic_tac_toe", dataclasses.replace(RESNET, norm="batch", pooling=False)),
    "resnet-wdl": ("tic_tac_toe", dataclasses.replace(RESNET, value="wdl")),
    "mlp": ("connect_four", MLP),
    "mlp-separate-wdl": ("connect_four", dataclasses.replace(MLP, shared=False, value="wdl")),
    "mlp-separate": ("tic_tac_toe", dataclasses.replace(MLP, shared=False)),
    "mlp-dropout": ("tic_tac_toe", dataclasses.replace(MLP, dropout=0.5)),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


def scrambled(network):
    """Variables far from initialisation: no head near zero, no bias at zero, no statistics at 0 and 1."""
    rng = np.random.default_rng(1)

    def draw(leaf):
        if leaf.ndim == 1:
            return jnp.asarray(np.abs(rng.normal(0, 0.3, leaf.shape)) + 0.3, jnp.float32)
        return jnp.asarray(rng.normal(0, 1 / np.sqrt(np.prod(leaf.shape[:-1])), leaf.shape), jnp.float32)

    return jax.tree.map(draw, jax.eval_shape(network.init, jax.random.key(0)))


def fold(network, variables):
    with jax.numpy_rank_promotion("allow"):
        return network.fold(variables)


def export(path, game, config, **changes):
    env = envs.make(game)
    network = networks.make(config, env)
    arguments = {
        "params": fold(network, scrambled(network)), "network_config": config, "env": env, "infer": network.infer,
        "metadata": {"step": 7, "iteration": 3, "config_digest": "abc"},
    } | changes  # fmt: skip
    return export_pt(path, **arguments)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """An exported win / draw / loss network for Connect Four."""
    path = tmp_path_factory.mktemp("export") / "run_step000007.pt"
    export(path, *CASES["resnet-batch-norm-wdl"])
    return path


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


@pytest.mark.parametrize("case", CASES)
def test_loaded_network_computes_what_the_trained_one_does(case, tmp_path):
    """Against the unfolded `predict` of training, apart from the export's own comparison."""
    game, config = CASES[case]
    env = envs.make(game)
    network = networks.make(config, env)
    variables = scrambled(network)
    parity = export(tmp_path / "n.pt", game, config, params=fold(network, variables))
    assert parity.positions >= 256
    assert parity.agreement == 1.0

    observation, _ = pt.random_positions(env, 5, pt.POSITIONS)
    expected, _ = jax.jit(network.predict)(variables, observation)
    module = torch_module.load(tmp_path / "n.pt")
    given = torch.from_numpy(observation.copy())
    with torch.inference_mode():
        logits, value = module(given)
    np.testing.assert_allclose(logits, expected.logits, atol=1e-4)
    np.testing.assert_allclose(value, expected.value, atol=1e-5)
    assert np.std(expected.logits) > 0.1, "a network that says nothing would prove nothing"
    assert np.std(expected.value) > 0.01
    assert not module.training
    if config.value == "wdl":
        np.testing.assert_allclose(module.wdl(given).detach(), jax.nn.softmax(expected.heads["wdl"]), atol=1e-5)
    else:
        with pytest.raises(ValueError, match="scalar value"):
            module.wdl(given)


def test_parity_positions_are_real_and_half_of_them_one_move_before_the_end():
    env = envs.make("connect_four")
    observation, legal = pt.random_positions(env, 0, pt.POSITIONS)
    stones = observation.sum((1, 2))  # [N, 2] mover's, other's
    assert set(stones[:, 1] - stones[:, 0]) == {0, 1}
    assert (legal == (observation[:, 0].sum(-1) == 0)).all()
    assert (stones[::2].sum(-1) >= 6).all(), "no game ends before its seventh stone"
    assert stones[1::2].sum(-1).min() < 6
    assert len(np.unique(observation, axis=0)) > 50


def test_parity_reads_as_one_line(tmp_path):
    line = str(export(tmp_path / "n.pt", *CASES["mlp"]))
    assert re.fullmatch(
        r"parity over 256 positions: logits within \S+, values within \S+, same best move in 100.0%", line
    )


def test_bfloat16_network_is_compared_in_float32(tmp_path):
    game, config = CASES["resnet"]
    coarse = dataclasses.replace(config, dtype="bfloat16")
    infer = networks.make(coarse, envs.make(game)).infer
    export(tmp_path / "n.pt", game, coarse, infer=infer)
    with pytest.raises(ExportError, match="differs"):
        export(tmp_path / "n.pt", game, config, infer=infer)


def test_file_is_plain_and_says_what_it_is(file):
    assert list(file.parent.iterdir()) == [file], "the temporary file is gone"
    metadata = contents(file)["metadata"]
    assert metadata["game"] == {"name": "connect_four", "options": {}}
    assert metadata["observation_shape"] == [6, 7, 2]
    assert metadata["observation"].startswith("Planes, top row first")
    assert metadata["num_actions"] == 7
    assert "Action = column" in metadata["actions"]
    assert metadata["first_moves"] == {str(column + 1): column for column in range(7)}
    assert metadata["training"] == {"step": 7, "iteration": 3, "config_digest": "abc"}
    assert "not masked" in metadata["notes"]
    assert metadata["network"] == {
        "kind": "resnet", "value": "wdl", "channels": 8, "blocks": 2, "pooling": True, "head_channels": 16,
        "value_hidden": 64,
    }  # fmt: skip


def test_export_does_not_touch_random_numbers_of_torch(tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    export(tmp_path / "n.pt", *CASES["mlp"])
    assert torch.equal(torch.get_rng_state(), before)


def test_same_network_gives_the_same_bytes(tmp_path):
    for name in ("a.pt", "b.pt"):
        export(tmp_path / name, *CASES["mlp"])
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
    """`python jaxzero/export/torch_module.py` searches that folder first."""
    names = {path.stem for path in pathlib.Path(torch_module.__file__).parent.glob("*.py")} - {"__init__"}
    assert not names & (set(sys.stdlib_module_names) | {"torch", "numpy", "onnx", "safetensors"})


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
        (later_version, r"format version 2, this torch_module.py reads 1"),
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


def test_script_ends_with_one_line(tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(SystemExit, match=r"^error: .*text.pt: not a readable .pt file"):
        torch_module.main([str(tmp_path / "text.pt")])
    with pytest.raises(SystemExit, match=r"^error: .*missing.pt"):
        torch_module.main([str(tmp_path / "missing.pt")])
    with pytest.raises(SystemExit, match="usage"):
        torch_module.main([])


def test_observation_of_another_shape(file):
    module = torch_module.load(file)
    for outputs in (module, module.wdl):
        with pytest.raises(ValueError, match=r"an observation is \[B, 6, 7, 2\], got \[1, 2, 6, 7\]"):
            outputs(torch.zeros(1, 2, 6, 7))
    assert module(torch.zeros(1, 6, 7, 2, dtype=torch.uint8))[0].dtype == torch.float32


@pytest.mark.parametrize("shape", [(8, 2, 3, 3), (8, 16), (7, 672), (16, 8, 1, 1), (1,)])
def test_one_wrong_weight_fails_and_leaves_the_old_file(tmp_path, monkeypatch, shape):
    path = tmp_path / "n.pt"
    path.write_text("the export before")
    right = torch.from_numpy

    def wrong(array):
        if array.shape == shape:
            array.flat[array.size // 2] += 0.5
        return right(array)

    monkeypatch.setattr(torch, "from_numpy", wrong)
    with pytest.raises(ExportError, match="not written: the PyTorch network differs"):
        export(path, *CASES["resnet"])
    assert path.read_text() == "the export before"
    assert list(tmp_path.iterdir()) == [path]


def test_nan_fails(tmp_path):
    game, config = CASES["mlp"]
    network = networks.make(config, envs.make(game))
    params = fold(network, scrambled(network))
    params["value"]["bias"] = params["value"]["bias"] * jnp.nan
    with pytest.raises(ExportError, match="values within nan"):
        export(tmp_path / "n.pt", game, config, params=params)
    assert not list(tmp_path.iterdir())


def test_parameters_of_another_network(tmp_path):
    game, config = CASES["resnet"]
    with pytest.raises(ExportError, match=r"n.pt: .*the network description asks for") as excinfo:
        export(tmp_path / "n.pt", game, config, network_config=dataclasses.replace(config, channels=6))
    one_line(excinfo, tmp_path / "n.pt")
    unfolded = scrambled(networks.make(config, envs.make(game)))
    with pytest.raises(ExportError, match=r"n.pt: .* is nothing"):
        export(tmp_path / "n.pt", game, config, params=unfolded)


def test_metadata_of_other_types(tmp_path):
    with pytest.raises(ExportError, match="int64"):
        export(tmp_path / "n.pt", *CASES["mlp"], metadata={"step": np.int64(3)})


def test_kind_without_a_pytorch_form(tmp_path):
    game, config = CASES["mlp"]
    strange = dataclasses.replace(config, kind="transformer")
    for call in (lambda: check_pt(strange), lambda: export(tmp_path / "n.pt", game, config, network_config=strange)):
        with pytest.raises(ExportError, match=r"'transformer' has no PyTorch form; .* works for resnet, mlp"):
            call()


def test_without_torch_a_line_says_what_to_install(tmp_path, monkeypatch):
    check_pt(MLP)
    monkeypatch.delitem(sys.modules, "jaxzero.export.torch_module")
    monkeypatch.delattr("jaxzero.export.torch_module")
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (lambda: check_pt(MLP), lambda: export(tmp_path / "n.pt", *CASES["mlp"])):
        with pytest.raises(ConfigError, match=re.escape("pip install 'jaxzero[export]'")):
            call()


def test_formats_import_without_torch():
    assert FORMATS["pt"] is export_pt
    program = "import sys; sys.modules['torch'] = None; import jaxzero.export"
    root = pathlib.Path(torch_module.__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)
