"""The player that needs PyTorch alone: it runs without JAX, and its mistakes are one line."""

import json
import math
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import torch
from exports import write_pt

from jaxzero.export.standalone import play_torch, torch_games, torch_module

FOLDER = pathlib.Path(torch_games.__file__).parent
TIC_TAC_TOE = torch_games.GAMES["tic_tac_toe"]()


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An exported network for Connect Four."""
    write_pt(path := tmp_path_factory.mktemp("player") / "run_step000007.pt", "resnet")
    return path


@pytest.fixture(scope="module")
def muzero(tmp_path_factory):
    """An exported network that models Connect Four."""
    write_pt(path := tmp_path_factory.mktemp("muzero") / "run_step000007.pt", "muzero-conv")
    return path


def python(*words, cwd, blocked=()):
    block = f"import sys\nfor name in {(*blocked,)!r}: sys.modules[name] = None\n"
    start = "import runpy; sys.argv = sys.argv[1:]\n"
    how = "run_module" if str(words[0]).startswith("jaxzero.") else "run_path"
    program = block + start + f"sys.path.insert(0, '.'); runpy.{how}(sys.argv[0], run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-I", "-c", program, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False
    )


NO_JAX = ("jax", "jaxlib", "flax", "optax", "mctx", "orbax", "envs")


@pytest.mark.parametrize("network", ["model", "muzero"])
def test_copied_files_play_where_jax_and_numpy_are_missing(network, request, tmp_path, capsys):
    model = request.getfixturevalue(network)
    for name in ("play_torch.py", "torch_games.py", "torch_module.py"):
        shutil.copy(FOLDER / name, tmp_path)
    words = (model, "--move", "4 4 3", "--simulations", "40")
    result = python("play_torch.py", *words, cwd=tmp_path, blocked=(*NO_JAX, "numpy", "jaxzero"))
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    play_torch.main([*map(str, words)])
    assert said == json.loads(capsys.readouterr().out)
    assert sum(said["visits"].values()) == said["simulations"] == 40
    assert said["visits"][said["move"]] == max(said["visits"].values())
    assert said["action"] == int(said["move"]) - 1
    assert sum(said["policy"].values()) == pytest.approx(1, abs=1e-5)
    assert -1 <= said["value"] <= 1


def test_module_of_the_package_plays_where_jax_is_missing(model):
    words = ("jaxzero.export.standalone.play_torch", model, "--move", "", "--simulations", "0")
    result = python(*words, cwd=FOLDER.parents[2], blocked=NO_JAX)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["simulations"] == 0


def test_without_torch_one_line_says_what_to_install(model):
    result = python(FOLDER / "play_torch.py", model, cwd=FOLDER, blocked=("torch",))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: PyTorch is missing: pip install torch\n"


def altered(model, tmp_path, **changes):
    contents = torch.load(model, weights_only=True)
    contents["metadata"] |= changes
    torch.save(contents, tmp_path / "altered.pt")
    return tmp_path / "altered.pt"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.pt"], r"missing\.pt"),
        (["{model}", "--move", "4 9"], r"'9' is not a legal move here; legal: 1, 2, 3, 4, 5, 6, 7"),
        (["{model}", "--move", "1 1 1 1 1 1 1"], r"'1' is not a legal move here; legal: 2, 3"),
        (["{model}", "--move", "1 2 1 2 1 2 1 2"], r"move '2' after the end of the game"),
        (["{model}", "--move", "1 2 1 2 1 2 1"], r"the game is over"),
        (["{model}", "--simulations", "-1"], r"a whole number from 0 on, of up to 9 digits, not '-1'"),
        (["{model}", "--batch", "0"], r"a whole number from 1 on, of up to 9 digits, not '0'"),
        (["{model}", "--simulations", "9" * 5000], r"of up to 9 digits, not '9999"),
        (["{model}", "--move", "x" * 5000], r"'x{400}"),
        (["{model}", "--device", "abacus", "--move", ""], r"abacus"),
        (["{model}", "--rules", "nowhere.py:make"], r"--rules nowhere.py:make: no such Python file"),
        (["{chess}", "--move", ""], r"no rules of chess here, only of tic_tac_toe, .*; give yours as --rules"),
        (["{hexagons}", "--move", ""], r"the rules of connect_four do not know its options \{'size': 3\}"),
        (["{endless}", "--move", ""], r"rules of hex do not know .*'size': 1000000000\}: a board has 3 to 26"),
        (["{nameless}", "--move", ""], r"the file does not say which game it is for"),
        (["{odd}", "--move", ""], r"no rules of \['hex'\] here"),
        (["{model}", "--rules", "{broken}:make"], r"--rules .*: ZeroDivisionError: division by zero"),
        (
            ["{other}", "--move", ""],
            r"sees \[6, 7, 2\] and knows 7 actions, the rules of tic_tac_toe \[3, 3, 2\] and 9",
        ),
    ],
)
def test_mistakes_are_one_line(model, tmp_path, capsys, words, message):
    files = {
        "chess": {"name": "chess", "options": {}},
        "hexagons": {"name": "connect_four", "options": {"size": 3}},
        "other": {"name": "tic_tac_toe", "options": {}},
        "endless": {"name": "hex", "options": {"size": 10**9}},
        "nameless": {},
        "odd": {"name": ["hex"], "options": {}},
    }
    (tmp_path / "broken.py").write_text("1 / 0\n")
    words = [text.replace("{broken}", str(tmp_path / "broken.py")) for text in words]
    word = words[0].strip("{}")
    path = altered(model, tmp_path, game=files[word]) if word in files else model if word == "model" else word
    with pytest.raises(SystemExit) as raised:
        play_torch.main([str(path), *words[1:]])
    assert raised.value.code == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert len(error) <= 510
    assert re.search(message, error), error


def test_weights_that_are_not_finite_do_not_play(model, tmp_path, capsys):
    contents = torch.load(model, weights_only=True)
    contents["state_dict"]["stem.bias"][0] = math.nan
    contents["metadata"]["weights_sha256"] = torch_module.digest(contents["state_dict"])
    torch.save(contents, path := tmp_path / "n.pt")
    with pytest.raises(SystemExit):
        play_torch.main([str(path), "--move", ""])
    assert capsys.readouterr().err == f"error: {path}: stem.bias is not finite\n"


def test_network_of_a_game_of_chance_is_refused(tmp_path, capsys):
    write_pt(path := tmp_path / "n.pt", "muzero-mlp-codes")
    with pytest.raises(SystemExit):
        play_torch.main([str(path), "--move", ""])
    assert capsys.readouterr().err.startswith("error: the network models a game of chance; games without chance can be")


def test_rules_of_the_users_own(model, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from jaxzero.export.standalone.torch_games import ConnectFour\n"
        "class Mine(ConnectFour):\n"
        "    def name(self, action): return 'abcdefg'[action]\n"
    )
    path = altered(model, tmp_path, game={"name": "mine", "options": {}})
    play_torch.main([str(path), "--rules", f"{tmp_path / 'mine.py'}:Mine", "--move", "d d", "--simulations", "8"])
    assert json.loads(capsys.readouterr().out)["move"] in list("abcdefg")
    with pytest.raises(SystemExit):
        play_torch.main([str(path), "--rules", f"{tmp_path / 'mine.py'}:Yours", "--move", ""])
    assert "defines no 'Yours'" in capsys.readouterr().err


@pytest.mark.parametrize("second", [False, True])
def test_a_game_in_the_terminal(model, monkeypatch, capsys, second):
    """A person who plays the first legal column, after one slip, until the game is over."""
    tries = iter(["nine", *"1234567" * 42])
    monkeypatch.setattr("builtins.input", lambda prompt: next(tries))
    play_torch.main([str(model), "--simulations", "8", *["--second"] * second])
    out = capsys.readouterr().out
    assert "'nine' is not a legal move here; legal: 1, 2" in out
    assert "The network plays" in out
    assert out.strip().split("\n")[-1] in ("X has won.", "O has won.", "Drawn.")


def test_end_of_input_ends_the_game(model, monkeypatch, capsys):
    def nothing(prompt):
        raise EOFError

    monkeypatch.setattr("builtins.input", nothing)
    play_torch.main([str(model)])
    assert capsys.readouterr().out.endswith("\n")
