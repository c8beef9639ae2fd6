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
        moves = jax.jit(transitions.legal_moves, static_argnums=1)(jnp.asarray(few), most)
        assert moves.shape == (len(few), most)
        for mask, row in zip(few, moves.tolist(), strict=True):
            found = np.flatnonzero(mask).tolist()
            assert row == found + [actions] * (most - len(found))
