"""What the search asks: `Model(root, decision, chance)` in mctx's types."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import mctx

Params = Any
Embedding = Any


class Model(NamedTuple):
    """Letters: B batch, A actions. Embeddings are pytrees with a leading batch axis.

    `root(params, states) -> mctx.RootFnOutput`: priors masked to the legal actions.
    `decision(params, key, actions[B], embedding) -> (mctx.RecurrentFnOutput, embedding)`: reward to the player who
        acted; discount +1 if the same player moves next, -1 if the other does, 0 at the end.
    `chance`: for models with chance nodes.
    """

    root: Callable[[Params, Any], mctx.RootFnOutput]
    decision: Callable[[Params, jax.Array, jax.Array, Embedding], tuple[mctx.RecurrentFnOutput, Embedding]]
    chance: Callable[..., Any] | None = None
