"""Positions with known values against other solvers, what is measured on them, and measures in a run."""

import functools
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs as whole
from plain_rules import PythonTicTacToe, move_values

import envs
from jaxzero.config.schema import Config, EvaluationConfig
from jaxzero.evaluation import oracles
from jaxzero.evaluation.oracles.chess import FILE
from jaxzero.evaluation.oracles.solved_positions import SolvedPositions, compare
from jaxzero.messages import ConfigError
from jaxzero.networks import Network, Prediction
from jaxzero.runs import metrics, table
from jaxzero.search import GumbelConfig

tiny, quick = whole.tiny, whole.quick
TIC_TAC_TOE = envs.make("tic_tac_toe")


@pytest.fixture(scope="module")
def solved() -> SolvedPositions:
    return oracles.ORACLES["tic_tac_toe"].positions(TIC_TAC_TOE)


def test_the_share_of_right_moves_and_the_error_of_values_by_hand():
    positions = SolvedPositions(None, np.array([[1.0, -1, np.nan], [0, 0, -1], [-1, np.nan, -1]]))
    assert positions.best.tolist() == [1, 0, -1]
    found = compare(positions, np.array([1, 1, 0]), np.array([0.5, 0.25, -1]))
    assert found == {"moves": pytest.approx(2 / 3), "value_error": pytest.approx((0.5 + 0.25 + 0) / 3)}


def test_tic_tac_toe_holds_every_position(solved):
    """All 5,478, of which 958 have ended, by another enumeration and another negamax."""
    boards, ended, level = {}, set(), {PythonTicTacToe.start}
    while level:
        boards |= {board: mover for board, mover in level}
        after = [PythonTicTacToe.play(p, a) for p in level for a in PythonTicTacToe.moves(p)]
        ended |= {position[0] for position, _, over in after if over}
        level = {position for position, _, over in after if not over}
    assert len(boards) + len(ended) == 5478
    names = [
        "".join(".XO"[(first >> i & 1) + 2 * (second >> i & 1)] for i in range(9))
        for first, second in solved.states.stones.tolist()
    ]
    assert sorted(names) == sorted(boards)
    for name, row in zip(names, solved.values, strict=True):
        wanted = move_values(PythonTicTacToe, (name, boards[name]), 9)
        assert {a: v for a, v in enumerate(row.tolist()) if not math.isnan(v)} == wanted


def test_a_network_that_knows_the_truth_is_always_right(solved):
    """One that has learned the truth by heart finds every move and value; one that has it upside down few."""
    mine, theirs = (solved.states.stones[np.arange(len(solved.values)), side] for side in
                    (solved.states.player, 1 - solved.states.player))  # fmt: skip
    table = np.zeros((512, 512, 9), np.float32)
    table[mine, theirs] = np.nan_to_num(solved.values, nan=-9)

    def infer(sign: Any, observation: jax.Array) -> Prediction:
        cells = observation.reshape(-1, 9, 2).astype(jnp.int32)
        squares = (cells * (1 << jnp.arange(9))[None, :, None]).sum(1)
        values = jnp.asarray(table)[squares[:, 0], squares[:, 1]]
        return Prediction(9 * sign * values, sign * values.max(1), {})

    network = Network(lambda key: None, lambda *_: (infer(1, jnp.zeros(1)), None), lambda x: x, infer)
    config = Config(evaluation=EvaluationConfig(simulations=4), search=GumbelConfig(max_considered=2))
    measure = oracles.make(TIC_TAC_TOE, network, config)
    right, wrong = measure(jnp.float32(1)), measure(jnp.float32(-1))
    assert set(right) == {"policy_moves", "policy_value_error", "search_moves", "search_value_error"}
    assert (right["policy_moves"], right["policy_value_error"], right["search_moves"]) == (1, 0, 1)
    assert right["search_value_error"] < 0.05
    assert wrong["policy_moves"] < 0.5
    assert wrong["policy_value_error"] == pytest.approx(2 * np.abs(solved.best).mean())


@pytest.mark.parametrize(("name", "options"), [("hex", {"size": 3}), ("ur", {"pieces": 2})])
def test_random_positions_are_live_and_their_moves_differ(name, options):
    env = envs.make(name, **options)
    positions = oracles.ORACLES[name].positions(env)
    assert len(positions.values) > 50
    assert not positions.states.terminated.any()
    legal = jax.jit(jax.vmap(env.legal_actions))(positions.states)
    np.testing.assert_array_equal(~np.isnan(positions.values), legal)
    assert (np.nanmax(positions.values, 1) > np.nanmin(positions.values, 1)).all()
    assert (np.abs(positions.best) <= 1).all()
    leaves = jax.tree.leaves(positions.states)
    rows = np.concatenate([np.asarray(x).reshape(len(positions.values), -1) for x in leaves], 1)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_where_no_choice_matters_nothing_is_measured():
    with pytest.raises(ConfigError, match="no choice"):
        oracles.ORACLES["ur"].positions(envs.make("ur", pieces=1))


def test_every_stored_mate_is_one():
    """By python-chess, written anew: all mates in one; of those in two a sample."""
    chess = pytest.importorskip("chess")

    def mates(board: Any, depth: int) -> set[str]:
        found = set()
        for move in list(board.legal_moves):
            after = board.copy(stack=False)
            after.push(move)
            if after.is_checkmate() or (depth > 1 and answered(after, depth)):
                found.add(move.uci())
        return found

    def answered(board: Any, depth: int) -> bool:
        replies = list(board.legal_moves)
        for reply in replies:
            after = board.copy(stack=False)
            after.push(reply)
            if not mates(after, depth - 1):
                return False
        return bool(replies)

    lines = [line.split(" ", 2) for line in FILE.read_text().splitlines() if not line.startswith("#")]
    once = [(set(moves.split(",")), chess.Board(fen)) for depth, moves, fen in lines if depth == "1"]
    twice = [(set(moves.split(",")), chess.Board(fen)) for depth, moves, fen in lines if depth == "2"]
    assert len(once) == len(twice) == 120
    assert all(mates(board, 1) == moves for moves, board in once)
    assert all(not mates(board, 1) for _, board in twice)
    assert all(mates(board, 2) == moves for moves, board in twice[::60])


def test_chess_positions_are_numbered_by_the_game(monkeypatch: pytest.MonkeyPatch, tmp_path):
    few = FILE.read_text().splitlines()
    (tmp_path / "few.txt").write_text("\n".join([few[0], few[1], few[-1]]))
    monkeypatch.setattr("jaxzero.evaluation.oracles.chess.FILE", tmp_path / "few.txt")
    env: Any = envs.make("chess")
    positions = oracles.ORACLES["chess"].positions(env)
    for i, line in enumerate((few[1], few[-1])):
        _, moves, fen = line.split(" ", 2)
        state = jax.tree.map(lambda x, i=i: x[i], positions.states)
        assert env.fen(state).split()[:2] == fen.split()[:2]
        found = {env.action_to_str(state, int(a)) for a in np.flatnonzero(positions.values[i] == 1)}
        assert found == set(moves.split(","))


def test_measures_of_a_run_change_nothing(tiny, tmp_path):
    """Oracle and a function of the user's own: in the rows, in results.json, and no bit of training differs."""
    (tmp_path / "mine.py").write_text(
        "def opening(env, agent, iteration):\n"
        "    import jax, jax.numpy as jnp\n"
        "    states = jax.tree.map(lambda x: jnp.asarray(x)[None], env.init(jax.random.key(0)))\n"
        "    action = agent.act(states, jax.random.key(1))\n"
        "    value = agent.infer(jax.vmap(env.observe)(states)).value\n"
        "    if iteration == 4:\n"
        "        return 1 / 0\n"
        "    return {'move': action[0], 'value': value[0], 'iteration': iteration}\n"
    )
    plain = tiny(name="plain")
    measured = tiny(
        ("evaluation.every", 2), ("evaluation.oracle", True), ("evaluation.metric", f"{tmp_path}/mine.py:opening"),
        name="measured",
    )  # fmt: skip
    whole.drain(plain)
    rows = [row for row in whole.drain(measured) if "eval/random/score" in row]
    whole.assert_same(whole.state_of(measured), whole.state_of(plain))
    assert [row["iteration"] for row in rows] == [2, 4, 6]
    for row in rows:
        assert all(map(table.find, row))
        assert all(0 <= row[f"oracle/{player}_{what}"] <= 2 for player in ("policy", "search") for what in
                   ("moves", "value_error"))  # fmt: skip
    assert [row.get("metric/iteration") for row in rows] == [2, None, 6]
    assert 0 <= rows[0]["metric/move"] <= 8
    folder = whole.folder_of(measured)
    assert "evaluation.metric: " in (folder / "run.log").read_text()
    results = json.loads((folder / "evaluations" / "iteration_6" / "results.json").read_text())
    assert results["measured"]["oracle/policy_moves"] == rows[-1]["oracle/policy_moves"]
    assert metrics.read(folder)[-1]["metric/iteration"] == 6


def test_what_has_no_oracle_is_refused(tiny, tmp_path):
    (tmp_path / "mine.py").write_text("nothing = 0\n")
    refused = functools.partial(pytest.raises, ConfigError)
    for changes, words in (
        ((("game.name", "othello"), ("evaluation.oracle", True)), r"evaluation\.oracle: there is none of othello"),
        ((("game.name", "hex"), ("game.options", {"size": 5}), ("evaluation.oracle", True)), r"oracle: .*2 to 4"),
        ((("evaluation.metric", "none"),), r"evaluation\.metric: .*FILE\.py:FUNCTION"),
        ((("evaluation.metric", "none.py:f"),), r"evaluation\.metric: none\.py: no such file"),
        ((("evaluation.metric", f"{tmp_path}/mine.py:f"),), r"evaluation\.metric: .*has no function 'f'"),
    ):
        with refused(match=words):
            next(whole.train.run(tiny(("replay.capacity", 100_000), *changes)))
