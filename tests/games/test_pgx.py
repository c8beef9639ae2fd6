"""The adapter of Pgx's games beside Pgx itself."""

import functools

import jax
import pgx
import pytest
from oracles import games

import envs
from envs.contract import check_contract
from envs.judges import compare
from envs.pgx import DICE, LIMITS


@functools.cache
def original(game: str):
    """Step and first position, compiled once for all games."""
    env = pgx.make(game)  # pyright: ignore[reportArgumentType]
    with jax.numpy_rank_promotion("allow"):
        return jax.jit(env.step), jax.jit(env.init)(jax.random.key(7))


class Original:
    """A game in Pgx, with the first player as number 0."""

    def __init__(self, game: str):
        self.step, self.state = original(game)
        self.first = int(self.state.current_player)

    def legal(self) -> set[int]:
        return set(self.state.legal_action_mask.nonzero()[0].tolist())

    def player(self) -> int:
        return int(self.state.current_player != self.first)

    def terminated(self) -> bool:
        return bool(self.state.terminated)

    def rewards(self) -> list[float]:
        rewards = self.state.rewards.tolist()
        return rewards[::-1] if self.first else rewards

    def play(self, action: int) -> None:
        with jax.numpy_rank_promotion("allow"):
            self.state = self.step(self.state, action)


@pytest.mark.parametrize("game", ["tic_tac_toe", "connect_four", "animal_shogi"])
def test_random_games_as_in_pgx(game):
    assert compare(envs.make(f"pgx:{game}"), lambda: Original(game), games(4, 100), batch=4).plies > 20


def test_contract():
    check_contract(envs.make("pgx:animal_shogi"), games=8)


@pytest.mark.parametrize("game", LIMITS)
def test_facts(game):
    env = envs.make(f"pgx:{game}")
    assert env.name == f"pgx:{game}"

    @jax.jit  # one program; step by step some games compile for half a minute
    def first(key):
        state = env.init(key)
        return env.observe(state), env.legal_actions(state)

    view, legal = first(jax.random.key(0))
    assert view.shape == env.observation_shape
    assert 0 < legal.sum() <= env.max_legal <= env.num_actions
    stored = jax.tree.leaves(jax.eval_shape(env.init, jax.random.key(0)))
    assert not [leaf for leaf in stored if leaf.dtype == bool and leaf.size == env.num_actions]  # no mask


@pytest.mark.parametrize(("name", "said"), [
    *((f"pgx:{game}", f"use '{game}'") for game in DICE),
    ("pgx:kuhn_poker", "perfect information"),
    ("pgx:no_such", "known: animal_shogi"),
])  # fmt: skip
def test_other_games_are_refused(name, said):
    with pytest.raises(ValueError, match=said):
        envs.make(name)


def test_options_are_refused():
    with pytest.raises(ValueError, match="takes none"):
        envs.make("pgx:shogi", size=9)
