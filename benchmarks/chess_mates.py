"""Chess positions with a forced mate in one or two moves, for the oracle metrics of training.

    python benchmarks/chess_mates.py --count 240 --seed 0

writes `jaxzero/evaluation/oracles/chess_mates.txt` (needs `pip install chess`; takes a minute). Positions come
from random games in which one side mostly takes what is worth most; at most one of a game. All moves that force the
mate are found by trying every move and every reply with python-chess. A line is `<moves to mate> <moves> <FEN>`, the
moves in UCI, joined by commas.
"""

import argparse
import random
from collections.abc import Iterator

import chess

from jaxzero.evaluation.oracles.chess import FILE

WORTH = {None: 0, chess.PAWN: 1, chess.KNIGHT: 3, chess.BISHOP: 3, chess.ROOK: 5, chess.QUEEN: 9}
GREEDY = 0.7  # share of captures in the stronger side's moves, where there are any
PLIES = 150


def forcing(board: chess.Board, depth: int, first: bool = False) -> list[chess.Move]:
    """The moves that mate in `depth` moves at most, whatever is replied; the first one alone with `first`."""
    found = []
    for move in board.legal_moves:
        board.push(move)
        mates = board.is_checkmate() or (
            depth > 1 and any(board.legal_moves) and all(replied(board, reply, depth) for reply in board.legal_moves)
        )
        board.pop()
        if mates:
            found.append(move)
            if first:
                break
    return found


def replied(board: chess.Board, reply: chess.Move, depth: int) -> bool:
    board.push(reply)
    mates = bool(forcing(board, depth - 1, first=True))
    board.pop()
    return mates


def random_game(rng: random.Random) -> Iterator[chess.Board]:
    """The positions in which the stronger side is to move."""
    board, strong = chess.Board(), rng.random() < 0.5
    while not board.is_game_over() and board.ply() < PLIES:
        moves = list(board.legal_moves)
        if board.turn == strong:
            yield board
            worth = [WORTH[board.piece_type_at(move.to_square)] for move in moves]
            if max(worth) and rng.random() < GREEDY:
                moves = [move for move, value in zip(moves, worth, strict=True) if value == max(worth)]
        board.push(rng.choice(moves))


def generate(count: int, seed: int) -> Iterator[str]:
    """`count` lines, half of them mates in one."""
    rng, left = random.Random(seed), {1: count // 2, 2: count // 2}
    while any(left.values()):
        wanted = rng.choice([depth for depth in left if left[depth]])
        for board in random_game(rng):
            if board.ply() < 20 or board.halfmove_clock > 40 or (wanted == 2 and forcing(board, 1, first=True)):
                continue
            if moves := forcing(board, wanted):
                left[wanted] -= 1
                yield f"{wanted} {','.join(move.uci() for move in moves)} {board.fen()}"
                break


def main() -> None:
    parser = argparse.ArgumentParser(description="Chess positions with a forced mate.")
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    header = f"# python benchmarks/chess_mates.py --count {options.count} --seed {options.seed}"
    lines = sorted(generate(options.count, options.seed))
    FILE.write_text("\n".join([header, *lines]) + "\n")


if __name__ == "__main__":
    main()
