"""The MuZero model: the network's own idea of the game (Schrittwieser et al. 2020), the rules only at the root."""

# mctx builds its types with chex, whose dataclasses pyright cannot read.
# pyright: reportCallIssue=false

from typing import Any

import jax
import mctx

from envs import Env, State
from jaxzero.models.base import Model, Params
from jaxzero.models.simulator import mask
from jaxzero.networks import Latent


def make(env: Env, network: Latent) -> Model:
    """A model whose embeddings are latent states. Only `root` asks the game: what is seen and which moves are legal.

    Chance is not modelled: what an action leads to is what the dynamics expects.
    """

    def root(params: Params, states: State) -> mctx.RootFnOutput:
        latent = network.represent(params, jax.vmap(env.observe)(states))
        said = network.predict(params, latent)
        logits = mask(said.logits, jax.vmap(env.legal_actions)(states))
        return mctx.RootFnOutput(prior_logits=logits, value=said.value, embedding=latent)

    def decision(params: Params, key: jax.Array, actions: jax.Array, latent: jax.Array) -> tuple[Any, jax.Array]:
        del key  # nothing is random
        after = network.dynamics(params, latent, actions)
        said = network.predict(params, after.latent)
        output = mctx.RecurrentFnOutput(
            reward=after.reward, discount=after.discount, prior_logits=said.logits, value=said.value
        )
        return output, after.latent

    return Model(root, decision, knows_rules=False)
