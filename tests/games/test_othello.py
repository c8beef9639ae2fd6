"""Othello: open_spiel, Pgx, and a plain program for the small board.

open_spiel ends a game as we do, when neither side can place a disc, and its pass is our pass (64). Pgx plays on with
passes until two have followed each other, unless the board is full or the other has no disc: its games end up to two
plies later, with the same result.
"""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pgx
import pytest
from oracles import games

import envs
from envs.judges import compare, judge_of, random_games


class Plain:
    """The rules square by square, on a dictionary of discs."""

    def __init__(self, size: int = 6):
        self.size, low, high = size, size // 2 - 1, size // 2
        self.discs = {(low, low): 1, (high, high): 1, (low, high): 0, (high, low): 0}
        self.mover = 0

    def turned(self, player: int, row: int, column: int) -> list[tuple[int, int]]:
        if (row, column) in self.discs:
            return []
        found = []
        for down, right in [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]:
            run, r, c = [], row + down, column + right
            while self.discs.get((r, c)) == 1 - player:
                run.append((r, c))
                r, c = r + down, c + right
            if self.discs.get((r, c)) == player:
                found += run
        return found

    def placements(self, player: int) -> set[int]:
        n = self.size
        return {r * n + c for r in range(n) for c in range(n) if self.turned(player, r, c)}

    def legal(self) -> set[int]:
        return self.placements(self.mover) or {self.size**2}

    def player(self) -> int:
        return self.mover

    def terminated(self) -> bool:
        return not (self.placements(0) or self.placements(1))

    def rewards(self) -> list[float]:
        lead = 2 * sum(owner == 0 for owner in self.discs.values()) - len(self.discs)
        return [float(np.sign(lead)), float(-np.sign(lead))] if self.terminated() else [0.0, 0.0]

    def play(self, action: int) -> None:
        if action < self.size**2:
            square = divmod(action, self.size)
            for disc in [*self.turned(self.mover, *square), square]:
                self.discs[disc] = self.mover
        self.mover = 1 - self.mover


def test_random_games_as_in_open_spiel():
    env = envs.make("othello")
    assert compare(env, judge_of(env), games(200)).plies > 10_000


def test_random_games_on_the_small_board():
    assert compare(envs.make("othello", size=6), Plain, games(60, 1_000)).plies > 1_500


def test_plain_rules_on_the_large_board():
    """The program above is itself held against open_spiel."""
    rng = random.Random(0)
    for _ in range(games(10, 100)):
        plain, other = Plain(8), judge_of(envs.make("othello"))()
        while not other.terminated():
            assert (plain.legal(), plain.player(), plain.terminated()) == (other.legal(), other.player(), False)
            action = rng.choice(sorted(other.legal()))
            plain.play(action)
            other.play(action)
        assert plain.terminated()
        assert plain.rewards() == other.rewards()


def test_random_games_as_in_pgx():
    env, other = envs.make("othello"), pgx.make("othello")

    def ply(carry, key):
        state, theirs = carry
        legal = env.legal_actions(state)
        first = jnp.where(theirs._step_count % 2 == 0, theirs.current_player, 1 - theirs.current_player)
        same = (legal == theirs.legal_action_mask).all() & (env.observe(state) == theirs.observation).all()
        same = (same & (state.player == theirs._step_count % 2) & ~theirs.terminated) | state.terminated
        action = jax.random.categorical(key, jnp.where(legal, 0.0, -jnp.inf))
        action = jnp.where(state.terminated, 64, action)
        theirs = other.step(theirs, action)
        after = env.step(state, action)
        ours, theirs_rewards = after.rewards, theirs.rewards[jnp.stack([first, 1 - first])]
        done = after.terminated & ~state.terminated
        return (after, theirs), (same, done, ours, theirs_rewards)

    @jax.jit
    @jax.vmap
    def game(key):
        start, moves = jax.random.split(key)
        keys = jax.random.split(moves, env.max_plies + 3)
        carry, seen = jax.lax.scan(ply, (env.init(start), other.init(start)), keys)
        return seen, carry[0].terminated & carry[1].terminated

    for first in range(0, games(500), 500):
        key = jax.random.fold_in(jax.random.key(1), first)
        (same, done, ours, theirs), over = jax.device_get(game(jax.random.split(key, 500)))
        assert over.all()
        assert same.all(), np.argwhere(~same)[:5]
        assert (done.sum(1) == 1).all()
        np.testing.assert_array_equal(ours.sum(1), theirs.sum(1))  # each side rewards once


BOARD = """
........
........
........
...OX...
...XO...
........
........
........
"""


def replaced(text: str, **rows: str) -> str:
    """The begin with other rows, `r1` the top."""
    lines = text.split()
    for name, row in rows.items():
        lines[int(name[1:]) - 1] = row
    return "\n".join(lines)


def after(text: str, move: str, size: int = 8) -> tuple[list[str], list[float], bool]:
    env = envs.make("othello", size=size)
    state = env.from_text(text)
    state = env.step(state, jnp.int32(env.action_from_str(state, move)))
    return env.to_text(state).split(), state.rewards.tolist(), bool(state.terminated)


def test_flips_in_all_eight_directions():
    rows = {"r1": "X.X.X...", "r2": ".OOO....", "r3": "XO.OOX..", "r4": ".OOOO...", "r5": "X.OOX...", "r6": "..X....."}
    turned = {"r2": ".XXX....", "r3": "XXXXXX..", "r4": ".XXXO...", "r5": "X.XOX..."}
    lines, _, _ = after(replaced(BOARD, **rows) + "\nX", "c3")
    assert lines[:8] == replaced(BOARD, **rows | turned).split()


def test_no_line_runs_around_an_edge():
    """In the words of bits h3 is beside a4, and h5 beside a6."""
    env = envs.make("othello")
    state = env.from_text(replaced(BOARD, r3="......XO") + "\nX")
    names = {env.action_to_str(state, int(a)) for a in np.flatnonzero(env.legal_actions(state))}
    assert "a4" not in names
    assert names == {"c4", "d3", "e6", "f5"}
    state = env.from_text(replaced(BOARD, r6="O.......", r5="...XO.XX") + "\nX")
    assert "b6" not in {env.action_to_str(state, int(a)) for a in np.flatnonzero(env.legal_actions(state))}


def test_longest_line_and_one_that_is_not_held():
    lines, _, _ = after(replaced(BOARD, r1=".OOOOOOX", r8=".OOOOOO.") + "\nX", "a1")
    assert lines[0] == "XXXXXXXX"
    assert lines[7] == ".OOOOOO."
    with pytest.raises(ValueError, match="a8"):
        after(replaced(BOARD, r8=".OOOOOO.") + "\nX", "a8")


def test_pass_is_forced_and_the_only_action():
    text = replaced(BOARD, r1="XO......", r4="...XX...", r5="...XX...") + "\nO"  # only X can place: c1
    env = envs.make("othello")
    state = env.from_text(text)
    assert not state.terminated
    assert np.flatnonzero(env.legal_actions(state)).tolist() == [64]
    state = env.step(state, jnp.int32(env.action_from_str(state, "pass")))
    assert env.to_text(state).split()[8:] == ["X", "pass"]
    state = env.step(state, jnp.int32(env.action_from_str(state, "c1")))
    assert state.terminated
    assert state.rewards.tolist() == [1, -1]


def test_game_ends_on_an_unfilled_board():
    board = replaced(BOARD, r1="OX......", r4="...OO...", r5="...OO...")
    assert after(board + "\nO", "c1")[1:] == ([-1, 1], True)


def test_equal_discs_are_a_draw():
    board = "\n".join(["XXXXXXXX"] * 4 + ["OOOOOOOO"] * 3 + ["OOOOOOX."])
    assert after(board + "\nO", "h8")[1:] == ([0, 0], True)


def test_results_of_both_signs_and_draws_occur():
    _, play = jax.device_get(random_games(envs.make("othello", size=6), 300, 63, jax.random.key(5)))
    assert set(play.rewards.sum(0)[:, 0]) == {-1, 0, 1}


def test_refused():
    env = envs.make("othello")
    start = env.to_text(env.init(jax.random.key(0)))
    for text, message in [
        (start[:-1] + "Y", "X or O moves"),
        (start.replace("OX", ".X"), "middle"),
        (start + " a1", "last move"),
        (start + " X X", "got"),
    ]:
        with pytest.raises(ValueError, match=message):
            env.from_text(text)
    with pytest.raises(ValueError, match="6 or 8"):
        envs.make("othello", size=7)
