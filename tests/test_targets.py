"""Returns of finished play against hand-worked games and a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxzero.training.targets import n_step_returns, returns, wdl_target

PLIES = 10
LANES = 3
jitted = jax.jit(returns)


def lane(plies, values=None, td_lambda=1.0):
    """[(reward, mover, end), …] of one lane and its root values -> (returns, known) as lists."""
    reward, mover, end = (jnp.array(column)[:, None] for column in zip(*plies, strict=True))
    value = jnp.zeros(reward.shape) if values is None else jnp.array(values, jnp.float32)[:, None]
    total, known = returns(reward.astype(jnp.float32), mover.astype(jnp.int8), end.astype(bool), value, td_lambda)
    return total[:, 0].tolist(), known[:, 0].tolist()


def plain(plies):
    """The same with a loop from every ply to the end of its game."""
    values, knowns = [], []
    for i, (_, mine, _) in enumerate(plies):
        total, known = 0.0, False
        for reward, mover, end in plies[i:]:
            total += reward if mover == mine else -reward
            if end:
                known = True
                break
        values.append(total if known else 0.0)
        knowns.append(known)
    return values, knowns


@pytest.mark.parametrize(("plies", "value", "known"), [
    pytest.param([(0, 0, 0), (0, 1, 0), (1, 0, 1)], [1, -1, 1], [1, 1, 1], id="first player wins"),
    pytest.param([(0, 0, 0), (1, 1, 1)], [-1, 1], [1, 1], id="second player wins"),
    pytest.param([(0, 0, 0), (0, 1, 0), (0, 0, 1)], [0, 0, 0], [1, 1, 1], id="draw"),
    pytest.param([(0, 0, 0), (-1, 1, 1)], [1, -1], [1, 1], id="a losing move"),
    pytest.param([(0, 0, 0), (0, 0, 0), (0, 1, 0), (0, 1, 0), (1, 1, 1)], [-1, -1, 1, 1, 1], [1] * 5, id="extra turns"),
    pytest.param([(2, 0, 0), (5, 1, 0), (1, 0, 0), (3, 0, 1)], [1, 1, 4, 3], [1] * 4, id="rewards before the end"),
    pytest.param([(1, 0, 0), (2, 0, 0), (4, 0, 1)], [7, 6, 4], [1] * 3, id="one player"),
    pytest.param(
        [(0, 0, 0), (1, 1, 1), (0, 0, 0), (0, 1, 0), (1, 0, 1)], [-1, 1, 1, -1, 1], [1] * 5, id="two games in a row"
    ),
    pytest.param([(1, 0, 1), (0, 0, 0), (1, 1, 0)], [1, 0, 0], [1, 0, 0], id="unfinished tail"),
    pytest.param([(1, 0, 0), (1, 1, 0)], [0, 0], [0, 0], id="nothing finished"),
])  # fmt: skip
def test_hand_worked_games(plies, value, known):
    assert plain(plies) == (value, known)
    assert lane(plies) == (value, known)


number = st.integers(-8, 8).map(lambda x: x / 4)
ply = st.tuples(number, st.integers(0, 1), st.sampled_from([False, False, False, True]), number)


def columns(lanes):
    """Plies of each lane -> reward, mover, end and value, each [T, B]."""
    dtypes = jnp.float32, jnp.int8, bool, jnp.float32
    return [jnp.array([[ply[i] for ply in plies] for plies in lanes], dtype).T for i, dtype in enumerate(dtypes)]


def plain_lambda(plies, td_lambda):
    """The λ-return as a weighted sum over the rest of the game, for plies whose game ends."""
    totals = []
    for i, (_, mine, _, _) in enumerate(plies):
        total, known = 0.0, False
        for k, (reward, mover, end, value) in enumerate(plies[i:]):
            sign = 1 if mover == mine else -1
            total += sign * td_lambda**k * ((1 - td_lambda) * value + td_lambda * reward)
            if end:
                known = True
                break
        totals.append(total if known else 0.0)
    return totals


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(ply, min_size=PLIES, max_size=PLIES), min_size=LANES, max_size=LANES),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
)
def test_any_play_against_a_plain_loop(lanes, td_lambda):
    reward, mover, end, value = columns(lanes)
    total, known = jitted(reward, mover, end, value, td_lambda)
    for i, plies in enumerate(lanes):
        outcomes, finished = plain([ply[:3] for ply in plies])
        assert known[:, i].tolist() == finished
        np.testing.assert_allclose(total[:, i], plain_lambda(plies, td_lambda), atol=1e-5)
        if td_lambda == 1:
            assert total[:, i].tolist() == outcomes


def plain_n_step(plies, n):
    """Rewards of n plies and the root value after them, for plies whose game ends; of the others 0."""
    totals = []
    for i, (_, mine, _, _) in enumerate(plies):
        if not any(end for _, _, end, _ in plies[i:]):
            totals.append(0.0)
            continue
        total = 0.0
        for reward, mover, end, _ in plies[i : i + n]:
            total += reward if mover == mine else -reward
            if end:
                break
        else:
            _, mover, _, value = plies[i + n]
            total += value if mover == mine else -value
        totals.append(total)
    return totals


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(ply, min_size=PLIES, max_size=PLIES), min_size=LANES, max_size=LANES), st.integers(1, 4))
def test_n_step_returns_against_a_plain_loop(lanes, n):
    reward, mover, end, value = columns(lanes)
    _, known = jitted(reward, mover, end, value, 1.0)
    total = jnp.where(known, n_step_returns(reward, mover, end, value, n), 0.0)
    for i, plies in enumerate(lanes):
        np.testing.assert_allclose(total[:, i], plain_n_step(plies, n), atol=1e-5)


def test_lambda_return_by_hand():
    """Three plies, the first player wins: half of each root value, the rest of what follows, seen by the mover."""
    plies, values = [(0, 0, 0), (0, 1, 0), (1, 0, 1)], [0.2, -0.4, 0.6]
    last = 0.5 * 0.6 + 0.5 * 1
    second = 0.5 * -0.4 - 0.5 * last
    np.testing.assert_allclose(lane(plies, values, 0.5)[0], [0.5 * 0.2 - 0.5 * second, second, last], rtol=1e-6)
    np.testing.assert_allclose(lane(plies, values, 0.0)[0], values, rtol=1e-6)


def test_wdl_target():
    value = jnp.float32([1, 0, -1, 0.25, -0.75])
    target = wdl_target(value)
    assert target.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.25, 0.75, 0], [0, 0.25, 0.75]]
    assert (target[:, 0] - target[:, 2]).tolist() == value.tolist()


def test_shapes_that_would_broadcast_are_refused():
    reward, mover, end = jnp.zeros((3, 2)), jnp.zeros((3, 2), jnp.int8), jnp.zeros((3, 2), bool)
    for value in (jnp.zeros(2), jnp.zeros((3, 1))):
        with pytest.raises(AssertionError):
            returns(reward, mover, end, value, 1.0)
        with pytest.raises(AssertionError):
            n_step_returns(reward, mover, end, value, 1)
