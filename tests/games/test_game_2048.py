"""2048 beside open_spiel and Pgx, and rows by hand.

open_spiel ends the game at the tile 2048, which random play does not reach, and numbers moves otherwise. Its list of
legal moves (2.0.2) leaves out merges of a tile that the last move made, so here a move is legal that changes its
board; spawns, merges, points and the end are as ours. Pgx numbers moves as we do, but draws the new tile within its
step: its boards are given to ours.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pgx
import pytest
from oracles import games

import envs
from envs.game_2048 import ACTIONS, exponents
from envs.judges import compare, judge_of
from envs.svg import frame


def test_random_games_as_in_open_spiel():
    env = envs.make("2048", max_plies=1000)
    assert compare(env, judge_of(env), games(50), batch=500).plies > 3_000


def test_same_moves_as_pgx():
    """Pgx's games, move by move: our step earns its rewards, and one of our outcomes gives its next board."""
    env, other = envs.make("2048"), pgx.make("2048")

    def board(theirs):
        places = theirs._board.reshape(2, 8).astype(jnp.uint32) << np.arange(0, 32, 4, dtype=np.uint32)[None]
        upper, lower = places.sum(1, dtype=jnp.uint32)
        state = env.init(jax.random.key(0))
        return type(state)(upper, lower, *(getattr(state, name) for name in list(vars(state))[2:]))

    def ply(theirs, key):
        choose, chance = jax.random.split(key)
        state, over = board(theirs), theirs.terminated
        legal = env.legal_actions(state)
        action = jax.random.categorical(choose, jnp.where(legal, 0.0, -jnp.inf))
        alike = (legal == theirs.legal_action_mask).all() & (
            env.observe(state) == other.observe(theirs, theirs.current_player)[:, :, :16]
        ).all()
        theirs, after = other.step(theirs, action, chance), env.step(state, action)
        outcomes = jax.vmap(env.resolve, (None, 0))(after, jnp.arange(32))
        match = (outcomes.upper == board(theirs).upper) & (outcomes.lower == board(theirs).lower)
        match &= env.outcome_logits(after) > -jnp.inf
        alike &= match.sum() == 1
        alike &= outcomes.terminated[jnp.argmax(match)] == theirs.terminated
        return theirs, (over | alike & (after.rewards == theirs.rewards).all(), ~over)

    @jax.jit
    @jax.vmap
    def game(key):
        return jax.lax.scan(ply, other.init(key), jax.random.split(key, 400))[1]

    alike, live = game(jax.random.split(jax.random.key(0), games(128, 10_000)))
    assert np.asarray(alike).all()
    assert 100 < np.asarray(live).sum(1).mean() < 150


def moved(rows: str, action: str) -> tuple[list[str], float]:
    env = envs.make("2048")
    state = env.from_text(f"{rows} ply 0")
    after = env.step(state, jnp.int32(ACTIONS.index(action)))
    assert after.chance
    tiles = env.to_text(after).split()[:16]
    return [" ".join(tiles[i : i + 4]) for i in range(0, 16, 4)], float(after.rewards[0])


ROWS = {
    "2 2 2 2": ("4 4 . .", 8),
    "2 2 4 .": ("4 4 . .", 4),
    "4 2 2 .": ("4 4 . .", 4),
    "2 2 2 .": ("4 2 . .", 4),
    ". 2 2 2": ("4 2 . .", 4),
    "2 . . 2": ("4 . . .", 4),
    "2 4 4 8": ("2 8 8 .", 8),
    "4 4 8 8": ("8 16 . .", 24),
    ". . . 8": ("8 . . .", 0),
    "2 . 4 .": ("2 4 . .", 0),
    "16384 16384 2 2": ("32768 4 . .", 32772),
}


@pytest.mark.parametrize("row", list(ROWS))
def test_rows(row):
    """One row on each edge, slid to each side; the reverse of the row slides the other way."""
    expected, points = ROWS[row]
    empty, filler = ". . . .", "2 4 8 16"
    back, expected_back = (" ".join(text.split()[::-1]) for text in (row, expected))
    assert moved("\n".join([filler, row, empty, row]), "left") == ([filler, expected, empty, expected], 2 * points)
    assert moved("\n".join([back, empty, back, filler]), "right") == (
        [expected_back, empty, expected_back, filler],
        2 * points,
    )

    def columns(*rows):
        return [" ".join(column) for column in zip(*(text.split() for text in rows), strict=True)]

    up = moved("\n".join(columns(row, filler, empty, row)), "up")
    assert up == (columns(expected, filler, empty, expected), 2 * points)
    down = moved("\n".join(columns(back, filler, empty, back)), "down")
    assert down == (columns(expected_back, filler, empty, expected_back), 2 * points)


LEGAL = {
    "2 . . . . . . . . . . . . . . .": "right down",
    ". . . . . 2 . . . . . . . . . .": "left up right down",
    "2 4 2 4 4 2 4 2 2 4 2 4 4 2 4 2": "",
    "2 4 2 4 4 2 4 2 2 4 2 4 4 2 4 4": "left up right down",
    "2 4 2 4 4 2 4 2 2 4 2 4 4 2 8 8": "left right",
    "2 4 2 4 4 2 4 2 2 4 2 8 4 2 4 8": "up down",
    "2 4 2 4 4 2 4 2 2 4 2 4 4 2 4 .": "right down",
}


@pytest.mark.parametrize("board", list(LEGAL))
def test_legal_and_end(board):
    env = envs.make("2048")
    state = env.from_text(f"{board} ply 3")
    legal = " ".join(name for name, able in zip(ACTIONS, env.legal_actions(state), strict=True) if able)
    assert bool(state.terminated) == (LEGAL[board] == "")
    assert legal == (LEGAL[board] or "left up right down")


def test_spawns():
    """Each empty square equally often, a 4 one time in ten; as `outcome_logits` says; in first positions too."""
    env = envs.make("2048")
    due = env.from_text("2 4 8 16 32 64 128 256 2 4 . 8 . . 2 4 ply 3 spawn")
    odds = np.exp(env.outcome_logits(due)).reshape(16, 2)
    empty = np.asarray(exponents(due)) == 0
    np.testing.assert_allclose(odds, np.where(empty[:, None], [[0.3, 1 / 30]], 0), atol=1e-6)
    before = env.from_text("2 4 8 16 32 64 128 256 2 4 . 8 2 . 2 . ply 3")  # to the left it becomes another with three
    n = 60_000
    advance = jax.jit(jax.vmap(env.advance, (None, None, 0)))
    after = advance(before, jnp.int32(0), jax.random.split(jax.random.key(0), n))
    boards = np.asarray(jax.vmap(exponents)(after))
    slid = np.asarray(exponents(env.step(before, jnp.int32(0))))
    new = np.where(slid == 0, boards, 0)
    assert ((new != 0).sum(1) == 1).all()
    assert (boards[:, slid != 0] == slid[slid != 0]).all()
    share = (new == 1).mean(0)[slid == 0], (new == 2).mean(0)[slid == 0]
    free = (slid == 0).sum()
    np.testing.assert_allclose(share[0], 0.9 / free, atol=0.01)
    np.testing.assert_allclose(share[1], 0.1 / free, atol=0.005)
    first = np.asarray(jax.jit(jax.vmap(lambda key: exponents(env.init(key))))(jax.random.split(jax.random.key(1), n)))
    assert ((first != 0).sum(1) == 2).all()
    np.testing.assert_allclose((first != 0).mean(0), 1 / 8, atol=0.007)
    np.testing.assert_allclose((first == 2).mean(0), 1 / 80, atol=0.003)


DRAWN = {  # the board before and after, (row, column) of the tiles made and of the one that appeared
    "left": ("2 2 4 . 4 4 8 8 . . . 2 . . . .", "4 4 . . 8 16 . 4 2 . . . . . . .", [(0, 0), (1, 0), (1, 1)], [(1, 3)]),
    "up": ("2 . . . 2 . . . 2 . . 8 2 . . .", "4 . . 8 4 . . . . . . . . 2 . .", [(0, 0), (1, 0)], [(3, 1)]),
    "right, nothing merges": (
        "2 4 . . . . . . . . . . . . . .",
        ". . 2 4 . . . . . . 2 . . . . .",
        [],
        [(2, 2)],
    ),
    "down, nothing appears": (
        ". 2 . . . 2 . . . 4 . . . . . .",
        ". . . . . . . . . 4 . . . 4 . .",
        [(2, 1)],
        [],
    ),
    "no move": ("2 . . . . . . . . . . . . . . .", "2 . . . . . . . . . . . . . . 4", [], []),
}


@pytest.mark.parametrize("case", list(DRAWN))
def test_drawing_marks_what_merged_and_what_appeared(case):
    env = envs.make("2048")
    before, after, made, appeared = DRAWN[case]
    old, new = env.from_text(f"{before} ply 5"), env.from_text(f"{after} ply 6")
    drawing, plain = env.to_svg(new, old), env.to_svg(new)
    marks = [frame(r, c, "#4a3f35") for r, c in made] + [frame(r, c, "#d8432f") for r, c in appeared]
    for mark in marks:
        assert drawing.count(mark) == 1
        drawing = drawing.replace(mark, "")
    assert drawing == plain == env.to_svg(new, new)
    assert not any(mark in plain for mark in marks)


def test_longest_game():
    env = envs.make("2048", max_plies=5)
    state = env.from_text("2 2 . . . . . . . . . . . . . . ply 4")
    after = env.step(state, jnp.int32(0))
    assert after.terminated
    assert not after.chance
    assert after.rewards.tolist() == [4]
    with pytest.raises(ValueError, match="max_plies"):
        envs.make("2048", max_plies=20_000)


@pytest.mark.parametrize(
    "text", ["2 " * 16 + "ply 2049", "2 " * 15 + "3 ply 1", "2 " * 16 + "ply 3 spawn", "2 " * 15 + "ply 1"]
)
def test_no_position(text):
    with pytest.raises(ValueError, match="2048"):
        envs.make("2048").from_text(text)
