"""Players, matches and exhaustive play against plain-Python rules; the Connect Four positions against two solvers."""

import collections
import dataclasses
import functools
import json
import math
import random
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from benchmarks import connect_four_oracle as oracle
from envs import Env
from jaxzero import networks, search
from jaxzero.evaluation import players
from jaxzero.evaluation.exhaustive import exhaustive
from jaxzero.evaluation.matches import MatchResult, interval, play, summary, write_results
from jaxzero.messages import ConfigError
from jaxzero.models import simulator
from jaxzero.networks import MlpConfig
from jaxzero.search import GumbelConfig

TIC_TAC_TOE, CONNECT_FOUR = envs.make("tic_tac_toe"), envs.make("connect_four")


# Plain-Python rules: `play(position, action) -> (position, winner or None, over)`; a position is (board, mover).


def line_of(board, mark, rows, columns, need):
    def run(r, c, dr, dc):
        cells = [(r + i * dr, c + i * dc) for i in range(need)]
        return all(0 <= y < rows and 0 <= x < columns and board[y * columns + x] == mark for y, x in cells)

    steps = ((0, 1), (1, 0), (1, 1), (1, -1))
    return any(run(r, c, *step) for r in range(rows) for c in range(columns) for step in steps)


class PythonTicTacToe:
    start = "." * 9, 0

    @staticmethod
    def moves(position):
        return [a for a in range(9) if position[0][a] == "."]

    @staticmethod
    def play(position, action):
        board, mover = position
        board = board[:action] + "XO"[mover] + board[action + 1 :]
        won = line_of(board, "XO"[mover], 3, 3, 3)
        return (board, 1 - mover), mover if won else None, won or "." not in board


class PythonConnectFour:
    start = "." * 42, 0

    @staticmethod
    def moves(position):
        return [a for a in range(7) if position[0][a] == "."]

    @staticmethod
    def play(position, action):
        board, mover = position
        cell = max(r * 7 + action for r in range(6) if board[r * 7 + action] == ".")
        board = board[:cell] + "XO"[mover] + board[cell + 1 :]
        won = line_of(board, "XO"[mover], 6, 7, 4)
        return (board, 1 - mover), mover if won else None, won or "." not in board


class PythonCountdown:
    """Take 1, 2 or 3 from a pile; taking 2 gives another turn; who takes the last wins."""

    start = 13, 0

    @staticmethod
    def moves(position):
        return [a for a in range(3) if a + 1 <= position[0]]

    @staticmethod
    def play(position, action):
        pile, mover = position
        pile -= action + 1
        return (pile, mover if action == 1 else 1 - mover), mover if pile == 0 else None, pile == 0


@functools.cache
def move_values(rules, position, depth):
    """{action: value for the mover}, by negamax."""
    values = {}
    for action in rules.moves(position):
        after, winner, over = rules.play(position, action)
        if over or depth == 1:
            values[action] = 0 if winner is None else 1
        else:
            sign = 1 if after[1] == position[1] else -1
            values[action] = sign * max(move_values(rules, after, depth - 1).values())
    return values


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CountdownState:
    pile: jax.Array  # i32[]
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


@dataclasses.dataclass(frozen=True)
class Countdown(Env):
    pile: int = 13
    prize: float = 1.0
    name = "countdown"
    num_actions, max_legal, max_plies, observation_shape = 5, 3, 13, (1,)  # actions 3 and 4 are never legal

    def init(self, key):
        return CountdownState(jnp.int32(self.pile), jnp.int8(0), jnp.bool(False), jnp.zeros(2, jnp.float32))

    def step(self, state, action):
        pile = jnp.where(state.terminated, state.pile, state.pile - action - 1)
        over = pile <= 0
        player = jnp.where((action == 1) | state.terminated, state.player, 1 - state.player).astype(jnp.int8)
        sign = jnp.where(jnp.arange(2) == state.player, self.prize, -self.prize).astype(jnp.float32)
        return CountdownState(pile, player, over, jnp.where(over & ~state.terminated, sign, 0.0))

    def legal_actions(self, state):
        return state.terminated | (jnp.arange(5) < jnp.minimum(state.pile, 3))


@dataclasses.dataclass(frozen=True)
class Dicey(Countdown):
    num_outcomes = 6


def stack(states):
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *states)  # jnp.stack compiles for long


def random_positions(env, rules, number, most, seed):
    """The same unfinished positions for both: stacked states and Python positions."""
    rng, step, found = random.Random(seed), jax.jit(env.step), []
    while len(found) < number:
        position, state = rules.start, env.init(jax.random.key(0))
        for _ in range(rng.randrange(most + 1)):
            action = rng.choice(rules.moves(position))
            (position, _, over), state = rules.play(position, action), step(state, jnp.int32(action))
            if over:
                break
        else:
            found.append((position, state))
    return stack([state for _, state in found]), [position for position, _ in found]


def same_key(player):
    """A player as a deterministic `act(states)`."""
    play = jax.jit(player)
    return lambda states: play(None, jnp.broadcast_to(jax.random.key(0), states.player.shape), states)


def in_order(env, order):
    """A player: the first legal action of a fixed order."""
    rank = np.argsort(order)

    def play(params, keys, states):
        legal = jax.vmap(env.legal_actions)(states)
        return jnp.argmin(jnp.where(legal, rank[None], 99), -1).astype(jnp.int32)

    return play


# Players


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("env", "rules", "most", "width"),
    [
        (TIC_TAC_TOE, PythonTicTacToe, 7, 100),  # wider trees go move by move
        (CONNECT_FOUR, PythonConnectFour, 25, players.LEAVES),
        (Countdown(), PythonCountdown, 7, players.LEAVES),  # fewer slots than actions, extra turns
    ],
)
def test_minimax_is_negamax(env, rules, most, width, depth):
    states, positions = random_positions(env, rules, 16, most, seed=depth)
    actions, values = jax.jit(jax.vmap(lambda state: players.minimax_values(env, state, depth, width)))(states)
    for row, position in enumerate(positions):
        used = np.isfinite(values[row])
        assert dict(zip(actions[row][used].tolist(), values[row][used].tolist(), strict=True)) == move_values(
            rules, position, depth
        )


@pytest.mark.parametrize(
    ("depth", "best", "text"),
    [
        (1, {3}, "....... ....... ....... ...X... O..X... O..X..O"),  # wins at once
        (2, {0}, "....... ....... ....... O...... O..X... O..XX.X"),  # blocks
        (3, {1, 4}, "....... ....... ....... ....... ..OO... ..XX..."),  # makes an open three
    ],
)
def test_minimax_finds_the_move(depth, best, text):
    state = CONNECT_FOUR.from_text(text)
    states = stack([state] * 64)
    chosen = players.minimax_player(CONNECT_FOUR, depth)(None, jax.random.split(jax.random.key(1), 64), states)
    assert set(np.asarray(chosen).tolist()) == best


@pytest.mark.parametrize("opponent", ["random", "minimax:1"])
def test_equal_moves_are_equally_likely(opponent):
    states = stack([TIC_TAC_TOE.from_text("XO. ... ...")] * 2100)
    player, _ = players.make_device_player(opponent, TIC_TAC_TOE)
    chosen = jax.jit(player)(None, jax.random.split(jax.random.key(2), 2100), states)
    counts = np.bincount(np.asarray(chosen), minlength=9)
    assert (counts[:2] == 0).all()
    assert abs(counts[2:] - 300).max() < 5 * math.sqrt(300 * 6 / 7)


def test_perfect_minimax_never_loses():
    result = exhaustive(TIC_TAC_TOE, same_key(players.make_device_player("minimax:9", TIC_TAC_TOE)[0]), batch=16)
    for side in result.values():
        assert side["lines"]["losses"] == side["positions"]["losses"] == 0
        assert side["lines"]["wins"] > side["lines"]["draws"] > 0


def test_network_players():
    env = TIC_TAC_TOE
    network = networks.make(MlpConfig(sizes=(16,)), env)
    params = network.fold(network.init(jax.random.key(0)))
    states, _ = random_positions(env, PythonTicTacToe, 32, 7, seed=3)
    legal = np.asarray(jax.vmap(env.legal_actions)(states))
    keys = jax.random.split(jax.random.key(1), 32)
    chosen = np.asarray(players.policy_player(env, network.infer)(params, keys, states))
    logits = np.asarray(network.infer(params, jax.vmap(env.observe)(states)).logits)
    np.testing.assert_array_equal(chosen, np.where(legal, logits, -np.inf).argmax(-1))

    searcher = search.make(GumbelConfig(), env, simulator.make(env, network.infer), 16)
    player = jax.jit(players.search_player(env, searcher))
    assert legal[np.arange(32), np.asarray(player(params, keys, states))].all()
    winning = stack([env.from_text("XX. OO. ...")] * 32)
    assert (player(params, keys, winning) == 2).all()


def test_an_exhaustive_search_refuses_chance():
    env = Dicey()
    with pytest.raises(ConfigError, match="countdown has chance"):
        exhaustive(env, same_key(players.random_player(env)))


# Matches


def run(env, agent, opponent, games, opening_plies=0, seed=0):
    return jax.device_get(play(env, agent, opponent, games, opening_plies)(None, None, jax.random.key(seed)))


def test_random_against_random():
    """Known exactly for tic-tac-toe: the first player wins 0.5849, 0.1270 are drawn."""
    player = players.random_player(TIC_TAC_TOE)
    result = summary(run(TIC_TAC_TOE, player, player, 4000))
    for name, wins in (("as_first", 0.5849), ("as_second", 0.2881)):
        assert abs(result[name]["wins"] / 2000 - wins) < 0.05
        assert abs(result[name]["draws"] / 2000 - 0.1270) < 0.035
    assert result["interval"][0] - 0.01 < 0.5 < result["interval"][1] + 0.01


def test_both_games_of_a_pair_share_their_opening():
    player = in_order(CONNECT_FOUR, [3, 2, 4, 1, 5, 0, 6])
    outcomes, plies, *_ = run(CONNECT_FOUR, player, player, 64, opening_plies=6)
    np.testing.assert_array_equal(outcomes[0], -outcomes[1])  # the same game, seen from both sides
    np.testing.assert_array_equal(plies[0], plies[1])
    assert len(set(plies[0].tolist())) > 4  # and the openings differ


def test_openings_never_finish_the_game():
    """With at most 3 in the pile every long opening would."""
    env = Countdown(pile=3)
    player = players.minimax_player(env, 3)
    result = run(env, player, player, 64, opening_plies=5)
    assert (abs(result.outcomes) == 1).all()
    assert result.plies.min() == 1


def test_sides():
    env = Countdown(pile=1)  # player 0 takes it
    player = in_order(env, range(5))
    result = summary(run(env, player, player, 10))
    assert (result["as_first"]["wins"], result["as_second"]["losses"]) == (5, 5)
    assert (result["score"], result["as_first"]["score"], result["as_second"]["score"]) == (0.5, 1.0, 0.0)
    assert (result["games"], result["mean_length"]) == (10, 1.0)


def test_draws_score_the_same_from_both_sides():
    env = Countdown(prize=0.0)
    result = summary(run(env, in_order(env, range(5)), in_order(env, [2, 1, 0, 3, 4]), 10))
    assert result["draws"] == 10
    assert result["score"] == result["as_first"]["score"] == result["as_second"]["score"] == 0.5


@pytest.mark.parametrize("orders", [([1, 0, 2], [2, 0, 1]), ([0, 1, 2], [1, 2, 0])])
def test_extra_turns(orders):
    """One side moves several times running; outcome and length against plain Python."""
    env = Countdown()
    agent, opponent = [in_order(env, [*order, 3, 4]) for order in orders]
    outcomes, plies, *_ = run(env, agent, opponent, 4)
    for seat in (0, 1):
        position, over, length, winner = PythonCountdown.start, False, 0, None
        while not over:
            legal = PythonCountdown.moves(position)
            action = next(a for a in orders[position[1] != seat] if a in legal)
            position, winner, over = PythonCountdown.play(position, action)
            length += 1
        assert (plies[seat] == length).all()
        assert (outcomes[seat] == (1 if winner == seat else -1)).all()


def test_odd_number_of_games():
    player = players.random_player(TIC_TAC_TOE)
    with pytest.raises(ConfigError, match=r"evaluation\.games must be even.*got 7"):
        play(TIC_TAC_TOE, player, player, 7, 0)


def test_interval_is_over_pairs():
    one = np.ones(50, np.int8)
    split = interval(np.stack([one, -one]))  # every opening decides for one side: nothing is uncertain
    swept = interval(np.stack([one, one]))
    mixed = interval(np.stack([np.tile([1, -1], 25)] * 2))
    assert split[1] - split[0] < 0.06
    assert 0.93 < swept[0] < 0.95
    assert swept[1] == 1.0
    pairs = np.append(np.tile([1.0, 0.0], 25), [1.0, 0.0])
    assert mixed == pytest.approx([0.5 - 1.96 * pairs.std(ddof=1) / 52**0.5, 0.5 + 1.96 * pairs.std(ddof=1) / 52**0.5])


def test_results_file(tmp_path):
    result = MatchResult(jnp.array([[1, 0, -1], [1, 1, -1]], jnp.int8), jnp.array([[5, 9, 6], [7, 5, 10]]))
    file = write_results(tmp_path, 12, {"random": summary(result)}, "2025-01-02T03:04:05")
    assert file == tmp_path / "evaluations" / "iteration_12" / "results.json"
    assert [child.name for child in file.parent.iterdir()] == ["results.json"]
    content = json.loads(file.read_text())
    assert (content["iteration"], content["timestamp"]) == (12, "2025-01-02T03:04:05")
    row = content["results"]["random"]
    assert [row[name] for name in ("games", "wins", "draws", "losses", "mean_length")] == [6, 3, 1, 2, 7.0]
    assert row["score"] == pytest.approx(3.5 / 6)
    assert row["as_first"] == {"games": 3, "wins": 1, "draws": 1, "losses": 1, "score": 0.5}
    assert row["as_second"]["score"] == pytest.approx(2 / 3)
    assert row["interval"][0] < row["score"] < row["interval"][1]


# Exhaustive play


def enumerate_lines(rules, order, side):
    """Lines and distinct final positions by outcome for `side`, which plays the first legal action of `order`."""
    lines, ends = collections.Counter(), set()

    def visit(position):
        legal = rules.moves(position)
        for action in [next(a for a in order if a in legal)] if position[1] == side else legal:
            after, winner, over = rules.play(position, action)
            if over:
                outcome = "draws" if winner is None else "wins" if winner == side else "losses"
                lines[outcome] += 1
                ends.add((after, outcome))
            else:
                visit(after)

    visit(rules.start)
    positions = collections.Counter(outcome for _, outcome in ends)
    names = ("wins", "draws", "losses")
    return {"lines": {n: lines[n] for n in names}, "positions": {n: positions[n] for n in names}}


@pytest.mark.parametrize(
    ("env", "rules", "order"),
    [(TIC_TAC_TOE, PythonTicTacToe, [4, 0, 8, 2, 6, 1, 3, 5, 7]), (Countdown(), PythonCountdown, [2, 0, 1, 3, 4])],
)
def test_exhaustive_is_enumeration(env, rules, order):
    act = same_key(in_order(env, order))
    exhaustive(env, act, batch=64)
    start = time.perf_counter()
    result = exhaustive(env, act, batch=64)
    assert time.perf_counter() - start < 2
    for side, name in enumerate(("first", "second")):
        counts = {key: result[name][key] for key in ("lines", "positions")}
        assert counts == enumerate_lines(rules, order, side)


def test_exhaustive_refuses():
    with pytest.raises(ConfigError, match=r"evaluation\.exhaustive: connect_four has more than 1000 positions"):
        exhaustive(CONNECT_FOUR, same_key(in_order(CONNECT_FOUR, range(7))), limit=1000)
    with pytest.raises(ValueError, match="illegal action"):
        exhaustive(TIC_TAC_TOE, lambda states: jnp.zeros(len(states.player), jnp.int32))


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
    best = oracle.judge(lambda states: jnp.argmax(stored.preserving, -1), stored)
    worst = oracle.judge(lambda states: jnp.argmin(jnp.where(stored.values == -2, 9, stored.values), -1), stored)
    shares = lambda result: [result["overall"], *result["by_half"].values(), *result["by_ply"].values()]  # noqa: E731
    assert shares(best) == [1.0] * 8
    assert shares(worst) == [0.0] * 8
    network = networks.make(MlpConfig(sizes=(32,)), CONNECT_FOUR)
    policy = oracle.bind(
        players.policy_player(CONNECT_FOUR, network.infer), network.fold(network.init(jax.random.key(0)))
    )
    assert all(0.2 < share < 0.7 for share in shares(oracle.judge(policy, stored)))
    uniform = oracle.judge(oracle.bind(players.random_player(CONNECT_FOUR), None), stored)["overall"]
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
