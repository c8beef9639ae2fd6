"""Play at the terminal, through pipes: scripts of moves and commands, what is said, what is saved."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import chess
import fabricated
import numpy as np
import pytest

import envs
from jaxzero import records
from jaxzero.networks import MuZeroMlpConfig
from jaxzero.play import terminal

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    fabricated.run_folder(folder)
    return folder


@pytest.fixture
def talk(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`jaxzero play` with these words and lines -> what it says."""

    def call(*words: str, lines: str) -> str:
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        status, text, error = run("play", *words)
        assert (status, error) == (0, "")
        return text

    return call


def boards(text: str) -> list[str]:
    """The tic-tac-toe boards shown, as in `to_text`."""
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("3  ")]
    return ["".join(line[3:].replace(" ", "") for line in lines[i : i + 3]) for i in starts]


def test_a_game_with_every_command(talk, folder: Path, tmp_path: Path):
    script = "z9\na1\nhint\nmoves\nundo\nundo\nB2\nboard\nresign\na1\nundo\nresign\nsave g.jsonl\nsave g.jsonl\n"
    text = talk(f"{folder}:4", lines=script + "save g.pgn\nsave\nhelp\nnew\nsides\nquit\na1\n")
    lines = text.splitlines()
    assert lines[0] == f"tic_tac_toe against {folder}:4 (iteration 40, 4 simulations). You move first, as X."
    assert lines[1].startswith("A move, or hint, undo, moves")
    assert "strength  SIMULATIONS: how many" in text
    wrong = next(line for line in lines if "z9' is not a legal move" in line)
    assert "legal: a3, b3" in wrong
    assert "commands: hint" in wrong
    start, mine, answered = boards(text)[:3]
    assert start == "." * 9
    assert mine == "......X.."
    assert answered.replace("O", ".") == mine
    assert answered.count("O") == 1
    hint = lines[next(i for i, line in enumerate(lines) if "visits" in line) :]
    assert hint[0].split() == ["move", "visits", "prior", "value"]
    assert sum(int(line.split()[1]) for line in hint[1:] if line[0] in "abc" and "%" in line) == 4
    legal = next(line for line in lines if len(line.split()) == 7 and set(line) <= set("abc123 "))
    assert "a1" not in legal
    assert "There is nothing to take back." in lines
    assert boards(text)[3] == start
    assert lines.count(f"Game over after 2 plies: {folder}:4 wins. undo, new, save FILE or quit.") == 2
    assert any("after the end of the game" in line for line in lines)
    assert "saved in g.jsonl" in lines
    assert "g.jsonl exists; choose another name." in lines
    assert any(line.startswith("not saved: PGN records hold chess") for line in lines)
    assert "save FILE, a name that ends in .jsonl" in lines
    assert [line for line in lines if line.startswith("You move")] == [
        "You move second, as O.",
        "You move first, as X.",
    ]
    assert lines[-1] == "move 3> quit"
    ((game,), problems) = records.read(tmp_path / "g.jsonl")
    assert problems == []
    assert (game.moves[0], len(game.moves), game.result) == (4, 2, (-1.0, 1.0))
    assert game.headers == {"player_1": "you", "player_2": f"{folder}:4"}


def test_another_strength(talk, folder: Path):
    script = "strength\nstrength -1\nstrength 6\nhint\nstrength 0\nhint\na1\nresign\nsave g.jsonl\n"
    text = talk(f"{folder}@40:4", lines=script)
    assert text.count("strength: SIMULATIONS must be a whole number from 0 to 32766, got ") == 2
    assert f"{folder}@40:6 (iteration 40, 6 simulations)" in text
    assert sum(int(visits) for visits in re.findall(r"^[abc]\d +(\d+) .*%", text, re.MULTILINE)) == 6
    assert f"{folder}@40:0 (iteration 40, raw policy)" in text
    assert f"{folder}@40:0 would play" in text
    assert "random has no simulations to change." in talk("random", "--game", "tic_tac_toe", lines="strength 6\n")


def test_the_end_of_the_input_and_of_its_terminal(talk, run: Run, monkeypatch: pytest.MonkeyPatch):
    words = "random", "--game", "tic_tac_toe"
    assert talk(*words, lines="b2\n").splitlines()[-1] == "end of input"

    def gone(*_: object) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("builtins.input", gone)
    status, text, error = run("play", *words)
    assert (status, text.splitlines()[-1], error) == (0, "end of input", "")


def test_an_interrupted_game(run: Run, monkeypatch: pytest.MonkeyPatch):
    """Also while the other side thinks; in a process of its own nothing is waited for, see `interrupts`."""

    def think(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(terminal.Conversation, "think", think)
    status, text, error = run("play", "random", "--game", "tic_tac_toe", "--side", "second")
    assert (status, error) == (130, "interrupted\n")
    assert boards(text) == ["." * 9]


def test_second_player_and_raw_policy(talk, folder: Path):
    text = talk(f"{folder}@40:0", "--side", "second", lines="undo\nhint\n")
    assert boards(text)[1].count("X") == 1
    assert "There is nothing to take back." in text
    assert "visits" not in text
    assert "(iteration 40, raw policy). You move second, as O." in text


def test_a_network_that_models_the_game(talk, tmp_path: Path):
    network = MuZeroMlpConfig(hidden_dim=8, latent_dim=4)
    fabricated.run_folder(tmp_path / "mine", network=network)
    text = talk("mine:3", lines="hint\nb2\n")
    hint = [line.split() for line in text.splitlines() if re.match(r"[abc]\d .*%", line)]
    assert sum(int(words[1]) for words in hint) == 3
    assert sorted(boards(text)[2].replace(".", "")) == ["O", "X"]


def test_a_game_of_ones_own(talk, tmp_path: Path):
    (tmp_path / "own.py").write_text("from envs.tic_tac_toe import TicTacToe as make\n")
    talk("random", "--game", "own.py:make", lines="b2\nsave g.jsonl\n")
    ((game,), problems) = records.read(tmp_path / "g.jsonl")
    assert (problems, game.moves[0], len(game.moves)) == ([], 4, 2)
    assert game.game.endswith("own.py:make")


def test_dice_and_any_player(talk, tmp_path: Path):
    """Ur to its end against random moves; the record holds every roll and replays."""
    text = talk("random", "--game", "ur", "--seed", "3", lines="hint\n" + "go\n" * 500 + "save g.jsonl\n")
    assert "random gives no hints." in text
    assert "X: 7 waiting, 0 home" in text
    assert " rolled " in text
    assert "Game over after" in text
    ((game,), problems) = records.read(tmp_path / "g.jsonl")
    assert problems == []
    assert sum(game.result or (9,)) == 0
    assert f"Game over after {len(game.moves)} plies" in text


def test_backgammon(talk):
    text = talk("random", "--game", "backgammon", "--seed", "1", lines="moves\n6/5/4\n24/18\n")
    legal = next(line for line in text.splitlines() if line.startswith("6/5 "))
    assert f"'6/5/4' is not a legal move here; legal: {legal.replace(' ', ', ')}; commands" in text
    assert "you: 24/18" in text


def test_chess_in_the_notation_of_people(talk):
    text = talk("random", "--game", "chess", lines="moves\nNd5\nNx\nNf3\ne2e4\n")
    legal = next(line for line in text.splitlines() if len(line.split()) == 20)
    assert sorted(legal.split()) == sorted(map(chess.Board().san, chess.Board().legal_moves))
    assert "Nd5 is not legal here; commands: " in text
    assert "'Nx' is no move such as e4, Nbd7, exd8=Q, O-O; commands: " in text
    assert "you: Nf3" in text
    assert "you: e4" in text


def test_chess_moves_as_python_chess_reads_them():
    """En passant, a promotion to a knight, castling, one of two knights; by squares too."""
    table, board = terminal.Table(envs.make("chess"), 0), chess.Board()
    words = "e4 e6 e5 d5 exd6 Nf6 dxc7 Nc6 cxd8=N Nxd8 Nf3 Bd7 Be2 Rc8 O-O Be7 d4 O-O Nbd2 a6"
    for word in words.split():
        assert table.name(table.read(word)) == word
        assert table.read(board.parse_san(word).uci()) == table.read(word)
        table.play(table.read(word))
        board.push_san(word)
        assert sorted(table.name(action) for action in table.legal) == sorted(
            board.san(move).rstrip("+#") for move in board.legal_moves
        )


def test_one_player(talk):
    text = talk("random", "--game", "2048", lines="up\ndown\nleft\nright\nresign\n")
    assert "You play alone." in text
    assert "points. undo, new" in text


def test_a_move_taken_back_meets_the_same_dice():
    env = envs.make("2048")
    table = terminal.Table(env, 5)
    for _ in range(3):
        table.play(table.legal[0])
    before = env.to_text(table.state)
    action = table.turns[-1].action
    table.undo()
    assert env.to_text(table.state) != before
    table.play(action)
    assert env.to_text(table.state) == before
    assert len(np.unique([turn.outcome for turn in table.turns])) > 1


def test_wrong_words(run: Run, folder: Path):
    for words, message in (
        (("minimax:2",), "--game: which game shall minimax:2 play?"),
        (("minimax:2", "--game", "tictac"), "did you mean 'tic_tac_toe'"),
        (("nobody", "--options.size", "3"), "options: belong to --game"),
        (("nobody",), "no such player, and no run of that name"),
        ((str(folder), "--game", "hex"), "the run plays TicTacToe(), not Hex(size=11, swap=True)"),
        (("random", "--game", "2048", "--side", "second"), "--side: 2048 has one player"),
        ((f"{folder}@7",), "7"),
        ((f"{folder}:many",), "SIMULATIONS must be a whole number"),
    ):
        status, _, error = run("play", *words)
        assert (status, error.count("\n")) == (2, 1)
        assert message in error
