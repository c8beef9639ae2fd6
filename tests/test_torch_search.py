"""The search in PyTorch: exact play, a perfect model, the trained network; every simulation is counted."""

import functools
import math
import pathlib
import zlib
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from exports import model_of, write_pt

from envs.core import where
from envs.judges import random_games
from jaxzero.evaluation.players import policy_player
from jaxzero.export.convert import rebuild
from jaxzero.export.standalone import torch_games, torch_module
from jaxzero.export.standalone.play_torch import search

TRAINED = pathlib.Path(__file__).parents[1] / "benchmarks" / "results" / "connect_four_fast_step000960.pt"
TIC_TAC_TOE = torch_games.GAMES["tic_tac_toe"]()


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An exported network for Connect Four."""
    write_pt(path := tmp_path_factory.mktemp("player") / "run_step000007.pt", "resnet")
    return path


@pytest.fixture(scope="module")
def muzero(tmp_path_factory):
    """An exported network that models Connect Four."""
    write_pt(path := tmp_path_factory.mktemp("muzero") / "run_step000007.pt", "muzero-conv")
    return path


@functools.cache
def minimax(position):
    """The result of tic-tac-toe for player 0 when both play perfectly."""
    if position.result is not None:
        return position.result
    best = max if position.player == 0 else min
    return best(minimax(TIC_TAC_TOE.play(position, action)) for action in TIC_TAC_TOE.legal(position))


def knows_nothing(observation):
    return torch.zeros(len(observation), 9), torch.zeros(len(observation))


def knows_values(observation):
    """The exact value, and no idea of moves."""
    values = []
    for seen in observation.int():
        board = bytes((seen[..., 0] + 2 * seen[..., 1]).reshape(-1).tolist())
        values.append(float(minimax(torch_games.Position(board))))  # as if the mover were player 0
    return torch.zeros(len(observation), 9), torch.tensor(values)


def worst(network, simulations, batch, side):
    """The worst result of the player as `side` over every line of replies, and how many positions it had to decide."""
    positions, worst, decided = {TIC_TAC_TOE.start()}, 1, 0
    while positions:
        after = set()
        mine = [position for position in positions if position.player == side]
        decided += len(mine)
        for position, root in zip(mine, search(network, TIC_TAC_TOE, mine, simulations, batch), strict=True):
            after.add(TIC_TAC_TOE.play(position, root.best()))
        for position in positions.difference(mine):
            after |= {TIC_TAC_TOE.play(position, action) for action in TIC_TAC_TOE.legal(position)}
        results = [position.result for position in after if position.result is not None]
        worst = min([worst, *(result * (1 - 2 * side) for result in results)])
        positions = {position for position in after if position.result is None}
    return worst, decided


@pytest.mark.parametrize(
    ("network", "simulations", "batch", "side"),
    [(knows_values, 16, 1, 0), (knows_values, 16, 1, 1), (knows_values, 32, 8, 1), (knows_nothing, 400, 8, 0)],
)
def test_never_loses_tic_tac_toe(network, simulations, batch, side):
    lost, decided = worst(network, simulations, batch, side)
    assert lost >= 0
    assert decided > 50


def test_without_search_and_knowledge_tic_tac_toe_is_lost():
    """What the test above can see."""
    assert worst(knows_nothing, 0, 1, 0)[0] == worst(knows_nothing, 0, 1, 1)[0] == -1


def test_moves_of_the_raw_policy_are_those_of_the_trained_network():
    trained = rebuild(TRAINED)
    env = trained.env
    _, play = jax.device_get(random_games(env, 200, 20, jax.random.key(1)))
    lengths = np.random.default_rng(0).integers(0, (~play.terminated).sum(0))  # plies before the end

    @jax.jit
    @jax.vmap
    def replay(actions, length):
        def ply(i, state):
            return where(i < length, env.step(state, actions[i]), state)

        return jax.lax.fori_loop(0, 20, ply, env.init(jax.random.key(0)))

    states = replay(play.action.T, jnp.asarray(lengths))
    player = jax.jit(policy_player(env, trained.network.infer))
    expected = player(trained.params, jax.random.split(jax.random.key(0), 200), states)

    rules, positions = torch_games.GAMES[env.name](), []
    for g, length in enumerate(lengths):
        positions.append(functools.reduce(rules.play, play.action[:length, g].tolist(), rules.start()))
    roots = search(torch_module.load(TRAINED), rules, positions, simulations=0)
    assert [root.best() for root in roots] == expected.tolist()
    assert len(set(expected.tolist())) == 7


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_every_simulation_is_counted_and_none_left_waiting(model, batch):
    game, network, calls = torch_games.GAMES["connect_four"](), torch_module.load(model), []

    def counted(observation):
        calls.append(len(observation))
        return network(observation)

    nearly = functools.reduce(game.play, [0, 1, 0, 1, 0], game.start())  # player 0 wins at once in column 0
    roots = search(counted, game, [game.start(), nearly], 60, batch)
    for root in roots:
        assert sum(root.counts()) == 60 == root.visits - 1
        nodes = [root]
        for node in nodes:
            nodes += [child for child in node.children if child]
            assert node.pending == 0
            if node.actions:
                assert node.visits == 1 + sum(node.counts())
                below = sum(c.visits * c.reward + c.discount * c.total for c in node.children if c)
                assert abs(node.total - below) <= 1 + 1e-6, "its own value is the rest"
    assert sum(calls) <= 122
    assert (len(calls) == 61) == (batch == 1)
    assert max(calls) <= 2 * batch


def test_search_sees_a_win_and_a_loss_in_one():
    game = torch_games.GAMES["connect_four"]()

    def flat(observation):
        return torch.zeros(len(observation), 7), torch.zeros(len(observation))

    win = functools.reduce(game.play, [0, 1, 0, 1, 0, 1], game.start())
    root, other = search(flat, game, [win, game.play(win, 6)], 64)
    assert root.best() == 0
    assert root.value() > 0.8
    assert other.best() == 1, "the other player wins at once too"
    open_three = functools.reduce(game.play, [3, 3, 2, 2, 1], game.start())
    assert search(flat, game, [open_three], 300)[0].value() < -0.5, "both of its ends are open"


class Line(NamedTuple):
    """A position of a game of three moves at any time, whose facts are drawn by the moves made."""

    moves: tuple[int, ...] = ()

    def drawn(self, what: str) -> float:
        return zlib.crc32(f"{what} {self.moves}".encode()) / 2**32

    @property
    def player(self) -> int:
        return int(self.drawn("player") < 0.5)

    @property
    def result(self) -> int | None:
        return int(self.drawn("result") * 3) - 1 if len(self.moves) == 5 or self.drawn("over") < 0.2 else None


class Lines:
    """Its rules; a position is seen as the moves made, -1 beyond."""

    num_actions = 3

    def legal(self, line):
        return [0, 1, 2]

    def play(self, line, action):
        return Line((*line.moves, action))

    def observe(self, lines):
        return torch.tensor([[*line.moves, *[-1] * 5][:5] for line in lines]).float()


def said_of(seen):
    """Logits and values of lines that are seen."""
    lines = [Line(tuple(int(move) for move in row if move >= 0)) for row in seen]
    logits = torch.tensor([[3 * line.drawn(f"logit {a}") for a in range(3)] for line in lines])
    return logits, torch.tensor([2 * line.drawn("value") - 1 for line in lines])


def moved(latents, actions):
    """What a perfect model says of actions; a latent is what is seen. It goes on after the end, worth nothing."""
    after, rewards, discounts = [], [], []
    for row, action in zip(latents, actions, strict=True):
        before = Line(tuple(int(move) for move in row if move >= 0))
        line = before if before.result is not None else Lines().play(before, int(action))
        sign = 1 - 2 * before.player
        after.append(line)
        rewards.append(0 if line.result is None or line is before else sign * line.result)
        discounts.append(sign * (1 - 2 * line.player) if line.result is None else 0)
    return Lines().observe(after), torch.tensor(rewards), torch.tensor(discounts)


def test_search_in_a_perfect_model_is_the_search_by_the_rules():
    """Also where a player moves twice, and after the end, where the rules stop and the model goes on."""
    game: Any = Lines()
    model: Any = SimpleNamespace(represent=lambda seen: (seen,), dynamics=moved, predict=said_of)
    starts = [line for line in map(Line, [(), (0,), (1,), (2,), (1, 2), (2, 0)]) if line.result is None]
    assert len(starts) >= 4
    by_rules, by_model = (search(network, game, starts, 200, batch=1) for network in (said_of, model))
    for root, other in zip(by_rules, by_model, strict=True):
        assert root.counts() == other.counts()
        assert root.value() == pytest.approx(other.value(), abs=1e-6)
        assert min(root.counts()) > 0
    together = search(model, game, starts, 200, batch=8)
    assert all(sum(root.counts()) == 200 for root in together)


def test_tree_of_a_muzero_network_holds_what_its_functions_in_jax_say(muzero):
    trained = model_of("muzero-conv")
    network, game = torch_module.load(muzero), torch_games.GAMES["connect_four"]()
    start = functools.reduce(game.play, [3, 3, 3, 3, 3, 3], game.start())  # column 4 is full
    (root,) = search(network, game, [start], 60, batch=4)
    assert root.actions == [0, 1, 2, 4, 5, 6]
    pairs, nodes = [], [root]
    for node in nodes:
        below = [(action, child) for action, child in zip(node.actions, node.children, strict=True) if child]
        pairs += [(node, action, child) for action, child in below]
        nodes += [child for _, child in below]
    assert len(pairs) == 60
    before = np.stack([node.state.numpy() for node, *_ in pairs])
    after = [child for *_, child in pairs]
    with jax.default_matmul_precision("highest"):
        represent, dynamics, predict = (trained.functions[f].call for f in ("represent", "dynamics", "predict"))
        first = represent(trained.params, game.observe([start]).numpy())
        told = dynamics(trained.params, before, jnp.asarray([action for _, action, _ in pairs]))
        logits, _ = predict(trained.params, told[0])
    np.testing.assert_allclose(root.state.numpy(), first[0][0], atol=1e-5)
    np.testing.assert_allclose(np.stack([child.state.numpy() for child in after]), told[0], atol=1e-5)
    np.testing.assert_allclose([child.reward for child in after], told[1], atol=1e-5)
    np.testing.assert_allclose([child.discount for child in after], told[2], atol=1e-5)
    np.testing.assert_allclose([child.priors for child in after], jax.nn.softmax(logits), atol=1e-5)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 8, 9])
def test_answers_that_are_no_numbers_are_refused(wrong, place):
    def broken(observation):
        said = torch.zeros(len(observation), 10)
        said[:, place] = wrong
        return said[:, :9], said[:, 9]

    with pytest.raises(ValueError, match="the network's answers are no numbers; it cannot play"):
        search(broken, TIC_TAC_TOE, [TIC_TAC_TOE.start()], 8)
