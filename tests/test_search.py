"""Searches: against references written apart from them, on positions with known answers, and row by row.

Most tests run on a table: a network whose answers are drawn at random for every position, without any structure that
could hide a mistake, and without rounding that could depend on the batch.
"""

# mctx builds its types with chex, whose dataclasses pyright cannot read.
# pyright: reportCallIssue=false, reportArgumentType=false

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

import envs
from envs.core import random_opening
from jaxzero import search
from jaxzero.config import SearchConfig
from jaxzero.models import Model, simulator
from jaxzero.networks import Prediction
from jaxzero.search import SEARCHES
from jaxzero.search.base import sample_action
from jaxzero.search.puct import noisy_logits

KEY = jax.random.key(0)
SIZE = 4093  # rows of the table
WEIGHTS = np.random.default_rng(0).integers(1, 1 << 20, 4096).astype(np.int32)  # what each input adds to the row

each_search = pytest.mark.parametrize("kind", SEARCHES)
# mctx keeps six arrays [B, N, A]: games with thousands of actions take too long here.
SEARCHED = [name for name in envs.GAMES if envs.make(name).num_outcomes == 0 and envs.make(name).num_actions < 512]
each_game = pytest.mark.parametrize("game", SEARCHED)


def table(env: envs.Env, seed: int = 0):
    """Logits [SIZE, A] and values [SIZE], the parameters of `look_up`."""
    logits, value = jax.random.split(jax.random.key(seed))
    return jax.random.normal(logits, (SIZE, env.num_actions)), jax.random.uniform(value, (SIZE,), minval=-1, maxval=1)


def look_up(params, observation):
    flat = observation.reshape(len(observation), -1).astype(jnp.int32)
    row = (flat * WEIGHTS[None, : flat.shape[1]]).sum(-1) % SIZE
    return Prediction(params[0][row], params[1][row], {})


def uninformed(env: envs.Env):
    return jnp.zeros((SIZE, env.num_actions)), jnp.zeros(SIZE)


def positions(env: envs.Env, count: int):
    return jax.jit(jax.vmap(lambda key: random_opening(env, key, min(env.max_plies - 2, 60))[0]))(keys(count, 1))


def keys(count: int, seed: int = 0):
    return jax.random.split(jax.random.key(seed), count)


def searcher(env: envs.Env, model: Model | None = None, explore: bool = False, **settings):
    """Jitted (params, keys, states, temperature=0) -> SearchResult."""
    made = search.make(SearchConfig(**settings), env, model or simulator.make(env, look_up))

    @jax.jit
    def run(params, keys, states, temperature=0.0):
        return made.run(params, keys, states, made.init(states), jnp.full(len(keys), temperature), explore)[0]

    return run


def legal_in(env: envs.Env, states) -> np.ndarray:
    return np.asarray(jax.vmap(env.legal_actions)(states))


def repeat(state, count: int):
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), state)


def stack(states):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


@pytest.fixture
def root_visits(monkeypatch):
    """(run, arguments) -> root visit counts [B, A] of the tree that mctx built."""
    trees, original = [], mctx.search

    def spy(*args, **kwargs):
        trees.append(original(*args, **kwargs))
        return trees[-1]

    def visits(run, *args):
        def traced(*args):
            run.__wrapped__(*args)  # not its own jit: the tree belongs to this trace
            return trees.pop().summary().visit_counts

        return np.asarray(jax.jit(traced)(*args)).astype(int)

    monkeypatch.setattr(mctx, "search", spy)
    return visits


# Gumbel against mctx's own policy and against schedules worked out by hand.


@each_game
@pytest.mark.parametrize(
    ("simulations", "considered", "scale", "rescale"), [(32, 16, 0.1, True), (24, 4, 0.1, True), (24, 16, 0.5, False)]
)
def test_gumbel_without_noise_is_that_of_mctx(game, simulations, considered, scale, rescale):
    env = envs.make(game)
    model = simulator.make(env, look_up)
    states = positions(env, 64)
    run = searcher(
        env, kind="gumbel", simulations=simulations, max_considered=considered, value_scale=scale, rescale=rescale
    )
    transform = partial(mctx.qtransform_completed_by_mix_value, value_scale=scale, rescale_values=rescale)

    @jax.jit
    def reference(params):
        return mctx.gumbel_muzero_policy(
            params, KEY, model.root(params, states), model.decision, simulations,
            invalid_actions=~jax.vmap(env.legal_actions)(states), gumbel_scale=0.0,
            max_num_considered_actions=considered, qtransform=transform,
        )  # fmt: skip

    for seed in range(3):
        params = table(env, seed)
        result, expected = run(params, keys(64), states), reference(params)
        np.testing.assert_array_equal(result.action, expected.action)
        np.testing.assert_allclose(result.policy, expected.action_weights, rtol=1e-4, atol=1e-7)
        summary = jax.device_get(expected.search_tree.summary())
        weights = np.where(summary.visit_counts > 0, expected.action_weights, 0.0)
        value = (weights * summary.qvalues).sum(-1) / weights.sum(-1)
        np.testing.assert_allclose(result.value, value, atol=1e-5)


@dataclasses.dataclass(frozen=True)
class Bandit(envs.Env):
    """Sixteen arms, one pull; nothing but arms matters to the search."""

    name = "bandit"
    num_actions = 16

    def legal_actions(self, state):
        return jnp.ones(self.num_actions, bool)


@pytest.mark.parametrize(
    ("simulations", "considered", "by_rank"),
    [
        (16, 4, [6, 6, 2, 2]),  # two phases of 8: 4 arms twice, 2 arms four times
        (32, 16, [4] * 4 + [2] * 4 + [1] * 8),  # three phases: 16 arms once, 8 arms once, 4 arms twice
        (8, 8, [1] * 8),  # too few for a second phase
    ],
)
def test_gumbel_halves_by_schedule(root_visits, simulations, considered, by_rank):
    """The arms are considered in the order of their logits (no noise) and dropped in that of their rewards."""
    env = Bandit()
    logits = -0.01 * jnp.arange(16.0)
    rewards = jax.random.permutation(KEY, jnp.linspace(-1, 1, 16))
    zero = jnp.zeros(2)

    def root(params, states):
        return mctx.RootFnOutput(prior_logits=jnp.tile(logits, (2, 1)), value=zero, embedding=states)

    def decision(params, key, actions, states):
        priors = jnp.zeros((2, 16))
        output = mctx.RecurrentFnOutput(reward=rewards[actions], discount=zero, prior_logits=priors, value=zero)
        return output, states

    run = searcher(env, Model(root, decision), kind="gumbel", simulations=simulations, max_considered=considered)
    visits = root_visits(run, (), keys(2), jnp.zeros(2))
    best_first = np.argsort(-np.asarray(rewards[:considered]))
    for row in visits:
        assert row[best_first].tolist() == by_rank
        assert row.sum() == simulations


# PUCT against plain Python.

LINES = ["012", "345", "678", "036", "147", "258", "048", "246"]


class Node:
    def __init__(self, prior: float):
        self.prior, self.visits, self.total, self.children = prior, 0, 0.0, {}


def ask(params, board: str, mover: str) -> tuple[dict[int, Node], float]:
    """Children and value of a position of tic-tac-toe by the table; none and the outcome where the game is over."""
    other = "XO"[mover == "X"]
    if any(all(board[int(i)] == other for i in line) for line in LINES):
        return {}, -1.0
    empty = [i for i, mark in enumerate(board) if mark == "."]
    if not empty:
        return {}, 0.0
    row = sum(int(WEIGHTS[2 * i + (mark == other)]) for i, mark in enumerate(board) if mark != ".") % SIZE
    exponents = [math.exp(params[0][row][i]) for i in empty]
    return {i: Node(x / sum(exponents)) for i, x in zip(empty, exponents, strict=True)}, float(params[1][row])


def plain_puct(params, board: str, simulations: int, c: float) -> list[int]:
    """Root visit counts by the pseudocode of AlphaZero, but with the root's own evaluation counted as a visit."""
    root = Node(1.0)
    for _ in range(simulations + 1):
        node, position, path = root, board, [root]
        while node.children:
            explore = (c + math.log((node.visits + 19652 + 1) / 19652)) * math.sqrt(node.visits)

            def score(move, node=node, explore=explore):
                child = node.children[move]
                q = (1 - child.total / child.visits) / 2 if child.visits else 0.0
                return q + explore * child.prior / (child.visits + 1)

            move = max(node.children, key=score)
            node = node.children[move]
            position = position[:move] + to_move(position) + position[move + 1 :]
            path.append(node)
        node.children, value = ask(params, position, to_move(position))
        for node in reversed(path):
            node.visits += 1
            node.total += value
            value = -value
    return [root.children[i].visits if i in root.children else 0 for i in range(9)]


def to_move(board: str) -> str:
    return "XO"[board.count("X") - board.count("O")]


@pytest.mark.parametrize(("simulations", "c"), [(1, 1.25), (7, 1.25), (64, 1.25), (150, 1.25), (64, 3.0)])
def test_puct_is_that_of_the_pseudocode(root_visits, simulations, c):
    env = envs.make("tic_tac_toe")
    states = positions(env, 24)
    params = table(env)
    run = searcher(env, kind="puct", simulations=simulations, c_puct=c)
    visits = root_visits(run, params, keys(24), states)
    host = jax.tree.map(np.asarray, params)
    for i in range(24):
        board = env.to_text(jax.tree.map(lambda x, i=i: x[i], states)).replace("\n", "")
        assert visits[i].tolist() == plain_puct(host, board, simulations, c), board


def test_dirichlet_noise():
    """Per legal action: mean and variance of (1 - fraction) · prior + fraction · Dirichlet(alpha)."""
    config = SearchConfig(dirichlet_alpha=0.5, dirichlet_fraction=0.4)
    legal = jnp.array([True, False, True, True, False, True])
    logits = simulator.mask(jnp.arange(6.0), legal)
    draws = jax.jit(jax.vmap(lambda key: jax.nn.softmax(noisy_logits(config, key, logits, legal))))(keys(20_000))
    priors = np.asarray(draws)
    assert (priors[:, ~legal] == 0).all()
    np.testing.assert_allclose(priors.sum(-1), 1, atol=1e-5)
    expected = 0.6 * jax.nn.softmax(logits)[legal] + 0.4 / 4
    np.testing.assert_allclose(priors[:, legal].mean(0), expected, atol=0.4 * 4 * 0.25 / math.sqrt(20_000))
    np.testing.assert_allclose(priors[:, legal].var(0), 0.4**2 * 0.25 * 0.75 / (4 * 0.5 + 1), rtol=0.08)


# Any search.

TACTICS = {  # board, the moves that hold what can be had
    "tic_tac_toe": [
        ("XX. OO. ...", "c3"),  # a win in 1, X to move
        ("XX. OO. X..", "c2"),  # a win in 1, O
        ("OO. X.. .X.", "c3"),  # a loss to be blocked, X
        ("XX. O.. ...", "c3"),  # a loss to be blocked, O
        ("XXO O.. ...", "b2"),  # a win in 3, X
        ("XXO ..O ..X", "b2"),  # a win in 3, O
    ],
    "connect_four": [
        ("....... ....... ....... O...... O...... OXXX...", "5"),  # as above
        ("....... ....... ....... X...... X...... XOOO..X", "5"),
        ("....... ....... ....... ....... X...... XOOO..X", "5"),
        ("....... ....... ....... ....... O...... OXXX...", "5"),
        ("....... ....... ....... ....... ..O.... O.XX...", "5"),
        ("....... ....... ....... ....... ..XX... X.OO...", "5"),
    ],
}


@each_search
@pytest.mark.parametrize("game", TACTICS)
def test_tactics(kind, game):
    """With a network that knows nothing, the tree alone must find the move."""
    env = envs.make(game)
    states = [env.from_text(board) for board, _ in TACTICS[game]]
    run = searcher(env, kind=kind, simulations=512)
    result = run(uninformed(env), keys(len(states)), stack(states))
    played = [env.action_to_str(state, int(a)) for state, a in zip(states, result.action, strict=True)]
    assert played == [move for _, move in TACTICS[game]]


@each_search
@each_game
def test_no_illegal_action_is_visited_at_any_depth(kind, game):
    """An illegal action pays a million here, so one visit anywhere would show in the root value."""
    env = envs.make(game)
    model = simulator.make(env, look_up)

    def decision(params, key, actions, states):
        output, after = model.decision(params, key, actions, states)
        legal = jnp.take_along_axis(jax.vmap(env.legal_actions)(states), actions[:, None], 1)[:, 0]
        return output.replace(reward=jnp.where(legal, output.reward, 1e6)), after  # pyright: ignore

    states = positions(env, 64)
    run = searcher(env, Model(model.root, decision), kind=kind, explore=True, simulations=64)
    for params in (table(env), uninformed(env)):
        assert (jnp.abs(run(params, keys(64), states).value) <= 1).all()


@each_search
@each_game
def test_a_row_does_not_depend_on_the_others(kind, game):
    env = envs.make(game)
    states, params = positions(env, 8), table(env)
    run = searcher(env, kind=kind, explore=True, simulations=24, epsilon=0.2)
    result = run(params, keys(8), states, 1.0)
    for rows in (np.arange(8)[::-1], np.array([5])):
        part = run(params, keys(8)[rows], jax.tree.map(lambda x, rows=rows: x[rows], states), 1.0)
        np.testing.assert_array_equal(part.action, result.action[rows])
        np.testing.assert_array_equal(part.policy, result.policy[rows])
        np.testing.assert_allclose(part.value, result.value[rows], atol=1e-6)


@each_search
@each_game
def test_results_are_legal(kind, game):
    env = envs.make(game)
    states = positions(env, 256)
    legal = legal_in(env, states)
    assert (~legal).any()
    result = searcher(env, kind=kind, explore=True, epsilon=0.3)(table(env), keys(256), states, 1.0)
    assert legal[np.arange(256), result.action].all()
    assert (np.asarray(result.policy)[~legal] == 0).all()
    np.testing.assert_allclose(result.policy.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(result.policy_weight, np.ones(256))
    assert (np.abs(result.value) <= 1).all()


@each_search
def test_only_exploration_depends_on_the_key(kind):
    env = envs.make("connect_four")
    states, params = positions(env, 32), table(env)
    settings = {"kind": kind, "simulations": 24, "epsilon": 0.5}
    quiet, noisy = searcher(env, **settings), searcher(env, explore=True, **settings)
    first, second = (quiet(params, keys(32, seed), states) for seed in (0, 1))
    np.testing.assert_array_equal(first.action, second.action)
    np.testing.assert_array_equal(first.policy, second.policy)
    first, second = (noisy(params, keys(32, seed), states) for seed in (0, 1))
    assert (first.policy != second.policy).any(-1).mean() > 0.5


@each_search
@pytest.mark.parametrize("simulations", [1, 12])
def test_the_sampled_move_is_independent_of_the_noise(kind, simulations):
    """Given the policy, the drawn move must not lean towards (or away from) the one that the noise has favoured."""
    env = envs.make("tic_tac_toe")
    count = 4096
    states = repeat(env.init(KEY), count)
    run = searcher(env, kind=kind, explore=True, simulations=simulations, dirichlet_alpha=1.0)
    best, drawn = (run(uninformed(env), keys(count), states, temperature) for temperature in (0.0, 1.0))
    favoured = np.asarray(best.policy)[np.arange(count), best.action]
    if kind == "gumbel" and simulations == 1:
        np.testing.assert_allclose(favoured, 1 / 9, rtol=1e-5)
    surprise = (best.action == drawn.action) - favoured
    assert abs(surprise.mean()) <= 4 * math.sqrt((favoured * (1 - favoured)).mean() / count) + 1e-6


# The move played.

POLICY = jnp.array([0.5, 0.0, 0.2, 0.3, 0.0, 0.0])
LEGAL = jnp.array([True, False, True, True, True, False])
BEST = 2
COUNT = 20_000


def drawn(temperature: float, epsilon: float = 0.0) -> np.ndarray:
    """Shares of the actions among `COUNT` draws."""
    tile = lambda x: jnp.tile(x, (COUNT, 1))  # noqa: E731
    best = jnp.full(COUNT, BEST)
    actions = jax.jit(sample_action, static_argnums=5)(
        keys(COUNT), tile(POLICY), best, tile(LEGAL), jnp.full(COUNT, temperature), epsilon
    )
    return np.bincount(actions, minlength=6) / COUNT


@pytest.mark.parametrize("epsilon", [0.0, 0.4])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_shares_of_the_moves_played(temperature, epsilon):
    sampled = np.asarray(POLICY) ** (1 / temperature) if temperature else np.eye(6)[BEST]
    expected = (1 - epsilon) * sampled / sampled.sum() + epsilon * np.asarray(LEGAL) / 4
    shares = drawn(temperature, epsilon)
    assert (shares[expected == 0] == 0).all()
    np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / math.sqrt(COUNT))


@each_search
def test_temperature(kind):
    """0 plays the search's own choice, the same for any key of the draw; 1 draws from the policy it returns."""
    env = envs.make("tic_tac_toe")
    count = 4096
    states = repeat(env.from_text("XO. ... ..."), count)
    run = searcher(env, kind=kind, simulations=16)
    params = table(env)
    assert len(set(run(params, keys(count), states).action.tolist())) == 1
    result = run(params, keys(count), states, 1.0)
    shares = np.bincount(result.action, minlength=9) / count
    np.testing.assert_allclose(shares, result.policy[0], atol=4 * 0.5 / math.sqrt(count))
