"""`jaxzero train --game FILE.py:FUNCTION`; training is replaced by a recorder."""

from pathlib import Path

import pytest
from conftest import Run
from recorder import Recorder, asked

from jaxzero.config import settings

__all__ = ["asked"]  # a fixture of all tests here

GAME = """
import dataclasses
from envs.tic_tac_toe import TicTacToe

@dataclasses.dataclass(frozen=True)
class Mine(TicTacToe):
    name = "mine"
    size: int = 3

def make(size: int = 3):
    return Mine(size)

def wrong():
    return 7

def broken():
    raise RuntimeError("no board")
"""


def test_own_game(run: Run, asked: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_game.py").write_text(GAME)
    status, _, error = run("train", "tic_tac_toe_test", "--game", "my_game.py:make", "--game.options.size", "5")
    assert (status, error) == (0, "")
    assert asked.env is not None
    assert (asked.env.name, vars(asked.env)["size"]) == ("mine", 5)
    # The configuration alone finds the game again, from any folder.
    assert asked.config is not None
    kept = tmp_path / "kept.toml"
    kept.write_text(settings.dump(asked.config))
    monkeypatch.chdir("/")
    assert run("train", str(kept))[0] == 0
    assert asked.env.name == "mine"


@pytest.mark.parametrize(("source", "message"), [
    ("none.py:make", "game.source: PATH/none.py: no such file"),
    ("my_game.py:mke", "game.source: PATH/my_game.py has no function 'mke'"),
    ("my_game.py:", "game.source: 'PATH/my_game.py:' is not FILE.py:FUNCTION; registered games go by game.name"),
    ("my_game.py", "game.source: 'my_game.py' is not FILE.py:FUNCTION; registered games go by game.name"),
    ("my_game.py:wrong", "game.source: wrong in PATH/my_game.py returned int, not an envs.Env"),
    ("my_game.py:broken", "game.source: PATH/my_game.py: RuntimeError: no board"),
    ("bad_import.py:make", "game.source: PATH/bad_import.py: ModuleNotFoundError: No module named 'not_there'"),
    ("bad_syntax.py:make", "game.source: PATH/bad_syntax.py: SyntaxError: invalid syntax (bad_syntax.py, line 1)"),
])  # fmt: skip
def test_own_game_errors(run: Run, tmp_path: Path, source: str, message: str):
    (tmp_path / "my_game.py").write_text(GAME)
    (tmp_path / "bad_import.py").write_text("import not_there")
    (tmp_path / "bad_syntax.py").write_text("def")
    assert run("train", "tic_tac_toe_test", "--game", source) == (
        2, "", f"error: {message.replace('PATH', str(tmp_path))}\n",
    )  # fmt: skip


def test_own_game_with_a_wrong_option(run: Run, tmp_path: Path):
    (tmp_path / "my_game.py").write_text(GAME)
    status, _, error = run("train", "tic_tac_toe_test", "--game", "my_game.py:make", "--game.options.sze", "5")
    expected = "TypeError: make() got an unexpected keyword argument 'sze'"
    assert (status, error) == (2, f"error: game.source: {tmp_path}/my_game.py: {expected}\n")
