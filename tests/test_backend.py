"""Functions that XLA on a CPU compiles by themselves: the same numbers, and one function in the program."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import backend


def power_sums(x, n):
    """[K], [] -> sums of the first powers, and of the logarithms."""
    rest = jax.lax.fori_loop(0, n, lambda _, y: y * x, jnp.ones_like(x))
    return rest.sum(), jnp.log(1 + x * x).sum()


once = backend.compiled_once(power_sums)
X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("wrap", "x", "n"),
    [
        (lambda f: f, X[0, 0], 3),
        (lambda f: jax.vmap(f, (0, None)), X[0], 3),
        (lambda f: jax.vmap(f, (1, 0)), X[0], np.arange(4)),
        (lambda f: jax.vmap(jax.vmap(f), (0, 0)), X, np.arange(6).reshape(2, 3)),
    ],
)
def test_compiled_once_is_the_same_function(wrap, x, n):
    for result, want in zip(jax.jit(wrap(once))(x, n), wrap(power_sums)(x, n), strict=True):
        np.testing.assert_allclose(result, want, rtol=1e-6)


@pytest.mark.skipif(backend.accelerated(), reason="for CPUs")
def test_compiled_once_is_compiled_once():
    """The calls stay calls, before a loop and in it, and have one function between them."""

    def run(x):
        def step(_, sums):
            return jax.vmap(once, (0, None))(x * sums[1][:, None], 2)

        return jax.lax.fori_loop(0, 9, step, jax.vmap(once, (0, None))(x, 2))

    lowered = jax.jit(run).lower(X[0])
    assert len(re.findall(r"func private @power_sums", lowered.as_text())) == 1
    assert len(re.findall(r" call\(.*to_apply=%power_sums", str(lowered.compile().as_text()))) == 2
