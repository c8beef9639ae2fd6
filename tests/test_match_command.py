"""The commands match and evaluate: the match log, records, and refusals before anything is played."""

import csv
import json
import os
import threading
from pathlib import Path

import chess.pgn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Run
from fabricated import scored_run
from plain_rules import TIC_TAC_TOE

import envs
from jaxzero import records
from jaxzero.config.schema import GameConfig
from jaxzero.evaluation import arena, match_log, matches
from jaxzero.evaluation.base import Contestant
from jaxzero.evaluation.matches import MatchResult
from jaxzero.evaluation.players import random_player

GAME = GameConfig("tic_tac_toe")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_run(tmp_path_factory.mktemp("runs") / "tiny")


def test_match_command(run: Run, tmp_path: Path, tiny: Path):
    tokens = ["match", "greedy", "random", "--game", "tic_tac_toe", "--games", "40", "--record", "games.jsonl"]
    status, text, error = run(*tokens)
    assert (status, error) == (0, "")
    assert text.startswith("greedy against random, 40 games of tic_tac_toe: ")
    facts = json.loads((tmp_path / "arena" / "last_arena.json").read_text())
    assert facts["wins"] + facts["draws"] + facts["losses"] == facts["games"] == sum(facts["pairs"]) * 2 == 40
    assert facts["score"] > 0.6
    rows = list(csv.DictReader((tmp_path / "arena" / "arena.csv").open()))
    assert [row["wins"] for row in rows] == [str(facts["wins"])]

    games, problems = records.read(tmp_path / "games.jsonl")
    assert not problems
    outcomes = [game.result[list(game.headers.values()).index("greedy")] for game in games if game.result]
    assert [outcomes.count(sign) for sign in (1, 0, -1)] == [facts["wins"], facts["draws"], facts["losses"]]
    replayed = records.replay(TIC_TAC_TOE, [game.moves for game in games])
    assert [found.result for found in replayed] == [game.result for game in games]

    assert run(*tokens)[2].startswith("error: record: games.jsonl exists; ")
    assert run(*tokens, "--overwrite", "--seed", "1")[0] == 0
    rows = list(csv.DictReader((tmp_path / "arena" / "arena.csv").open()))
    assert [row["seed"] for row in rows] == ["0", "1"]
    # The same seed gives the same games, whoever else has played.
    assert run(*tokens, "--overwrite")[0] == 0
    assert records.read(tmp_path / "games.jsonl") == (games, [])


@pytest.mark.parametrize(("tokens", "message"), [
    (["random", "random"], "game: neither 'random' nor 'random' is a run whose game it could be; give --game"),
    (["random", "rand", "--game", "hex"], "B: 'rand': no such player, and no run of that name; did you mean 'random'?"),
    (["random", "random", "--game", "hx"], "game: unknown game 'hx'; did you mean 'hex'?"),
    (["random", "random", "--game", "hex", "--games", "7"], "games: must be even, as each opening is played from both"),
    (["random", "random", "--game", "hex", "--record", "x.pgn"], "record: x.pgn: games of hex are written as .trmph"),
    (["random", "random", "--game", "go", "--options.move_cap", "9", "--record", "x.sgf"], "record: x.sgf: SGF"),
    (["random", "random", "--game", "hex", "--sprt", "--elo1", "-3"], "elo0, elo1: must be finite and elo0 below elo1"),
])  # fmt: skip
def test_match_errors(run: Run, tokens: list[str], message: str):
    status, text, error = run("match", *tokens)
    assert (status, text) == (2, "")
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_a_foreign_book_is_left_alone(run: Run, tmp_path: Path):
    (tmp_path / "arena.csv").write_text("a,b\n1,2\n")
    status, _, error = run("match", "random", "random", "--game", "hex", "--out", ".")
    assert status == 2
    assert error.startswith("error: arena.csv: has other columns")


def in_the_way(path: Path, kind: str) -> None:
    path.mkdir() if kind == "folder" else os.mkfifo(path)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
@pytest.mark.parametrize("name", ["arena/arena.csv", "arena/last_arena.json", "games.jsonl"])
def test_what_cannot_be_written_is_refused_before_the_match(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
):
    (tmp_path / "arena").mkdir()
    in_the_way(tmp_path / name, kind)
    monkeypatch.setattr(arena, "play", None)
    tokens = "match", "random", "random", "--game", "tic_tac_toe", "--record", "games.jsonl", "--overwrite"
    status, text, error = run(*tokens)
    assert (status, text, error.count("\n")) == (2, "", 1)
    assert f"{name}: is not a file; move it aside" in error
    assert not [path.name for path in tmp_path.rglob(f".*.{os.getpid()}")], "no drafts are left"


FACTS = arena.report(
    GameConfig(), Contestant("a,b", random_player(TIC_TAC_TOE)), Contestant("x", random_player(TIC_TAC_TOE)),
    arena.Match(2), MatchResult(np.zeros((2, 1), np.int8), np.full((2, 1), 9)), 1.0,
)  # fmt: skip


def test_matches_that_end_at_once_are_all_entered(tmp_path: Path):
    """As by several processes: a lock of each file handle holds off threads too."""
    threads = [
        threading.Thread(target=lambda n=n: [match_log.append(tmp_path, FACTS | {"seed": n}) for _ in range(20)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with (tmp_path / "arena.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["seed"] for row in rows) == sorted("0123" * 20)
    assert {row["a"] for row in rows} == {"a,b"}


def test_a_torn_book_is_told_and_nothing_of_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    own = FACTS | {"a": f"{tmp_path.name}@7:0"}
    match_log.append(tmp_path, FACTS)
    match_log.append(tmp_path, own)
    odd = b'\xff,\0,"\n' + b"9" * 200_000 + b"\n\n2026,to"
    with (tmp_path / "arena.csv").open("ab") as file:
        file.write(odd)
    with caplog.at_level("WARNING", "jaxzero"):
        match_log.append(tmp_path, FACTS | {"seed": 1})
    assert "its last line is torn" in caplog.text
    before = (tmp_path / "arena.csv").read_bytes().splitlines(keepends=True)
    assert odd + b"\n" in b"".join(before)
    match_log.cut_back(tmp_path, 7)
    assert (tmp_path / "arena.csv").read_bytes() == b"".join(before)
    match_log.cut_back(tmp_path, 6)
    assert (tmp_path / "arena.csv").read_bytes() == b"".join([*before[:2], *before[3:]])


def test_records_of_every_format(tmp_path: Path):
    """A given game in both seats; the files are read back by the parsers, chess by python-chess too."""
    for game, moves, suffix in (
        (GameConfig("hex", options={"size": 3}), [0, 1, 3, 2, 6], ".trmph"),
        (GameConfig("hex", options={"size": 3, "swap": False}), [0, 1, 3, 2, 6], ".trmph"),
        (GameConfig("go", options={"size": 5}), [12, 25, 25], ".sgf"),
    ):
        padded = np.full((2, 1, 20), -1, np.int16)
        padded[..., : len(moves)] = moves
        outcomes = np.array([[1], [-1]], np.int8)  # player 0 wins both
        match_log.check_record(tmp_path / f"x{suffix}", game, overwrite=True)
        match_log.write_games(tmp_path / f"x{suffix}", game, "A", "B", MatchResult(outcomes, np.zeros((2, 1)), padded))
        found, problems = records.read(tmp_path / f"x{suffix}")
        assert not problems
        assert [(game.moves, game.result) for game in found] == [(moves, (1.0, -1.0))] * 2
    assert [(game.headers["PB"], game.headers["PW"]) for game in found] == [("A", "B"), ("B", "A")]


@pytest.mark.parametrize(
    ("game", "options"), [("ur", {"pieces": "1"}), ("2048", {"max_plies": "12"}), ("treasure", {})]
)
def test_records_of_chance(run: Run, tmp_path: Path, game: str, options: dict[str, str]):
    """Dice, tiles and drawn beginnings are in the record: replayed through the rules it ends as the match did."""
    given = [word for name, value in options.items() for word in (f"--options.{name}", value)]
    status, _, error = run("match", "random", "greedy", "--game", game, *given, "--games", "6", "--record", "g.jsonl")
    assert (status, error) == (0, "")
    facts = json.loads((tmp_path / "arena" / "last_arena.json").read_text())
    games, problems = records.read(tmp_path / "g.jsonl")
    assert problems == []
    assert len(games) == facts["games"] == 6
    assert np.mean([len(game.moves) for game in games]) == facts["mean_length"]
    assert [next(iter(one.headers.values())) for one in games[:2]] == ["random", "greedy"]
    assert all(one.start == other.start for one, other in zip(games[::2], games[1::2], strict=True))
    assert len({one.start for one in games}) > 1
    if games[0].env.num_players == 2:
        wins = [one.result[list(one.headers.values()).index("random")] for one in games if one.result]
    else:
        points = [one.result[0] for one in games if one.result]
        wins = np.sign(np.subtract(points[::2], points[1::2])).repeat(2).tolist()
    assert [wins.count(sign) for sign in (1, 0, -1)] == [facts["wins"], facts["draws"], facts["losses"]]
    lines = (tmp_path / "g.jsonl").read_text().splitlines()
    if games[0].env.num_outcomes:
        other = json.loads(lines[0])
        other["outcomes"] = other["outcomes"][1:] + other["outcomes"][:1]
        (tmp_path / "g.jsonl").write_text("\n".join([json.dumps(other), *lines[1:]]))
        assert [problem.line for problem in records.read(tmp_path / "g.jsonl")[1]] == [1]


def test_pgn_of_a_match(tmp_path: Path):
    env = envs.make("chess")
    state, actions = env.init(jax.random.key(0)), []
    step = jax.jit(env.step)
    for move in ("f2f3", "e7e5", "g2g4", "d8h4"):
        names = {env.action_to_str(state, a): a for a in range(env.num_actions)}
        actions.append(names[move])
        state = step(state, jnp.int32(actions[-1]))
    padded = np.full((2, 1, 8), -1, np.int16)
    padded[..., :4] = actions
    result = MatchResult(np.array([[-1], [1]], np.int8), np.full((2, 1), 4), padded)
    match_log.write_games(tmp_path / "x.pgn", GameConfig("chess"), "A", "B", result)
    with open(tmp_path / "x.pgn") as file:
        first, second = chess.pgn.read_game(file), chess.pgn.read_game(file)
    assert first is not None
    assert second is not None
    assert [(g.headers["White"], g.headers["Black"], g.headers["Result"]) for g in (first, second)] == [
        ("A", "B", "0-1"), ("B", "A", "0-1"),
    ]  # fmt: skip
    assert first.end().board().is_checkmate()


def test_evaluate_command(run: Run, tiny: Path):
    status, text, error = run("evaluate", str(tiny), "--games", "8", "--iteration", "best", "--simulations", "0")
    assert (status, error) == (0, "")
    assert [line.split(", ")[0] for line in text.splitlines()[::3]] == [
        "tiny@3:0 against random", "tiny@3:0 against greedy",
    ]  # fmt: skip
    (file,) = (tiny / "evaluations" / "iteration_3").iterdir()
    content = json.loads(file.read_text())
    assert content["iteration"] == 3
    assert {name: facts["games"] for name, facts in content["results"].items()} == {"random": 8, "greedy": 8}
    assert run("evaluate", str(tiny), "--iteration", "last")[2] == (
        "error: iteration: 'last' is not latest, best or a number\n"
    )


@pytest.mark.parametrize("command", ["evaluate", "rate"])
def test_nothing_is_played_where_nothing_can_be_written(
    run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch, command: str
):
    def refuse(**_: object):
        raise PermissionError("Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    monkeypatch.setattr(matches, "play", None)
    monkeypatch.setattr(arena, "play", None)
    status, text, error = run(command, str(tiny), "--games", "2")
    assert (status, text, error.count("\n")) == (2, "", 1)
    assert "cannot write there (Permission denied)" in error
