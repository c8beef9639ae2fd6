"""Forced playouts and their pruning, and the root's temperature: against plain Python on tic-tac-toe."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_minimax import LINES, TIC_TAC_TOE, look_up, one, positions, table

from jaxzero import search
from jaxzero.models import simulator
from jaxzero.search import PuctConfig
from jaxzero.search.puct import noisy_logits

COUNT = 24
KEYS = jax.random.split(jax.random.key(5), COUNT)


def run(config: PuctConfig, params, states, explore: bool):
    made = search.make(config, TIC_TAC_TOE, simulator.make(TIC_TAC_TOE, look_up))

    @jax.jit
    def find(params, states):
        return made.run(params, KEYS, states, (), jnp.zeros(COUNT), explore)[0]

    return jax.device_get(find(params, states))


class Node:
    def __init__(self, prior: float):
        self.prior, self.visits, self.total = float(prior), 0, 0.0
        self.children: dict[int, Node] = {}

    def score(self, parent: "Node", c: float, visits: int) -> float:
        """The PUCT score with another number of visits."""
        explore = (c + math.log((parent.visits + 19652 + 1) / 19652)) * math.sqrt(parent.visits)
        q = (1 - self.total / self.visits) / 2 if self.visits else 0.0
        return q + explore * self.prior / (visits + 1)

    def forced(self, parent: "Node", k: float) -> float:
        return math.sqrt(k * self.prior * sum(child.visits for child in parent.children.values()))


class Plain:
    """PUCT on boards as text, with section 3.2 of the paper at the root."""

    def __init__(self, params, config: PuctConfig):
        self.config, self.logits, self.values = config, np.asarray(params[0]), np.asarray(params[1])

    def expand(self, node: Node, board: str) -> float:
        """Adds the children of a node; returns its value in the mover's view."""
        mover, other = "XO" if board.count("X") == board.count("O") else "OX"
        if any(all(board[int(i)] == other for i in line) for line in LINES):
            return -1.0
        empty = [i for i, x in enumerate(board) if x == "."]
        if not empty:
            return 0.0
        planes = np.array([[x == mover, x == other] for x in board]).reshape(-1)
        row = int((planes * (1 + np.arange(18) ** 2)).sum()) % len(self.values)
        weights = {i: math.exp(self.logits[row][i]) for i in empty}
        node.children = {i: Node(weight / sum(weights.values())) for i, weight in weights.items()}
        return float(self.values[row])

    def choose(self, root: Node, node: Node) -> int:
        c, k = self.config.c_puct, self.config.forced_playouts
        if node is root:
            for move in self.order:  # a child that has any playouts and too few comes first
                if node.children[move].visits < node.children[move].forced(root, k):
                    return move
        return max(node.children, key=lambda move: node.children[move].score(node, c, node.children[move].visits))

    def search(self, board: str, priors: np.ndarray) -> tuple[list[int], list[int]]:
        """Visits of the root's actions before and after pruning; `priors` include the noise."""
        root, self.order = Node(1.0), []
        root.total, root.visits = self.expand(root, board), 1
        for move, child in root.children.items():
            child.prior = float(priors[move])
        for _ in range(self.config.simulations):
            node, position, path = root, board, [root]
            while node.children:
                move = self.choose(root, node)
                if node is root and move not in self.order:
                    self.order.append(move)
                mark = "XO"[position.count("X") > position.count("O")]
                position = position[:move] + mark + position[move + 1 :]
                node = node.children[move]
                path.append(node)
            value = self.expand(node, position)
            for node in reversed(path):
                node.visits += 1
                node.total += value
                value = -value
        visits = {move: root.children[move].visits for move in self.order}
        pruned = self.prune(root)
        return [visits.get(i, 0) for i in range(9)], [pruned.get(i, 0) for i in range(9)]

    def prune(self, root: Node) -> dict[int, int]:
        c, k = self.config.c_puct, self.config.forced_playouts
        best = max(self.order, key=lambda move: root.children[move].visits)
        highest = root.children[best].score(root, c, root.children[best].visits)
        left = {best: root.children[best].visits}
        for move in self.order:
            if move == best:
                continue
            child = root.children[move]
            fewest = max(0, child.visits - math.floor(child.forced(root, k)))
            allowed = [n for n in range(fewest, child.visits) if child.score(root, c, n) < highest]
            left[move] = min([*allowed, child.visits])
            if left[move] == 1:
                left[move] = 0
        return left


@pytest.mark.parametrize(("simulations", "k", "fraction"), [
    (1, 2.0, 0.25), (12, 2.0, 0.25), (60, 2.0, 0.25), (120, 2.0, 0.6), (60, 8.0, 0.5)
])  # fmt: skip
def test_forced_playouts_are_those_of_the_paper(simulations, k, fraction):
    config = PuctConfig(simulations=simulations, forced_playouts=k, dirichlet_fraction=fraction)
    states, params = positions(TIC_TAC_TOE, COUNT, 4), table(TIC_TAC_TOE, 0)
    result = run(config, params, states, explore=True)
    plain = Plain(params, config)
    differ = 0
    for i in range(COUNT):
        state = one(states, i)
        legal = TIC_TAC_TOE.legal_actions(state)
        logits = look_up(params, TIC_TAC_TOE.observe(state)[None]).logits[0]
        key = jax.random.split(KEYS[i])[0]
        priors = jax.nn.softmax(noisy_logits(config, key, simulator.mask(logits, legal), legal))
        board = TIC_TAC_TOE.to_text(state).replace("\n", "")
        visits, pruned = plain.search(board, np.asarray(priors))
        assert result.visits[i].astype(int).tolist() == visits, board
        np.testing.assert_allclose(result.policy[i], np.array(pruned) / sum(pruned), atol=1e-6)
        assert result.visits[i][result.action[i]] == max(visits)
        differ += visits != pruned
    assert differ >= 5 or simulations == 1


def test_nothing_is_forced_without_noise():
    states, params = positions(TIC_TAC_TOE, COUNT, 4), table(TIC_TAC_TOE, 0)
    plain, forced = (PuctConfig(simulations=60, forced_playouts=k) for k in (0.0, 8.0))
    quiet = run(plain, params, states, explore=False)
    jax.tree.map(np.testing.assert_array_equal, run(forced, params, states, explore=False), quiet)
    noisy = run(plain, params, states, explore=True), run(forced, params, states, explore=True)
    assert (noisy[0].visits != noisy[1].visits).any(-1).mean() > 0.5


def test_root_temperature_flattens_the_prior_before_the_noise():
    legal = jnp.array([True, False, True, True])
    logits = simulator.mask(jnp.array([1.0, 9.0, 2.0, 4.0]), legal)
    for fraction in (0.0, 0.25):
        config = PuctConfig(root_temperature=2.0, dirichlet_fraction=fraction)
        prior = np.asarray(jax.nn.softmax(noisy_logits(config, jax.random.key(0), logits, legal)))
        flat = np.exp([0.5, -np.inf, 1.0, 2.0])
        noise = np.asarray(
            jax.nn.softmax(noisy_logits(PuctConfig(dirichlet_fraction=1.0), jax.random.key(0), logits, legal))
        )
        np.testing.assert_allclose(prior, (1 - fraction) * flat / flat.sum() + fraction * noise, atol=1e-6)


@pytest.mark.parametrize("engine", ["tree", "mctx"])
def test_root_temperature_is_for_self_play(engine):
    states, params = positions(TIC_TAC_TOE, COUNT, 4), table(TIC_TAC_TOE, 0)
    settings: dict[str, Any] = {"engine": engine, "simulations": 40, "dirichlet_fraction": 0.0}
    sharp, flat = (PuctConfig(root_temperature=t, **settings) for t in (1.0, 4.0))
    np.testing.assert_array_equal(*(run(config, params, states, explore=False).visits for config in (sharp, flat)))
    before, after = (run(config, params, states, explore=True).visits for config in (sharp, flat))
    assert (before != after).any(-1).mean() > 0.5
