"""JSON lines: records of any game, with dice, with first positions and of games of your own."""

import json

import numpy as np
import pytest
from recorded import played

import envs
from jaxzero import records
from jaxzero.records import Game, Problem

UR = '"start": "*...  *.  X: 7 waiting, 0 home\\n...*....\\n*...  *.  O: 7 waiting, 0 home\\nX rolled 2 at ply 0"'


def read(tmp_path, text: str) -> tuple[list[Game], list[Problem]]:
    path = tmp_path / "games.jsonl"
    path.write_text(text)
    return records.read(path)


def test_of_any_game_are_read_again(tmp_path):
    games = [*played(5, 3, "go", komi=0.5), *played(3, 3)]
    games.append(Game("tic_tac_toe", {}, [4], (-1, 1), {"player_1": "given up\u2028here"}, "X.. ... ..O"))
    records.write(tmp_path / "games.jsonl", games)
    assert records.read(tmp_path / "games.jsonl") == (games, [])


def test_with_dice(tmp_path):
    """Worked by hand: X comes in with a 2, O rolls 0 and has to pass, X walks on from 2 to 3 with a 1."""
    (game,), problems = read(
        tmp_path, f'{{"game": "ur", "moves": [0, 7, 0], "outcomes": [0, 1, 4], {UR}, "result": [1, -1]}}'
    )
    assert problems == []
    assert (game.moves, game.outcomes, game.result) == ([0, 7, 0], [0, 1, 4], (1, -1))  # given up


@pytest.mark.parametrize(("line", "move", "message"), [
    ('{"game"', 0, "no JSON: "),
    ("[]", 0, "a record is an object with a game and its moves"),
    ('{"game": "ur"}', 0, "a record is an object with a game and its moves"),
    ('{"game": "hx", "moves": []}', 0, "unknown game 'hx'; did you mean 'hex'?"),
    ('{"game": ["hex"], "moves": []}', 0, "game is a name"),
    ('{"game": "hex", "options": {"size": [3]}, "moves": []}', 0, "options are its options by name"),
    ('{"game": "hex", "headers": {"a": 1}, "moves": []}', 0, "headers are texts by name"),
    ('{"game": "hex", "moves": [], "reslt": [1, -1]}', 0, "unknown field 'reslt'; did you mean 'result'?"),
    ('{"game": "hex", "moves": [0.5]}', 0, "lists of whole numbers"),
    ('{"game": "hex", "moves": [], "result": 1}', 0, "result is a list of 2 numbers"),
    ('{"game": "hex", "moves": [], "result": [1]}', 0, "result is a list of 2 numbers"),
    ('{"game": "hex", "moves": [3], "result": [NaN, 1]}', 0, "NaN is no number"),
    ('{"game": "hex", "moves": [3], "result": [1e999, -1e999]}', 0, "result is a list of 2 numbers"),
    (f'{{"game": "hex", "moves": [3], "result": [{"9" * 400}, 0]}}', 0, "result is a list of 2 numbers"),
    (f'{{"game": "hex", "moves": [{"9" * 6000}]}}', 0, "no JSON: "),
    (f'{{"game": "hex", "moves": [{"9" * 4000}]}}', 1, "action 9999999999999999999… is not legal here"),
    ('{"game": "hex", "moves": [3], "result": "12"}', 0, "result is a list of 2 numbers"),
    ('{"game": "hex", "moves": [3], "result": [true, false]}', 0, "result is a list of 2 numbers"),
    ('{"game": "hex", "moves": [3], "result": [1, 1]}', 0, "one player wins what the other loses"),
    ('{"game": "hex", "moves": [3], "result": [2, -2]}', 0, "a game is worth 1 at most"),
    ('{"game": "2048", "moves": [], "outcomes": [], "result": [Infinity]}', 0, "Infinity is no number"),
    ('{"game": "hex", "moves": [3], "moves": [4]}', 0, "stands there twice"),
    ('{"game": "hex", "moves": [], "start": 3}', 0, "start is a text"),
    ("[" * 200_000, 0, "nested too deeply"),
    ('{"game": "hex", "options": {"size": 1000000000}, "moves": []}', 0, "size must be 3 to 19, got 1000000000"),
    (f'{{"game": "go", "options": {{"komi": {"9" * 400}}}, "moves": []}}', 0, "komi is too large a number"),
    ('{"game": "no such.py:make", "moves": []}', 0, "no such.py: no such file"),
    (f'{{"game": "{"x" * 9999}.py:make", "moves": []}}', 0, "no such file"),
    ('{"game": "hex\x1b[2J", "moves": []}', 0, "no JSON: "),
    ('{"game": "hex\\u001b[2J\\ud800.py:f", "moves": []}', 0, "hex\ufffd[2J\ufffd.py: no such file"),
    ('{"game": "hex", "moves": [], "outcomes": []}', 0, "outcomes are for games with chance"),
    ('{"game": "hex", "moves": [], "start": "x"}', 0, "hex: "),
    ('{"game": "tic_tac_toe", "moves": [4, 4]}', 2, "action 4 is not legal here"),
    ('{"game": "tic_tac_toe", "moves": [4, 99]}', 2, "action 99 is not legal here"),
    ('{"game": "tic_tac_toe", "moves": [0, 3, 1, 4, 2, 5]}', 6, "action 5 is after the end of the game"),
    ('{"game": "tic_tac_toe", "moves": [0, 3, 1, 4, 2], "result": [-1, 1]}', 5, "its moves lead to (1.0, -1.0)"),
    ('{"game": "treasure", "moves": []}', 0, "games of treasure do not all begin alike"),
    ('{"game": "ur", "moves": []}', 0, "outcomes are for games with chance, and needed there"),
    ('{"game": "ur", "moves": [], "outcomes": []}', 0, "games of ur do not all begin alike"),
    (f'{{"game": "ur", "moves": [0], "outcomes": [], {UR}}}', 0, "an outcome for each move"),
    (f'{{"game": "ur", "moves": [0, 0], "outcomes": [3, 5], {UR}}}', 2, "or its outcome 5 is impossible"),
    (f'{{"game": "ur", "moves": [0], "outcomes": [-1], {UR}}}', 1, "or its outcome -1 is impossible"),
    (f'{{"game": "ur", "moves": [0, 0], "outcomes": [0, 1], {UR}}}', 2, "action 0 is not legal here"),  # must pass
], ids=lambda value: str(value)[:30])  # fmt: skip
def test_problems_name_line_and_move_and_the_rest_is_read(tmp_path, line, move, message):
    good = '{"game": "hex", "moves": [3]}'
    games, problems = read(tmp_path, f"{good}\n{line}\n\n{good}\n")
    assert [game.moves for game in games] == [[3], [3]]
    assert [(problem.line, problem.move) for problem in problems] == [(2, move)]
    assert message in problems[0].message


def test_that_are_no_utf8(tmp_path):
    good = b'{"game": "hex", "moves": [3], "headers": {"player_1": "%s"}}\n'
    (tmp_path / "games.jsonl").write_bytes(good % "Żółw".encode() + good % b"\xff" + good % b"\\ud800")
    games, problems = records.read(tmp_path / "games.jsonl")
    assert [game.headers["player_1"] for game in games] == ["Żółw", "\ud800"]
    assert [str(problem).rpartition("games")[2] for problem in problems] == [".jsonl:2: no UTF-8 text"]
    records.write(tmp_path / "games.jsonl", games)
    assert records.read(tmp_path / "games.jsonl") == (games, [])


@pytest.mark.parametrize("source", [
    "raise KeyError('x')", "import sys; sys.exit()", "x = ", "def make(): return 3",
    "from envs.tic_tac_toe import TicTacToe\ndef make():\n    class Own(TicTacToe):\n        "
    "def step(self, state, action): return state.broken\n    return Own()",
])  # fmt: skip
def test_of_a_broken_game_of_ones_own(tmp_path, source):
    (tmp_path / "own.py").write_text(source)
    good = '{"game": "tic_tac_toe", "moves": [4]}'
    games, problems = read(tmp_path, f'{good}\n{{"game": "{tmp_path}/own.py:make", "moves": [3]}}\n{good}\n')
    assert [game.moves for game in games] == [[4], [4]]
    assert [problem.line for problem in problems] == [2]
    assert "own.py" in problems[0].message


ENDS = {  # the last position, who has won in it
    "tic_tac_toe": ("XXX OO. ...", (1, -1)),
    "connect_four": ("....... ....... O...... OX..... OX..... OX....X", (-1, 1)),
    "gomoku": ("XXXXX " + "OOOO. " + "..... " * 3, (1, -1)),
    "othello": ("OOOOOO OOOOOO XOOOOO XOOOOO XXXXOO XXXXXO X a2", (-1, 1)),
    "breakthrough": ("BW .. B. WW B a3b4", (1, -1)),
    "hex": ("OXX OXO XXO O b2", (1, -1)),
    "ur": ("*...  *.  X: 0 waiting, 1 home ...*.... *...  *O  O: 0 waiting, 0 home O lost at ply 17", (1, -1)),
    "backgammon": ("0:\n1: 2:2 1:5\n0 over ply 205", (1 / 3, -1 / 3)),
    "chess": ("k7/1Q6/1K6/8/8/8/8/8 b - - 0 40", (1, -1)),  # mate
    "go": (".....\n" * 4 + "....X\nX to move, ply 4, last pass, ko -, over", (1, -1)),
}
OPTIONS = {"gomoku": {"size": 5}, "othello": {"size": 6}, "breakthrough": {"rows": 4, "columns": 2}, "hex": {"size": 3}}
OPTIONS |= {"ur": {"pieces": 1}, "go": {"size": 5}}


@pytest.mark.parametrize("game", list(ENDS))
def test_a_position_that_is_over_has_its_result(game):
    text, rewards = ENDS[game]
    state = envs.make(game, **OPTIONS.get(game, {})).from_text(text)
    assert bool(state.terminated)
    np.testing.assert_allclose(state.rewards, np.float32(rewards))


def test_that_begin_at_the_end(tmp_path):
    drawn, mate = "4k3/8/8/8/8/8/8/4K3 w - - 0 1", ENDS["chess"][0]
    lines = [{"game": "chess", "moves": [], "start": start} for start in (drawn, mate)]
    lines += [lines[1] | {"result": [1, -1]}, lines[1] | {"result": [0, 0]}]
    games, problems = read(tmp_path, "\n".join(map(json.dumps, lines)))
    assert [game.result for game in games] == [(0, 0), (1, -1), (1, -1)]
    assert ["its moves lead to (1.0, -1.0)" in problem.message for problem in problems] == [True]
