"""PGN beside python-chess, both ways; odd files as other programs write them; and files that are damaged by hand."""

import dataclasses
import io
import re

import chess
import chess.pgn
import numpy as np
import pytest
from pgn_games import E4, E5, GOOD, STARTS, encode, ended, ours, parse, random_game

from jaxzero import records
from jaxzero.records import Game, Problem, pgn


@pytest.fixture(scope="module")
def theirs() -> list[chess.pgn.Game]:
    generator = np.random.default_rng(0)
    return [random_game(fen, 120, generator) for fen in STARTS.values() for _ in range(4)]


def read(tmp_path, text: str) -> tuple[list[Game], list[Problem]]:
    (tmp_path / "games.pgn").write_text(text)
    return records.read(tmp_path / "games.pgn")


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
