"""Boards for people at a terminal: drawn by hand, and every square where moves say it is."""

import re

import jax
import numpy as np
import pytest

import envs

DRAWN = {
    "tic_tac_toe": ({}, "X..\n.O.\n...", "3  X . .\n2  . O .\n1  . . .\n   a b c"),
    "connect_four": (
        {},
        ".......\n.......\n.......\n.......\n...O...\n..XX...",
        "  . . . . . . .\n  . . . . . . .\n  . . . . . . .\n  . . . . . . .\n  . . . O . . .\n  . . X X . . .\n"
        "  1 2 3 4 5 6 7",
    ),
    "hex": ({"size": 3}, "X..\n.O.\n...\nX b2", "   a b c\n1  X . .\n 2  . O .\n  3  . . ."),
    "chess": (
        {},
        "rnbqkbnr/pppp1ppp/8/4p3/4P3/8/PPPP1PPP/RNBQKBNR w KQkq - 0 2",
        "8  r n b q k b n r\n7  p p p p . p p p\n6  . . . . . . . .\n5  . . . . p . . .\n4  . . . . P . . .\n"
        "3  . . . . . . . .\n2  P P P P . P P P\n1  R N B Q K B N R\n   a b c d e f g h",
    ),
    "ur": (
        {},
        "*..X  *.  X: 4 waiting, 1 home\n.X.*O...\n*...  OO  O: 4 waiting, 0 home\nX rolled 2 at ply 31",
        "  4  3  2  1       14 13\n  *  .  .  X        *  .   X: 4 waiting, 1 home\n"
        "  .  X  .  *  O  .  .  .\n  5  6  7  8  9 10 11 12\n"
        "  *  .  .  .        O  O   O: 4 waiting, 0 home\n  4  3  2  1       14 13\nX rolled 2 at ply 31",
    ),
    "backgammon": (
        {},
        "0: 25:1 24:1 13:5 8:3 6:5\n1: 24:2 13:5 8:3 6:4\n0 has 52 ply 4",
        "  X:  13  14  15  16  17  18  |  19  20  21  22  23  24\n"
        "  O:  12  11  10   9   8   7  |   6   5   4   3   2   1\n"
        "      X5   .   .   .  O3   .  |  O4   .   .   .   .  X1\n"
        "\n"
        "      O5   .   .   .  X3   .  |  X5   .   .   .   .  O2\n"
        "  X:  12  11  10   9   8   7  |   6   5   4   3   2   1\n"
        "  O:  13  14  15  16  17  18  |  19  20  21  22  23  24\n"
        "X: 1 on the bar, 0 off\nO: 0 on the bar, 1 off\nX has 52",
    ),
    "treasure": (
        {"size": 3},
        "at 0 1 left 10011110 moves 4",
        "  . @1  3\n  .  .  .\n  3  1  3\nmoves left: 10",
    ),
}


@pytest.mark.parametrize("game", DRAWN)
def test_drawn_by_hand(game: str):
    options, text, board = DRAWN[game]
    env = envs.make(game, **options)
    assert env.to_board(env.from_text(text)) == board


def squares(board: str) -> dict[str, str]:
    """Marks by the names of their squares, as a person finds them: the row's name, then the column's."""
    lines = [line.split() for line in board.splitlines()]
    (columns,) = (words for words in lines if all(re.fullmatch("[a-z]", word) for word in words))
    rows = {words[0]: words[1:] for words in lines if re.fullmatch(r"\d+", words[0])}
    return {column + row: mark for row, marks in rows.items() for column, mark in zip(columns, marks, strict=True)}


@pytest.mark.parametrize(("game", "options"), [
    ("tic_tac_toe", {}), ("othello", {"size": 6}), ("hex", {"size": 11}), ("go", {"size": 9}), ("gomoku", {"size": 10}),
    ("chess", {}), ("breakthrough", {"rows": 5, "columns": 4}),
])  # fmt: skip
def test_a_move_is_seen_where_it_says(game: str, options: dict):
    """In random games the square that a move names has been empty or the other's, and is the mover's after it."""
    env = envs.make(game, **options)
    legal_actions, step = jax.jit(env.legal_actions), jax.jit(env.step)
    rng, state = np.random.default_rng(0), env.init(jax.random.key(0))
    marks = {"chess": ("KQRBNP", "kqrbnp"), "breakthrough": ("W", "B")}.get(game, ("X", "O"))
    seen = squares(env.to_board(state))
    for _ in range(30):
        if state.terminated:
            break
        action = rng.choice(np.flatnonzero(legal_actions(state)))
        name, mover = env.action_to_str(state, int(action)), int(state.player)
        state = jax.device_get(step(state, action))
        before, seen = seen, squares(env.to_board(state))
        if name in ("pass", "swap"):
            continue
        *origin, goal = re.findall(r"[a-z]\d+", name)
        assert before[goal] not in marks[mover]
        assert seen[goal] in marks[mover]
        assert all(before[square] in marks[mover] and seen[square] == "." for square in origin)
