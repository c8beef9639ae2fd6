"""The stored Connect Four positions beside two solvers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_rules import CONNECT_FOUR, PythonConnectFour, move_values

from benchmarks import connect_four_oracle as oracle
from jaxzero import networks
from jaxzero.evaluation import players
from jaxzero.networks import MlpConfig

# The Connect Four judge


@pytest.fixture(scope="module")
def stored():
    return oracle.read()


def python_position(moves):
    position = PythonConnectFour.start
    for column in moves:
        position, _, over = PythonConnectFour.play(position, int(column) - 1)
        assert not over
    return position


def test_stored_positions(stored):
    values, stones = stored.values, np.asarray(stored.states.stones)
    assert len(values) >= 2000
    assert (stored.halves == "random").mean() == 0.5
    assert not np.asarray(stored.states.terminated).any()
    np.testing.assert_array_equal(values > -2, jax.vmap(CONNECT_FOUR.legal_actions)(stored.states))
    assert all(len(set(row) - {-2}) > 1 for row in values.tolist())
    assert len({min(s.tobytes(), s[:, ::-1].tobytes()) for s in stones}) == len(values)
    plies = np.array([len(moves) for moves in stored.moves])
    assert np.bincount((plies - oracle.FIRST_PLY) // oracle.SPACING).min() > 100


def test_stored_values_against_negamax(stored):
    late = [row for row, moves in enumerate(stored.moves) if len(moves) >= 31]
    for row in late[:: len(late) // 12]:
        values = move_values(PythonConnectFour, python_position(stored.moves[row]), 42)
        assert values == {a: v for a, v in enumerate(stored.values[row].tolist()) if v > -2}


def test_stored_values_against_the_solver(stored):
    bitbully = pytest.importorskip("bitbully")
    solver = bitbully.BitBully()
    quick = [row for row, moves in enumerate(stored.moves) if not 12 <= len(moves) <= 14]
    for row in quick[::40]:
        scores = solver.score_all_moves(bitbully.Board([int(column) - 1 for column in stored.moves[row]]))
        assert {a: int(np.sign(score)) for a, score in scores.items()} == {
            a: v for a, v in enumerate(stored.values[row].tolist()) if v > -2
        }


def test_judge(stored):
    best = oracle.evaluate(lambda states: jnp.argmax(stored.preserving, -1), stored)
    worst = oracle.evaluate(lambda states: jnp.argmin(jnp.where(stored.values == -2, 9, stored.values), -1), stored)
    shares = lambda result: [result["overall"], *result["by_half"].values(), *result["by_ply"].values()]  # noqa: E731
    assert shares(best) == [1.0] * 8
    assert shares(worst) == [0.0] * 8
    network = networks.make(MlpConfig(sizes=(32,)), CONNECT_FOUR)
    policy = oracle.bind(
        players.policy_player(CONNECT_FOUR, network.infer), network.fold(network.init(jax.random.key(0)))
    )
    assert all(0.2 < share < 0.7 for share in shares(oracle.evaluate(policy, stored)))
    uniform = oracle.evaluate(oracle.bind(players.random_player(CONNECT_FOUR), None), stored)["overall"]
    assert uniform == pytest.approx((stored.preserving.sum(1) / (stored.values > -2).sum(1)).mean(), abs=0.05)


def test_win_in_one_preserves_and_blunders_do_not():
    """Sign conventions, by hand: a win is +, a hanging four against is - everywhere but where it is stopped."""
    bitbully = pytest.importorskip("bitbully")
    solver = bitbully.BitBully()
    describe = lambda moves: oracle.describe(solver.score_all_moves(bitbully.Board(moves)))  # noqa: E731
    assert describe([3, 0, 3, 0, 3, 6])[3] == "+"
    assert set(describe([3, 0, 3, 0, 3])[i] for i in (0, 1, 2, 4, 5, 6)) == {"-"}
    assert describe([])[3] == "+"
    assert describe([])[0] == "-"
