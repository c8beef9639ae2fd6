"""The MuZero model (Schrittwieser et al. 2020): learned dynamics; the rules are used only at the root."""

from typing import Any

import jax
import jax.numpy as jnp

from envs import Env, State
from jaxzero.models.base import Afterstate, Model, Params, Root, Step
from jaxzero.models.simulator import mask
from jaxzero.networks import Latent


def make(env: Env, network: Latent) -> Model:
    """A model whose embeddings are latent states. Only `root` uses the game, for observations and legal actions.

    Chance outcomes are the network's codes. A network without codes predicts the expected state after an action.
    """

    def root(params: Params, states: State) -> Root:
        latent = network.represent(params, jax.vmap(env.observe)(states))
        prediction = network.predict(params, latent)
        logits = mask(prediction.logits, jax.vmap(env.legal_actions)(states))
        return Root(prior_logits=logits, value=prediction.value, embedding=latent)

    def evaluate(params: Params, latent: jax.Array, reward: jax.Array, discount: jax.Array) -> Any:
        prediction = network.predict(params, latent)
        return Step(reward=reward, discount=discount, prior_logits=prediction.logits, value=prediction.value)

    def decision(params: Params, key: jax.Array, actions: jax.Array, latent: jax.Array) -> tuple[Any, jax.Array]:
        del key
        after = network.dynamics(params, latent, actions)
        return evaluate(params, after.latent, after.reward, after.discount), after.latent

    def act(params: Params, key: jax.Array, actions: jax.Array, latent: jax.Array) -> tuple[Afterstate, jax.Array]:
        del key
        after = network.dynamics(params, latent, actions)
        assert after.codes is not None
        due = jnp.ones(actions.shape, bool)
        return Afterstate(after.reward, after.discount, due, jax.nn.log_softmax(after.codes)), after.latent

    def resolve(params: Params, key: jax.Array, outcomes: jax.Array, latent: jax.Array) -> tuple[Any, jax.Array]:
        del key
        assert network.settle is not None
        after = network.settle(params, latent, jax.nn.one_hot(outcomes, network.num_codes))
        zero = jnp.zeros(outcomes.shape)
        return evaluate(params, after, zero, zero + 1), after

    if network.num_codes:
        return Model(root, act, resolve, network.num_codes, knows_rules=False)
    return Model(root, decision, knows_rules=False)
