"""The peer's network: a pre-activation residual network (He et al. 2016) with batch norm, in Haiku.

Letters: B batch, A actions, C channels.
"""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp


def build(num_actions: int, channels: int, blocks: int) -> Any:
    """A Haiku transform of (observation [B, H, W, planes], train) -> (logits [B, A], value [B])."""

    def forward(observation: jax.Array, train: bool):
        def activate(x):
            return jax.nn.relu(hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)(x, train))

        x = hk.Conv2D(channels, 3)(observation.astype(jnp.float32))
        for _ in range(blocks):
            y = hk.Conv2D(channels, 3)(activate(x))
            x = x + hk.Conv2D(channels, 3)(activate(y))
        x = activate(x)
        logits = hk.Linear(num_actions)(hk.Flatten()(activate(hk.Conv2D(2, 1)(x))))
        hidden = hk.Linear(channels)(hk.Flatten()(activate(hk.Conv2D(1, 1)(x))))
        return logits, jnp.tanh(hk.Linear(1)(jax.nn.relu(hk.Flatten()(hidden))))[:, 0]

    return hk.without_apply_rng(hk.transform_with_state(forward))
