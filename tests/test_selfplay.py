"""Self-play: recorded plies replay through the game, resets are clean, sums equal what the plies say."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.core import random_opening
from jaxzero.config.schema import Config, LearnerConfig, ReplayConfig, SelfPlayConfig
from jaxzero.search import GumbelConfig, Search, SearchOutput
from jaxzero.training import replay as replay_lib
from jaxzero.training import selfplay, statistics, targets

LANES, PLIES, CHUNKS = 16, 8, 4
WARM = 3
LAMBDA = 0.5


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TallyState:
    tally: jax.Array  # i32[]
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


@dataclasses.dataclass(frozen=True)
class Tally(envs.Env):
    """Adds 1 to 3 to a tally until it is 7 or more, for a quarter of that each time; 1 moves again."""

    name = "tally"
    num_actions = 4
    observation_shape = (2,)
    max_plies = 7
    max_legal = 3

    def init(self, key):
        return TallyState(jnp.int32(0), jnp.int8(0), jnp.bool(False), jnp.zeros(2))

    def step(self, state, action):
        earned = jnp.where(jnp.arange(2) == state.player, action / 4, -action / 4).astype(jnp.float32)
        player = jnp.where(action == 1, state.player, 1 - state.player).astype(jnp.int8)
        return TallyState(state.tally + action, player, state.tally + action >= 7, earned)

    def legal_actions(self, state):
        return state.terminated | (jnp.arange(4) > 0)


def random_search(env):
    """Plays and records anything: as policy random weights, as value a number made from the key alone, as policy
    weight the temperature, and carries the number of moves of the game."""

    def run(params, keys, states, age, temperature, explore):
        legal = jax.vmap(env.legal_actions)(states)
        logits = jnp.where(legal, jax.vmap(lambda key: jax.random.normal(key, (env.num_actions,)))(keys), -jnp.inf)
        value = jax.vmap(jax.random.uniform)(keys)
        policy = jax.nn.softmax(logits)
        return SearchOutput(jnp.argmax(logits, -1), policy, value, temperature, logits, logits), age + 1

    return Search(lambda states: jnp.zeros(states.player.shape, jnp.int32), run)


@dataclasses.dataclass
class Played:
    env: envs.Env
    games: selfplay.Games  # [B]  in flight after the last chunk
    carries: list  # of Games, at the start of each chunk
    chunks: list  # of Chunk
    replay: replay_lib.Replay  # [T, B], all rows written once
    sums: dict[str, float]  # over all chunks


GAMES = {"tic_tac_toe": envs.make("tic_tac_toe"), "tally": Tally()}


@cache
def played(name, opening_plies):
    env = GAMES[name]
    config = Config(
        search=GumbelConfig(temperature=0.5, temperature_plies=WARM),
        selfplay=SelfPlayConfig(games=LANES, plies=PLIES, opening_plies=opening_plies),
        replay=ReplayConfig(capacity=LANES * PLIES * CHUNKS),
        learner=LearnerConfig(td_lambda=LAMBDA),
    )
    search = random_search(env)
    games = selfplay.start(env, search, jax.random.key(1), jnp.arange(LANES), opening_plies)
    replay = replay_lib.init(env, PLIES * CHUNKS, LANES)
    play = selfplay.make_play(env, search, config)

    @jax.jit
    def iteration(games, replay, key):
        """As `iteration.make` puts the parts together."""
        games, chunk = play((), games, key)
        replay = replay_lib.add(replay, chunk.transitions)
        newest = replay_lib.newest(replay, PLIES + env.max_plies)
        replay, new = replay_lib.label(replay, *targets.label(newest, LAMBDA))
        return games, replay, chunk, statistics.of_play(chunk, 2) | statistics.of_values(newest, new)

    carries, chunks, totals = [], [], []
    for i in range(CHUNKS):
        carries.append(games)
        games, replay, chunk, sums = iteration(games, replay, jax.random.key(100 + i))
        chunks.append(jax.device_get(chunk))
        totals.append(jax.device_get(sums))
    sums = {name: float(sum(total[name] for total in totals)) for name in totals[0]}
    return Played(env, games, carries, chunks, jax.device_get(replay), sums)


CASES = [("tic_tac_toe", 0), ("tic_tac_toe", 3), ("tally", 0)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-opening{case[1]}")
def game(request):
    return played(*request.param)


def after_each(game):
    """The states [T, B] that the recorded actions lead to."""
    plies = game.replay.transitions
    return jax.device_get(jax.jit(jax.vmap(jax.vmap(game.env.step)))(plies.state, plies.action.astype(np.int32)))


def assert_same(a, b, where):
    """States [T, B] agree in every field."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x[where], y[where])


def test_plies_replay_through_the_game(game):
    plies, after = game.replay.transitions, after_each(game)
    assert not plies.state.terminated.any()
    np.testing.assert_array_equal(plies.end, after.terminated)
    earned = np.take_along_axis(after.rewards, plies.state.player[..., None].astype(int), -1)[..., 0]
    np.testing.assert_array_equal(plies.reward, earned)
    later = jax.tree.map(lambda x: x[1:], plies.state)
    assert_same(jax.tree.map(lambda x: x[:-1], after), later, ~plies.end[:-1])
    assert_same(jax.tree.map(lambda x: x[-1], after), jax.device_get(game.games.state), ~plies.end[-1])
    legal = np.asarray(jax.vmap(jax.vmap(game.env.legal_actions))(plies.state))
    for index in np.ndindex(plies.end.shape):
        assert legal[index][plies.action[index]]
        assert [m for m in plies.moves[index] if m >= 0] == np.flatnonzero(legal[index]).tolist()
    np.testing.assert_allclose(plies.weights.astype(float).sum(-1), 1, atol=2e-3)


def first_plies(game):
    """bool[T, B]: positions right after a reset (or the very first)."""
    end = game.replay.transitions.end
    return np.concatenate([np.ones_like(end[:1]), end[:-1]])


def since_opening(game):
    """i[T, B]: recorded plies of its game before each position."""
    count = np.zeros(game.replay.ready.shape, int)
    for t, first in enumerate(first_plies(game)[1:], 1):
        count[t] = np.where(first, 0, count[t - 1] + 1)
    return count


def stones(state):
    """Stones on the boards of tic-tac-toe states."""
    return np.bitwise_count(state.stones).sum(-1)


def opened(game):
    """i[T, B]: plies from the first position to each position."""
    return stones(game.replay.transitions.state) if game.env.name == "tic_tac_toe" else since_opening(game)


def test_a_new_game_is_clean(game):
    state = game.replay.transitions.state
    first = first_plies(game)
    assert first[1:].sum() > LANES
    assert not state.terminated[first].any()
    if not opened(game)[first].any():
        fresh = game.env.init(jax.random.key(0))
        for got, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(fresh), strict=True):
            assert (got[first] == np.asarray(wanted)).all()


def test_openings_are_legal_positions_and_not_recorded():
    game = played("tic_tac_toe", 3)
    first, count, state = first_plies(game), opened(game), game.replay.transitions.state
    assert set(count[first]) == {0, 1, 2, 3}
    assert (state.player[first] == count[first] % 2).all()
    assert not state.rewards[first].any()


def test_counters_and_carry_start_anew(game):
    recorded, played_in_all = since_opening(game), opened(game)
    for i, games in enumerate(game.carries[1:], 1):
        np.testing.assert_array_equal(games.plies, recorded[i * PLIES])
        np.testing.assert_array_equal(games.carry, recorded[i * PLIES])
        np.testing.assert_array_equal(games.length, played_in_all[i * PLIES])


def test_a_chunk_says_which_game_and_ply_each_position_is_of(game):
    """The chunks in a row are what the replay holds, and count games and plies lane by lane."""
    played, number, ply = (
        jax.tree.map(lambda *parts: np.concatenate(parts), *(getattr(chunk, name) for chunk in game.chunks))
        for name in ("transitions", "game", "ply")
    )
    for whole, kept in zip(jax.tree.leaves(played), jax.tree.leaves(game.replay.transitions), strict=True):
        np.testing.assert_array_equal(whole, kept)
    np.testing.assert_array_equal(number, np.cumsum(first_plies(game), 0) - 1)
    np.testing.assert_array_equal(ply, opened(game))
    assert number.max() > 1


def test_outcomes_of_chance_are_kept_with_the_plies():
    """Each recorded state leads by its action and its outcome to the next one."""
    env, lanes = envs.make("ur", pieces=2), 4
    search, config = random_search(env), Config(selfplay=SelfPlayConfig(games=lanes, plies=60))
    games = selfplay.start(env, search, jax.random.key(1), jnp.arange(lanes), 0)
    _, chunk = jax.device_get(jax.jit(selfplay.make_play(env, search, config))((), games, jax.random.key(2)))
    played = chunk.transitions
    after = jax.vmap(jax.vmap(env.step))(played.state, played.action.astype(np.int32))
    np.testing.assert_array_equal(played.outcome >= 0, after.chance)
    settled = jax.device_get(jax.vmap(jax.vmap(env.resolve))(after, np.maximum(played.outcome, 0).astype(np.int32)))
    later = jax.tree.map(lambda x: x[1:], played.state)
    assert played.end.sum() > lanes
    assert_same(jax.tree.map(lambda x: x[:-1], settled), later, ~played.end[:-1])


def test_temperature_only_for_the_first_plies(game):
    np.testing.assert_array_equal(game.replay.transitions.policy_weight, np.where(since_opening(game) < WARM, 0.5, 0.0))


def test_every_ply_of_every_game_has_its_own_key(game):
    assert len(np.unique(game.replay.transitions.value)) == game.replay.ready.size


def outcomes(game, td_lambda=1.0):
    """Each position's return to its mover by the rewards that the rules gave, and whether its game has ended."""
    plies, rewards = game.replay.transitions, after_each(game).rewards
    mover, value = plies.state.player, plies.value
    total, known = np.zeros(plies.end.shape), np.zeros(plies.end.shape, bool)
    for lane in range(LANES):
        later, ended = np.zeros(2), False
        for t in reversed(range(PLIES * CHUNKS)):
            if plies.end[t, lane]:
                later, ended = np.zeros(2), True
            own = np.where(np.arange(2) == mover[t, lane], value[t, lane], -value[t, lane])
            later = (1 - td_lambda) * own + td_lambda * (rewards[t, lane] + later)
            total[t, lane], known[t, lane] = later[mover[t, lane]], ended
    return total, known


def test_targets_are_returns_in_the_movers_view(game):
    total, known = outcomes(game, LAMBDA)
    np.testing.assert_array_equal(game.replay.ready, known)
    np.testing.assert_allclose(game.replay.target[known], total[known], atol=1e-5)
    if game.env.name == "tic_tac_toe":
        results = set(zip(game.replay.transitions.state.player[known], outcomes(game)[0][known], strict=True))
        assert results == {(player, result) for player in (0, 1) for result in (-1.0, 0.0, 1.0)}


def test_sums_say_what_the_plies_say(game):
    plies, ready, sums = game.replay.transitions, game.replay.ready, game.sums
    end, first = plies.end, after_each(game).rewards[..., 0]
    assert sums["games"] == end.sum()
    assert sums["first_player_wins"] == (end & (first > 0)).sum()
    assert sums["second_player_wins"] == (end & (first < 0)).sum()
    assert sums["draws"] == (end & (first == 0)).sum()
    assert sums["length"] == (opened(game) + 1)[end].sum()
    policy = np.where(plies.moves >= 0, plies.weights.astype(np.float64), 0)
    entropy = -(policy * np.log(np.maximum(policy, 1e-30))).sum()
    np.testing.assert_allclose(sums["entropy"], entropy, rtol=1e-3)
    value, outcome = plies.value[ready].astype(float), outcomes(game)[0][ready]
    assert sums["ended"] == ready.sum()
    for name, wanted in {
        "error": abs(value - outcome), "v": value, "z": outcome,
        "vv": value**2, "zz": outcome**2, "vz": value * outcome,
    }.items():  # fmt: skip
        np.testing.assert_allclose(sums[name], wanted.sum(), rtol=1e-4, atol=1e-4)


def test_random_openings_are_uniform_in_length_and_never_end_the_game():
    env = envs.make("tic_tac_toe")
    openings = jax.jit(jax.vmap(random_opening, (None, 0, None)), static_argnums=(0, 2))
    keys = jax.random.split(jax.random.key(0), 2000)
    state, count = jax.device_get(openings(env, keys, 4))
    np.testing.assert_array_equal(stones(state), count)
    counts = np.bincount(count, minlength=5)
    assert ((counts - 400) ** 2 / 400).sum() < 20
    state, count = jax.device_get(openings(env, keys, 8))
    assert not state.terminated.any()
    assert count.max() == 8
