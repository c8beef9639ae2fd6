"""Same-size convolutions whose gradients are fast inside XLA's loops on CPU.

XLA's CPU compiler runs the convolution that gives the kernel's gradient about 50 times slower inside a loop (as in the
scan over updates) than outside, unless its operands already lie as a forward convolution wants them. Here they are laid
out so: the kernel's gradient is a convolution in which batch and channels have changed places, over a few samples at a
time (faster than over all at once), and the input's gradient is a forward convolution.
"""

from typing import Any

import jax

LAYOUT = ("NHWC", "HWIO", "NHWC")
SAMPLES = 64


@jax.custom_vjp
def same_convolution(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, H, W, C] by an odd kernel [h, w, C, D] -> [B, H, W, D], stride 1, zero padding."""
    return jax.lax.conv_general_dilated(inputs, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)


def forward(inputs: jax.Array, kernel: jax.Array):
    return same_convolution(inputs, kernel), (inputs, kernel)


def backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array):
    inputs, kernel = saved
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    parts = [
        kernel_gradient(inputs[i : i + SAMPLES], gradient[i : i + SAMPLES], kernel.shape)
        for i in range(0, len(inputs), SAMPLES)
    ]
    return same_convolution(gradient, flipped), sum(parts[1:], parts[0])


def kernel_gradient(inputs: jax.Array, gradient: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """[B, H, W, C] and [B, H, W, D] -> [h, w, C, D]: a convolution over the batch, [C, H, W, B] by [H, W, B, D]."""
    height, width = shape[:2]
    pads = [(height // 2, height // 2), (width // 2, width // 2)]
    by_channel = jax.lax.conv_general_dilated(
        inputs.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3), (1, 1), pads, dimension_numbers=LAYOUT
    )
    return by_channel.transpose(1, 2, 0, 3)


same_convolution.defvjp(forward, backward)


def for_backend() -> dict[str, Any]:
    """Arguments of `nnx.Conv` that choose the convolution: this one on CPU, XLA's own elsewhere."""
    if jax.default_backend() != "cpu":
        return {}
    return {"conv_general_dilated": lambda inputs, kernel, *_, **__: same_convolution(inputs, kernel)}
