"""Compilation hints of `envs.backend`: equal results, and one function in the compiled program."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import backend
from envs.bits import joined, packed, split, with_64_bits


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
    """Two calls, before a loop and in it, share one compiled function."""

    def run(x):
        def step(_, sums):
            return jax.vmap(once, (0, None))(x * sums[1][:, None], 2)

        return jax.lax.fori_loop(0, 9, step, jax.vmap(once, (0, None))(x, 2))

    lowered = jax.jit(run).lower(X[0])
    assert len(re.findall(r"func private @power_sums", lowered.as_text())) == 1
    assert len(re.findall(r" call\(.*to_apply=%power_sums", str(lowered.compile().as_text()))) == 2


@pytest.mark.skipif(backend.accelerated(), reason="for CPUs")
def test_a_materialized_array_is_computed_by_a_call():
    """Under vmap too, though the function called is the identity."""

    def run(x):
        return jax.vmap(lambda row: backend.materialized(jnp.log1p(row))[:, None] * row[None])(x)

    text = str(jax.jit(run).lower(np.abs(X[0])).compile().as_text())
    assert len(re.findall(r" call\(.*to_apply=%optimization_barrier", text)) == 1
    want = np.log1p(np.abs(X[0]))[:, :, None] * np.abs(X[0])[:, None]
    np.testing.assert_allclose(jax.jit(run)(np.abs(X[0])), want, rtol=1e-6)


def test_boards_of_64_bits_outside_of_their_functions_are_words():
    """Bit 63 survives, and nothing else of the program has 64 bits."""

    @with_64_bits
    def turned(words):
        return split(joined(words) << 1 | joined(words) >> 63)

    words = np.array([[1, 0], [0, 1 << 31], [1 << 31, 5]], np.uint32)
    result = jax.jit(jax.vmap(turned))(words)
    assert result.dtype == np.uint32
    np.testing.assert_array_equal(result, [[2, 0], [1, 0], [0, 11]])
    squares = np.zeros((2, 64), bool)
    squares[0, [0, 33]] = squares[1, 63] = True
    np.testing.assert_array_equal(split(packed(squares)), [[1, 2], [0, 1 << 31]])
    assert jnp.asarray(3.0).dtype == jnp.float32
