"""Chess beside python-chess and open_spiel, and perft against the numbers of the Chess Programming Wiki.

python-chess leaves draws by repetition and by the 50-move rule to a claim; here both end the game at once, on the
third occurrence and after 100 plies (a claim before the move that completes them does not exist). Insufficient
material is `is_insufficient_material`. A game ends as a draw after `max_plies`.
"""

import functools

import chess
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import envs
from envs.chess import Chess
from envs.judges import compare, judge_of
from envs.judges.open_spiel import chess_action
from envs.perft import perft

ENV = Chess()
STEP, LEGAL = jax.jit(ENV.step), jax.jit(ENV.legal_actions)


@functools.cache
def encode(move: chess.Move, white: bool) -> int:
    begin, end = ((chess.square_file(x), chess.square_rank(x)) for x in (move.from_square, move.to_square))
    return chess_action(begin, end, chess.piece_symbol(move.promotion) if move.promotion else "", white)


class PythonChess:
    def __init__(self, board: chess.Board | None = None):
        self.board = board or chess.Board()
        self.look()

    def look(self):
        self.moves = {encode(move, self.board.turn): move for move in self.board.legal_moves}

    def legal(self) -> set[int]:
        return set(self.moves)

    def player(self) -> int:
        return int(self.board.turn == chess.BLACK)

    def terminated(self) -> bool:
        board = self.board
        drawn = board.halfmove_clock >= 100 or board.ply() >= ENV.max_plies or board.is_insufficient_material()
        return not self.moves or drawn or board.is_repetition(3)

    def rewards(self) -> list[float]:
        if self.moves or not self.board.is_check():
            return [0, 0]
        return [-1, 1] if self.board.turn == chess.WHITE else [1, -1]

    def play(self, action: int) -> None:
        self.board.push(self.moves[action])
        self.look()


@pytest.mark.parametrize("part", range(oracles.games(1, 20)))
@pytest.mark.parametrize("judge", [PythonChess, judge_of(ENV)], ids=["python-chess", "open_spiel"])
def test_random_games_as_in(judge, part):
    count = oracles.games(32, 500)
    assert compare(ENV, judge, count, seed=part, batch=min(count, 100)).plies > 150 * count


# Chess Programming Wiki, "Perft Results": counts by depth; the last one is for a conformance run only. Those of the
# first position are in `envs.perft`.
PERFT = {
    "r3k2r/p1ppqpb1/bn2pnp1/3PN3/1p2P3/2N2Q1p/PPPBBPPP/R3K2R w KQkq - 0 1": {3: 97_862, 4: 4_085_603},
    "8/2p5/3p4/KP5r/1R3p1k/8/4P1P1/8 w - - 0 1": {4: 43_238, 5: 674_624},
    "r3k2r/Pppp1ppp/1b3nbN/nP6/BBP1P3/q4N2/Pp1P2PP/R2Q1RK1 w kq - 0 1": {3: 9_467, 4: 422_333},
    "r2q1rk1/pP1p2pp/Q4n2/bbp1p3/Np6/1B3NBn/pPPP1PPP/R3K2R b KQ - 0 1": {3: 9_467, 4: 422_333},
    "rnbq1k1r/pp1Pbppp/2p5/8/2B5/8/PPP1NnPP/RNBQK2R w KQ - 1 8": {3: 62_379, 4: 2_103_487},
    "r4rk1/1pp1qppp/p1np1n2/2b1p1B1/2B1P1b1/P1NP1N2/1PP1QPPP/R4RK1 w - - 0 10": {3: 89_890, 4: 3_894_594},
}


@pytest.mark.parametrize("fen", list(PERFT))
def test_perft(fen):
    depths = list(PERFT[fen])
    for depth in depths if oracles.FULL else depths[:-1]:
        assert perft(ENV, ENV.from_text(fen), depth) == PERFT[fen][depth]


def moves(state) -> set[str]:
    return {ENV.action_to_str(state, int(action)) for action in np.flatnonzero(np.asarray(LEGAL(state)))}


def play(state, line: str):
    for move in line.split():
        assert not state.terminated, f"ended before {move} of {line}"
        state = STEP(state, ENV.action_from_str(state, move))
    return state


TRICKY = {
    "en passant would uncover the king along the rank": "8/8/8/K1pP3r/8/8/8/4k3 w - c6 0 1",
    "en passant would uncover the king along a diagonal of the victim": "4k3/b7/8/2pP4/8/4K3/8/8 w - c6 0 1",
    "en passant along a pin": "4k3/8/1b6/2Pp4/8/4K3/8/8 w - d6 0 1",
    "en passant takes the pawn that gives check": "4k3/8/8/2pP4/3K4/8/8/8 w - c6 0 1",
    "en passant does not answer another check": "4k3/8/8/2pP4/8/5n2/8/4K3 w - c6 0 1",
    "en passant blocks a check": "4k3/8/1b6/8/2Pp4/8/8/5K1R b - c3 0 1",
    "two pawns can capture": "4k3/8/8/1PpP4/8/8/8/4K3 w - c6 0 1",
    "en passant at the edge": "4k3/8/8/Pp5P/8/8/8/4K3 w - b6 0 1",
    "castling both ways": "r3k2r/8/8/8/8/8/8/R3K2R w KQkq - 0 1",
    "castling of black": "r3k2r/8/8/8/8/8/8/R3K2R b KQkq - 0 1",
    "no castling out of check": "r3k2r/8/8/8/4r3/8/8/R3K2R w KQkq - 0 1",
    "no castling through an attacked square": "r3k2r/8/8/8/5r2/8/8/R3K2R w KQkq - 0 1",
    "b1 may be attacked": "1r2k3/8/8/8/8/8/8/R3K2R w KQ - 0 1",
    "b1 may not be taken": "4k3/8/8/8/8/8/8/RN2K1NR w KQ - 0 1",
    "no castling into a pawn's attack": "4k3/8/8/8/8/8/7p/R3K2R w KQ - 0 1",
    "double check": "4k3/8/8/8/4r3/3n4/3P4/R3K2R w KQ - 0 1",
    "the king cannot step back along the ray": "4k3/8/8/8/r2K4/8/8/8 w - - 0 1",
    "the king cannot take a guarded piece": "4k3/8/8/8/8/5n2/6q1/7K w - - 0 1",
    "pinned pieces": "4r1k1/8/8/b7/8/2N1P3/3BQ3/3qK3 w - - 0 1",
    "promotions, with and without capture": "1n1r4/2P5/8/8/8/8/5kp1/K6R w - - 0 1",
    "promotions of black": "1n1r4/2P5/8/8/8/8/5kp1/K6R b - - 0 1",
    "a pinned pawn may capture along the pin and promote": "3b3k/2P5/1K6/8/8/8/8/8 w - - 0 1",
    "218 moves": "R6R/3Q4/1Q4Q1/4Q3/2Q4Q/Q4Q2/pp1Q4/kBNN1KB1 w - - 0 1",
}


@pytest.mark.parametrize("case", list(TRICKY))
def test_legal_moves_and_replies(case):
    """Moves, and the positions after them, as in python-chess; the same with colours exchanged."""
    for board in (chess.Board(TRICKY[case]), chess.Board(TRICKY[case]).mirror()):
        state = ENV.from_text(board.fen(en_passant="fen"))
        assert moves(state) == {move.uci() for move in board.legal_moves}
        assert ENV.fen(state) == board.fen()
        for move in board.legal_moves:
            board.push(move)
            assert ENV.fen(STEP(state, encode(move, not board.turn))) == board.fen()
            board.pop()


ENDS = {  # position, moves, rewards if the last of them ends the game (None: it goes on)
    "fool's mate": (chess.STARTING_FEN, "f2f3 e7e5 g2g4 d8h4", [-1, 1]),
    "scholar's mate": (chess.STARTING_FEN, "e2e4 e7e5 d1h5 b8c6 f1c4 g8f6 h5f7", [1, -1]),
    "stalemate": ("7k/8/6K1/8/8/8/8/5Q2 w - - 0 1", "f1f7", [0, 0]),
    "mate by promotion": ("7k/4P3/6K1/8/8/8/8/8 w - - 0 1", "e7e8q", [1, -1]),
    "mate by castling": ("8/8/8/8/8/8/7R/1k2K2R w K - 0 1", "e1g1", [1, -1]),
    "100 plies": ("7k/8/8/8/8/8/8/R3K3 w - - 99 80", "a1a2", [0, 0]),
    "a pawn move starts the count again": ("7k/8/8/8/8/8/P7/R3K3 w - - 99 80", "a2a3", None),
    "a capture starts the count again": ("7k/8/8/8/8/8/r7/R3K3 w - - 99 80", "a1a2", None),
    "mate with the 100th ply": ("7k/8/6K1/8/8/8/8/R7 w - - 99 80", "a1a8", [1, -1]),
    "bare kings": ("7k/8/8/8/8/8/r7/K7 w - - 0 1", "a1a2", [0, 0]),
    "promotion to a knight": ("8/P6k/8/8/8/8/8/K7 w - - 0 1", "a7a8n", [0, 0]),
    "third occurrence": (chess.STARTING_FEN, "g1f3 g8f6 f3g1 f6g8 g1f3 g8f6 f3g1 f6g8", [0, 0]),
    "not yet": (chess.STARTING_FEN, "g1f3 g8f6 f3g1 f6g8 g1f3 g8f6 f3g1", None),
    "first occurrence with an en passant right": (
        "4k2n/8/8/8/3p4/8/4P3/4K2N w - - 0 1",
        "e2e4 h8g6 h1g3 g6h8 g3h1 h8g6 h1g3 g6h8 g3h1",
        None,
    ),
    "an en passant right that nobody can use": (
        "4k2n/8/8/8/8/8/4P3/4K2N w - - 0 1",
        "e2e4 h8g6 h1g3 g6h8 g3h1 h8g6 h1g3 g6h8 g3h1",
        [0, 0],
    ),
    "first occurrences with castling rights": (
        "4k2r/8/8/8/8/8/8/4K2R w Kk - 0 1",
        "h1g1 h8g8 g1h1 g8h8 h1g1 h8g8 g1h1 g8h8",
        None,
    ),
    "third without them": (
        "4k2r/8/8/8/8/8/8/4K2R w Kk - 0 1",
        "h1g1 h8g8 g1h1 g8h8 h1g1 h8g8 g1h1 g8h8 h1g1",
        None,
    ),
    "fourth with them": (
        "4k2r/8/8/8/8/8/8/4K2R w Kk - 0 1",
        "h1g1 h8g8 g1h1 g8h8 h1g1 h8g8 g1h1 g8h8 h1g1 h8g8",
        [0, 0],
    ),
    "the last ply": ("7k/8/8/8/8/8/8/R3K3 b - - 0 256", "h8h7", [0, 0]),
    "mate with the last ply": ("8/r7/8/8/8/6k1/8/7K b - - 0 256", "a7a1", [-1, 1]),
}


@pytest.mark.parametrize("case", list(ENDS))
def test_ends(case):
    fen, line, rewards = ENDS[case]
    state = play(ENV.from_text(fen), line)
    assert (bool(state.terminated), state.rewards.tolist()) == (rewards is not None, rewards or [0, 0])
    other = PythonChess(chess.Board(fen))
    for move in line.split():
        other.board.push_uci(move)
    other.look()
    assert (other.terminated(), other.rewards()) == (rewards is not None, rewards or [0, 0])


def test_insufficient_material_as_in_python_chess():
    """Random positions of up to five pieces beside the kings, bishops on either colour of squares."""
    pieces, squares, compared = ".PNBRQpnbrq", ("a3", "b3", "c3", "d3", "e5"), 0
    generator = np.random.default_rng(0)
    for _ in range(oracles.games(150, 1500)):
        board = chess.Board(None)
        board.set_piece_at(chess.H1, chess.Piece.from_symbol("K"))
        board.set_piece_at(chess.H8, chess.Piece.from_symbol("k"))
        weights = np.array([12, 0.1, 2, 4, 0.1, 0.1, 0.1, 2, 4, 0.1, 0.1])
        for square, mark in zip(squares, generator.choice(list(pieces), 5, p=weights / weights.sum()), strict=True):
            if mark != ".":
                board.set_piece_at(chess.parse_square(square), chess.Piece.from_symbol(mark))
        if board.is_valid() and not board.is_checkmate() and not board.is_stalemate():
            assert bool(ENV.from_text(board.fen()).terminated) == board.is_insufficient_material(), board.fen()
            compared += board.is_insufficient_material()
    assert compared > 5


def observed(board: chess.Board) -> np.ndarray:
    """The documented planes, from python-chess."""
    view, planes = board if board.turn else board.mirror(), np.zeros((8, 8, 21), np.float32)
    for square, piece in view.piece_map().items():
        planes[square // 8, square % 8, piece.piece_type - 1 + 6 * (piece.color == chess.BLACK)] = 1
    if view.ep_square is not None and view.has_legal_en_passant():
        planes[view.ep_square // 8, view.ep_square % 8, 12] = 1
    planes[..., 13] = board.is_repetition(2)
    for i, color in enumerate((chess.WHITE, chess.BLACK)):
        planes[..., 14 + 2 * i] = view.has_kingside_castling_rights(color)
        planes[..., 15 + 2 * i] = view.has_queenside_castling_rights(color)
    planes[..., 18] = board.turn == chess.BLACK
    planes[..., 19], planes[..., 20] = board.halfmove_clock / 100, board.ply() / 512
    return planes


@pytest.mark.parametrize("seed", range(3))
def test_fen_observation_and_history(seed):
    """Along random games that like to go back: FEN and planes as from python-chess; history repeats what was seen."""
    env = envs.make("chess", history=2)
    step, observe = jax.jit(env.step), jax.jit(env.observe)
    board, state = chess.Board(), env.init(jax.random.key(0))
    boards, generator = [np.zeros((8, 8, 12))] * 2, np.random.default_rng(seed)
    repeated = 0
    while not state.terminated and board.ply() < 120:
        seen = np.asarray(observe(state))
        assert env.fen(state) == board.fen()  # pyright: ignore[reportAttributeAccessIssue]
        np.testing.assert_allclose(seen[..., :21], observed(board), rtol=1e-6)
        flipped = [np.concatenate([past[::-1, :, 6:], past[::-1, :, :6]], -1) for past in boards[-1:]] + boards[-2:-1]
        np.testing.assert_array_equal(seen[..., 21:], np.concatenate(flipped, -1))
        boards.append(seen[..., :12])
        repeated += board.is_repetition(2)
        legal = sorted(board.legal_moves, key=chess.Move.uci)
        back = []
        if board.ply() > 20:
            last = board.move_stack[-2]
            back = [move for move in legal if (move.from_square, move.to_square) == (last.to_square, last.from_square)]
        move = back[0] if back and generator.random() < 0.6 else legal[generator.integers(len(legal))]
        state = step(state, encode(move, board.turn))
        board.push(move)
    assert repeated


def test_text_keeps_repetitions():
    state = play(ENV.init(jax.random.key(0)), "g1f3 g8f6 f3g1 f6g8 g1f3 g8f6 f3g1")
    again = ENV.from_text(ENV.to_text(state))
    assert bool(play(again, "f6g8").terminated)
    assert not bool(play(ENV.from_text(ENV.fen(state)), "f6g8").terminated)


BAD = {
    "is no FEN": "8/8/8/8/8/8/8/K1k5 w - -",
    "8 rows": "8/8/8/8/8/8/K1k5 w - - 0 1",
    "of 8 squares": "9/8/8/8/8/8/8/K1k5 w - - 0 1",
    "0 white kings": "8/8/8/8/8/8/8/2k5 w - - 0 1",
    "2 black kings": "8/8/8/8/8/8/8/K1k1k3 w - - 0 1",
    "pawn on the first or last": "P7/8/8/8/8/8/8/K1k5 w - - 0 1",
    "more white pieces": "k7/8/8/8/QQQQ4/QQQQ4/QQ6/6K1 w - - 0 1",
    "'w' or 'b'": "8/8/8/8/8/8/8/K1k5 x - - 0 1",
    "castling rights are": "r3k3/8/8/8/8/8/8/4K3 w kK - 0 1",
    "has moved": "r3k3/8/8/8/8/8/8/4K3 w k - 0 1",
    "no pawn has just passed": "4k3/8/8/8/8/8/8/4K3 w - e6 0 1",
    "is not a square": "4k3/8/8/8/8/8/8/4K3 w - e9 0 1",
    "50-move clock": "4k3/8/8/8/8/8/8/4K3 w - - 101 1",
    "move number": "4k3/8/8/8/8/8/8/4K3 w - - 0 0",
    "just moved is in check": "4k3/8/8/8/8/8/8/4K2r b - - 0 1",
    "is not understood": "4k3/8/8/8/8/8/8/4K2r w - - 0 1 more",
    "16 hexadecimal digits": "4k3/8/8/8/8/8/8/4K2r w - - 1 1 seen:12",
}


@pytest.mark.parametrize("message", list(BAD))
def test_bad_text_is_refused(message):
    with pytest.raises(ValueError, match=message):
        ENV.from_text(BAD[message])


def test_bad_options_and_moves_are_refused():
    for options in ({"max_plies": 0}, {"history": -1}):
        with pytest.raises(ValueError, match="chess"):
            envs.make("chess", **options)
    with pytest.raises(ValueError, match="e2e5"):
        ENV.action_from_str(ENV.init(jax.random.key(0)), "e2e5")
    short = envs.make("chess", max_plies=2)
    state = short.init(jax.random.key(0))
    for move in ("e2e4", "e7e5"):
        assert not state.terminated
        state = short.step(state, jnp.int32(short.action_from_str(state, move)))
    assert state.terminated
