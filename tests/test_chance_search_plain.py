"""Search over known chance nodes against a search written in plain Python."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chance_tables import look_up, positions
from tables import table

import envs
from envs.ur import Ur
from jaxzero.models import simulator
from jaxzero.search import GumbelConfig, puct, simulation
from jaxzero.search import tree as tree_lib


@dataclasses.dataclass
class Node:
    """A decision (`raw` is its value by the network) or an afterstate."""

    state: Any
    edges: list[tuple[int, float]]  # actions or outcomes, likeliest first, with their probability
    raw: float = 0.0
    children: dict[int, "Node"] = dataclasses.field(default_factory=dict)
    earned: dict[int, float] = dataclasses.field(default_factory=dict)  # by action
    sign: dict[int, float] = dataclasses.field(default_factory=dict)
    visits: int = 1

    @property
    def due(self) -> bool:
        return bool(self.state.chance)

    def value(self) -> float:
        """The value of a node by its definition, recursively."""
        worth = {a: self.earned[a] + self.sign[a] * child.value() for a, child in self.children.items()}
        if self.due:
            odds = {a: p for a, p in self.edges if a in worth}
            return sum(odds[a] * worth[a] for a in worth) / sum(odds.values())
        total = self.raw + sum(child.visits * worth[a] for a, child in self.children.items())
        return total / (1 + sum(child.visits for child in self.children.values()))


class Reference:
    """PUCT over a game with chance, one simulation at a time, in double precision."""

    def __init__(self, env: envs.Env, params, c_puct: float):
        self.env, self.c_puct = env, c_puct
        self.step, self.resolve = jax.jit(env.step), jax.jit(env.resolve)
        self.odds = jax.jit(lambda state: jnp.exp(env.outcome_logits(state)))

        def evaluate(state):
            said = look_up(params, env.observe(state)[None])
            return jax.nn.softmax(jnp.where(env.legal_actions(state), said.logits[0], -jnp.inf)), said.value[0]

        self.evaluate = jax.jit(evaluate)

    def decision(self, state) -> Node:
        prior, value = jax.device_get(self.evaluate(state))
        return Node(state, ordered(prior), 0.0 if state.terminated else float(value))

    def add(self, node: Node, edge: int) -> None:
        if node.due:
            node.children[edge] = self.decision(jax.device_get(self.resolve(node.state, jnp.int32(edge))))
            node.earned[edge], node.sign[edge] = 0.0, 1.0
            return
        after = jax.device_get(self.step(node.state, jnp.int32(edge)))
        node.earned[edge] = float(after.rewards[node.state.player])
        node.sign[edge] = 1.0 if after.player == node.state.player else -1.0
        if after.chance:
            node.children[edge] = Node(after, ordered(jax.device_get(self.odds(after))))
            self.add(node.children[edge], node.children[edge].edges[0][0])
        else:
            node.children[edge] = self.decision(after)

    def choose(self, node: Node) -> int:
        n = {a: node.children[a].visits if a in node.children else 0 for a, _ in node.edges}
        total = sum(n.values())
        if node.due:
            behind = [(p / (n[a] + 1), a) for a, p in node.edges if n[a] < p * (total + 1) - 1e-4]
            return max(behind, key=lambda pair: pair[0])[1]
        explore = (self.c_puct + math.log((total + 1 + 19652 + 1) / 19652)) * math.sqrt(total + 1)

        def score(a: int, p: float) -> float:
            known = (node.earned[a] + node.sign[a] * node.children[a].value() + 1) / 2 if a in node.children else 0.0
            return known + explore * p / (n[a] + 1)

        return max(node.edges, key=lambda edge: score(*edge))[0]

    def simulate(self, root: Node) -> None:
        node = root
        while True:
            node.visits += 1
            if node.state.terminated:
                return
            edge = self.choose(node)
            if edge not in node.children:
                self.add(node, edge)
                return
            node = node.children[edge]


def ordered(probabilities: np.ndarray) -> list[tuple[int, float]]:
    return [(int(a), float(probabilities[a])) for a in np.argsort(-probabilities, kind="stable") if probabilities[a]]


def grown(env: envs.Env, params, states, simulations: int, c_puct: float = 1.25) -> tree_lib.Tree:
    """The whole tree of a search by PUCT."""

    @jax.jit
    def grow(params, states):
        model = simulator.make(env, look_up)
        root = model.root(params, states)
        layout = tree_lib.layout(env, GumbelConfig(), simulations, model)
        tree = tree_lib.tree_from_root(root, layout, layout.nodes(simulations))
        rule = functools.partial(puct.rule, c_puct)
        it = simulation.TreeSearch(model, params, rule, env.num_actions, env.num_outcomes, tree.size)
        body = lambda i, tree: simulation.simulate(it, tree, jax.random.key(0), 1 + i)[0]  # noqa: E731
        return jax.lax.fori_loop(0, simulations, body, tree)

    return jax.device_get(grow(params, states))


def same(tree: tree_lib.Tree, game: int, index: int, node: Node) -> int:
    """Compares a node and its subtree; returns the number of nodes compared."""
    children = tree.children_index[index, : int(tree.num_children[index, game]), game]
    found = {int(tree.action[child, game]): int(child) for child in children}
    assert list(found) == list(node.children)  # in the order of their first visits
    assert tree.visits[index, game] == node.visits
    assert tree.chance is not None
    assert bool(tree.chance[index, game]) == node.due
    assert tree.value[index, game] == pytest.approx(node.value(), abs=2e-5)
    return 1 + sum(same(tree, game, child, node.children[a]) for a, child in found.items())


class Loaded(Ur):
    """Loaded dice. No two of the quotients p / 1, p / 2, … are equal, so rounding never decides between outcomes."""

    def outcome_logits(self, state):
        return jnp.log(jnp.array([0.0731, 0.2417, 0.3589, 0.2672, 0.0591]))


@pytest.mark.parametrize(
    ("env", "plies", "simulations"), [(Loaded(), 120, 48), (envs.make("backgammon"), 30, 16)], ids=["ur", "backgammon"]
)
def test_the_tree_is_that_of_plain_python(env, plies, simulations):
    """Node by node: rosettes (the same player moves on), dice left, ends; with 16 simulations the nodes of backgammon
    keep fewer slots than there are actions."""
    count = 8
    params, states = table(env), positions(env, count, plies)
    tree = grown(env, params, states, simulations)
    reference, nodes = Reference(env, params, 1.25), 0
    for row in range(count):
        root = reference.decision(jax.device_get(jax.tree.map(lambda leaf: leaf[row], states)))  # noqa: B023
        for _ in range(simulations):
            reference.simulate(root)
        nodes += same(tree, row, 0, root)
    assert nodes > count * simulations  # afterstates too
    assert tree.chance is not None
    for index, row in np.argwhere((tree.visits > 1) & tree.chance):
        children = tree.children_index[index, : int(tree.num_children[index, row]), row]
        visits = tree.visits[children, row]
        assert visits.sum() == tree.visits[index, row]
        assert np.abs(visits - np.exp(tree.prior_logit[children, row]) * visits.sum()).max() < 1
