"""Rules in PyTorch beside those of training."""

import jax
import numpy as np
import pytest

import envs
from envs.judges import compare, random_games
from jaxzero.export.standalone import play_torch, torch_games

RULES = [
    ("tic_tac_toe", {}), ("connect_four", {}), ("gomoku", {"size": 6}), ("gomoku", {"size": 7, "exact_five": True}),
    ("othello", {"size": 6}), ("hex", {"size": 4}), ("hex", {"size": 3, "swap": False}),
]  # fmt: skip
TIC_TAC_TOE = torch_games.GAMES["tic_tac_toe"]()


class Beside:
    """Rules in PyTorch as `envs.judges` asks for them."""

    def __init__(self, game):
        self.game, self.position = game, game.start()

    def legal(self):
        return set(self.game.legal(self.position))

    def player(self):
        return self.position.player

    def terminated(self):
        return self.position.result is not None

    def rewards(self):
        result = float(self.position.result or 0)
        return [result, -result]

    def play(self, action):
        self.position = self.game.play(self.position, action)


@pytest.mark.parametrize(("name", "options"), RULES)
def test_rules_are_those_of_training(name, options):
    """Movers, legal actions, ends and rewards ply by ply; then what the network sees, and names of moves."""
    env, game = envs.make(name, **options), torch_games.GAMES[name](**options)
    assert compare(env, lambda: Beside(game), 40).whole == 40
    assert (game.num_actions, game.observation_shape) == (env.num_actions, env.observation_shape)

    _, play = jax.device_get(random_games(env, 10, env.max_plies + 1, jax.random.key(3)))

    @jax.jit
    @jax.vmap
    def watch(actions):
        def ply(state, action):
            return env.step(state, action), env.observe(state)

        return jax.lax.scan(ply, env.init(jax.random.key(0)), actions)[1]

    seen = np.asarray(watch(play.action.T))  # [G, T, …]
    for g in range(10):
        position, line = game.start(), []
        for action in play.action[~play.terminated[:, g], g].tolist():
            line.append(position)
            position = game.play(position, action)
        np.testing.assert_array_equal(game.observe(line).numpy(), seen[g, : len(line)])
    state = env.init(jax.random.key(0))
    assert [game.name(a) for a in range(env.num_actions)] == [
        env.action_to_str(state, a) for a in range(env.num_actions)
    ]


def test_boards_in_the_terminal():
    game = torch_games.GAMES["connect_four"]()
    position = game.start()
    for name in "443":
        position = game.play(position, play_torch.parse(game, position, name))
    assert game.show(position).split("\n")[-3:] == [". . . O . . .", ". . X X . . .", "1 2 3 4 5 6 7"]
    corner = TIC_TAC_TOE.play(TIC_TAC_TOE.start(), play_torch.parse(TIC_TAC_TOE, TIC_TAC_TOE.start(), "a1"))
    assert TIC_TAC_TOE.show(corner).split("\n") == [" 3 . . .", " 2 . . .", " 1 X . .", "   a b c"]


@pytest.mark.parametrize("size", [10**9, 1000, 27, 2, 0, -6, True, 6.0, "6", None])
@pytest.mark.parametrize("name", ["gomoku", "othello", "hex"])
def test_boards_that_are_none_are_refused_before_they_are_made(name, size):
    with pytest.raises((ValueError, TypeError)):
        torch_games.GAMES[name](size=size)
