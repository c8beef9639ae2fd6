"""Records of every format: what is written is read again, hostile files cost little time, refusals write nothing."""

import random
import time

import numpy as np
import pytest

from gauntlet import records as gauntlet_records
from jaxzero import records
from jaxzero.records import Game
from jaxzero.records import game as game_lib


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match=r"unknown format '\.xyz' of game records; known: \.trmph, \.sgf"):
        records.write(tmp_path / "games.xyz", [])
    path = tmp_path / "games.trmph"
    path.write_text("kept")
    with pytest.raises(ValueError, match="TRMPH records hold Hex, not connect_four"):
        records.write(path, [Game("connect_four", {}, [3])])
    with pytest.raises(ValueError, match="9 is no action of hex"):
        records.write(path, [Game("hex", {"size": 3, "swap": False}, [9])])
    with pytest.raises(ValueError, match=r"SGF records have no word for the move_cap of a game; choose \.jsonl"):
        records.write(tmp_path / "games.sgf", [Game("go", {"size": 5, "move_cap": 9}, [3])])
    assert path.read_text() == "kept"


# Hostile files of any format

LONG = {  # begin, what is repeated, how often
    "open values": (".sgf", "(;C", "[", 200_000),
    "open values with names": (".sgf", "(;", "C[", 100_000),
    "open values in lines": (".sgf", "", "(;FF[\n", 40_000),
    "nodes": (".sgf", "(;GM[1]SZ[5]", ";\n", 200_000),
    "brackets": (".sgf", "", "(", 500_000),
    "trees": (".sgf", "", "(;", 200_000),
    "variations": (".sgf", "(;GM[1]SZ[5];B[aa]", "(;W[bb])", 100_000),
    "letters": (".sgf", "(;", "a", 500_000),
    "blank lines": (".sgf", "(;C[", "\n", 300_000),
    "blanks": (".sgf", "(;GM[1]", " ", 500_000),
    "character sets": (".sgf", "\xe9", "(;SZ[5]CA[gb%d])\n", 5_000),
    "digits": (".trmph", "#", "9", 500_000),
    "moves": (".trmph", "#3,", "a1", 200_000),
    "lists": (".jsonl", "", "[", 500_000),
    "numbers": (".jsonl", '{"game": "hex", "moves": [', "9", 500_000),
}


@pytest.mark.parametrize("case", list(LONG))
def test_time_is_linear_and_messages_are_short(tmp_path, case):
    """Each took minutes, or raised, while it was quadratic or recursive; now some tenths of a second."""
    suffix, begin, unit, count = LONG[case]
    path = tmp_path / f"games{suffix}"
    text = "".join(unit.replace("%d", str(i)) for i in range(count)) if "%d" in unit else unit * count
    path.write_bytes((begin + text).encode("latin-1"))
    began = time.process_time()
    _, problems = records.read(path)
    assert time.process_time() - began < 20
    assert all(len(problem.message) <= 240 for problem in problems)


def test_any_komi_is_replayed_by_one_program(tmp_path):
    """A program for each of them would take minutes to compile."""
    before = game_lib.follow._cache_size()  # pyright: ignore
    games = []
    for n in range(300):  # Black owns the board
        lead = np.sign(25 - (n / 8 - 9))
        games.append(Game("go", {"size": 5, "komi": n / 8 - 9}, [0, 25, 25], (lead, -lead)))
    for name in ("games.sgf", "games.jsonl"):
        records.write(tmp_path / name, games)
        found, problems = records.read(tmp_path / name)
        assert problems == []
        assert [(game.options, game.moves, game.result) for game in found] == [
            (game.options, game.moves, game.result) for game in games
        ]
    assert game_lib.follow._cache_size() <= before + 1  # pyright: ignore


@pytest.mark.parametrize("suffix", [".sgf", ".trmph", ".jsonl"])
def test_what_is_written_is_read_again(tmp_path, suffix):
    """Games with options, results and headers of every kind, in every format that holds them, others refused."""
    for seed in range(40):
        case = gauntlet_records.written(random.Random(seed), tmp_path / f"games{suffix}")
        assert case.fault == "", f"seed {seed}: {case}"
