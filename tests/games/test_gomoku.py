"""Gomoku beside open_spiel's gomoku (five or more in a row win) and m,n,k game, and beside a plain program where a
longer row does not win (`exact_five`), which open_spiel has not.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import games

import envs
from envs.judges import compare, judge_of, random_games
from envs.judges.open_spiel import OpenSpiel


class Plain:
    """The rules stone by stone: lengths of the rows through the last stone."""

    def __init__(self, size: int, exact: bool):
        self.size, self.exact = size, exact
        self.stones: dict[tuple[int, int], int] = {}
        self.winner = -1

    def legal(self) -> set[int]:
        n = self.size
        return {r * n + c for r in range(n) for c in range(n) if (r, c) not in self.stones}

    def player(self) -> int:
        return len(self.stones) % 2

    def terminated(self) -> bool:
        return self.winner >= 0 or len(self.stones) == self.size**2

    def rewards(self) -> list[float]:
        return [[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]][self.winner]

    def length(self, row: int, column: int, down: int, right: int) -> int:
        owner, length = self.stones[row, column], 1
        for sign in (1, -1):
            r, c = row + sign * down, column + sign * right
            while self.stones.get((r, c)) == owner:
                length, r, c = length + 1, r + sign * down, c + sign * right
        return length

    def play(self, action: int) -> None:
        mover, square = self.player(), divmod(action, self.size)
        self.stones[square] = mover
        lengths = [self.length(*square, *way) for way in ((0, 1), (1, 0), (1, 1), (1, -1))]
        if any(n == 5 or (n > 5 and not self.exact) for n in lengths):
            self.winner = mover


@pytest.mark.parametrize(("size", "few", "many"), [(15, 30, 10_000), (7, 100, 5_000), (19, 10, 200)])
def test_random_games_as_in_open_spiel(size, few, many):
    count = games(few, many)
    env = envs.make("gomoku", size=size)
    assert compare(env, judge_of(env), count, batch=100).plies > 20 * count


def test_random_games_as_in_the_m_n_k_game():
    count = games(20, 1_000)
    oracle = lambda: OpenSpiel("mnk", 81, m=9, n=9, k=5)  # noqa: E731
    assert compare(envs.make("gomoku", size=9), oracle, count, seed=1).plies > 20 * count


@pytest.mark.parametrize("exact", [False, True])
def test_random_games_as_in_the_plain_program(exact):
    count = games(100, 5_000)
    env = envs.make("gomoku", size=7, exact_five=exact)
    assert compare(env, lambda: Plain(7, exact), count, seed=2).plies > 20 * count


def test_draws_and_wins_of_either_side_occur():
    _, play = jax.device_get(random_games(envs.make("gomoku", size=6), 300, 37, jax.random.key(5)))
    assert set(play.rewards.sum(0)[:, 0]) == {-1, 0, 1}


def after(rows: str, move: str, exact: bool = False) -> tuple[bool, list[float]]:
    """(terminated, rewards) after a move on a 9 × 9 board with these rows at its top."""
    env = envs.make("gomoku", size=9, exact_five=exact)
    lines = rows.split()
    state = env.from_text("\n".join(lines + ["." * 9] * (9 - len(lines))))
    assert not state.terminated
    state = env.step(state, jnp.int32(env.action_from_str(state, move)))
    return bool(state.terminated), state.rewards.tolist()


WON, ON = (True, [1, -1]), (False, [0, 0])


def test_rows_in_all_directions():
    assert after("XXXX.OOOO", "e9") == WON
    assert after("....XXXX. ....OOOO.", "i9") == WON
    assert after(".......OX .......OX .......OX .......OX", "i5") == WON
    assert after("X.......O .X......O ..X.....O ...X....O", "e5") == WON
    assert after("O.......X O......X. O.....X.. O....X...", "e5") == WON


def test_second_player_wins():
    assert after("OOOO..... XXXX.X...", "e9") == (True, [-1, 1])


def test_no_row_runs_around_an_edge():
    assert after("......XXX X.O.O.O.O", "b8") == ON
    assert after("O...X.... O...X.... ......... ......... ......... ......... ....X...O ....X...O", "e1") == ON
    assert after("......... .X.O.O... X..O.O... ......... .......X. ......X..", "i6") == ON


SIX = {  # a stone between three and two others, in each direction
    "d9": "XXX.XX... OO.OO..O.",
    "b6": ".X.O..... .X.O..... .X....... ...O.O... .X.O..... .X.......",
    "d6": "X....O... .X...O... ..X...... .....O... ....XO... .....X.O.",
    "f6": "...O....X ...O...X. ......X.. ...O..... ...OX.... .O.X.....",
}


@pytest.mark.parametrize("move", list(SIX))
def test_longer_rows(move):
    assert after(SIX[move], move) == WON
    assert after(SIX[move], move, exact=True) == ON


def test_exact_five():
    assert after("XXX.XXXX. OO.OO.OO. .....O...", "d9", exact=True) == ON
    assert after("...XXXX.. OO.OO....", "c9", exact=True) == WON
    assert after("XXXX..... OO.OO....", "e9", exact=True) == WON  # at the edge


def test_five_beside_a_longer_row_wins():
    """One stone makes six across and five down."""
    board = "XXX.XX... O..X..O.. O..X..O.. O..X..O.. O..X..O.. .O......."
    assert after(board, "d9", exact=True) == WON


def test_full_board_is_a_draw():
    env = envs.make("gomoku", size=5)
    state = env.from_text("XXOOX\nOOXXO\nXXOOX\nOOXXO\nXXOO.")
    assert not state.terminated
    state = env.step(state, jnp.int32(env.action_from_str(state, "e1")))
    assert (bool(state.terminated), state.rewards.tolist()) == (True, [0, 0])


def test_refused():
    env = envs.make("gomoku", size=9)
    rest = "\n" + "\n".join(["." * 9] * 8)
    for text, message in [
        ("X.......X" + rest, "X moves first"),
        ("XXXXXO.OO\n.OO......" + rest[10:], "goes on"),
        ("XO......." + rest + " a9", "last move"),
        ("XO......." + rest + " b9 b9", "got"),
    ]:
        with pytest.raises(ValueError, match=message):
            env.from_text(text)
    with pytest.raises(ValueError, match="5 to 19"):
        envs.make("gomoku", size=20)
    with pytest.raises(ValueError, match="exact_five"):
        envs.make("gomoku", exact_five=1)


def test_words_of_bits_hold_the_widest_boards():
    """16 columns fill u16; 19 need u32."""
    for size, bytes_each in ((16, 2), (17, 4), (19, 4)):
        state = envs.make("gomoku", size=size).init(jax.random.key(0))
        assert state.stones.dtype.itemsize == bytes_each
        assert np.asarray(state.stones).shape == (2, size)
