"""Matches of any two players: rounds, stopping, books, records; the host's loop against the device's."""

import csv
import io
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
from test_evaluation import TIC_TAC_TOE, Countdown, in_order

import envs
from jaxzero import records
from jaxzero.config import settings
from jaxzero.config.schema import GameConfig
from jaxzero.evaluation import arena, books, host, matches
from jaxzero.evaluation.base import Contestant
from jaxzero.evaluation.matches import MatchResult
from jaxzero.evaluation.players import make_player, policy_player, random_player
from jaxzero.evaluation.sprt import Sprt
from jaxzero.messages import ConfigError
from jaxzero.runs import folder as folder_lib
from jaxzero.runs.checkpoint import Checkpointer
from jaxzero.runs.progress import Watch
from jaxzero.training import iteration

GAME = GameConfig("tic_tac_toe")
TINY = """
name = "tiny"
devices = 1
network = {kind = "mlp", sizes = [8]}
search = {simulations = 2, max_considered = 2}
selfplay = {games = 8, plies = 8}
replay = {capacity = 256, window = 64}
learner = {batch = 16}
evaluation = {games = 2, opponents = ["random", "greedy"], simulations = 2, opening_plies = 3}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two checkpoints of random networks; that of step 3 has the better score."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    (folder / "config.toml").write_text(TINY)
    config = settings.load(folder / "config.toml")
    abstract = iteration.learner_part(iteration.make(config, TIC_TAC_TOE).abstract)
    rng = np.random.default_rng(0)
    with Checkpointer(folder / "checkpoints") as checkpoints:
        for step, score in ((3, 0.9), (7, 0.4)):
            draw = lambda x: rng.normal(0, 1, x.shape).astype(x.dtype)  # noqa: E731
            checkpoints.save(step, jax.tree.map(draw, abstract), {}, {}, score)
    return folder


# Players that are runs


def test_a_run_plays_as_its_network_does(tiny: Path):
    states = jax.vmap(TIC_TAC_TOE.init)(jax.random.split(jax.random.key(0), 2))
    keys = jax.random.split(jax.random.key(1), 2)
    for spec, step in (("", 7), ("@latest", 7), ("@best", 3), ("@3", 3)):
        contestant = make_player(f"{tiny}{spec}:0", TIC_TAC_TOE)
        loaded = folder_lib.load(tiny, step)
        jax.tree.map(np.testing.assert_array_equal, contestant.params, loaded.params)
        expected = policy_player(TIC_TAC_TOE, loaded.network.infer)(loaded.params, keys, states)
        np.testing.assert_array_equal(contestant.player(contestant.params, keys, states), expected)  # pyright: ignore


def test_runs_that_cannot_play(tiny: Path):
    for spec, game, message in (
        (f"{tiny}@5", "tic_tac_toe", "no checkpoint of step 5; there are: 3, 7"),
        (f"{tiny}@bset", "tic_tac_toe", "STEP must be a whole number from 0 to 1000000000, got 'bset'"),
        (f"{tiny}:many", "tic_tac_toe", "SIMULATIONS must be a whole number from 0 to 32766, got 'many'"),
        (f"{tiny}", "connect_four", r"the run plays TicTacToe\(\), not ConnectFour\(\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_player(spec, envs.make(game))


# The two loops


@pytest.mark.parametrize("lanes", [2, 6])
def test_both_loops_play_the_same_games(monkeypatch: pytest.MonkeyPatch, lanes: int):
    """Extra turns, draws, dice and random openings; players that depend on their keys; games that wait for a lane."""
    monkeypatch.setitem(matches.LANES, jax.default_backend(), lanes)
    for env in (Countdown(), TIC_TAC_TOE, envs.make("ur", pieces=1)):
        a, b = random_player(env), in_order(env, np.arange(env.num_actions))
        device = matches.play(env, a, b, 12, 3)(None, None, jax.random.key(5))
        outside = host.play(env, Contestant("a", a), Contestant("b", b), 12, 3)(jax.random.key(5))
        jax.tree.map(np.testing.assert_array_equal, device, outside)


def test_moves_are_those_played():
    """Replayed through the rules they give the outcomes, from the opening on."""
    a = random_player(TIC_TAC_TOE)
    result = jax.device_get(matches.play(TIC_TAC_TOE, a, a, 40, 4)(None, None, jax.random.key(0)))
    np.testing.assert_array_equal((result.moves >= 0).sum(-1), result.plies)
    for seat in (0, 1):
        games = [row[row >= 0].tolist() for row in result.moves[seat]]
        for played, replayed, outcome in zip(
            games, records.replay(TIC_TAC_TOE, games), result.outcomes[seat], strict=True
        ):
            assert (replayed.played, replayed.over) == (len(played), True)
            assert replayed.result[seat] == outcome
    assert (result.moves[0, :, 0] == result.moves[1, :, 0]).mean() > 0.7  # openings are shared, most are not empty


# Rounds


def test_rounds_and_their_stop(monkeypatch: pytest.MonkeyPatch):
    """Rounds of equal size, cut to what was asked; a verdict ends them."""
    asked = []

    def rounds(env, a, b, games, opening_plies, watch):
        asked.append(games)
        ones = MatchResult(np.ones((2, games // 2), np.int8), np.ones((2, games // 2)), np.zeros((2, games // 2, 9)))
        return lambda key: ones

    monkeypatch.setattr(arena, "player_of_rounds", rounds)
    nobody = Contestant("nobody", lambda *args: jnp.zeros(0))
    play = lambda **options: arena.play(TIC_TAC_TOE, nobody, nobody, arena.Match(**options)).outcomes.size  # noqa: E731
    assert (play(games=100), asked) == (100, [100])
    assert (play(games=100, at_once=30), asked[1:]) == (100, [26])
    test = Sprt(0, 20)
    won = play(games=1000, at_once=50, sprt=test) // 2
    assert [test.verdict(np.array([0, 0, 0, 0, pairs])) for pairs in (won - 25, won)] == ["", "H1"]
    for wrong in ({"games": 3}, {"games": 0}, {"games": 2, "at_once": 1}, {"games": 2, "opening_plies": -1}):
        with pytest.raises(ConfigError, match=list(wrong)[-1]):
            play(**wrong)


def test_duplicates():
    moves = np.array([[[1, 2], [1, 2], [1, 3], [1, 2]], [[1, 2], [4, 2], [4, 2], [5, 0]]])
    assert arena.duplicates(moves) == 2 + 1


def test_watching_changes_nothing():
    """Told each turn how many games are over, by the device and by the host: at last all of them; the same games."""
    a, b = random_player(TIC_TAC_TOE), in_order(TIC_TAC_TOE, np.arange(9))
    plain = matches.play(TIC_TAC_TOE, a, b, 16, 3)(None, None, jax.random.key(5))
    for loop in ("device", "host"):
        told: list[tuple[int, ...]] = []
        watch = lambda *numbers, told=told: told.append(tuple(map(int, numbers)))  # noqa: E731
        if loop == "device":
            watched = matches.play(TIC_TAC_TOE, a, b, 16, 3, watch)(None, None, jax.random.key(5))
        else:
            watched = host.play(TIC_TAC_TOE, Contestant("a", a), Contestant("b", b), 16, 3, watch)(jax.random.key(5))
        jax.block_until_ready(watched)
        jax.effects_barrier()
        jax.tree.map(np.testing.assert_array_equal, plain, watched)
        last = {pair: (over, plies) for pair, over, plies in sorted(told)}
        assert sum(over for over, _ in last.values()) == 16
        assert max(plies for _, plies in last.values()) == np.max(plain.plies)
        assert len(told) > 2 * len(last)


def test_a_terminal_shows_how_far_a_match_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    one, other = (Contestant(name, random_player(TIC_TAC_TOE)) for name in ("one", "other"))
    for terminal in (True, False):
        stream = io.StringIO()
        stream.isatty = lambda terminal=terminal: terminal
        arena.play(TIC_TAC_TOE, one, other, arena.Match(32, at_once=16), Watch(stream))
        assert ("one against other" in stream.getvalue()) == terminal
        assert ("32/32" in stream.getvalue()) == terminal
        assert terminal or not stream.getvalue()


def test_devices_tell_at_once(monkeypatch: pytest.MonkeyPatch):
    """A device whose numbers come late does not take back what another has told meanwhile."""
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    stream.isatty = lambda: True
    watch = Watch(stream)
    assert watch.tell

    class Late:
        """A number that is there only once the other device has told its own."""

        def __int__(self) -> int:
            other = threading.Thread(target=watch.tell, args=(8, 16, 9))
            other.start()
            other.join()
            return 9

    with watch.match("one against other", 32):
        watch.tell(0, 16, Late())
    assert "32/32" in stream.getvalue()


# Books and records


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
        threading.Thread(target=lambda n=n: [books.enter(tmp_path, FACTS | {"seed": n}) for _ in range(20)])
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
    books.enter(tmp_path, FACTS)
    books.enter(tmp_path, own)
    odd = b'\xff,\0,"\n' + b"9" * 200_000 + b"\n\n2026,to"
    with (tmp_path / "arena.csv").open("ab") as file:
        file.write(odd)
    with caplog.at_level("WARNING", "jaxzero"):
        books.enter(tmp_path, FACTS | {"seed": 1})
    assert "its last line is torn" in caplog.text
    before = (tmp_path / "arena.csv").read_bytes().splitlines(keepends=True)
    assert odd + b"\n" in b"".join(before)
    books.cut_back(tmp_path, 7)
    assert (tmp_path / "arena.csv").read_bytes() == b"".join(before)
    books.cut_back(tmp_path, 6)
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
        books.check_record(tmp_path / f"x{suffix}", game, overwrite=True)
        books.write_games(tmp_path / f"x{suffix}", game, "A", "B", MatchResult(outcomes, np.zeros((2, 1)), padded))
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
    books.write_games(tmp_path / "x.pgn", GameConfig("chess"), "A", "B", result)
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
