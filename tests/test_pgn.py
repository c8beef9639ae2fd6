"""PGN beside python-chess, both ways; odd files as other programs write them; and files that are damaged by hand."""

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

from envs.judges.open_spiel import chess_action
from jaxzero import records
from jaxzero.records import Game, Problem, pgn

STARTS = {  # positions whose random games promote, castle, capture en passant, and name files and ranks of origins
    "start": chess.STARTING_FEN,
    "promotions": "1n3k2/P1P4P/8/8/8/8/p1p4p/5KN1 b - - 3 40",
    "castling": "r3k2r/pppq1ppp/8/8/8/8/PPPQ1PPP/R3K2R w KQkq - 0 1",
    "en passant": "4k3/p1p1p1p1/8/1P1P1P1P/p1p1p1p1/8/1P1P1P1P/4K3 b - - 0 1",
    "knights": "N1N1k1N1/8/N5N1/8/8/n5n1/8/n1n1K1n1 w - - 0 1",
    "queens": "Q3Q3/8/7k/8/8/8/6K1/Q3Q3 b - - 0 1",
    "rooks and bishops": "1R4R1/B1k1B3/8/1R3R2/2b3b1/8/2b1K1b1/2rr4 w - - 0 1",
}
RESULTS = {"1-0": (1, -1), "0-1": (-1, 1), "1/2-1/2": (0, 0), "*": None}


def ended(board: chess.Board) -> bool:
    """By our rules, which end a game at the third repetition and after 100 plies."""
    return board.is_game_over() or board.halfmove_clock >= 100 or board.is_repetition(3)


def random_game(fen: str, plies: int, generator: np.random.Generator) -> chess.pgn.Game:
    board = chess.Board(fen)
    special = lambda move: move.promotion or board.is_castling(move) or board.is_en_passant(move)  # noqa: E731
    while not ended(board) and len(board.move_stack) < plies:
        legal = sorted(board.legal_moves, key=chess.Move.uci)
        rare = [move for move in legal if special(move) or board.gives_check(move)]
        legal = rare if rare and generator.random() < 0.3 else legal
        board.push(legal[generator.integers(len(legal))])
    game = chess.pgn.Game.from_board(board)
    result = board.result() if board.is_game_over() else "1/2-1/2" if ended(board) else "*"
    game.headers["Result"] = result if result != "*" else str(generator.choice(list(RESULTS)))
    game.headers["White"] = "A. Player, ä"
    return game


@pytest.fixture(scope="module")
def theirs() -> list[chess.pgn.Game]:
    generator = np.random.default_rng(0)
    return [random_game(fen, 120, generator) for fen in STARTS.values() for _ in range(4)]


def read(tmp_path, text: str) -> tuple[list[Game], list[Problem]]:
    (tmp_path / "games.pgn").write_text(text)
    return records.read(tmp_path / "games.pgn")


def ours(game: chess.pgn.Game) -> Game:
    """By way of UCI."""
    board = game.board()
    start = None if board.fen() == chess.STARTING_FEN else board.fen()
    actions = []
    for move in game.mainline_moves():
        actions.append(encode(move, board.turn))
        board.push(move)
    return Game("chess", {}, actions, RESULTS[game.headers["Result"]], {"White": game.headers["White"]}, start)


def encode(move: chess.Move, white: bool) -> int:
    begin, end = ((chess.square_file(x), chess.square_rank(x)) for x in (move.from_square, move.to_square))
    return chess_action(begin, end, chess.piece_symbol(move.promotion) if move.promotion else "", white)


def san(games: list[chess.pgn.Game]) -> list[str]:
    """Numbers, moves and results as python-chess writes them."""
    plain = [game.accept(chess.pgn.StringExporter(headers=False, comments=False, variations=False)) for game in games]
    return " ".join(plain).split()


def test_games_of_python_chess_are_read(tmp_path, theirs):
    games, problems = read(tmp_path, "\n\n".join(map(str, theirs)))
    assert problems == []
    assert games == [ours(game) for game in theirs]


def test_comments_variations_and_glyphs_are_skipped(tmp_path, theirs):
    decorated = [chess.pgn.read_game(io.StringIO(str(game))) for game in theirs[::4]]
    for game in filter(None, decorated):
        game.comment = "before [%clk 1:00]\n1-0 (not yet; e4)"
        for node in list(game.mainline())[:-1]:
            node.comment, node.nags = "[Event a (b", {1, 14}
            reply = next(iter(node.board().legal_moves))
            if node.next() != reply:
                node.add_variation(reply, comment="1-0 (").add_line([chess.Move.null()], comment="; 0-1")
    text = "\n\n".join(map(str, decorated))
    assert text.count(" ( ") > 100
    assert read(tmp_path, text) == ([ours(game) for game in theirs[::4]], [])


def test_written_games_are_read_by_python_chess_with_the_same_san(tmp_path, theirs):
    games = [ours(game) for game in theirs]
    records.write(tmp_path / "games.pgn", games)
    text = (tmp_path / "games.pgn").read_text()
    assert max(map(len, text.splitlines())) < 80
    assert records.read(tmp_path / "games.pgn") == (games, [])
    words = " ".join(text.split("\n\n")[1::2]).split()
    assert words == san(theirs)
    for sign in ("=Q", "=N", "O-O ", "O-O-O", "#", "x", " 1... ", " 40... "):
        assert sign in " ".join(words)
    lengths = {len(word.rstrip("+#")) for word in words if word[0] == "N"}
    assert lengths >= {3, 4, 5}  # Nd4, Nbd4 or Nxd4, Nb3d4 or Nbxd4
    stream = io.StringIO(text)
    for game in theirs:
        again = chess.pgn.read_game(stream)
        assert again is not None
        assert again.errors == []
        assert list(again.headers)[:7] == ["Event", "Site", "Date", "Round", "White", "Black", "Result"]
        assert again.headers == game.headers
        assert list(again.mainline_moves()) == list(game.mainline_moves())
    assert chess.pgn.read_game(stream) is None


def test_records_replay_to_their_results(theirs):
    games = [ours(game) for game in theirs]
    outcomes = records.replay(games[0].env, [game.moves for game in games], [game.start for game in games])
    over = 0
    for game, outcome, other in zip(games, outcomes, theirs, strict=True):
        assert (outcome.played, outcome.over) == (len(game.moves), ended(other.end().board()))
        assert outcome.result == (game.result if outcome.over else (0, 0))
        over += outcome.over
    assert 3 < over < len(games)


GOOD = '[Event "next"]\n\n1. e4 *\n'
E4, E5 = encode(chess.Move.from_uci("e2e4"), True), encode(chess.Move.from_uci("e7e5"), False)
NF3 = encode(chess.Move.from_uci("g1f3"), True)


@pytest.mark.parametrize("text", [
    "1. e4 e5 2. Nf3 1-0",
    "1.e4 e5 2.Nf3 1-0",
    "1 e4 1... e5 2 . Nf3 1-0",
    "e4 e5 Nf3 1-0",
    "1. e2-e4! e7e5?? 2. Ng1f3+ $3 1-0",
    '[Result "1-0"] [White "?"]\n1. e4 ; 1-0 (\ne5\n% 1-0 {\n2. N1f3 1-0',
    "1. e4 (1. d4 d5 (1... e5 {)}) 2. c4 1-0) e5 {[%eval 0.2]} 2.Ngf3 1-0",
    '\ufeff[Variant "Standard"]\r\n[SetUp "0"]\r\n\r\n1.e4\r\ne5 2.Nf3 1-0',
    "1. Pe4 e7-e5 2. g1f3 1\u20130",
    '1. e4+- +- e5= = 2. ♘f3± ∞ 1-0 {White resigns\n[Event "x"]\n}',
    "1.e4 e5 {a { b} 2.Nf3 ch\0 1-0 1-0\r\r\n\0\0",
    '[Result "1-0"]\r\r1. e4 e5\r\r2. Nf3\r\r',  # complete, as the blank line shows
    '[Result "1 - 0"]\n1. e4 e5 2. Nf3 *',
    '[Result "?"][Site "a"]\n[Site "b"]\n1. e4 e5 2. Nf3 1-0',
    f'[Variant "Chess960"]\n[FEN "{chess.STARTING_FEN.replace("KQkq", "HAha")}"]\n1. e4 e5 2. Nf3 1-0',
])  # fmt: skip
def test_dialects(tmp_path, text):
    games, problems = read(tmp_path, text + "\n" + GOOD)
    assert problems == []
    assert [(game.moves, game.result) for game in games] == [([E4, E5, NF3], (1, -1)), ([E4], None)]


@pytest.mark.parametrize(("line", "result", "kept"), [
    ("1. f3 e5 2. g4 Qh4# 0-1", (-1, 1), True),
    ("1. f3 e5 2. g4 Qh4 *", (-1, 1), True),  # the moves tell
    ("1. f3 e5 2. g4 0-1", (-1, 1), True),  # resigned
    ("1. f3 e5 2. g4 1/2-1/2", (0, 0), True),
    ('[Event "x"]\n\n*', None, True),
    ("1. f3 e5 2. g4 Qh4# 1-0", None, False),
    ("1. Nf3 Nf6 2. Ng1 Ng8 3. Nf3 Nf6 4. Ng1 Ng8 1/2-1/2", (0, 0), True),
    ("1. Nf3 Nf6 2. Ng1 Ng8 3. Nf3 Nf6 4. Ng1 Ng8 1-0", None, False),
])  # fmt: skip
def test_results(tmp_path, line, result, kept):
    games, problems = read(tmp_path, line)
    assert [game.result for game in games] == [result] * kept
    assert ["its moves lead to" in problem.message for problem in problems] == [True] * (not kept)


@pytest.mark.parametrize(("fen", "line", "uci"), [
    ("r3k2r/8/8/8/8/8/8/R3K2R w KQkq - 0 1", "1. 0-0-0 0-0 *", "e1c1 e8g8"),
    ("r3k2r/8/8/8/8/8/8/R3K2R b KQkq - 0 9", "9... O-O-O+ 10. 0-0 *", "e8c8 e1g1"),
    ("r3k2r/8/8/8/8/8/8/R3K2R w KQkq - 0 1", "1. e1g1 e8c8+- *", "e1g1 e8c8"),
    ("8/P6k/8/8/8/8/7p/K7 w - - 0 1", "1. a8N *", "a7a8n"),
    ("8/P6k/8/8/8/8/7p/K7 w - - 0 1", "1. a8=q h1(N) *", "a7a8q h2h1n"),
    ("8/P6k/8/8/8/8/7p/K7 w - - 0 1", "1. a8/b h1=(r)# *", "a7a8b h2h1r"),
    ("8/P6k/8/8/8/8/7p/K7 w - - 0 1", "1. a7a8r h2h1q *", "a7a8r h2h1q"),
    ("4k3/8/8/3pP3/2N5/8/8/4K3 w - d6 0 1", "1. e:d6e.p.+ *", "e5d6"),
    ("4k3/8/8/3pP3/2N5/8/8/4K3 w - d6 0 1", "1. N\u00d7d6+ ch *", "c4d6"),
    ("4k3/8/8/8/1p6/8/P7/4K3 w - - 0 1", "a4 bxa3 *", "a2a4 b4a3"),
    ("4k3/8/8/8/8/1N6/8/1N3N1K w - - 0 1", "N1d2 *", None),  # b1 or f1
    ("4k3/8/8/8/8/1N6/8/1N3N1K w - - 0 1", "Nb1d2 *", "b1d2"),
    ("4k3/8/8/8/1b6/2N5/8/4K1N1 w - - 0 1", "Ne2 *", "g1e2"),  # the other one is pinned
])  # fmt: skip
def test_moves_from_other_positions(tmp_path, fen, line, uci):
    games, problems = read(tmp_path, f'[SetUp "1"]\n[FEN "{fen}"]\n\n{line}')
    if uci is None:
        assert "N1d2 is ambiguous: Nb1d2 or Nfd2" in problems[0].message
        return
    board, actions = chess.Board(fen), []
    for word in uci.split():
        actions.append(encode(board.push_uci(word), not board.turn))
    assert problems == []
    assert games == [Game("chess", {}, actions, None, {}, fen)]


@pytest.mark.parametrize(("text", "line", "move", "message"), [
    ("1. e4 e5\n2. Nf4 Nc6 1-0", 5, 3, "2. Nf4 is not legal here"),
    ("1. e4\ne4 *", 5, 2, "1... e4 is not legal here"),
    ("1. e4 d5 2. d5 *", 4, 3, "2. d5 is not legal here"),  # a capture names its file
    ("1. Nf3 d6 2. Nd4 d5 3. Nc3 a6 4. Nb5 a5\n5. Nd4 a4 6. Nb5 *", 4, 7, "4. Nb5 is ambiguous: Ncb5 or Ndb5"),
    ("1. e4 e9 *", 4, 2, "1... 'e9' is no move"),
    ("1. e4 -- *", 4, 2, "'--' is no move"),
    ("1. O-O *", 4, 1, "O-O is not legal here"),
    ("1. f3 e5 2. g4 Qh4#\n3. a3 0-1", 5, 5, "3. a3 is after the end of the game (mate)"),
    ("1. Nf3 Nf6 2. Ng1 Ng8 3. Nf3 Nf6 4. Ng1 Ng8\n5. a3 *", 5, 9, "of the game (drawn at once by third repetition"),
    ("1. f3 e5 2. g4\nQh4# 1-0", 5, 4, "its moves lead to (-1.0, 1.0)"),
    ("1. e4 e5\n2. Nf3", 5, 3, "the record is cut off"),
    ("1. e4 e5\n2. N", 5, 3, "the record is cut off"),
    ('[Result "1-0"]\n1. e4 (e5\n', 5, 1, "the record is cut off"),
    ("some words", 4, 2, "the record is cut off"),
    ('[Result "1-1"]\n\n1. e4 *', 4, 0, "the tag Result says '1-1', which is no result"),
    ("1. e4 0000 2. d4 *", 4, 2, "1... '0000' is no move"),
    ("1. e4 e5 2. Nf3--\n2... Nc6 *", 4, 3, "2. 'Nf3--' is no move"),
    (f'[FEN "{chess.STARTING_FEN} 1"]\n\n*', 4, 0, "is too long for a position of 6 fields"),
    (f'[FEN "{chess.STARTING_FEN.replace("1", "9" * 5000)}"]\n\n*', 4, 0, "is too long for a position"),
    ('[Event "x"]\n[White "y"]', 4, 0, "the record is cut off"),
    ("1. e4 (1. d4\nd5", 4, 1, "the record is cut off"),
    ("1. e4 {a comment\n1-0", 4, 1, "a comment is not closed"),
    ("1. e4) e5 *", 4, 1, "')' closes nothing"),
    ("1. e4 } e5 *", 4, 1, "no PGN: '}'"),
    ('[FEN "8/8 w - - 0 1"]\n\n*', 4, 0, "FEN: chess"),
    ('[FEN "7k/5Q2/6K1/8/8/8/8/8 b - - 0 1"]\n\n1/2-1/2', 4, 0, "the game is over in"),
    ('[SetUp "1"]\n\n1. e4 *', 4, 0, "there is no FEN"),
    ('[Variant "Chess960"]\n\n1. e4 *', 4, 0, "another game than chess"),
    ('[Result "1-0"]\n\n1. e4\n0-1', 6, 0, "the tag Result says '1-0', the moves end with 0-1"),
    ('[White "cut]\n[Black "x"]\n\n1. e4 *', 4, 0, "no PGN: '[White"),
])  # fmt: skip
def test_problems_name_line_and_move_and_the_rest_is_read(tmp_path, text, line, move, message):
    games, problems = read(tmp_path, f"{GOOD}{text}\n\n{GOOD}")
    assert [game.moves for game in games] == [[E4], [E4]]
    assert [(problem.line, problem.move) for problem in problems] == [(line, move)]
    assert message in problems[0].message
    assert len(problems[0].message) < 300


def test_a_file_cut_anywhere_gives_whole_games_and_at_most_one_problem(tmp_path, theirs):
    games = [dataclasses.replace(game, moves=game.moves[:9], result=None) for game in map(ours, theirs[::2])]
    games = [game for game in games if len(game.moves) == 9]
    records.write(tmp_path / "all.pgn", games)
    text = (tmp_path / "all.pgn").read_text()
    for cut in np.random.default_rng(0).integers(1, len(text), 20):
        found, problems = read(tmp_path, text[:cut])
        whole = sum(line.endswith(" *") for line in text[:cut].split("\n"))
        assert found == games[:whole]
        assert len(problems) == bool(text[:cut].split(" *\n")[-1].strip().removesuffix(" *"))


def test_headers(tmp_path):
    headers = {"Event": 'the "first" \\ one', "Date": "2026.11.21", "WhiteElo": "2000", "Termination": "time forfeit"}
    game = Game("chess", {}, [E4], (1, -1), headers)
    records.write(tmp_path / "games.pgn", [game, Game("chess", {}, [])])
    text = (tmp_path / "games.pgn").read_text()
    assert text.splitlines()[0] == '[Event "the \\"first\\" \\\\ one"]'
    assert text.splitlines()[6] == '[Result "1-0"]'
    assert records.read(tmp_path / "games.pgn") == ([game, Game("chess", {}, [])], [])


@pytest.mark.parametrize(("game", "message"), [
    (Game("hex", {}, []), "hold chess, not hex"),
    (Game("chess", {}, [E4, E4, E4]), "game 1, 2.: action"),
    (Game("chess", {}, [], start="4k3/8/8/8/8/8/8/4K2R w - - 1 1 seen:0000000000000000"), "FEN of 6 fields"),
    (Game("chess", {}, [], headers={"a b": "c"}), "not 'a b'"),
    (Game("chess", {}, [E4, E4], (1, -1), start="8/8/8/8/8/8/8/8 w - - 0 1"), "0 white kings"),
])  # fmt: skip
def test_games_that_cannot_be_written(tmp_path, game, message):
    with pytest.raises(ValueError, match=message):
        records.write(tmp_path / "games.pgn", [game])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("game", "message"), [
    (Game("chess", {}, [E4], (1, 1)), "the result (1, 1), which is none of chess"),
    (Game("chess", {}, [E4], (float("nan"), 0)), "which is none of chess"),
    (Game("chess", {}, [], start="7k/5Q2/6K1/8/8/8/8/8 b - - 0 1"), "which is over"),
    (Game("chess", {}, [], headers={"": "c"}), "not ''"),
    (Game("chess", {}, [], headers={"ä" * 1000: "c"}), "not 'ä"),
    (Game("chess", {}, [], headers={"-a": "c"}), "not '-a'"),
    (Game("chess", {}, [], headers={"a\n": "c"}), "not 'a'"),
])  # fmt: skip
def test_games_that_no_reader_could_read_are_not_written(game, message):
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        pgn.dump([game])
    assert len(str(raised.value)) < 300


def test_a_game_longer_than_the_reader_plays_is_not_written():
    shuffle = [encode(chess.Move.from_uci(uci), i % 2 == 0) for i, uci in enumerate(("g1f3", "g8f6"))]
    start = chess.STARTING_FEN.replace(" 1", " 256")  # plies 510 and 511 are left of 512
    long = Game("chess", {"max_plies": 1000}, [*shuffle, E4], start=start)
    with pytest.raises(ValueError, match=r"game 1, 257\.: action"):
        pgn.dump([long])
    games, problems = parse("x", pgn.dump([dataclasses.replace(long, moves=shuffle)]))
    assert ([game.moves for game in games], problems) == ([shuffle], [])


def parse(file: str, text: str) -> tuple[list[Game], list[Problem]]:
    return records.parse(records.FORMATS[".pgn"], [(file, 1, text)])


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
