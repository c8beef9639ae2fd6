"""Treasure beside a few lines of plain Python, and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs

STEPS = {"left": (0, -1), "up": (-1, 0), "right": (0, 1), "down": (1, 0)}


def worth(size):
    last, half = size - 1, size // 2
    corners = {(r, c): 3 for r in (0, last) for c in (0, last)}
    return corners | {(0, half): 1, (half, 0): 1, (half, last): 1, (last, half): 1}


@pytest.mark.parametrize("size", [3, 5])
def test_random_games_beside_plain_python(size):
    env = envs.make("treasure", size=size, moves=20)
    step, legal_actions = jax.jit(env.step), jax.jit(env.legal_actions)
    rng = np.random.default_rng(0)
    for game in range(5):
        state = env.init(jax.random.key(game))
        at, left = (int(state.row), int(state.column)), worth(size)
        for ply in range(20):
            assert not state.terminated
            there = {name: (at[0] + r, at[1] + c) for name, (r, c) in STEPS.items()}
            legal = {name for name, square in there.items() if set(square) <= set(range(size))}
            assert {env.action_to_str(state, int(a)) for a in np.flatnonzero(legal_actions(state))} == legal
            name = str(rng.choice(sorted(legal)))
            state, at = step(state, jnp.int32(env.action_from_str(state, name))), there[name]
            assert (int(state.row), int(state.column)) == at
            assert float(state.rewards[0]) == left.pop(at, 0), ply
        assert state.terminated


def test_first_plane_shows_the_walker_and_the_second_what_is_left():
    env = envs.make("treasure")
    state = env.step(env.from_text("at 0 1 left 11111111 moves 0"), jnp.int32(0))
    assert float(state.rewards[0]) == 3
    seen = np.asarray(env.observe(state))
    assert np.argwhere(seen[..., 0]).tolist() == [[0, 0]]
    assert np.argwhere(seen[..., 1] == 1).tolist() == [[0, 4], [4, 0], [4, 4]]
    np.testing.assert_allclose(seen[..., 2], 13 / 14)


def test_what_can_be_had():
    """By exhaustion, 13 of 16 from the centre and 15 from a corner: what presets are measured by."""

    @functools.cache
    def best(at, left, moves):
        if moves == 0:
            return 0
        squares = [(at[0] + r, at[1] + c) for r, c in STEPS.values()]
        inside = [square for square in squares if set(square) <= set(range(5))]
        return max(dict(left).get(s, 0) + best(s, tuple(x for x in left if x[0] != s), moves - 1) for s in inside)

    everything = tuple(sorted(worth(5).items()))
    assert best((2, 2), everything, 14) == 13
    assert best((0, 0), everything, 14) == 15
    assert sum(best((r, c), everything, 14) for r in range(5) for c in range(5)) / 25 == 14.6
    assert best((2, 2), everything, 2) == 1
    assert best((2, 2), everything, 4) == 4
