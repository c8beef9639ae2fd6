"""Same-size convolutions whose gradients are fast inside XLA's loops on CPU.

XLA's CPU compiler runs the convolution that gives the kernel's gradient about 50 times slower inside a loop (as in the
scan over updates) than outside. Here that gradient is one matrix product for each tap of the kernel, and the input's
gradient is a forward convolution; both are as fast in a loop as out of it.
"""

from typing import Any

import jax
import jax.numpy as jnp

LAYOUT = ("NHWC", "HWIO", "NHWC")


@jax.custom_vjp
def same_convolution(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, H, W, C] by an odd kernel [h, w, C, D] -> [B, H, W, D], stride 1, zero padding."""
    return jax.lax.conv_general_dilated(inputs, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)


def forward(inputs: jax.Array, kernel: jax.Array):
    return same_convolution(inputs, kernel), (inputs, kernel)


def backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array):
    inputs, kernel = saved
    height, width, channels, outputs = kernel.shape
    rows, columns = inputs.shape[1:3]
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    pads = [(0, 0), (height // 2, height // 2), (width // 2, width // 2), (0, 0)]
    padded, flat = jnp.pad(inputs, pads), gradient.reshape(-1, outputs)
    taps = [
        padded[:, i : i + rows, j : j + columns].reshape(-1, channels).T @ flat
        for i in range(height)
        for j in range(width)
    ]
    return same_convolution(gradient, flipped), jnp.stack(taps).reshape(kernel.shape)


same_convolution.defvjp(forward, backward)


def for_backend() -> dict[str, Any]:
    """Arguments of `nnx.Conv` that choose the convolution: this one on CPU, XLA's own elsewhere."""
    if jax.default_backend() != "cpu":
        return {}
    return {"conv_general_dilated": lambda inputs, kernel, *_, **__: same_convolution(inputs, kernel)}
