"""Compares Gumbel and PUCT search with hand-made schedules and with plain Python, subtree reuse included."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import also
from tables import KEY, SIZE, WEIGHTS, all_at_once, keys, look_up, positions, search_config, searcher, table

import envs
from envs import backend
from jaxzero import search
from jaxzero.models import Model, Root, Step, simulator
from jaxzero.search import GumbelConfig, PuctConfig, gumbel, simulation
from jaxzero.search import backend as backend_lib
from jaxzero.search import tree as tree_lib
from jaxzero.search.puct import noisy_logits

# Halving by schedules worked out by hand.


@dataclasses.dataclass(frozen=True)
class Bandit(envs.Env):
    """A game of one move with sixteen actions."""

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
    """Without noise, halving considers the arms with the highest logits and drops those with the lowest rewards."""
    env = Bandit()
    logits = -0.01 * jnp.arange(16.0)
    rewards = jax.random.permutation(KEY, jnp.linspace(-1, 1, 16))

    def root(params, states):
        return Root(prior_logits=jnp.tile(logits, (2, 1)), value=jnp.zeros(2), embedding=states)

    def decision(params, key, actions, states):
        zero = jnp.zeros(len(actions))
        priors = jnp.zeros((len(actions), 16))
        return Step(reward=rewards[actions], discount=zero, prior_logits=priors, value=zero), states

    model = Model(root, decision)
    run = searcher(env, model, simulations=simulations, max_considered=considered, **settings)
    best_first = np.argsort(-np.asarray(rewards[:considered]))
    for row in np.asarray(run((), keys(2), jnp.zeros(2)).visits):
        assert row[best_first].tolist() == by_rank
        assert row.sum() == simulations


# PUCT and Gumbel in rounds against plain Python.

LINES = ["012", "345", "678", "036", "147", "258", "048", "246"]


class Node:
    """A position of tic-tac-toe, its children by move; values are in its mover's view."""

    def __init__(self, logit: float, prior: float):
        self.logit, self.prior, self.visits, self.total, self.raw, self.children = logit, prior, 0, 0.0, 0.0, {}

    def q(self) -> float:
        return -self.total / self.visits


def expand(node: Node, params, board: str) -> float:
    """Adds the children of a node (none if the game is over) and returns its value, both from the table."""
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
    """One simulation: selection by `select(node) -> move`, expansion, backup."""
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
        *also(("othello", 32, 16, 2)),  # rounds of 16, 8, 4, 4
        ("tic_tac_toe", 24, 4, 2),  # of 4, 4, 4, 2, … in games that may have fewer actions left
        ("connect_four", 40, 16, 1),  # of 7, 3, …
        ("ur", 32, 8, 2),  # afterstates too
    ],
)
def test_a_round_in_blocks_grows_the_tree_of_a_round_at_once(monkeypatch, game, simulations, considered, lanes):
    """Compares the trees node by node."""
    env, count = envs.make(game), 16
    states, params = positions(env, count), table(env)
    model, most = simulator.make(env, look_up), min(considered, env.num_actions)
    layout = tree_lib.layout(env, GumbelConfig(), simulations, model)
    scale = gumbel.ValueScale(0.1, True)

    def grow(lanes_of):
        monkeypatch.setattr(gumbel, "lanes_per_round", lanes_of)

        @jax.jit
        def grown(params, states):
            root, legal = model.root(params, states), jax.vmap(env.legal_actions)(states)
            tree = tree_lib.tree_from_root(root, layout, layout.nodes(simulations))
            candidates = gumbel.top_candidates(
                root.prior_logits, jnp.zeros_like(root.prior_logits), legal, root.value, most
            )
            rule = functools.partial(gumbel.interior_scores, scale)
            it = simulation.TreeSearch(model, params, rule, env.num_actions, env.num_outcomes, tree.size)
            return gumbel.round_by_round(it, scale, tree, candidates, KEY, simulations, 1)

        return jax.device_get(grown(params, states))

    tree, candidates = grow(all_at_once)
    if game == "tic_tac_toe":
        assert (candidates.score == -np.inf).any()  # unused lanes
    blocks = grow(lambda rounds, batch: [(lanes, width) for width in rounds])
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), blocks, (tree, candidates))


def test_lanes_of_a_round(monkeypatch):
    """On a CPU one number that divides every round, for no more than 128 rows where there are not more games."""
    of = lambda rounds, batch: {lanes for lanes, _ in backend_lib.lanes_per_round(rounds, batch)}  # noqa: E731
    assert backend_lib.lanes_per_round([16, 8, 4, 4], 16) == [(4, 16), (4, 8), (4, 4), (4, 4)]
    assert [of([16, 8, 4, 4], batch) for batch in (1, 32, 33, 64, 65, 1000)] == [{4}, {4}, {2}, {2}, {1}, {1}]
    assert [of([12, 6], batch) for batch in (21, 22, 42, 43, 64)] == [{6}, {3}, {3}, {2}, {2}]
    assert of([7, 3, 2], 1) == {1}
    monkeypatch.setattr(backend, "accelerated", lambda: True)
    assert backend_lib.lanes_per_round([16, 8, 4, 4], 1000) == [(16, 16), (8, 8), (4, 4), (4, 4)]


def test_dirichlet_noise():
    """Per legal action: mean and variance of (1 - fraction) · prior + fraction · Dirichlet(alpha)."""
    config = PuctConfig(dirichlet_alpha=0.5, dirichlet_fraction=0.4)
    legal = jnp.array([True, False, True, True, False, True])
    logits = simulator.mask(jnp.arange(6.0), legal)
    draws = jax.jit(jax.vmap(lambda key: jax.nn.softmax(noisy_logits(config, key, logits, legal))))(keys(20_000))
    priors = np.asarray(draws)
    assert (priors[:, ~legal] == 0).all()
    np.testing.assert_allclose(priors.sum(-1), 1, atol=1e-5)
    expected = 0.6 * jax.nn.softmax(logits)[legal] + 0.4 / 4
    np.testing.assert_allclose(priors[:, legal].mean(0), expected, atol=0.4 * 4 * 0.25 / math.sqrt(20_000))
    np.testing.assert_allclose(priors[:, legal].var(0), 0.4**2 * 0.25 * 0.75 / (4 * 0.5 + 1), rtol=0.08)


# Subtree reuse.


def evaluate_again(root: Node, params, board: str) -> None:
    fresh = Node(0.0, 1.0)
    root.raw = expand(fresh, params, board)
    for move, child in root.children.items():
        child.logit, child.prior = fresh.children[move].logit, fresh.children[move].prior


def in_rounds(params, board, *root):
    return plain_gumbel(params, board, [9, 4, 2, 2, 2, 2, 2, 1], *root)


@pytest.mark.parametrize(
    ("settings", "lanes_of", "plain"),
    [
        (
            {"kind": "puct"},
            backend_lib.lanes_per_round,
            lambda params, board, *root: plain_puct(params, board, 24, 1.25, *root),
        ),
        ({"kind": "gumbel", "rounds": True}, backend_lib.lanes_per_round, in_rounds),
        ({"kind": "gumbel", "rounds": True}, all_at_once, in_rounds),
    ],
    ids=["puct", "gumbel", "gumbel at once"],
)
def test_reuse(monkeypatch, settings, lanes_of, plain):
    """Games of tic-tac-toe to their end: each search goes on from the last one's subtree, as in plain Python. The
    network changes between moves, as by learning; the root is evaluated anew."""
    monkeypatch.setattr(gumbel, "lanes_per_round", lanes_of)
    env, count = envs.make("tic_tac_toe"), 12
    model = simulator.make(env, look_up)
    made = search.make(search_config(simulations=24, reuse_tree=True, **settings), env, model)
    networks = itertools.cycle([table(env), table(env, 1)])
    run = jax.jit(lambda params, states, carry: made.run(params, keys(count), states, carry, jnp.zeros(count), False))
    states = jax.vmap(env.init)(keys(count))
    states = jax.vmap(env.step)(states, jnp.arange(count, dtype=jnp.int32) % 9)
    carry = made.init(states)
    roots: list[Node | None] = [None] * count
    while not states.terminated.all():
        params = next(networks)
        host = jax.tree.map(np.asarray, params)
        result, carry = run(params, states, carry)
        for i, board in enumerate(boards(env, states)):
            if not states.terminated[i]:
                if kept := roots[i]:
                    evaluate_again(kept, host, board)
                root = plain(host, board, kept)
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
        ({"kind": "puct"}, "connect_four"),
        *also(({"kind": "puct"}, "chess")),
    ],
    ids=str,
)
def test_reuse_ends_with_the_game(settings, game):
    """A game begun anew has nothing to go on from; all others have, and their visits add up."""
    env = envs.make(game)
    states, params = positions(env, 8), table(env)
    made = search.make(search_config(simulations=16, reuse_tree=True, **settings), env, simulator.make(env, look_up))
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
