"""AlphaZero's PUCT search (Silver et al. 2018, supplementary pseudocode) with Dirichlet noise, on our tree.

Values are scaled to [0, 1] and an untried action counts as lost, as in the pseudocode. The noise is drawn over the
legal actions only, with one key a game.
"""

# mctx builds its types with chex, whose dataclasses pyright cannot read.
# pyright: reportAttributeAccessIssue=false

from functools import partial

import jax
import jax.numpy as jnp

from envs import Env
from jaxzero.config import SearchConfig
from jaxzero.models import Model
from jaxzero.search import base, simulation
from jaxzero.search import tree as trees
from jaxzero.search.base import Finding, Search

C_BASE = 19652.0  # visits after which exploration starts to grow


def rule(c_puct: float, near: trees.Family) -> tuple[jax.Array, jax.Array]:
    """Value + exploration, of the children [W, L, B] and of the likeliest untried action [L, B]."""
    explore = (c_puct + jnp.log((near.node_visits + C_BASE + 1) / C_BASE)) * jnp.sqrt(near.node_visits)
    tried = (near.qvalue + 1) / 2 + explore[None] * jnp.exp(near.logit) / (near.visits + 1)
    return tried, explore * jnp.exp(near.untried.logit)


def make(config: SearchConfig, env: Env, model: Model, simulations: int) -> Search:
    kept = trees.num_slots(env.num_actions, env.max_legal, simulations, config.slots)

    def find(params, keys, root, legal, explore) -> Finding:
        if explore:
            root = root.replace(prior_logits=jax.vmap(partial(noisy_logits, config))(keys, root.prior_logits, legal))
        tree = trees.plant(root, simulations, kept, env.num_outcomes)
        depth = config.max_depth or tree.size
        judge = partial(rule, config.c_puct)
        search = simulation.Search(model, params, judge, env.num_actions, env.num_outcomes, depth)

        def step(i, tree):
            return simulation.simulate(search, tree, jax.random.fold_in(keys[0], i), 1 + i)[0]

        tree = jax.lax.fori_loop(0, simulations, step, tree)
        visits = trees.root_visits(tree, env.num_actions)
        policy = visits / visits.sum(-1, keepdims=True)
        return Finding(policy, tree.value[0], visits, jnp.argmax(policy, -1).astype(jnp.int32))

    return base.make(config, env, model, find)


def noisy_logits(config: SearchConfig, key: jax.Array, logits: jax.Array, legal: jax.Array) -> jax.Array:
    """log((1 - fraction) · prior + fraction · Dirichlet(alpha)) over the legal actions, [A]."""
    gamma = jnp.where(legal, jax.random.loggamma(key, config.dirichlet_alpha, logits.shape), -jnp.inf)
    mixed = (1 - config.dirichlet_fraction) * jax.nn.softmax(logits) + config.dirichlet_fraction * jax.nn.softmax(gamma)
    return jnp.where(legal, jnp.log(jnp.maximum(mixed, 1e-30)), jnp.finfo(logits.dtype).min)
