"""The ring: targets, readiness, sampling, legal-move slots, against games kept in plain Python."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from jaxzero.training import replay as replay_lib
from jaxzero.training import targets
from jaxzero.training.transitions import Transition, compact_policy

LANES, PLIES, MAX_PLIES, ROWS = 3, 4, 9, 16


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Position:
    player: jax.Array  # i8[]
    ply: jax.Array  # i32[]  number of the ply in its lane, from 1; 0 = never written


class Positions(envs.Env):
    max_legal = 2

    def init(self, key):
        return Position(jnp.int8(0), jnp.int32(0))


def make_chunk(plies):
    """[n][B] of (number, mover, reward, end) -> transitions [n, B]."""
    number, mover, reward, end = jnp.moveaxis(jnp.array(plies, jnp.float32), -1, 0)
    shape = number.shape
    return Transition(
        state=Position(mover.astype(jnp.int8), number.astype(jnp.int32)),
        action=jnp.zeros(shape, jnp.int32), reward=reward, end=end.astype(bool), value=reward,
        moves=jnp.zeros((*shape, 2), jnp.int16), weights=jnp.ones((*shape, 2), jnp.float16),
        policy_weight=jnp.ones(shape, jnp.float16),
    )  # fmt: skip


@jax.jit
def add(replay, played):
    """Writes a chunk and labels the games that ended in it."""
    replay = replay_lib.add(replay, played)
    return replay_lib.label(replay, *targets.label(replay_lib.newest(replay, PLIES + MAX_PLIES), 1.0))


class Book:
    """Plain Python's memory of what was played: for every lane a list of games of (number, mover, reward)."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.games = [[[]] for _ in range(LANES)]
        self.numbers = [0] * LANES

    def ply(self, lane):
        games = self.games[lane]
        self.numbers[lane] += 1
        length = len(games[-1]) + 1
        end = length == MAX_PLIES or (length > 2 and self.random.random() < 0.25)
        mover, reward = self.random.integers(2), self.random.integers(-1, 2) / 2 if not end else 0
        reward = self.random.integers(-1, 2) if end else reward
        games[-1].append((self.numbers[lane], mover, reward))
        if end:
            games.append([])
        return self.numbers[lane], mover, reward, end

    def chunk(self):
        return make_chunk([[self.ply(lane) for lane in range(LANES)] for _ in range(PLIES)])

    def finished(self, lane):
        """{number: outcome in the mover's view} of the plies of finished games."""
        return {
            number: sum(reward if mover == mine else -reward for _, mover, reward in game[i:])
            for game in self.games[lane][:-1]
            for i, (number, mine, _) in enumerate(game)
        }


@pytest.mark.parametrize("seed", range(3))
def test_every_position_against_plain_python(seed):
    book = Book(seed)
    replay = replay_lib.init(Positions(), ROWS, LANES)
    seen = 0
    for turn in range(1, 13):
        before = np.array(replay.ready)
        replay, new = add(replay, book.chunk())
        assert int(replay.cursor) == turn * PLIES % ROWS
        total = turn * PLIES
        ready, numbers = np.asarray(replay.ready), np.asarray(replay.transitions.state.ply)
        for lane in range(LANES):
            finished = book.finished(lane)
            kept = [n for n in range(max(1, total - ROWS + 1), total + 1)]
            assert sorted(numbers[:, lane]) == [0] * (ROWS - len(kept)) + kept
            assert {n for n, r in zip(numbers[:, lane], ready[:, lane], strict=True) if r} == finished.keys() & set(
                kept
            )
            for row in np.flatnonzero(ready[:, lane]):
                assert replay.target[row, lane] == finished[numbers[row, lane]]
        recent = replay_lib.recent(replay.cursor, ROWS, PLIES + MAX_PLIES)
        before[(turn - 1) * PLIES % ROWS :][:PLIES] = False
        assert np.array_equal(new, ready[recent] & ~before[recent])
        seen += int(new.sum())
    assert seen == sum(len(book.finished(lane)) for lane in range(LANES))


def test_rows_are_a_multiple_of_the_chunk():
    assert replay_lib.rows(100, 5, 4) == 20
    assert replay_lib.rows(119, 5, 4) == 20
    assert replay_lib.rows(120, 5, 4) == 24


def test_recent_rows():
    assert replay_lib.recent(jnp.int32(3), 8, 5).tolist() == [6, 7, 0, 1, 2]
    assert replay_lib.recent(jnp.int32(0), 8, 20).tolist() == list(range(8))


def filled(ready, cursor):
    """A replay whose positions are numbered row · LANES + lane, with target = -number."""
    numbers = jnp.arange(ROWS * LANES).reshape(ROWS, LANES)
    empty = replay_lib.init(Positions(), ROWS, LANES)
    state = Position(jnp.zeros((ROWS, LANES), jnp.int8), numbers)
    played = dataclasses.replace(empty.transitions, state=state)
    return replay_lib.Replay(played, -numbers.astype(jnp.float32), jnp.asarray(ready), jnp.int32(cursor))


@pytest.mark.parametrize(("window", "cursor"), [(ROWS, 0), (6, 4), (1, 0), (100, 8)])
def test_sampling_is_uniform_over_the_ready_positions_of_the_window(window, cursor):
    ready = np.random.default_rng(0).random((ROWS, LANES)) < 0.5
    ready[cursor - 1, 0] = True
    replay = filled(ready, cursor)
    newest = [(cursor - 1 - age) % ROWS for age in range(min(window, ROWS))]
    allowed = {row * LANES + lane for row in newest for lane in range(LANES) if ready[row, lane]}
    table = replay_lib.sampling_table(replay, replay_lib.sampleable(replay, jnp.int32(window)))
    assert int(table[-1]) == len(allowed)
    draws = 400 * len(allowed)
    played, target, weight = replay_lib.sample(replay, table, jax.random.key(1), draws)
    assert np.array_equal(target, -played.state.ply)
    assert (weight == 1).all()
    counts = np.bincount(played.state.ply[:, 0], minlength=ROWS * LANES)
    assert set(np.flatnonzero(counts)) == allowed
    freedom = len(allowed) - 1
    chi_square = ((counts[list(allowed)] - 400) ** 2 / 400).sum()
    assert chi_square <= freedom + 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("exponent", [1.0, 0.5])
def test_samples_are_drawn_by_their_priorities(exponent):
    """Errors 1, 4 and 9: shares by their power, and weights inverse to these; a position without error is as good as
    never drawn, one that is not ready never."""
    replay = filled(np.arange(ROWS * LANES).reshape(ROWS, LANES) < 4, 4)
    value = jnp.zeros((ROWS, LANES)).at[0].set(jnp.array([1.0, 3.0, 7.0])).at[1].set(jnp.array([-3.0, 99.0, 99.0]))
    played = dataclasses.replace(replay.transitions, value=value)
    replay = dataclasses.replace(replay, transitions=played)  # target: - number
    errors = np.array([1.0, 4.0, 9.0, 0.0])
    table = replay_lib.sampling_table(replay, replay_lib.sampleable(replay, jnp.int32(ROWS)), exponent)
    draws = 20_000
    sampled, _, weight = replay_lib.sample(replay, table, jax.random.key(1), draws)
    numbers, shares = np.asarray(sampled.state.ply[:, 0]), errors**exponent / (errors**exponent).sum()
    counts = np.bincount(numbers, minlength=4)
    assert numbers.max() == 2
    np.testing.assert_allclose(counts[:3] / draws, shares[:3], atol=0.015)
    np.testing.assert_allclose(weight, (1 / errors[numbers]) ** exponent, rtol=1e-3)


def test_plies_after_a_position_are_sampled_with_it():
    """Row by row in the lane of the position, round the end of the ring."""
    replay = filled(np.arange(ROWS * LANES).reshape(ROWS, LANES) == (ROWS - 2) * LANES + 1, 0)
    table = replay_lib.sampling_table(replay, replay_lib.sampleable(replay, jnp.int32(ROWS)))
    played, target, _ = replay_lib.sample(replay, table, jax.random.key(0), 2, steps=3)
    wanted = [(ROWS - 2) * LANES + 1, (ROWS - 1) * LANES + 1, 1, LANES + 1]
    assert played.state.ply.tolist() == [wanted] * 2
    assert target.tolist() == [[-number for number in wanted]] * 2


def test_legal_moves_are_never_dropped():
    """Every mask of six actions, into as many slots as the fullest of them needs."""
    legal = ((np.arange(64)[:, None] >> np.arange(6)) & 1).astype(bool)
    policy = np.random.default_rng(0).random((64, 6)).astype(np.float32)
    for max_legal in (6, 4):
        few = legal.sum(1) <= max_legal
        moves, weights = compact_policy(jnp.asarray(policy[few]), jnp.asarray(legal[few]), max_legal)
        assert moves.shape == weights.shape == (few.sum(), max_legal)
        for mask, row, move, weight in zip(legal[few], policy[few], moves.tolist(), np.asarray(weights), strict=True):
            actions = np.flatnonzero(mask)
            spare = max_legal - len(actions)
            assert move == [*actions, *[-1] * spare]
            np.testing.assert_array_equal(weight, [*row[actions].astype(np.float16), *[0] * spare])
