"""Search over known chance nodes against exact expectations."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chance_tables import look_up, positions
from tables import search_config, table

import envs
from envs.game_2048 import Game2048
from envs.ur import Ur
from jaxzero import search
from jaxzero.evaluation import players
from jaxzero.evaluation.matches import play, summary
from jaxzero.models import Model, simulator
from jaxzero.networks import Prediction
from jaxzero.search import chance
from jaxzero.search import tree as tree_lib
from jaxzero.solvers.ur import ROLLS, solve

MODES: dict[str, dict[str, Any]] = {
    "gumbel": {"kind": "gumbel"},
    "rounds": {"kind": "gumbel", "rounds": True},
    "puct": {"kind": "puct"},
}
each_mode = pytest.mark.parametrize("mode", MODES)


def know(env: envs.Env, value_of: Callable[[Any], jax.Array]) -> Model:
    """A model with values `value_of(positions)` [B] and uniform priors."""
    blank = lambda params, seen: Prediction(jnp.zeros((len(seen), env.num_actions)), jnp.zeros(len(seen)), {})  # noqa: E731
    model = simulator.make(env, blank)
    resolved = model.chance
    assert resolved is not None

    def root(params, states):
        return model.root(params, states)._replace(value=value_of(states))

    def resolve(params, key, outcomes, states):
        said, after = resolved(params, key, outcomes, states)
        return said._replace(value=jnp.where(after.terminated, 0.0, value_of(after))), after

    return model._replace(root=root, chance=resolve)


def searcher(env: envs.Env, model: Model, explore: bool = False, **settings):
    made = search.make(search_config(**settings), env, model)
    return jax.jit(lambda params, keys, states: made.run(params, keys, states, (), jnp.zeros(len(keys)), explore)[0])


def keys(count: int):
    return jax.random.split(jax.random.key(7), count)


# Which outcome is due.


def test_outcomes_are_visited_by_their_probability():
    """After any number of visits n, an outcome of probability p has p·n of them, to less than one."""
    rng = np.random.default_rng(0)
    odds = [ROLLS, np.repeat([0.9, 0.1], 16) / 16, np.array([1.0])]
    odds += [rng.dirichlet(np.full(size, alpha)) for size in (2, 5, 21, 32) for alpha in (0.2, 1, 5)]
    padded = jnp.log(jnp.array([np.pad(p, (0, 32 - len(p))) for p in odds], jnp.float32)).T  # [32, cases]

    def visit(visits, _):
        left = jnp.where(visits > 0, -jnp.inf, padded)
        untried = tree_lib.Untried(left.argmax(0), left.max(0), left.max(0))
        blank = jnp.zeros(len(odds))
        children = tree_lib.Children(
            visits > 0, visits, visits, padded, blank, blank, visits.sum(0), untried, blank > 0
        )
        scores, first = chance.rule(children)
        scores = jnp.where(visits > 0, scores, -jnp.inf)
        best = jnp.where(scores.max(0) >= first, scores.argmax(0), untried.slot)
        visits = visits + (jnp.arange(32)[:, None] == best[None])
        return visits, visits

    counts = np.asarray(jax.lax.scan(visit, jnp.zeros(padded.shape), length=2000)[1])
    expected = np.exp(np.asarray(padded, np.float64))[None] * np.arange(1, 2001)[:, None, None]
    assert np.abs(counts - expected).max() < 1
    assert (counts[:, np.asarray(padded) == -np.inf] == 0).all()


# Against the solver of Ur, with a network that knows the truth.


@functools.cache
def truth(pieces: int) -> Callable[[Any], jax.Array]:
    """The exact value in [-1, 1] of decisions of Ur [B]."""
    solution = solve(pieces)
    ways = solution.hit.shape[1]
    mine, theirs = (side.reshape(-1) for side in np.indices((ways, ways)))
    wins = solution.table[solution.entries(mine, theirs)].max(0).reshape(5, ways, ways)
    values = (2 * wins - 1).astype(np.float32)

    def value_of(states):
        way = jnp.asarray(solution.numbers)[states.waiting, states.path]
        return jnp.asarray(values)[states.roll, way[:, 0], way[:, 1]]

    return value_of


@each_mode
def test_one_ply_of_ur_is_exact(mode):
    """Once every roll was visited, an action's value is its expectation; with rosettes, ends and forced passes."""
    env, solution = Ur(2), solve(2)
    states = positions(env, 64, 60)
    run = searcher(env, know(env, truth(2)), simulations=64, max_depth=2, **MODES[mode])
    result, states = jax.device_get((run((), keys(64), states), states))
    exact = 2 * solution.action_values(states) - 1
    legal = ~np.isnan(exact)
    assert (result.visits[~legal] == 0).all()
    lanes = [3] * 10 + [2] * 17 if mode == "rounds" else [1] * 64  # of a round; those beyond the legal moves are unused
    np.testing.assert_array_equal(result.visits.sum(-1), [sum(min(n, width) for width in lanes) for n in legal.sum(-1)])
    assert legal[:, -1].sum() > 3  # forced passes
    assert (legal.sum(-1) == 2).sum() > 10
    best = np.where(legal, exact, -np.inf).max(-1)
    chosen = np.take_along_axis(exact, result.action[:, None], 1)[:, 0]
    np.testing.assert_allclose(chosen, best, atol=0.1 if mode == "puct" else 1e-5)
    # PUCT may leave bad actions with too few visits to have seen every roll.
    sure = ((result.visits >= 20) | ~legal).all(-1)
    assert sure.sum() > 20
    if mode == "puct":
        value = (best + (result.visits * np.nan_to_num(exact)).sum(-1)) / 65
    else:
        value = (result.policy * np.nan_to_num(exact)).sum(-1)
    np.testing.assert_allclose(result.value[sure], value[sure], atol=1e-5)


# Against expectations of 2048, by rules written anew.


def slide_left(row: list[int]) -> tuple[list[int], int]:
    tiles, made, points = [x for x in row if x], [], 0
    while tiles:
        tile = tiles.pop(0)
        if tiles and tiles[0] == tile:
            tile += tiles.pop(0)
            points += tile
        made.append(tile)
    return made + [0] * (4 - len(made)), points


def moved(board: np.ndarray, action: int) -> tuple[np.ndarray, int]:
    """The board after a move left, up, right or down, and the points earned."""
    turned = np.rot90(board, action)
    rows = [slide_left(row.tolist()) for row in turned]
    return np.rot90(np.array([row for row, _ in rows]), -action), sum(points for _, points in rows)


def best_of(board: np.ndarray, plies: int) -> float:
    return max((value for value in worth(board, plies) if not math.isnan(value)), default=0.0)


def worth(board: np.ndarray, plies: int) -> list[float]:
    """Expected points of each action within this many plies; NaN for illegal ones."""
    values = []
    for action in range(4):
        after, points = moved(board, action)
        if (after == board).all():
            values.append(math.nan)
            continue
        value = float(points)
        empty = np.argwhere(after == 0) if plies > 1 else []
        for square in empty:
            for tile, probability in ((2, 0.9), (4, 0.1)):
                filled = after.copy()
                filled[tuple(square)] = tile
                value += probability / len(empty) * best_of(filled, plies - 1)
        values.append(value)
    return values


BOARDS_2048 = (
    "2 4 8 2  4 16 2 4  8 8 4 2  2 4 2 .",
    "2 2 4 8  16 4 2 32  4 2 8 4  2 8 4 8",
    "4 2 8 2  2 8 4 16  64 4 4 8  2 . 2 4",
    "128 64 2 4  64 2 4 2  2 4 2 4  . . 4 2",
    "2 4 2 4  4 2 4 2  2 4 2 4  4 2 4 4",  # after it slides, some outcomes leave no move
)


def test_two_plies_of_2048_are_exact():
    """The network predicts the points of the last move; the search finds the expectation, which exceeds [-1, 1]."""
    env = Game2048(max_plies=50)
    boards = [np.array([0 if x == "." else int(x) for x in text.split()]).reshape(4, 4) for text in BOARDS_2048]
    states = [env.from_text(" ".join(text.split()) + " ply 48") for text in BOARDS_2048]

    def last_move(states):
        earned = jax.vmap(jax.vmap(env.step, (None, 0)), (0, None))(states, jnp.arange(4)).rewards[..., 0]
        return jnp.where(jax.vmap(env.legal_actions)(states), earned, 0.0).max(-1)

    run = searcher(env, know(env, last_move), simulations=512, max_depth=2, kind="gumbel")
    result = jax.device_get(run((), keys(5), jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)))
    exact = np.array([worth(board, 2) for board in boards])
    legal = ~np.isnan(exact)
    assert (result.visits[~legal] == 0).all()
    np.testing.assert_array_equal(np.take_along_axis(exact, result.action[:, None], 1)[:, 0], np.nanmax(exact, 1))
    np.testing.assert_allclose(result.value, (result.policy * np.nan_to_num(exact)).sum(-1), rtol=1e-4)


@each_mode
@pytest.mark.parametrize("game", ["ur", "2048"])
def test_rows_are_independent_and_legal(game, mode):
    env = envs.make(game)
    states, others = positions(env, 16, 150), positions(env, 16, 150, seed=2)
    run = searcher(env, simulator.make(env, look_up), explore=True, simulations=16, **MODES[mode])
    params = table(env)
    mixed = jax.tree.map(lambda x, y: jnp.concatenate([y[:8], x[:8]]), states, others)
    first = jax.device_get(run(params, keys(16), states))
    second = jax.device_get(run(params, jnp.roll(keys(16), 8), mixed))
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[:8], y[8:]), first, second)
    legal = np.asarray(jax.vmap(env.legal_actions)(states))
    assert (first.visits[~legal] == 0).all()
    assert (first.policy[~legal] == 0).all()
    assert np.isfinite(first.value).all()
    assert legal[np.arange(16), first.action].all()
    rounds = {"ur": [8, 4, 2, 2], "2048": [4, 4, 2, 2, 2, 2]}[game]
    lanes = rounds if mode == "rounds" else [1] * 16
    np.testing.assert_array_equal(first.visits.sum(-1), [sum(min(n, width) for width in lanes) for n in legal.sum(-1)])


# Players and matches.


def expectimax(env: envs.Env, state, depth: int) -> dict[int, float]:
    values = {}
    for action in np.flatnonzero(env.legal_actions(state)).tolist():
        after = env.step(state, jnp.int32(action))
        values[action] = float(after.rewards[int(state.player)])
        if depth == 1 or after.terminated:
            continue
        odds = np.exp(env.outcome_logits(after)) if after.chance else np.array([1.0])
        sign = 1 if after.player == state.player else -1
        for outcome, probability in enumerate(odds.tolist()):
            settled = env.resolve(after, jnp.int32(outcome))
            if not settled.terminated:
                values[action] += sign * probability * max(expectimax(env, settled, depth - 1).values())
    return values


@pytest.mark.parametrize("depth", [1, 2])
def test_minimax_takes_expectations_over_chance(depth):
    env = Ur(1)
    for text in (
        "*...  *X  X: 0 waiting, 0 home ...*.... *...  O.  O: 0 waiting, 0 home X rolled 2 at ply 31",
        "*...  X.  X: 0 waiting, 0 home ...*.... *...  *O  O: 0 waiting, 0 home X rolled 0 at ply 31",
        "*...  *.  X: 0 waiting, 0 home ...*...X *...  *O  O: 0 waiting, 0 home X rolled 2 at ply 31",
    ):
        state = env.from_text(text)
        actions, values = players.minimax_values(env, state, depth)
        found = {int(a): float(v) for a, v in zip(actions, values, strict=True) if np.isfinite(v)}
        assert found == pytest.approx(expectimax(env, state, depth), abs=1e-6)


def test_matches_roll_the_dice():
    """Player 0 wins as often as the solver says. With one piece all play is forced."""
    env, player = Ur(1, max_plies=200), players.random_player(Ur(1))
    result = jax.device_get(play(env, player, player, 2000, 0)(None, None, jax.random.key(3)))
    start = solve(1).numbers[1, 0]
    wins = float(solve(1).wins()[start, start])
    won = summary(result)["as_first"]["score"]
    assert abs(won - wins) < 4.5 * math.sqrt(wins * (1 - wins) / 1000)


def test_a_match_for_one_player_compares_what_was_earned():
    """Two plies of 2048: taking the higher sum of points wins against taking the lower."""
    env = Game2048(max_plies=6)

    def greedy(sign):
        def act(params, keys, states):
            earned = jax.vmap(jax.vmap(env.step, (None, 0)), (0, None))(states, jnp.arange(4)).rewards[..., 0]
            legal = jax.vmap(env.legal_actions)(states)
            return jnp.where(legal, sign * earned, -jnp.inf).argmax(-1).astype(jnp.int32)

        return act

    result = jax.device_get(play(env, greedy(1), greedy(-1), 200, 0)(None, None, jax.random.key(0)))
    np.testing.assert_array_equal(result.outcomes[0], result.outcomes[1])
    assert summary(result)["score"] > 0.75
