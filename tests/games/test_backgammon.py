"""Backgammon beside open_spiel, and positions drawn by hand.

open_spiel plays two checkers with one action (of four equal dice, two and two). Its actions here are taken apart into
ours, in every order that it lists, so that legal sets are compared after each checker. Rules are the same; ours ends
the game with the last checker borne off, and a pass after one checker of two is an action of its own. Its limit on
turns is set out of reach, as ours is.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import games

import envs
from envs.backgammon import ROLLS, counts, side
from envs.judges import compare, judge_of


def test_random_games_as_in_open_spiel():
    env = envs.make("backgammon", max_plies=2000)
    assert compare(env, judge_of(env), games(40), batch=500).plies > 5_000


# Position, legal moves. Each side counts its own points; 25 is the bar.
LEGAL = {
    "from the bar first": ("0: 25:1 13:5 8:3 6:5 1: 24:2 13:5 8:3 6:5 0 has 31 ply 9", "bar/24 bar/22"),
    "two on the bar": ("0: 25:2 13:5 8:3 6:5 1: 24:2 13:5 8:3 6:5 0 has 31 ply 9", "bar/24 bar/22"),
    "bar closed by one die": ("0: 25:1 13:5 8:3 6:5 1: 24:2 13:5 8:3 6:5 0 has 61 ply 9", "bar/24"),
    "bar closed": ("0: 25:1 13:5 8:3 6:5 1: 24:2 13:5 8:3 6:5 0 has 6666 ply 9", "pass"),
    "a blot does not close": ("0: 25:1 6:14 1: 6:1 1:14 0 has 6 ply 9", "bar/19"),
    "last checker: the larger die": ("0: 1:1 1: 23:2 0 has 62 ply 9", "1/off(6)"),
    "both dice, one order": ("0: 24:1 1: 6:2 7:2 24:2 0 has 54 ply 9", "24/20"),
    "first die that leaves the other one": ("0: 24:1 6:1 1: 4:2 6:2 9:2 0 has 62 ply 9", "6/4 24/18"),
    "larger die of two, one playable": ("0: 24:1 1: 12:2 0 has 65 ply 9", "24/18"),
    "smaller die if the larger is blocked": ("0: 24:1 1: 7:2 12:2 0 has 65 ply 9", "24/19"),
    "no bearing off with one outside": ("0: 7:1 6:1 1: 23:2 0 has 6 ply 9", "7/1"),
    "exact": ("0: 6:1 5:1 2:1 1: 22:2 0 has 5 ply 9", "5/off 6/1"),
    "larger die from the highest point": ("0: 4:1 3:1 1: 24:2 0 has 6 ply 9", "4/off(6)"),
    "not over a higher checker": ("0: 6:1 3:1 1: 24:2 0 has 4 ply 9", "6/2"),
    "either die takes it off": ("0: 3:2 1: 24:2 0 has 53 ply 9", "3/off 3/off(5)"),
}


@pytest.mark.parametrize("case", list(LEGAL))
def test_legal(case):
    env = envs.make("backgammon")
    state = env.from_text(LEGAL[case][0])
    names = {env.action_to_str(state, int(a)) for a in np.flatnonzero(env.legal_actions(state))}
    assert names == set(LEGAL[case][1].split())


# Position before the winning move `1/off`, units won.
WINS = {
    "single": ("0: 1:1 1: 18:1 1:13 0 has 1 ply 9", 1),
    "gammon": ("0: 1:1 1: 18:1 1:14 0 has 1 ply 9", 2),
    "backgammon in the home": ("0: 1:1 1: 19:1 1:14 0 has 1 ply 9", 3),
    "backgammon on the bar": ("0: 1:1 1: 25:1 1:14 0 has 1 ply 9", 3),
    "player 1": ("0: 25:1 1:13 1: 1:1 1 has 1 ply 9", -1),
}


@pytest.mark.parametrize("case", list(WINS))
@pytest.mark.parametrize("gammons", [True, False])
def test_rewards(case, gammons):
    env = envs.make("backgammon", gammons=gammons)
    text, units = WINS[case]
    state = env.from_text(text)
    after = env.step(state, jnp.int32(env.action_from_str(state, "1/off")))
    expected = units / 3 if gammons else np.sign(units)
    assert after.terminated
    assert not after.chance
    np.testing.assert_allclose(after.rewards, [expected, -expected], rtol=1e-6)


def test_hit_turn_and_roll():
    env = envs.make("backgammon")
    state = env.from_text("0: 8:2 6:5 1: 24:1 23:1 20:1 0 has 31 ply 4")
    state = env.step(state, jnp.int32(env.action_from_str(state, "8/5")))
    assert env.to_text(state) == "0: 8:1 6:5 5:1\n1: 25:1 24:1 23:1\n0 has 1 ply 5"
    state = env.step(state, jnp.int32(env.action_from_str(state, "6/5")))
    assert env.to_text(state) == "0: 8:1 6:4 5:2\n1: 25:1 24:1 23:1\n1 rolls ply 6"
    state = env.resolve(state, jnp.int32(ROLLS.tolist().index([5, 5])))
    assert env.to_text(state).endswith("1 has 5555 ply 6")
    assert env.action_to_str(state, int(np.flatnonzero(env.legal_actions(state))[0])) == "pass"


def test_rolls():
    """First rolls are 15 unequal ones; later the 21 have 1 or 2 chances of 36; they come as often as that."""
    env = envs.make("backgammon")
    states = jax.jit(jax.vmap(env.init))(jax.random.split(jax.random.key(0), 15_000))
    rolls, times = np.unique(np.asarray(states.dice), axis=0, return_counts=True)
    assert len(rolls) == 15
    assert (rolls[:, 0] > rolls[:, 1]).all()
    assert abs(times - 1000).max() < 160  # five standard deviations
    odds = np.exp(env.outcome_logits(env.init(jax.random.key(0))))
    np.testing.assert_allclose(odds * 36, np.where(ROLLS[:, 0] == ROLLS[:, 1], 1, 2), rtol=1e-6)
    due = env.from_text("0: 6:5 1: 6:5 0 has 1 ply 7")
    advance = jax.jit(jax.vmap(env.advance, (None, None, 0)))
    states = advance(due, jnp.int32(env.action_from_str(due, "6/5")), jax.random.split(jax.random.key(1), 36_000))
    rolls, times = np.unique(np.asarray(states.dice)[:, ::-1], axis=0, return_counts=True)
    assert len(rolls) == 21
    assert abs(times / np.where(rolls[:, 0] == rolls[:, 1], 1000, 2000) - 1).max() < 0.16


def test_longest_game_is_a_draw():
    env = envs.make("backgammon", max_plies=10)
    state = env.from_text("0: 6:2 1: 6:2 0 has 31 ply 9")
    after = env.step(state, jnp.int32(env.action_from_str(state, "6/5")))
    assert after.terminated
    assert after.rewards.tolist() == [0, 0]


@pytest.mark.parametrize(
    "text",
    [
        "0: 6:16 1: 6:1 0 has 1 ply 0",
        "0: 26:1 1: 6:1 0 has 1 ply 0",
        "0: 6:1 1: 19:1 0 has 1 ply 0",
        "0: 6:1 1: 6:1 0 has 12 ply 0",
        "0: 6:1 1: 6:1 0 has 55555 ply 0",
        "0: 6:1 1: 6:1 0 over ply 3",
        "0: 6:1 1: 0 has 1 ply 3",
        "0: 6:1 1: 6:1 0 has 1 ply 1024",
    ],
)
def test_no_position(text):
    with pytest.raises(ValueError, match="backgammon"):
        envs.make("backgammon").from_text(text)


def test_counts():
    assert counts(jnp.asarray(side({25: 15, 13: 7, 1: 1}))) == {25: 15, 13: 7, 1: 1}
