"""Random chess games of python-chess, as games of its own and of ours."""

import chess
import chess.pgn
import numpy as np

from envs.judges.open_spiel import chess_action
from jaxzero import records
from jaxzero.records import Game, Problem

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


E4, E5 = encode(chess.Move.from_uci("e2e4"), True), encode(chess.Move.from_uci("e7e5"), False)
GOOD = '[Event "next"]\n\n1. e4 *\n'


def parse(file: str, text: str) -> tuple[list[Game], list[Problem]]:
    """The games of a text of PGN, and what is wrong with the others."""
    return records.parse(records.FORMATS[".pgn"], [(file, 1, text)])
