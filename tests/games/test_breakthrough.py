"""Breakthrough beside open_spiel, whose moves are compared as written: open_spiel's first player is black and moves
down its board, ours moves up, so ranks are counted from the other side. Rules agree; the numbering of actions does not.
On fewer than six rows open_spiel gives each side one row of pieces, we two as always.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import games

import envs
from envs.judges import compare, judge_of


@pytest.mark.parametrize(("rows", "columns", "share"), [(8, 8, 1.0), (6, 5, 0.5), (7, 9, 0.2)])
def test_random_games_as_in_open_spiel(rows, columns, share):
    env = envs.make("breakthrough", rows=rows, columns=columns)
    count = int(games(100) * share)
    assert compare(env, judge_of(env), count).plies > 8 * count


def after(text: str, move: str, **options) -> tuple[list[str], list[float], bool]:
    env = envs.make("breakthrough", **options)
    state = env.from_text(text)
    state = env.step(state, jnp.int32(env.action_from_str(state, move)))
    return env.to_text(state).split(), state.rewards.tolist(), bool(state.terminated)


def moves(text: str, **options) -> set[str]:
    env = envs.make("breakthrough", **options)
    state = env.from_text(text)
    return {env.action_to_str(state, int(a)) for a in np.flatnonzero(env.legal_actions(state))}


SMALL = {"rows": 5, "columns": 4}
BLOCKED = ".... ...B BB.B WW.W .... "


def test_straight_is_blocked_and_diagonal_captures():
    assert moves(BLOCKED + "W", **SMALL) == {"a2b3", "b2a3", "b2c3", "d2c3"}
    assert moves(BLOCKED + "B", **SMALL) == {"a3b2", "b3a2", "b3c2", "d3c2", "d4c3"}
    assert after(BLOCKED + "W", "a2b3", **SMALL)[0][:5] == ["....", "...B", "BW.B", ".W.W", "...."]
    assert after(BLOCKED + "B", "b3a2", **SMALL)[0][:5] == ["....", "...B", "B..B", "BW.W", "...."]


def test_far_row_wins_for_either_side():
    board = ".... W..B .... B..W .... "
    assert after(board + "W", "a4b5", **SMALL)[1:] == ([1, -1], True)
    assert after(board + "B", "a2b1", **SMALL)[1:] == ([-1, 1], True)
    assert after(board + "W", "d2c3", **SMALL)[1:] == ([0, 0], False)


def test_last_capture_wins():
    board = ".... .... .B.. W... .... "
    assert after(board + "W", "a2b3", **SMALL)[1:] == ([1, -1], True)
    assert after(board + "B", "b3a2", **SMALL)[1:] == ([-1, 1], True)


def test_both_players_see_their_pieces_move_up():
    """From the start the players see the same, and the same action is the mirrored move of the other side."""
    env = envs.make("breakthrough")
    first = env.init(jax.random.key(0))
    action = env.action_from_str(first, "c2d3")
    second = env.step(first, jnp.int32(action))
    assert env.action_to_str(second, action) == "c7d6"
    seen = np.asarray(env.observe(env.step(second, jnp.int32(action))))
    assert seen[5, 3, 0] == 1
    assert seen[2, 3, 1] == 1
    assert seen[6, 2].tolist() == seen[1, 2].tolist() == [0, 0]


def test_refused():
    env = envs.make("breakthrough")
    start = env.to_text(env.init(jax.random.key(0)))
    lines = start.split()
    for text, message in [
        (start[:-1] + "X", "W or B moves"),
        (start + " a1a2", "last move"),
        ("\n".join([*lines[:3], "WWWWWWWW", *lines[4:]]), "more than 16"),
        ("\n".join(["W.......", *lines[1:6], "........", "........", "W"]), "who has won"),
    ]:
        with pytest.raises(ValueError, match=message):
            env.from_text(text)
    for options in ({"rows": 3}, {"columns": 1}, {"rows": 17}):
        with pytest.raises(ValueError, match="to 16"):
            envs.make("breakthrough", **options)
