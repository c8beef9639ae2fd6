"""The solver of small Ur against the game's own rules: Bellman's equation, forced play, play by its choices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import games

from envs.judges import random_games
from envs.ur import Ur
from jaxzero.solvers.ur import ROLLS, Solution, solve


def positions(env: Ur, count: int, plies: int, seed: int):
    """`count` decisions after up to `plies` random plies, a batch."""

    def ply(i, carry):
        state, key = carry
        key, choose, roll = jax.random.split(key, 3)
        action = jax.random.categorical(choose, jnp.where(env.legal_actions(state), 0.0, -jnp.inf))
        return env.advance(state, action, roll), key

    def game(key):
        length, key = jax.random.split(key)
        return jax.lax.fori_loop(0, jax.random.randint(length, (), 0, plies), ply, (env.init(key), key))[0]

    states = jax.device_get(jax.jit(jax.vmap(game))(jax.random.split(jax.random.key(seed), count)))
    return jax.tree.map(lambda leaf: leaf[~states.terminated], states)


def for_mover(solution: Solution, before, after) -> np.ndarray:
    """Win probability of who moved from `before` to `after`, f64[N]; by the rewards where the game has ended."""
    wins = solution.win_probability(after)
    wins = np.where(after.player == before.player, wins, 1 - wins)
    reward = after.rewards[np.arange(len(wins)), before.player]
    return np.where(after.terminated, (1 + reward) / 2, wins)


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_bellman_equation_by_the_rules_of_the_game(pieces):
    """A decision is worth its best action; what follows an action, the mean over the rolls."""
    env, solution = Ur(pieces), solve(pieces)
    before = positions(env, games(1000, 20_000), 20 * pieces, seed=pieces)
    legal = np.asarray(jax.jit(jax.vmap(env.legal_actions))(before))
    step, resolve = jax.jit(jax.vmap(env.step, (0, None))), jax.jit(jax.vmap(env.resolve, (0, None)))
    values = np.full(legal.shape, np.nan)
    for action in range(env.num_actions):
        after = jax.device_get(step(before, jnp.int32(action)))
        values[:, action] = np.where(legal[:, action], for_mover(solution, before, after), np.nan)
        live = jax.tree.map(lambda leaf: leaf[~after.terminated & legal[:, action]], after)  # noqa: B023
        rolled = [solution.win_probability(jax.device_get(resolve(live, jnp.int32(roll)))) for roll in range(5)]
        np.testing.assert_allclose(solution.win_probability(live), ROLLS @ np.stack(rolled), rtol=0, atol=1e-9)
    np.testing.assert_allclose(solution.action_values(before), values, rtol=0, atol=1e-9)
    np.testing.assert_allclose(solution.win_probability(before), np.nanmax(values, 1), rtol=0, atol=1e-9)


def assert_share(won: np.ndarray, wins: float) -> None:
    """The share of games won lies within 4.5 standard deviations of its expectation."""
    assert abs(won.mean() - wins) < 4.5 * np.sqrt(wins * (1 - wins) / len(won))


def start_value(solution: Solution) -> float:
    """Win probability of who begins, before the first roll."""
    start = solution.numbers[solution.pieces, 0]
    return float(solution.wins()[start, start])


def test_one_piece_is_forced_play():
    """With one piece there is nothing to choose: the value is how often player 0 wins."""
    _, play = random_games(Ur(1, max_plies=100), games(8_000, 100_000), 100, jax.random.key(5))
    assert (np.asarray(play.legal).sum(-1)[~np.asarray(play.terminated)] == 1).all()
    assert_share(np.asarray(play.rewards).sum(0)[:, 0] > 0, start_value(solve(1)))


@pytest.mark.parametrize("rival", ["itself", "random"])
def test_play_by_the_solution(rival):
    """Two pieces: player 0 chooses by the solution; against itself the share of wins is the value."""
    env, solution, count = Ur(2), solve(2), games(3_000, 30_000)
    rng = np.random.default_rng(1)
    states = jax.device_get(jax.jit(jax.vmap(env.init))(jax.random.split(jax.random.key(3), count)))
    advance = jax.jit(jax.vmap(env.advance))
    won = np.zeros(count)
    for ply in range(150):
        values = solution.action_values(states)
        best = np.nan_to_num(values, nan=-1).argmax(1)
        chance = np.argmax(np.where(np.isnan(values), -1, rng.random(values.shape)), 1)
        actions = np.where((states.player == 0) | (rival == "itself"), best, chance)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(4), ply), count)
        states = jax.device_get(advance(states, jnp.asarray(actions, jnp.int32), keys))
        won += states.rewards[:, 0] > 0
    assert states.terminated.all()
    if rival == "itself":
        assert_share(won, start_value(solution))
    else:
        assert won.mean() > 0.6


def test_both_sides_are_worth_the_same():
    """Colours swapped: who moves wins as often, so that player 0's value changes its sign."""
    env, solution = Ur(3), solve(3)
    text = "X..X  *.  X: 1 waiting, 0 home  .O.*...O  *...  *.  O: 0 waiting, 1 home  X rolled 2 at ply 40"
    swapped = "*...  *.  X: 0 waiting, 1 home  .X.*...X  O..O  *.  O: 1 waiting, 0 home  O rolled 2 at ply 40"
    one, two = (jax.tree.map(lambda leaf: leaf[None], env.from_text(t)) for t in (text, swapped))
    by_player = [
        2 * solution.win_probability(s) - 1 if s.player == 0 else 1 - 2 * solution.win_probability(s)
        for s in (one, two)
    ]
    assert by_player[0] + by_player[1] == 0
    assert abs(by_player[0]) > 0.01


def test_ends_and_limits():
    env, solution = Ur(1), solve(1)
    lost = env.from_text("*... *. X: 0 waiting, 1 home ...*.... *... *. O: 1 waiting, 0 home O lost at ply 20")
    drawn = env.from_text("*... *. X: 1 waiting, 0 home ...*.... *... *. O: 1 waiting, 0 home O drew at ply 512")
    sure = env.from_text("*... X. X: 0 waiting, 0 home ...*.... *... *. O: 1 waiting, 0 home X rolled 1 at ply 20")
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), lost, drawn, sure)
    assert solution.win_probability(batch).tolist() == [0, 0.5, 1]
    with pytest.raises(ValueError, match="takes 1 to 3 pieces, not 4"):
        solve(4)
