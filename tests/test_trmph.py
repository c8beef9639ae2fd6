"""TRMPH: records of Hex. What is written is read again; a problem names its line and move, and the rest is read."""

import numpy as np
import pytest
from recorded import played

import envs
from jaxzero import records
from jaxzero.records import Game, Problem

WON = "#3,a1b1a2b2a3"  # the first player fills column a


def read(tmp_path, text: str) -> tuple[list[Game], list[Problem]]:
    path = tmp_path / "games.trmph"
    path.write_bytes(text.encode("latin-1"))
    return records.read(path)


def test_written_games_are_read_again(tmp_path):
    """More games than one chunk holds, two sizes in turns, swaps among them."""
    pairs = zip(played(3, 300), played(5, 300), strict=True)
    games = [game for pair in pairs for game in pair]
    assert any(9 in game.moves for game in games if game.options["size"] == 3)
    records.write(tmp_path / "games.trmph", games)
    assert records.read(tmp_path / "games.trmph") == (games, [])
    assert [path.name for path in tmp_path.iterdir()] == ["games.trmph"]


def test_replay_is_play(tmp_path):
    games = played(3, 20)
    for game, outcome in zip(games, records.replay(envs.make("hex", size=3), [g.moves for g in games]), strict=True):
        assert (outcome.played, outcome.over, outcome.result) == (len(game.moves), True, game.result)


@pytest.mark.parametrize(
    ("line", "moves", "result"),
    [
        (WON, [0, 1, 3, 4, 6], (1, -1)),
        (f"{WON} 1", [0, 1, 3, 4, 6], (1, -1)),
        (f"{WON} b", [0, 1, 3, 4, 6], (1, -1)),
        ("http://www.trmph.com/hex/board#3,a1b1", [0, 1], None),
        ("https://trmph.com/hex/board#3,a1b1 r", [0, 1], (-1, 1)),  # given up
        ("#3,b1swapc3 2", [1, 9, 8], (-1, 1)),
        ("#3", [], None),
        ("#11,k11a10", [120, 99], None),
        ("#19,s19swapq3", [360, 361, 54], None),
    ],
)
def test_dialects(tmp_path, line, moves, result):
    games, problems = read(tmp_path, f"; a comment\n\n{line}\r\n")
    assert problems == []
    assert [(game.moves, game.result) for game in games] == [(moves, result)]


@pytest.mark.parametrize(
    ("line", "move", "message"),
    [
        ("#3,a1a1", 2, "a1 is not legal here"),
        ("#3,swap", 1, "swap is not legal here"),
        ("#3,a1b1swap", 3, "swap is not legal here"),
        ("#3,b1swapa2", 3, "a2 is not legal here"),  # the mirrored stone stands there
        (f"{WON}c1", 6, "c1 is after the end"),
        (f"{WON} 2", 5, "gives the result (-1.0, 1.0), its moves lead to (1.0, -1.0)"),
        ("#3,a1b", 2, "truncated one: 'b'"),
        ("#3,a1b0", 2, "truncated one: 'b0'"),
        ("#3,a1swa", 2, "truncated one: 'swa'"),
        ("#3,a1d1", 2, "d1 is off the board of size 3"),
        ("#3,a1b4", 2, "b4 is off the board of size 3"),
        ("#3,a1 3", 0, "the winner is written 1, b, 2, r, not '3'"),
        ("#2,a1", 0, "size must be 3 to 19, got 2"),
        ("a1b2", 0, "no TRMPH record"),
        ("#3,a1 1 2", 0, "no TRMPH record"),
        ("#3,a1\xff", 2, "truncated"),
        ("#3,a1b1c1a2b2c2a3b3c3swapa1a1a1", 8, "after the end"),  # longer than any game
    ],
)
def test_problems_name_line_and_move_and_the_rest_is_read(tmp_path, line, move, message):
    games, problems = read(tmp_path, f"#5,a1\n{line}\n{WON}\n")
    assert [len(game.moves) for game in games] == [1, 5]
    assert [(problem.line, problem.move) for problem in problems] == [(2, move)]
    assert message in problems[0].message
    place = f"games.trmph:2, move {move}: " if move else "games.trmph:2: "
    assert place in str(problems[0])


def test_a_file_cut_anywhere_gives_whole_games_and_at_most_one_problem(tmp_path):
    games = played(5, 6)
    records.write(tmp_path / "games.trmph", games)
    text = (tmp_path / "games.trmph").read_text()
    for cut in np.random.default_rng(0).integers(0, len(text), 12):
        lines = text[:cut].count("\n")
        found, problems = read(tmp_path, text[:cut])
        assert found[:lines] == games[:lines]
        assert all(problem.line == lines + 1 for problem in problems)
        assert len(found) + len(problems) - lines in (0, 1)


def test_hex_with_and_without_the_swap_rule(tmp_path):
    with_swap, without = Game("hex", {"size": 3, "swap": True}, [1, 9]), Game("hex", {"size": 3, "swap": False}, [1, 3])
    games = [with_swap, without, Game("hex", {"size": 3, "swap": False}, [], (1, -1))]
    records.write(tmp_path / "games.trmph", games)
    assert (tmp_path / "games.trmph").read_text() == "#3,b1swap\n#3,b1a2 ; swap = false\n#3, 1 ; swap = false\n"
    assert records.read(tmp_path / "games.trmph") == (games, [])
    games, problems = read(tmp_path, "#3,b1swap ; swap = false\n#3,b1swap\n")
    assert games == [with_swap]
    assert [str(problem).rpartition(":")[2] for problem in problems] == [" swap is not legal here"]
