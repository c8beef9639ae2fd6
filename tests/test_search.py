"""Searches: against references written apart from them, on positions with known answers, and row by row.

Most tests run on a table: a network whose answers are drawn at random for every position, without any structure that
could hide a mistake, and without rounding that could depend on the batch.
"""

# mctx builds its types with chex, whose dataclasses pyright cannot read.
# pyright: reportCallIssue=false, reportArgumentType=false

import dataclasses
import functools
import math
import pathlib

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest
import torch

import envs
from envs import backend
from envs.core import random_opening
from jaxzero import networks, search
from jaxzero.config import NetworkConfig, SearchConfig
from jaxzero.models import Model, simulator
from jaxzero.networks import Prediction
from jaxzero.search import SEARCHES, gumbel, simulation
from jaxzero.search import tree as trees
from jaxzero.search.base import sample_action
from jaxzero.search.puct import noisy_logits
from jaxzero.search.slots import compact

KEY = jax.random.key(0)
SIZE = 4093  # rows of the table
ROWS, COUNT = 64, 4096  # games of a batch; where shares are counted
WEIGHTS = np.random.default_rng(0).integers(1, 1 << 20, 4096).astype(np.int32)  # what each input adds to the row

SETTINGS = {
    **{kind: {"kind": kind} for kind in SEARCHES},
    **{f"{kind} by mctx": {"kind": kind, "engine": "mctx"} for kind in SEARCHES if "mctx" in SEARCHES[kind]},
    "gumbel in rounds": {"kind": "gumbel", "rounds": True},
}
TREES = {name: settings for name, settings in SETTINGS.items() if settings["kind"] != "minimax"}  # it has its own tests
each_search = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
each_tree_search = pytest.mark.parametrize("settings", TREES.values(), ids=TREES)
each_game = pytest.mark.parametrize("game", ["tic_tac_toe", "connect_four", "othello"])


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


def positions(env: envs.Env, count: int, seed: int = 1):
    return opening(env, keys(count, seed))


@functools.partial(jax.jit, static_argnums=0)
def opening(env: envs.Env, keys):
    return jax.vmap(lambda key: random_opening(env, key, min(env.max_plies - 2, 60))[0])(keys)


def keys(count: int, seed: int = 0):
    return jax.random.split(jax.random.key(seed), count)


def searcher(env: envs.Env, model: Model | None = None, explore: bool = False, at_once: bool = False, **settings):
    """(params, keys, states, temperature=0) -> SearchResult, compiled once for all tests."""
    return compiled(env, model, explore, at_once, SearchConfig(**settings))


@functools.cache
def compiled(env: envs.Env, model: Model | None, explore: bool, at_once: bool, config: SearchConfig):
    made = search.make(config, env, model or simulator.make(env, look_up))

    @jax.jit
    def run(params, keys, states, temperature):
        temperatures = jnp.broadcast_to(temperature, len(keys))
        with pytest.MonkeyPatch.context() as patch:
            if at_once:
                patch.setattr(gumbel, "lanes_of", all_at_once)
            return made.run(params, keys, states, made.init(states), temperatures, explore)[0]

    def call(params, keys, states, temperature=0.0):
        return jax.device_get(run(params, keys, states, jnp.float32(temperature)))

    return call


def all_at_once(rounds, batch):
    """`gumbel.lanes_of` elsewhere than on a CPU."""
    return [(width, width) for width in rounds]


@functools.cache
def watched(env: envs.Env) -> Model:
    """The table's model where an illegal action pays a million: one visit anywhere would show in the root value."""
    model = simulator.make(env, look_up)

    def decision(params, key, actions, states):
        output, after = model.decision(params, key, actions, states)
        legal = jnp.take_along_axis(jax.vmap(env.legal_actions)(states), actions[:, None], 1)[:, 0]
        return output.replace(reward=jnp.where(legal, output.reward, 1e6)), after  # pyright: ignore

    return Model(model.root, decision)


def exploring(settings, game: str):
    """The search that most tests of any search share; of `ROWS` rows."""
    env = envs.make(game)
    return searcher(env, watched(env), explore=True, simulations=32, epsilon=0.3, **settings)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Heap:
    left: jax.Array  # i32[]
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


@dataclasses.dataclass(frozen=True)
class Nim(envs.Env):
    """Take one, two or three; three give another turn; who takes the last loses."""

    name = "nim"
    num_actions = 3
    observation_shape = (21, 2)
    max_plies = 20
    max_legal = 3

    def init(self, key):
        return Heap(jnp.int32(20), jnp.int8(0), jnp.bool(False), jnp.zeros(2))

    def step(self, state, action):
        left = state.left - jnp.where(state.terminated, 0, action + 1)
        end = left == 0
        player = jnp.where((action == 2) & ~end | state.terminated, state.player, 1 - state.player).astype(jnp.int8)
        won = jnp.where(jnp.arange(2) == state.player, -1.0, 1.0) * (end & ~state.terminated)
        return Heap(left, player, end, won)

    def legal_actions(self, state):
        return (jnp.arange(3) < state.left) | state.terminated

    def observe(self, state):
        return jnp.zeros((21, 2)).at[state.left, state.player.astype(jnp.int32)].set(1.0)


def nim_value(left: int, take: int = 0) -> int:
    """Of a heap to the mover, or of taking so many from it."""
    if not take:
        return max(nim_value(left, take) for take in (1, 2, 3) if take <= left)
    if take == left:
        return -1
    return nim_value(left - take) * (1 if take == 3 else -1)


def legal_in(env: envs.Env, states) -> np.ndarray:
    return np.asarray(jax.vmap(env.legal_actions)(states))


def repeat(state, count: int):
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), state)


def stack(states):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


# Our tree against mctx.


@pytest.mark.parametrize(
    ("settings", "game"),
    [
        ({"simulations": 32}, "othello"),
        ({"simulations": 100}, "tic_tac_toe"),  # most lines end, below some roots all actions are tried
        ({"simulations": 24, "max_considered": 4}, "connect_four"),
        ({"simulations": 24, "rescale": False, "value_scale": 0.5}, "connect_four"),
        ({"simulations": 24, "max_depth": 2}, "connect_four"),
        ({"simulations": 60}, "nim"),  # extra turns, single legal moves
        ({"kind": "puct", "simulations": 100}, "tic_tac_toe"),
        ({"kind": "puct", "simulations": 32, "c_puct": 3.0}, "othello"),
        ({"kind": "puct", "simulations": 24, "max_depth": 2}, "connect_four"),
        ({"kind": "puct", "simulations": 60}, "nim"),
        ({"kind": "puct", "simulations": 40}, "treasure"),  # rewards beyond [-1, 1]
    ],
    ids=str,
)
def test_the_tree_is_that_of_mctx(settings, game):
    env = Nim() if game == "nim" else envs.make(game)
    states = positions(env, 64)
    ours, theirs = (searcher(env, explore=True, engine=engine, **settings) for engine in ("tree", "mctx"))
    for seed in range(4):
        params = table(env, seed)
        result, expected = (run(params, keys(64, seed), states) for run in (ours, theirs))
        np.testing.assert_array_equal(result.visits, expected.visits)
        np.testing.assert_allclose(result.qvalues, expected.qvalues, atol=1e-5)
        np.testing.assert_array_equal(result.action, expected.action)
        np.testing.assert_allclose(result.policy, expected.policy, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(result.value, expected.value, atol=1e-5)


def test_equally_likely_actions_are_tried_in_their_order():
    """Priors of two heights, so that nodes have many alike, and few candidates, so that nodes try most actions."""
    env = envs.make("tic_tac_toe")
    states, (logits, values) = positions(env, 64), table(env)
    params = jnp.sign(logits), values
    for considered in (1, 3):
        ours, theirs = (
            searcher(env, explore=True, engine=engine, simulations=60, max_considered=considered)
            for engine in ("tree", "mctx")
        )
        result, expected = (run(params, keys(64), states) for run in (ours, theirs))
        np.testing.assert_array_equal(result.visits, expected.visits)
        np.testing.assert_allclose(result.qvalues, expected.qvalues, atol=1e-5)


TRAINED = pathlib.Path(__file__).parent.parent / "benchmarks" / "results" / "connect_four_fast_step000960.pt"


def real_networks(env: envs.Env):
    """A network in double precision, which gives its value before tanh; its trained parameters and random ones."""
    contents = torch.load(TRAINED, weights_only=True)
    facts = {key: contents["metadata"]["network"][key] for key in ("channels", "blocks", "pooling")}
    network = networks.make(NetworkConfig(value="transformed", dtype="float64", **facts), env)  # pyright: ignore
    blank = jax.jit(lambda: network.fold(network.init(KEY)))()

    def fill(path, leaf):
        *names, last = (step.key for step in path)
        names = names[:-1] if names[-1] == "conv" else names
        weights = contents["state_dict"][".".join([*names, {"kernel": "weight"}.get(last, last)])].numpy()
        return jnp.asarray(weights.transpose((2, 3, 1, 0) if leaf.ndim == 4 else None))

    return network, jax.tree_util.tree_map_with_path(fill, blank), blank


@pytest.mark.parametrize("settings", [{}, {"rescale": False}, {"kind": "puct"}], ids=str)
def test_the_tree_is_that_of_mctx_with_real_networks(settings):
    """Trees of a trained network are deep. In double precision: stretching the values of a position that is all but won
    or lost stretches the rounding too in which two programs differ."""
    env = envs.make("connect_four")
    network, *both = real_networks(env)
    states = positions(env, ROWS)
    with jax.enable_x64(True):

        def evaluate(params, key, states):
            said = network.infer(params, jax.vmap(env.observe)(states))
            logits, value = (x.astype(jnp.float64) for x in (said.logits, said.heads["transformed"]))
            return simulator.mask(logits, jax.vmap(env.legal_actions)(states)), jnp.tanh(value)

        model = simulator.make_judged(env, evaluate)
        ours, theirs = (
            searcher(env, model, True, engine=engine, simulations=32, **settings) for engine in ("tree", "mctx")
        )
        for params in both:
            result, expected = (run(params, keys(ROWS), states) for run in (ours, theirs))
            assert result.value.dtype == np.float64
            np.testing.assert_array_equal(result.visits, expected.visits)
            np.testing.assert_array_equal(result.action, expected.action)
            np.testing.assert_allclose(result.policy, expected.policy, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(result.value, expected.value, atol=1e-9)


@pytest.mark.parametrize(("simulations", "considered"), [(32, 16), (24, 4)])
def test_stock_gumbel_without_noise_is_the_policy_of_mctx(simulations, considered):
    env = envs.make("connect_four")
    model = simulator.make(env, look_up)
    states = positions(env, 64)
    run = searcher(env, engine="mctx", simulations=simulations, max_considered=considered)

    @jax.jit
    def reference(params):
        return mctx.gumbel_muzero_policy(
            params, KEY, model.root(params, states), model.decision, simulations,
            invalid_actions=~jax.vmap(env.legal_actions)(states), gumbel_scale=0.0,
            max_num_considered_actions=considered,
        )  # fmt: skip

    result, expected = run(table(env), keys(64), states), reference(table(env))
    np.testing.assert_array_equal(result.action, expected.action)
    np.testing.assert_allclose(result.policy, expected.action_weights, rtol=1e-4, atol=1e-7)
    summary = jax.device_get(expected.search_tree.summary())
    weights = np.where(summary.visit_counts > 0, expected.action_weights, 0.0)
    np.testing.assert_allclose(result.value, (weights * summary.qvalues).sum(-1) / weights.sum(-1), atol=1e-5)


def test_nodes_with_few_slots():
    """Chess keeps the likeliest of 4,672 actions in a node, as many as simulations can try, which changes nothing; or
    fewer, if told."""
    env = envs.make("chess")
    states, params = positions(env, 8), table(env)
    exact, stock, capped = (
        searcher(env, simulations=24, max_considered=2, **settings)(params, keys(8), states)
        for settings in ({}, {"engine": "mctx"}, {"slots": 1})
    )
    np.testing.assert_array_equal(exact.visits, stock.visits)
    np.testing.assert_allclose(exact.value, stock.value, atol=1e-5)
    np.testing.assert_allclose(exact.policy, stock.policy, rtol=1e-4, atol=1e-6)
    assert (exact.value != capped.value).any()
    np.testing.assert_array_equal(capped.visits.sum(-1), np.full(8, 24))


@pytest.mark.parametrize(("actions", "slots"), [(4672, 218), (33, 40), (64, 5)])
def test_legal_actions_find_their_slots(actions, slots):
    rng = np.random.default_rng(0)
    logits = np.full((200, actions), -np.inf, np.float32)
    for row in logits:
        some = rng.choice(actions, rng.integers(min(slots, actions) + 1), replace=False)
        row[some] = rng.normal(size=len(some))
    found, index = jax.device_get(jax.jit(compact, static_argnums=1)(logits, slots))
    for row, values, places in zip(logits, found, index, strict=True):
        legal = np.flatnonzero(row > -np.inf)
        np.testing.assert_array_equal(places[: len(legal)], legal)
        np.testing.assert_array_equal(values[: len(legal)], row[legal])
        assert (values[len(legal) :] == -np.inf).all()


# Halving by schedules worked out by hand.


@dataclasses.dataclass(frozen=True)
class Bandit(envs.Env):
    """Sixteen arms, one pull; nothing but arms matters to the search."""

    name = "bandit"
    max_legal = 16
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
@pytest.mark.parametrize(
    "settings", [{}, {"rounds": True}, {"rounds": True, "at_once": True}, {"engine": "mctx"}], ids=str
)
def test_gumbel_halves_by_schedule(settings, simulations, considered, by_rank):
    """The arms are considered in the order of their logits (no noise) and dropped in that of their rewards."""
    env = Bandit()
    logits = -0.01 * jnp.arange(16.0)
    rewards = jax.random.permutation(KEY, jnp.linspace(-1, 1, 16))

    def root(params, states):
        return mctx.RootFnOutput(prior_logits=jnp.tile(logits, (2, 1)), value=jnp.zeros(2), embedding=states)

    def decision(params, key, actions, states):
        zero = jnp.zeros(len(actions))
        priors = jnp.zeros((len(actions), 16))
        return mctx.RecurrentFnOutput(reward=rewards[actions], discount=zero, prior_logits=priors, value=zero), states

    model = Model(root, decision)
    run = searcher(env, model, simulations=simulations, max_considered=considered, **settings)
    best_first = np.argsort(-np.asarray(rewards[:considered]))
    for row in np.asarray(run((), keys(2), jnp.zeros(2)).visits):
        assert row[best_first].tolist() == by_rank
        assert row.sum() == simulations


# PUCT and Gumbel in rounds against plain Python.

LINES = ["012", "345", "678", "036", "147", "258", "048", "246"]


class Node:
    """A position of tic-tac-toe: children by move, values to its mover."""

    def __init__(self, logit: float, prior: float):
        self.logit, self.prior, self.visits, self.total, self.raw, self.children = logit, prior, 0, 0.0, 0.0, {}

    def q(self) -> float:
        return -self.total / self.visits


def expand(node: Node, params, board: str) -> float:
    """Gives a node its children by the table, none where the game is over; its value."""
    mover = to_move(board)
    other = "XO"[mover == "X"]
    empty = [i for i, mark in enumerate(board) if mark == "."]
    if any(all(board[int(i)] == other for i in line) for line in LINES):
        node.raw = -1.0
    elif empty:
        row = sum(int(WEIGHTS[2 * i + (mark == other)]) for i, mark in enumerate(board) if mark != ".") % SIZE
        exponents = {i: math.exp(params[0][row][i]) for i in empty}
        node.children = {i: Node(params[0][row][i], x / sum(exponents.values())) for i, x in exponents.items()}
        node.raw = float(params[1][row])
    return node.raw


def play(board: str, move: int) -> str:
    return board[:move] + to_move(board) + board[move + 1 :]


def to_move(board: str) -> str:
    return "XO"[board.count("X") - board.count("O")]


def simulate(params, node: Node, board: str, select) -> None:
    """Down by `select(node) -> move`, expand, back up."""
    path = [node]
    while node.children and node.visits:
        move = select(node)
        node, board = node.children[move], play(board, move)
        path.append(node)
    value = expand(node, params, board) if not node.visits else node.raw
    for node in reversed(path):
        node.visits += 1
        node.total += value
        value = -value


def plain_puct(params, board: str, simulations: int, c: float, root: Node | None = None) -> Node:
    """The pseudocode of AlphaZero, but with the root's own evaluation counted as a visit; from a root of an earlier
    search, if given."""

    def select(node: Node) -> int:
        explore = (c + math.log((node.visits + 19652 + 1) / 19652)) * math.sqrt(node.visits)

        def score(move):
            child = node.children[move]
            return ((1 + child.q()) / 2 if child.visits else 0.0) + explore * child.prior / (child.visits + 1)

        return max(node.children, key=score)

    root = root or Node(0.0, 1.0)
    for _ in range(simulations + (root.visits == 0)):
        simulate(params, root, board, select)
    return root


def improved_logits(node: Node) -> dict[int, float]:
    """Logit + σ(completed value) of each child: the paper's equations 8 and 10, and v_mix of its appendix D. The values
    are rescaled by their extremes; squares that are taken count as untried, as in mctx."""
    tried = [child for child in node.children.values() if child.visits]
    visits, prior = sum(child.visits for child in tried), sum(child.prior for child in tried)
    mean = sum(child.prior * child.q() for child in tried) / prior if tried else 0.0
    mixed = (node.raw + visits * mean) / (1 + visits)
    values = {move: child.q() if child.visits else mixed for move, child in node.children.items()}
    around = [*values.values(), mixed] if len(tried) < 9 else list(values.values())
    spread = max(max(around) - min(around), 1e-8)
    scale = 0.1 * (50 + max((child.visits for child in tried), default=0))
    return {move: node.children[move].logit + scale * (q - min(around)) / spread for move, q in values.items()}


def plain_gumbel(params, board: str, rounds: list[int], root: Node | None = None) -> Node:
    """The paper's figure 1 without noise: each round visits its candidates once, then the best stay."""

    def select(node: Node) -> int:
        logits = improved_logits(node)
        total = sum(math.exp(x) for x in logits.values())
        visits = sum(child.visits for child in node.children.values())
        return max(logits, key=lambda move: math.exp(logits[move]) / total - node.children[move].visits / (1 + visits))

    root = root or Node(0.0, 1.0)
    if not root.visits:
        root.visits, root.total = 1, expand(root, params, board)
    left = list(root.children)
    for number in rounds:
        logits = improved_logits(root)
        left = sorted(left, key=lambda move: -logits[move])[:number]
        for move in left:
            simulate(params, root.children[move], play(board, move), select)
    return root


def boards(env: envs.Env, states) -> list[str]:
    one = lambda i: jax.tree.map(lambda x: x[i], states)  # noqa: E731
    return [env.to_text(one(i)).replace("\n", "").replace(" ", "") for i in range(len(states.player))]


def compare_visits(result, roots: list[Node]) -> None:
    for visits, qvalues, root in zip(np.asarray(result.visits), result.qvalues, roots, strict=True):
        assert visits.tolist() == [root.children[i].visits if i in root.children else 0 for i in range(9)]
        expected = [root.children[i].q() if visits[i] else 0.0 for i in range(9)]
        np.testing.assert_allclose(qvalues, expected, atol=1e-5)


@pytest.mark.parametrize(("simulations", "c"), [(1, 1.25), (7, 1.25), (64, 1.25), (150, 1.25), (64, 3.0)])
def test_puct_is_that_of_the_pseudocode(simulations, c):
    env = envs.make("tic_tac_toe")
    states, params = positions(env, 24), table(env)
    run = searcher(env, kind="puct", simulations=simulations, c_puct=c)
    host = jax.tree.map(np.asarray, params)
    result = run(params, keys(24), states)
    compare_visits(result, [plain_puct(host, board, simulations, c) for board in boards(env, states)])


@pytest.mark.parametrize(
    ("simulations", "considered", "rounds"),
    [
        (32, 16, [9] + [4] * 2 + [2] * 7 + [1]),  # only nine actions: 4 phases of 8, then the rest
        (24, 4, [4] * 3 + [2] * 6),
        (16, 2, [2] * 8),
        (5, 5, [5]),
        (7, 1, [1] * 7),
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
def test_rounds_are_those_of_the_paper(at_once, simulations, considered, rounds):
    env = envs.make("tic_tac_toe")
    states = positions(env, 24)
    run = searcher(env, at_once=at_once, rounds=True, simulations=simulations, max_considered=considered)
    for seed in range(3):
        params = table(env, seed)
        result = run(params, keys(24), states)
        host = jax.tree.map(np.asarray, params)
        roots = [plain_gumbel(host, board, rounds) for board in boards(env, states)]
        compare_visits(result, roots)
        for i, root in enumerate(roots):
            logits = improved_logits(root)
            total = sum(math.exp(x) for x in logits.values())
            policy = [math.exp(logits[move]) / total if move in logits else 0 for move in range(9)]
            np.testing.assert_allclose(result.policy[i], policy, rtol=1e-4, atol=1e-6)
            most = max(child.visits for child in root.children.values())
            best = max((move for move in logits if root.children[move].visits == most), key=lambda move: logits[move])
            assert result.action[i] == best


@pytest.mark.parametrize(
    ("game", "simulations", "considered", "lanes"),
    [
        ("othello", 32, 16, 2),  # rounds of 16, 8, 4, 4
        ("tic_tac_toe", 24, 4, 2),  # of 4, 4, 4, 2, … in games that may have fewer actions left
        ("connect_four", 40, 16, 1),  # of 7, 3, …
        ("ur", 32, 8, 2),  # afterstates too
    ],
)
def test_a_round_in_blocks_grows_the_tree_of_a_round_at_once(monkeypatch, game, simulations, considered, lanes):
    """Node by node."""
    env, count = envs.make(game), 16
    states, params = positions(env, count), table(env)
    model, most = simulator.make(env, look_up), min(considered, env.num_actions)
    layout = trees.layout(env, SearchConfig(), simulations, model)
    scale = gumbel.Scale(0.1, True)

    def grow(lanes_of):
        monkeypatch.setattr(gumbel, "lanes_of", lanes_of)

        @jax.jit
        def grown(params, states):
            root, legal = model.root(params, states), jax.vmap(env.legal_actions)(states)
            tree = trees.plant(root, layout, layout.nodes(simulations))
            at_root = gumbel.find_candidates(root.prior_logits, jnp.zeros_like(root.prior_logits), legal, most)
            rule = functools.partial(gumbel.interior, scale)
            it = simulation.Search(model, params, rule, env.num_actions, env.num_outcomes, tree.size)
            return gumbel.round_by_round(it, scale, tree, at_root, KEY, simulations, 1)

        return jax.device_get(grown(params, states))

    tree, at_root = grow(all_at_once)
    if game == "tic_tac_toe":
        assert (at_root.score == -np.inf).any()  # unused lanes
    blocks = grow(lambda rounds, batch: [(lanes, width) for width in rounds])
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), blocks, (tree, at_root))


def test_lanes_of_a_round(monkeypatch):
    """On a CPU one number that divides every round, for no more than 128 rows where there are not more games."""
    of = lambda rounds, batch: {lanes for lanes, _ in gumbel.lanes_of(rounds, batch)}  # noqa: E731
    assert gumbel.lanes_of([16, 8, 4, 4], 16) == [(4, 16), (4, 8), (4, 4), (4, 4)]
    assert [of([16, 8, 4, 4], batch) for batch in (1, 32, 33, 64, 65, 1000)] == [{4}, {4}, {2}, {2}, {1}, {1}]
    assert [of([12, 6], batch) for batch in (21, 22, 42, 43, 64)] == [{6}, {3}, {3}, {2}, {2}]
    assert of([7, 3, 2], 1) == {1}
    monkeypatch.setattr(backend, "accelerated", lambda: True)
    assert gumbel.lanes_of([16, 8, 4, 4], 1000) == [(16, 16), (8, 8), (4, 4), (4, 4)]


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


@each_tree_search
@pytest.mark.parametrize("game", TACTICS)
def test_tactics(settings, game):
    """With a network that knows nothing, the tree alone must find the move."""
    env = envs.make(game)
    states = [env.from_text(board) for board, _ in TACTICS[game]]
    run = searcher(env, simulations=512, **settings)
    result = run(uninformed(env), keys(len(states)), stack(states))
    played = [env.action_to_str(state, int(a)) for state, a in zip(states, result.action, strict=True)]
    assert played == [move for _, move in TACTICS[game]]


@each_tree_search
def test_extra_turns(settings):
    """With a network that knows nothing, in a game where the mover may move again."""
    env, heaps = Nim(), np.arange(2, 10)
    states = jax.vmap(lambda left: dataclasses.replace(env.init(KEY), left=left))(jnp.asarray(heaps, jnp.int32))
    result = searcher(env, simulations=600, **settings)(uninformed(env), keys(len(heaps)), states)
    for left, action, value in zip(heaps, result.action, result.value, strict=True):
        assert nim_value(left, int(action) + 1) == nim_value(left)
        assert value * nim_value(left) > 0.3


@each_search
@each_game
def test_no_illegal_action_is_visited_at_any_depth(settings, game):
    env = envs.make(game)
    states, run = positions(env, ROWS), exploring(settings, game)
    legal = legal_in(env, states)
    assert (~legal).any()
    for params in (table(env), uninformed(env)):
        result = run(params, keys(ROWS), states, 1.0)
        assert (np.abs(result.value) <= 1).all()
        assert legal[np.arange(ROWS), result.action].all()
        assert (result.policy[~legal] == 0).all()
        assert (result.visits[~legal] == 0).all()
        np.testing.assert_allclose(result.policy.sum(-1), 1, atol=1e-5)
        np.testing.assert_array_equal(result.policy_weight, np.ones(ROWS))


@each_search
@each_game
def test_a_row_does_not_depend_on_the_others(settings, game):
    """Nor on its place, nor (once for each search) on their number."""
    env = envs.make(game)
    states, others = positions(env, ROWS), positions(env, ROWS, 2)
    params, run = table(env), exploring(settings, game)
    result = run(params, keys(ROWS), states, 1.0)
    rows = np.arange(ROWS // 2)[::-1]
    mixed = jax.tree.map(lambda x, y: jnp.concatenate([y[: ROWS // 2], x[rows]]), states, others)
    batches = [(keys(ROWS)[np.concatenate([rows, rows])], mixed)]
    if game == "tic_tac_toe":
        batches.append((keys(ROWS)[rows[-1:]], jax.tree.map(lambda x: x[rows[-1:]], states)))
    for sub, batch in batches:
        part = run(params, sub, batch, 1.0)
        expected = rows[-len(sub) :]
        for field in ("action", "policy", "visits"):
            found = getattr(part, field)[-len(expected) :]
            np.testing.assert_array_equal(found, getattr(result, field)[expected])
        np.testing.assert_allclose(part.value[-len(expected) :], result.value[expected], atol=1e-6)


@each_tree_search
def test_only_exploration_depends_on_the_key(settings):
    env = envs.make("tic_tac_toe")
    states, params = positions(env, COUNT), table(env)
    run = still(settings)
    first, second = (run(params, keys(COUNT, seed), states) for seed in (0, 1))
    np.testing.assert_array_equal(first.action, second.action)
    np.testing.assert_array_equal(first.policy, second.policy)
    env = envs.make("connect_four")
    run, states, params = exploring(settings, "connect_four"), positions(env, ROWS), table(env)
    first, second = (run(params, keys(ROWS, seed), states) for seed in (0, 1))
    assert (first.policy != second.policy).any(-1).mean() > 0.5


def still(settings):
    """A search of tic-tac-toe without noise, of `COUNT` rows."""
    return searcher(envs.make("tic_tac_toe"), simulations=16, epsilon=0.5, **settings)


@each_search
@pytest.mark.parametrize("simulations", [1, 12])
def test_the_sampled_move_is_independent_of_the_noise(settings, simulations):
    """Given the policy, the drawn move must not lean towards (or away from) the one that the noise has favoured."""
    env = envs.make("tic_tac_toe")
    states = repeat(env.init(KEY), COUNT)
    run = searcher(env, explore=True, simulations=simulations, dirichlet_alpha=1.0, **settings)
    best, drawn = (run(uninformed(env), keys(COUNT), states, temperature) for temperature in (0.0, 1.0))
    favoured = best.policy[np.arange(COUNT), best.action]
    if settings["kind"] == "gumbel" and simulations == 1:
        np.testing.assert_allclose(favoured, 1 / 9, rtol=1e-5)
    surprise = (best.action == drawn.action) - favoured
    assert abs(surprise.mean()) <= 4 * math.sqrt((favoured * (1 - favoured)).mean() / COUNT) + 1e-6


# Subtree reuse.


def in_rounds(params, board, *root):
    return plain_gumbel(params, board, [9, 4, 2, 2, 2, 2, 2, 1], *root)


@pytest.mark.parametrize(
    ("settings", "lanes_of", "plain"),
    [
        ({"kind": "puct"}, gumbel.lanes_of, lambda *args: plain_puct(*args[:2], 24, 1.25, *args[2:])),
        ({"kind": "gumbel", "rounds": True}, gumbel.lanes_of, in_rounds),
        ({"kind": "gumbel", "rounds": True}, all_at_once, in_rounds),
    ],
    ids=["puct", "gumbel", "gumbel at once"],
)
def test_reuse(monkeypatch, settings, lanes_of, plain):
    """Games of tic-tac-toe to their end: each search goes on from the last one's subtree, as in plain Python."""
    monkeypatch.setattr(gumbel, "lanes_of", lanes_of)
    env, count = envs.make("tic_tac_toe"), 12
    model = simulator.make(env, look_up)
    made = search.make(SearchConfig(simulations=24, reuse=True, **settings), env, model)
    params = table(env)
    host = jax.tree.map(np.asarray, params)
    run = jax.jit(lambda states, carry: made.run(params, keys(count), states, carry, jnp.zeros(count), False))
    states = jax.vmap(env.init)(keys(count))
    states = jax.vmap(env.step)(states, jnp.arange(count, dtype=jnp.int32) % 9)
    carry = made.init(states)
    roots: list[Node | None] = [None] * count
    while not states.terminated.all():
        result, carry = run(states, carry)
        for i, board in enumerate(boards(env, states)):
            if not states.terminated[i]:
                root = plain(host, board, roots[i])
                expected = [root.children[a].visits if a in root.children else 0 for a in range(9)]
                assert result.visits[i].tolist() == expected, board
                child = root.children[int(result.action[i])]
                roots[i] = child if child.visits else None
        states = jax.vmap(env.step)(states, result.action)


@pytest.mark.parametrize(
    ("settings", "game"),
    [
        ({"kind": "gumbel"}, "connect_four"),
        ({"kind": "gumbel", "rounds": True}, "connect_four"),
        ({"kind": "puct"}, "chess"),
    ],
    ids=str,
)
def test_reuse_ends_with_the_game(settings, game):
    """A game begun anew has nothing to go on from; all others have, and their visits add up."""
    env = envs.make(game)
    states, params = positions(env, 8), table(env)
    made = search.make(SearchConfig(simulations=16, reuse=True, **settings), env, simulator.make(env, look_up))
    run = jax.jit(lambda states, carry: made.run(params, keys(8), states, carry, jnp.zeros(8), True))
    fresh = made.init(states)
    result, carry = run(states, fresh)
    np.testing.assert_array_equal(result.visits.sum(-1), np.full(8, 16))
    played = np.asarray(result.visits)[np.arange(8), result.action]
    states = jax.vmap(env.step)(states, result.action)
    renewed = np.arange(8) % 2 == 0
    carry = jax.tree.map(lambda x, y: jnp.where(renewed.reshape(-1, *[1] * (x.ndim - 1)), x, y), fresh, carry)
    again, _ = run(states, carry)
    going = ~np.asarray(states.terminated)
    np.testing.assert_array_equal(again.visits.sum(-1)[going], (16 + np.where(renewed, 0, played - 1))[going])


# The move played.

POLICY = jnp.array([0.5, 0.0, 0.2, 0.3, 0.0, 0.0])
LEGAL = jnp.array([True, False, True, True, True, False])
BEST = 2
DRAWS = 20_000
draw = jax.jit(sample_action, static_argnums=5)


def drawn(temperature: float, epsilon: float = 0.0) -> np.ndarray:
    """Shares of the actions among `DRAWS` draws."""
    tile = lambda x: jnp.tile(x, (DRAWS, 1))  # noqa: E731
    best = jnp.full(DRAWS, BEST)
    actions = draw(keys(DRAWS), tile(POLICY), best, tile(LEGAL), jnp.full(DRAWS, temperature), epsilon)
    return np.bincount(actions, minlength=6) / DRAWS


@pytest.mark.parametrize("epsilon", [0.0, 0.4])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_shares_of_the_moves_played(temperature, epsilon):
    sampled = np.asarray(POLICY) ** (1 / temperature) if temperature else np.eye(6)[BEST]
    expected = (1 - epsilon) * sampled / sampled.sum() + epsilon * np.asarray(LEGAL) / 4
    shares = drawn(temperature, epsilon)
    assert (shares[expected == 0] == 0).all()
    np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / math.sqrt(DRAWS))


@each_search
def test_temperature(settings):
    """0 plays the search's own choice, the same for any key of the draw; 1 draws from the policy it returns."""
    env = envs.make("tic_tac_toe")
    states = repeat(env.from_text("XO. ... ..."), COUNT)
    run, params = still(settings), table(env)
    assert len(set(run(params, keys(COUNT), states).action.tolist())) == 1
    result = run(params, keys(COUNT), states, 1.0)
    shares = np.bincount(result.action, minlength=9) / COUNT
    np.testing.assert_allclose(shares, result.policy[0], atol=4 * 0.5 / math.sqrt(COUNT))
