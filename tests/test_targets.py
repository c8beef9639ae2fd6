"""Outcomes of finished play against hand-worked games and a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxzero.targets import outcomes, value_target, wdl_target

PLIES = 10
LANES = 3
jitted = jax.jit(outcomes)


def lane(plies):
    """[(reward, mover, end), …] of one lane -> (outcomes, known) as lists."""
    reward, mover, end = (jnp.array(column)[:, None] for column in zip(*plies, strict=True))
    value, known = outcomes(reward.astype(jnp.float32), mover.astype(jnp.int8), end.astype(bool))
    return value[:, 0].tolist(), known[:, 0].tolist()


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


ply = st.tuples(
    st.integers(-8, 8).map(lambda x: x / 4), st.integers(0, 1), st.sampled_from([False, False, False, True])
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(ply, min_size=PLIES, max_size=PLIES), min_size=LANES, max_size=LANES))
def test_any_play_against_a_plain_loop(lanes):
    reward, mover, end = (
        np.array([[ply[i] for ply in plies] for plies in lanes]).T.astype(dtype)
        for i, dtype in enumerate((np.float32, np.int8, bool))
    )
    value, known = jitted(reward, mover, end)
    for i, plies in enumerate(lanes):
        assert (value[:, i].tolist(), known[:, i].tolist()) == plain(plies)


def test_value_target_mixes_outcome_and_search():
    outcome, root = jnp.float32([1, -1, 0]), jnp.float32([0.5, 0.5, -0.25])
    assert value_target(outcome, root, 1.0).tolist() == [1, -1, 0]
    assert value_target(outcome, root, 0.0).tolist() == [0.5, 0.5, -0.25]
    assert value_target(outcome, root, 0.25).tolist() == [0.625, 0.125, -0.1875]


def test_wdl_target():
    value = jnp.float32([1, 0, -1, 0.25, -0.75])
    target = wdl_target(value)
    assert target.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.25, 0.75, 0], [0, 0.25, 0.75]]
    assert (target[:, 0] - target[:, 2]).tolist() == value.tolist()
