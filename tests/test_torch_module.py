"""`torch_module.py`, which reads .pt files without JAX: it runs alone, and refuses what is damaged or odd."""

import copy
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from exports import contents, write_pt

from jaxzero.export.standalone import torch_module


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """An exported win / draw / loss network for Connect Four."""
    write_pt(path := tmp_path_factory.mktemp("export") / "n_step000007.pt", "resnet-batch-norm-wdl")
    return path


def rewrite(path, tmp_path, change, fresh_digest=True):
    """A copy of an exported file whose contents went through `change`."""
    parts = contents(path)
    change(parts)
    if fresh_digest:
        parts["metadata"]["weights_sha256"] = torch_module.digest(parts["state_dict"])
    torch.save(parts, tmp_path / "changed.pt")
    return tmp_path / "changed.pt"


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
    write_pt(path := tmp_path / "n.pt", case)
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
