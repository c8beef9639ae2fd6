"""PGN files written in odd ways, beside python-chess; what is written is read, in linear time."""

import dataclasses
import io
import random
import re
import time
import unicodedata

import chess
import chess.pgn
import numpy as np
import pytest
from pgn_games import E4, GOOD, RESULTS, STARTS, ours, parse, random_game

from jaxzero.records import pgn

PIECES = (  # of headers: whatever means something to a reader of PGN
    "a", '"', "\\", "[", "]", "{", "}", "(", ")", ";", "%", "*", " ", "\n", "\r", "\t", "\0", "\x85", "\u2028", "\xa0",
    "\ud800", "é", "漢", "😀", "\ufeff", "1-0", '"]', '\\"', '\\"]', "\n%", '\n\n[Event "x"]\n\n1. e4 *\n\n',
)  # fmt: skip
NAMES = ("Event", "Date", "Black", "Annotator", "White-Elo", "player_1", "KM", "SZ", "a+#=:-_", "9" * 255)


def printable(text: str) -> str:
    """A header as it can stand in one line of UTF-8."""
    control = "".join("\n" if unicodedata.category(sign) in ("Cc", "Zl", "Zp") else sign for sign in text)
    return re.sub("\n+", " ", "".join("\ufffd" if unicodedata.category(sign) == "Cs" else sign for sign in control))


def test_what_is_written_is_read():
    """Any headers, first positions and results, by us and by python-chess."""
    choices, generator, games = random.Random(0), np.random.default_rng(1), []
    for i in range(150):
        game = ours(random_game(list(STARTS.values())[i % len(STARTS)], i % 12, generator))
        names = choices.sample(NAMES, choices.randrange(5))
        headers = {name: "".join(choices.choices(PIECES, k=choices.randrange(8))) for name in names}
        games.append(dataclasses.replace(game, headers=headers))
    derived = {"FEN": "8/8 w", "SetUp": "1", "Result": "0-1", "Variant": "Atomic"}  # the game says all of this itself
    text = pgn.dump([dataclasses.replace(game, headers=derived | game.headers) for game in games])
    again, problems = parse("games.pgn", pgn.decode(text.encode()))
    assert problems == []
    assert again == [
        dataclasses.replace(game, headers={name: printable(value) for name, value in game.headers.items()})
        for game in games
    ]
    stream = io.StringIO(text)
    for game in again:
        theirs = chess.pgn.read_game(stream)
        assert theirs is not None
        assert theirs.errors == []
        assert (ours(theirs).moves, ours(theirs).result, ours(theirs).start) == (game.moves, game.result, game.start)
        found = {name: re.sub(r'\\(["\\])', r"\1", value) for name, value in theirs.headers.items()}
        assert game.headers.items() <= found.items()
    assert chess.pgn.read_game(stream) is None


def odd_move(choices: random.Random, board: chess.Board, move: chess.Move) -> str:
    """A move with its number and what may stand around it."""
    plain, n, white = board.san(move).rstrip("+#"), board.fullmove_number, board.turn
    forms = [board.san(move), plain, plain.replace("=", ""), board.lan(move), plain.replace("O", "0")]
    forms += [re.sub("=.", lambda promotion: promotion[0].lower(), plain)]
    forms += ["P" + plain] * (board.piece_type_at(move.from_square) == chess.PAWN)
    forms += [board.uci(move)] * (not board.is_castling(move))
    number = choices.choice(["", f"{n}.", f"{n}. ", f"{n} "] if white else ["", "", f"{n}...", f"{n}. ... ", f"{n}… "])
    behind = ["", "", "", "", "!", "?!", " $146", "+-", " -+", " ±", " +", " ch", "\n%{ ( [\n", " ; 1-0 {\n"]
    behind += [" e.p."] * 9 * board.is_en_passant(move)
    behind += ["{[%clk 0:01] a { (b}", '{\n \n1-0 [Event "x"] }', "{}"]
    other = board.san(choices.choice(list(board.legal_moves)))
    behind += [f" ({n}{'.' if white else '...'} {other} $3 ({other} {{)}}) )"]
    return number + choices.choice(forms) + choices.choice(behind)


def odd_file(choices: random.Random, game: chess.pgn.Game) -> str:
    """The game as no program of ours would write it, but python-chess reads it."""
    board, result = game.board(), game.headers["Result"]
    values = ["?", "a", 'The "Quoted" One', "[b] {c} (d) ; % e", "C:\\games", " ", "", "Würfel, 漢"]
    names = choices.sample(["Event", "Site", "White", "Black", "White-Elo", "ECO", "A:b"], choices.randrange(7))
    tags = [(name, choices.choice(values)) for name in names]
    said = choices.choice([result, result, "*", ""])
    tags += [("Result", said)] * (said != "")
    fen = board.fen()
    if fen != chess.STARTING_FEN or choices.random() < 0.2:
        short = [fen, fen.replace("KQkq", "QKqk"), fen.replace("KQkq", "HAha")]
        if fen.endswith(" 0 1"):
            short += [fen[:-4], fen[:-2], fen[:-1] + "0"]
        tags += [("FEN", choices.choice(short)), *choices.choice([[("SetUp", "1")], [("SetUp", "0")], []])]
        tags += choices.choice([[("Variant", name)] for name in ("Chess960", "From Position", "normal")] + [[]])
    choices.shuffle(tags)
    gap = choices.choice([" ", "  ", "\t"])
    lines = [f'[{name}{gap}"{value}"]' for name, value in tags]
    lines = [line + choices.choice(["", "", "  ", "\n% a", "\n" * ("[Event" in line)]) for line in lines]
    words = []
    for move in game.mainline_moves():
        words.append(odd_move(choices, board, move))
        board.push(move)
    ends = [result] if said in ("*", "") else [result, result, "*"] + ["\n"] * bool(words)
    moves = choices.choice([" ", "\n"]).join(words).replace("\n\n", "\n") + " " + choices.choice(ends)
    head = "\n".join(lines) + choices.choice(["\n", "\n\n"]) * bool(lines)
    text = head.replace("\n\n\n", "\n\n") + moves
    return choices.choice(["", "", "\ufeff"]) + text.replace("\n", choices.choice(["\n", "\n", "\r\n", "\r"]))


def test_odd_files_are_read_as_by_python_chess():
    """Games that go on after their end, null moves and the like are left out: see the next test."""
    choices, generator = random.Random(0), np.random.default_rng(0)
    truth = [random_game(list(STARTS.values())[i % len(STARTS)], i % 20, generator) for i in range(200)]
    files = [odd_file(choices, game) for game in truth]
    games, problems = parse("odd.pgn", "\n\n".join([*files, ""]))
    assert problems == []
    assert len(games) == len(files)
    for game, text, true in zip(games, files, truth, strict=True):
        theirs = chess.pgn.read_game(io.StringIO(text, newline=None))
        assert theirs is not None
        assert theirs.errors == []
        assert theirs.end().board().fen() == true.end().board().fen()
        assert game.moves == ours(true).moves
        assert game.result == RESULTS[theirs.headers["Result"]]
        assert chess.Board(game.start or chess.STARTING_FEN).fen() == theirs.board().fen()
        kept = {k: v for k, v in theirs.headers.items() if k not in pgn.DERIVED and v != pgn.ROSTER.get(k)}
        assert game.headers == kept


DRAWN = "1. Nf3 Nf6 2. Ng1 Ng8 3. Nf3 Nf6 4. Ng1 Ng8"


@pytest.mark.parametrize(("text", "plies", "theirs"), [  # of our games and of python-chess's
    (f"{DRAWN} 5. e4 *", [], [9]),  # the game was over
    ("1. e4 -- 2. d4 *", [], [3]),  # a null move
    ("1. e4 e6? oops *", [], [2]),  # a word that is no move
    ("1. e4 e5 2. Nf6 *", [], [2]),  # an illegal move
    ("1. e4 e5\n\n2. Nf3 *", [3], [2, 1]),  # a blank line among moves
    ("1. e4 e5", [], [2]),  # a file that may be cut off
    ("1. e4 *\n1. d4 d5 *", [1, 2], [1]),  # no blank line between games
    ('[Result "1-0"]\n1. e4 0-1', [], [1]),  # a contradiction
    ('[White unquoted]\n1. e4 *', [], [1]),  # a tag that is none
    ('[Variant "Atomic"]\n1. e4 *', [], [1]),  # another game
    ('[Result "1/2"]\n1. e4 d5 2. e:d5 1/2', [3], [2]),  # a capture as FIDE allows it
])  # fmt: skip
def test_what_is_read_otherwise_than_by_python_chess(text, plies, theirs):
    games, _ = parse("x.pgn", text)
    assert [len(game.moves) for game in games] == plies
    stream, found = io.StringIO(text), []
    while game := chess.pgn.read_game(stream):
        found.append(len(list(game.mainline_moves())))
    assert found == theirs


@pytest.mark.parametrize("data", [
    "é – Würfel\nß".encode(), "\ufeffé – Würfel\nß".encode(), "é – Würfel\nß".encode("cp1252"),
    "é – Würfel\nß".encode("utf-16"), "é – Würfel\n".encode() + "ß".encode("latin-1"),
    "é – Würfel\n".encode("cp1252") + "ß".encode(),
])  # fmt: skip
def test_character_sets(data):
    assert pgn.decode(data) == "é – Würfel\nß"


RUNS = (
    *"(){}[]%\"\\!?$9.…*-+=:ß\0\ufeff\ud800N½; \n\r\t", "1.", "0000", "\r\r\n", "1... ", "1. \n", "e4 ", "1-0 ", "O-",
    "$1 ", "(1. d4 ", "{}", "Nf3 ", "a8(Q)", "[\n", "[A ", '[A "', '[A "x" ', '[A ""] x', '" ', '"] ', '\\"', '\\"] ',
    "\n% ", '\n[A "x"]', '\n[A "x"]\n{', '{\n[A "x"]\n', '\n[A "x"]\n"{"', "{\n\n1.",
)  # fmt: skip
PLACES = ("{}", '[Event "{}"]\n\n1. e4 *', "1. e4 {} e5 *", "1. e4{}e5 *", "1. e4 {{{}}} e5 *")


@pytest.mark.parametrize("place", PLACES)
def test_runs_of_anything_cost_no_sound_game_and_linear_time(place):
    junk = [place.format(run * n) for run in RUNS for n in (1, 3, 20_000 // len(run))]
    began = time.perf_counter()
    games, problems = parse("x.pgn", GOOD + "".join(f"{text}\n\n{GOOD}" for text in junk))
    assert time.perf_counter() - began < 60  # a quadratic reader takes longer for a single one of these runs
    assert sum((game.headers, game.moves) == ({"Event": "next"}, [E4]) for game in games) == 1 + len(junk)
    assert max(len(problem.message) for problem in problems) < 300
