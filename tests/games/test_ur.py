"""The Royal Game of Ur beside rules written anew on the board's 3 × 8 places, and every rule on a drawn position.

No other implementation is to be had as a package. Sets of rules differ in the path (Masters, Blitz), in whether a
captured piece gives another turn and in whether one may pass; these are Finkel's: a path of 14, no turn for a capture,
a move must be made where there is one. The limit of plies is ours.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import games

import envs
from envs.judges import compare
from envs.ur import Ur

ROSETTES = {(0, 0), (2, 0), (1, 3), (0, 6), (2, 6)}  # row, column
WAYS = [
    [(row, 3), (row, 2), (row, 1), (row, 0), *((1, column) for column in range(8)), (row, 7), (row, 6)]
    for row in (0, 2)
]


class Reference:
    """The board as a dict from place to player; `step` of a piece: -1 waits, 0 to 13 on its way, 14 home."""

    def __init__(self, pieces: int, limit: int, roll: int):
        self.pieces, self.limit, self.roll = pieces, limit, roll
        self.board: dict[tuple[int, int], int] = {}
        self.start, self.home = [pieces, pieces], [0, 0]
        self.mover, self.plies, self.earned = 0, 0, [0.0, 0.0]

    def steps(self) -> list[int]:
        on_board = [step for step, place in enumerate(WAYS[self.mover]) if self.board.get(place) == self.mover]
        return [-1] * self.start[self.mover] + on_board + [14] * self.home[self.mover]

    def may_move(self, step: int) -> bool:
        end = step + self.roll
        if self.roll == 0 or end > 14:
            return False
        place = WAYS[self.mover][end] if end < 14 else None
        owner = self.board.get(place) if place else None
        return owner is None or (owner != self.mover and place not in ROSETTES)

    def legal(self) -> set[int]:
        steps = self.steps()
        moves = {steps.index(step) for step in steps if self.may_move(step)}
        return moves or {self.pieces}

    def player(self) -> int:
        return self.mover

    def terminated(self) -> bool:
        return self.pieces in self.home or self.plies == self.limit

    def rewards(self) -> list[float]:
        return self.earned

    def play(self, action: int) -> None:
        mover, other = self.mover, 1 - self.mover
        self.plies += 1
        place = None
        if action < self.pieces:
            step = self.steps()[action]
            if step == -1:
                self.start[mover] -= 1
            else:
                del self.board[WAYS[mover][step]]
            if step + self.roll == 14:
                self.home[mover] += 1
            else:
                place = WAYS[mover][step + self.roll]
                self.start[other] += self.board.get(place) == other
                self.board[place] = mover
        if self.home[mover] == self.pieces:
            self.earned = [1.0, -1.0] if mover == 0 else [-1.0, 1.0]
        if place not in ROSETTES:
            self.mover = other

    def resolve(self, outcome: int) -> None:
        self.roll = outcome


@pytest.mark.parametrize(
    ("pieces", "limit", "count"), [(7, 512, 10_000), (4, 300, 2_500), (3, 55, 2_500), (2, 200, 2_500), (1, 100, 2_500)]
)
def test_random_games_as_by_the_reference(pieces, limit, count):
    """The limit of 55 plies ends many games of 3 pieces as draws."""
    env = Ur(pieces, limit)
    plies = compare(env, lambda start: Reference(pieces, limit, int(start.roll)), games(50, count)).plies
    assert plies > 50 * 12


def board(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


def legal(env: Ur, state) -> set[str]:
    return {env.action_to_str(state, int(action)) for action in np.flatnonzero(env.legal_actions(state))}


# A position, all legal moves (the first is played), and the position after it.
CASES = {
    "a piece comes in": (
        """*...  *.  X: 7 waiting, 0 home
           ...*....
           *...  *.  O: 7 waiting, 0 home
           X rolled 3 at ply 0""",
        "0-3",
        """*X..  *.  X: 6 waiting, 0 home
           ...*....
           *...  *.  O: 7 waiting, 0 home
           O rolls at ply 1""",
    ),
    "a roll of 0 is a pass": (
        """*X..  *.  X: 6 waiting, 0 home
           ...*....
           *...  *.  O: 7 waiting, 0 home
           O rolled 0 at ply 1""",
        "pass",
        """*X..  *.  X: 6 waiting, 0 home
           ...*....
           *...  *.  O: 7 waiting, 0 home
           X rolls at ply 2""",
    ),
    "rosette 4: another turn": (
        """*X..  *.  X: 6 waiting, 0 home
           ...*....
           *...  *.  O: 7 waiting, 0 home
           O rolled 4 at ply 1""",
        "0-4",
        """*X..  *.  X: 6 waiting, 0 home
           ...*....
           O...  *.  O: 6 waiting, 0 home
           O rolls at ply 2""",
    ),
    "rosette 8: another turn; no piece lands on one of its own": (
        """*X.X  *.  X: 4 waiting, 0 home
           .X.*....
           *...  *.  O: 7 waiting, 0 home
           X rolled 2 at ply 9""",
        "6-8 3-5 0-2",
        """*X.X  *.  X: 4 waiting, 0 home
           ...X....
           *...  *.  O: 7 waiting, 0 home
           X rolls at ply 10""",
    ),
    "rosette 14: another turn; two squares from home": (
        """*...  *X  X: 4 waiting, 0 home
           ...*..XX
           *...  *.  O: 7 waiting, 0 home
           X rolled 2 at ply 30""",
        "12-14 13-home 0-2",
        """*...  XX  X: 4 waiting, 0 home
           ...*..X.
           *...  *.  O: 7 waiting, 0 home
           X rolls at ply 31""",
    ),
    "a hit on a shared square sends back": (
        """X...  *.  X: 6 waiting, 0 home
           .O.*....
           *...  *O  O: 3 waiting, 2 home
           X rolled 2 at ply 30""",
        "4-6 0-2",
        """*...  *.  X: 6 waiting, 0 home
           .X.*....
           *...  *O  O: 4 waiting, 2 home
           O rolls at ply 31""",
    ),
    "a hit by player 1 on the last shared square": (
        """*...  *.  X: 6 waiting, 0 home
           ...O...X
           *...  *.  O: 0 waiting, 6 home
           O rolled 4 at ply 80""",
        "8-12",
        """*...  *.  X: 7 waiting, 0 home
           ...*...O
           *...  *.  O: 0 waiting, 6 home
           X rolls at ply 81""",
    ),
    "pieces on the players' own squares do not meet: 3": (
        """*..X  *.  X: 6 waiting, 0 home
           ...*....
           *O..  *.  O: 6 waiting, 0 home
           X rolled 2 at ply 2""",
        "1-3 0-2",
        """*X..  *.  X: 6 waiting, 0 home
           ...*....
           *O..  *.  O: 6 waiting, 0 home
           O rolls at ply 3""",
    ),
    "pieces on the players' own squares do not meet: 13": (
        """*...  *.  X: 0 waiting, 6 home
           ...*...X
           *...  *O  O: 6 waiting, 0 home
           X rolled 1 at ply 80""",
        "12-13",
        """*...  *X  X: 0 waiting, 6 home
           ...*....
           *...  *O  O: 6 waiting, 0 home
           O rolls at ply 81""",
    ),
    "8 is safe": (
        """*...  *.  X: 6 waiting, 0 home
           .X.O....
           *...  *.  O: 6 waiting, 0 home
           X rolled 2 at ply 4""",
        "0-2",
        """*.X.  *.  X: 5 waiting, 0 home
           .X.O....
           *...  *.  O: 6 waiting, 0 home
           O rolls at ply 5""",
    ),
    "a safe piece may force a pass": (
        """*...  *.  X: 0 waiting, 6 home
           .X.O....
           *...  *.  O: 6 waiting, 0 home
           X rolled 2 at ply 80""",
        "pass",
        """*...  *.  X: 0 waiting, 6 home
           .X.O....
           *...  *.  O: 6 waiting, 0 home
           O rolls at ply 81""",
    ),
    "a piece goes home by the exact roll": (
        """*...  XX  X: 0 waiting, 4 home
           ...*...X
           *...  *O  O: 6 waiting, 0 home
           X rolled 3 at ply 80""",
        "12-home",
        """*...  XX  X: 0 waiting, 5 home
           ...*....
           *...  *O  O: 6 waiting, 0 home
           O rolls at ply 81""",
    ),
    "a roll beyond home is no move": (
        """*...  XX  X: 0 waiting, 5 home
           ...*....
           *...  *O  O: 6 waiting, 0 home
           X rolled 4 at ply 80""",
        "pass",
        """*...  XX  X: 0 waiting, 5 home
           ...*....
           *...  *O  O: 6 waiting, 0 home
           O rolls at ply 81""",
    ),
    "the last piece home wins": (
        """*...  X.  X: 0 waiting, 6 home
           ...*....
           *...  OO  O: 0 waiting, 5 home
           X rolled 1 at ply 80""",
        "14-home",
        """*...  *.  X: 0 waiting, 7 home
           ...*....
           *...  OO  O: 0 waiting, 5 home
           O lost at ply 81""",
    ),
    "the last piece of player 1, at the limit": (
        """*...  XX  X: 0 waiting, 5 home
           ...*....
           *...  *O  O: 0 waiting, 6 home
           O rolled 2 at ply 511""",
        "13-home",
        """*...  XX  X: 0 waiting, 5 home
           ...*....
           *...  *.  O: 0 waiting, 7 home
           X lost at ply 512""",
    ),
    "a draw at the limit": (
        """*...  XX  X: 0 waiting, 5 home
           ...*....
           *...  *O  O: 0 waiting, 6 home
           X rolled 2 at ply 511""",
        "13-home",
        """*...  X.  X: 0 waiting, 6 home
           ...*....
           *...  *O  O: 0 waiting, 6 home
           O drew at ply 512""",
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_drawn(case):
    before, moves, after = CASES[case]
    env = Ur()
    state = env.from_text(before)
    assert env.to_text(state) == board(before)
    assert legal(env, state) == set(moves.split())
    reached = env.step(state, jnp.int32(env.action_from_str(state, moves.split()[0])))
    assert env.to_text(reached) == board(after)
    winner = {"O lost": [1, -1], "X lost": [-1, 1]}.get(board(after).splitlines()[-1][:6], [0, 0])
    assert reached.rewards.tolist() == winner
    assert env.resolve(reached, jnp.int32(3)).roll == (0 if reached.terminated else 3)


def test_pieces_that_wait_are_one_choice():
    """Pieces are numbered from those that wait, whose first may move, over those on the path, to those at home."""
    env = Ur()
    state = env.from_text(
        "*..X  *.  X: 3 waiting, 1 home  .X.*...X  *...  *.  O: 7 waiting, 0 home  X rolled 2 at ply 31"
    )
    assert env.legal_actions(state).tolist() == [True, False, False, True, True, True, False, False]
    assert [env.action_to_str(state, action) for action in (0, 3, 4, 5)] == ["0-2", "1-3", "6-8", "12-14"]


def test_seven_pieces_that_all_move():
    env = Ur()
    state = env.from_text("*X.X  *X  X: 0 waiting, 0 home  X.X*X.X. *... *. O: 7 waiting, 0 home X rolled 1 at ply 40")
    assert env.legal_actions(state).tolist() == [True] * 7 + [False]


def test_observation_of_a_drawn_position():
    env = Ur()
    state = env.from_text(
        "X..X  *.  X: 2 waiting, 1 home  .XO*...X  *..O  *O  O: 3 waiting, 1 home  X rolled 3 at ply 128"
    )
    each, theirs, roll, moves, hits, rosettes, shares = np.split(
        np.asarray(env.observe(state)), [105, 119, 124, 132, 139, 146]
    )
    assert np.argwhere(each.reshape(7, 15)).tolist() == [[0, 0], [1, 0], [2, 1], [3, 4], [4, 6], [5, 12]]
    assert (np.flatnonzero(theirs) + 1).tolist() == [1, 7, 13]
    assert roll.tolist() == [0, 0, 0, 1, 0]
    assert moves.tolist() == [1, 0, 0, 1, 1, 1, 0, 0]  # 1-4 is taken by 4
    assert np.flatnonzero(hits).tolist() == [3]
    assert np.flatnonzero(rosettes).tolist() == []
    np.testing.assert_allclose(shares, [1 / 7, 1 / 7, 3 / 7, 1 / 4], rtol=1e-6)
    other = env.observe(dataclasses.replace(state, roll=jnp.uint8(2)))
    assert np.flatnonzero(other[139:146]).tolist() == [4, 5]  # 6-8 and 12-14
    other = env.observe(dataclasses.replace(state, roll=jnp.uint8(1)))
    assert np.flatnonzero(other[132:139]).tolist() == [4]  # 6-7; what stands on O's own 13 is not hit by 12-13
    passed = env.observe(dataclasses.replace(state, roll=jnp.uint8(0)))
    assert np.flatnonzero(passed[119:146]).tolist() == [0, 5 + 7]
    afterstate = env.observe(dataclasses.replace(state, roll=jnp.uint8(0), chance=jnp.bool(True)))
    assert not afterstate[119:124].any()


def test_the_other_side_sees_the_same():
    """With the colours swapped, everything is as it was for who moves."""
    env = Ur()
    for before, _, _ in list(CASES.values())[3:12]:
        upper, shared, lower, turn = board(before).translate(str.maketrans("XO", "OX")).splitlines()
        one, two = env.from_text(before), env.from_text("\n".join([lower, shared, upper, turn]))
        assert one.player != two.player
        assert np.array_equal(env.observe(one), env.observe(two))
        assert np.array_equal(env.legal_actions(one), env.legal_actions(two))


def test_dice():
    """Rolls of `init` and `outcome_logits` have the chances of four coins."""
    env = Ur()
    coins = np.array([1, 4, 6, 4, 1]) / 16
    state = env.init(jax.random.key(0))
    np.testing.assert_allclose(np.exp(env.outcome_logits(state)), coins, rtol=1e-6)
    count = 1 << 16
    rolls = jax.jit(jax.vmap(lambda key: env.init(key).roll))(jax.random.split(jax.random.key(1), count))
    share = np.bincount(rolls, minlength=5) / count
    assert (np.abs(share - coins) < 4.5 * np.sqrt(coins * (1 - coins) / count)).all()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("*... *. X: 7 waiting, 0 home ...*.... *... *. O: 7 waiting, 0 home X rolled 5 at ply 0", "rows"),
        ("*... *. X: 7 waiting, 0 home ...*.... *X.. *. O: 7 waiting, 0 home X rolled 1 at ply 9", "rows"),
        ("*... *. X: 6 waiting, 0 home ...*.... *... *. O: 7 waiting, 0 home X rolled 1 at ply 9", "X has 6 pieces"),
        ("*... *. X: 7 waiting, 0 home ...*.... *..O *. O: 7 waiting, 0 home X rolled 1 at ply 9", "O has 8 pieces"),
        (".... *. X: 7 waiting, 0 home ...*.... *... *. O: 7 waiting, 0 home X rolled 1 at ply 9", "square 4 of X"),
        ("*... *. X: 7 waiting, 0 home *..*.... *... *. O: 7 waiting, 0 home X rolled 1 at ply 9", "square 5 of X"),
        ("*... *. X: 7 waiting, 0 home ...*.... *... *. O: 7 waiting, 0 home O rolled 1 at ply 0", "no game comes"),
        ("*... *. X: 6 waiting, 1 home ...*.... *... *. O: 7 waiting, 0 home X rolled 1 at ply 3", "no game comes"),
        ("*... *. X: 7 waiting, 0 home ...*.... *... *. O: 7 waiting, 0 home O drew at ply 513", "no game comes"),
        (
            "*... *. X: 7 waiting, 0 home ...*.... *... *. O: 7 waiting, 0 home O drew at ply 99",
            "cannot be that O drew",
        ),
        (
            "*... *. X: 7 waiting, 0 home ...*.... *... *. O: 7 waiting, 0 home O lost at ply 99",
            "cannot be that O lost",
        ),
        ("*... *. X: 7 waiting, 0 home ...*.... *... *. O: 7 waiting, 0 home O rolls at ply 512", "O rolls"),
        ("*... *. X: 0 waiting, 7 home ...*.... *... *. O: 7 waiting, 0 home O rolls at ply 99", "O rolls"),
        ("*... *. X: 0 waiting, 7 home ...*.... *... *. O: 7 waiting, 0 home X lost at ply 99", "X lost"),
        ("*... *. X: 0 waiting, 7 home ...*.... *... *. O: 0 waiting, 7 home X lost at ply 99", "X lost"),
    ],
)
def test_impossible_positions_are_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        Ur().from_text(text)


@pytest.mark.parametrize("options", [{"pieces": 0}, {"pieces": 8}, {"max_plies": 0}, {"max_plies": 1 << 16}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match=f"ur: {next(iter(options))} is 1 to"):
        envs.make("ur", **options)
