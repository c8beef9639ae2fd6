"""Legal moves of masks of any size, against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxzero.training import transitions


@pytest.mark.parametrize("actions", [1, 2, 7, 31, 32, 33, 64, 82, 362, 4672])
def test_legal_moves_are_those_of_numpy(actions):
    rng = np.random.default_rng(actions)
    legal = rng.random((40, actions)) < rng.random((40, 1)) ** 3
    legal[0], legal[1] = True, False
    legal[2], legal[2, -1] = False, True
    legal[3], legal[3, 0] = False, True
    for most in {actions, max(1, actions // 2), min(actions, 218)}:
        few = legal[legal.sum(1) <= most]
        policy = rng.random(few.shape, np.float32).astype(np.float16)
        compact = jax.jit(transitions.compact_policy, static_argnums=2)
        moves, weights = compact(jnp.asarray(policy, jnp.float32), jnp.asarray(few), most)
        assert moves.shape == weights.shape == (len(few), most)
        for mask, row, weight, told in zip(few, policy, weights.tolist(), moves.tolist(), strict=True):
            found, rest = np.flatnonzero(mask), most - mask.sum()
            assert told == found.tolist() + [-1] * rest
            assert weight == row[found].tolist() + [0] * rest
