"""Kinds of value and reward heads: how their outputs are read. A new kind is one function and one entry in `HEADS`.

Outcomes lie in [-1, 1]: "scalar" (tanh) and "wdl" (win, draw, loss). Returns of any size go through the transform h
(Pohlen et al. 2018; MuZero, Schrittwieser et al. 2020, appendix F): "transformed" is the number h(value) itself,
"categorical" a distribution over the whole numbers from -S to S, whose mean is h(value).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

EPSILON = 1e-3
Heads = Mapping[str, jax.Array]


def squash(x: jax.Array) -> jax.Array:
    """h(x) = sign(x)(√(|x| + 1) - 1) + εx, ε = 0.001."""
    size = jnp.abs(x)  # √(|x| + 1) - 1 without cancellation
    return jnp.sign(x) * size / (jnp.sqrt(size + 1) + 1) + EPSILON * x


def unsquash(y: jax.Array) -> jax.Array:
    """The inverse of h: sign(y)(q² - 1) with q = (√(1 + 4ε(|y| + 1 + ε)) - 1) / 2ε."""
    size = jnp.abs(y) + 1 + EPSILON
    q = 2 * size / (jnp.sqrt(1 + 4 * EPSILON * size) + 1)  # the same without cancellation
    return jnp.sign(y) * jnp.maximum(jnp.square(q) - 1, 0.0)


def two_hot(y: jax.Array, support: int) -> jax.Array:
    """f32[...] -> f32[..., 2S + 1]: the distribution over the two whole numbers around y whose mean is y, brought into
    [-S, S] first."""
    y = jnp.clip(y, -support, support)[..., None]
    return jnp.maximum(
        1 - jnp.abs(y - jnp.arange(-support, support + 1, dtype=y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))), 0.0
    )


class ValueHead(NamedTuple):
    """`outputs` numbers of a network, and `read(raw[..., outputs]) -> (value f32[...], heads)` of them."""

    outputs: int
    read: Callable[[jax.Array], tuple[jax.Array, Heads]]


def scalar(support: int) -> ValueHead:
    def read(raw: jax.Array) -> tuple[jax.Array, Heads]:
        value = jnp.tanh(raw[..., 0])
        return value, {"value": value}

    return ValueHead(1, read)


def wdl(support: int) -> ValueHead:
    def read(raw: jax.Array) -> tuple[jax.Array, Heads]:
        win, _, loss = jnp.moveaxis(jax.nn.softmax(raw), -1, 0)
        return win - loss, {"wdl": raw}

    return ValueHead(3, read)


def transformed(support: int) -> ValueHead:
    return ValueHead(1, lambda raw: (unsquash(raw[..., 0]), {"transformed": raw[..., 0]}))


def categorical(support: int) -> ValueHead:
    def read(raw: jax.Array) -> tuple[jax.Array, Heads]:
        mean = jax.nn.softmax(raw) @ jnp.arange(-support, support + 1, dtype=raw.dtype)
        return unsquash(mean), {"categorical": raw}

    return ValueHead(2 * support + 1, read)


HEADS: dict[str, Callable[[int], ValueHead]] = {
    "scalar": scalar, "wdl": wdl, "transformed": transformed, "categorical": categorical,
}  # fmt: skip
