"""AlphaZero's PUCT search (Silver et al. 2018, supplementary pseudocode) with Dirichlet noise, on our tree.

Values are scaled to [0, 1] and an untried action counts as lost, as in the pseudocode. Returns of a game of one player
have no bounds: they are stretched to [0, 1] by the least and greatest value of a node and its children, as mctx does
for MuZero, and an untried action counts as the least. The noise is drawn over the legal actions only, with one key a
game.
"""

import dataclasses
from functools import partial
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp

from envs import Env
from envs.core import where
from jaxzero.config.fields import COMMON, Range, Share, Weight
from jaxzero.models import Model
from jaxzero.search import base, forced, reuse, simulation
from jaxzero.search import tree as tree_lib
from jaxzero.search.base import Finding, Search
from jaxzero.search.config import TreeConfig
from jaxzero.search.tree import each, over

C_BASE = 19652.0  # visits after which exploration starts to grow


@dataclasses.dataclass(frozen=True)
class PuctConfig(TreeConfig):
    """AlphaZero."""

    kind: ClassVar[str] = "puct"
    ours_only: ClassVar[tuple[str, ...]] = ("forced_playouts", *TreeConfig.ours_only)

    c_puct: Annotated[Weight, COMMON] = 1.25
    """Exploration constant."""
    dirichlet_alpha: Annotated[float, Range(0.001, 1000), COMMON] = 0.3
    """Concentration of the Dirichlet noise at the root."""
    dirichlet_fraction: Annotated[Share, COMMON] = 0.25
    """Share of the noise in the root's prior."""
    root_temperature: Annotated[float, Range(0.01, 100)] = 1.0
    """In self-play, the root's prior is softmax(logits / root_temperature), before the noise (KataGo: 1.1)."""
    forced_playouts: Weight = 0.0
    """In self-play, a root action that was tried gets at least √(forced_playouts · prior · simulations) visits; the
    policy target leaves them out where they found nothing (KataGo: 2). 0: off."""


def rule(c_puct: float, near: tree_lib.Family, bounded: bool = True) -> tuple[tree_lib.Chunks, jax.Array]:
    """Value + exploration, as a `simulation.Rule`; `bounded`: values lie in [-1, 1]."""
    explore = (c_puct + jnp.log((near.node_visits + C_BASE + 1) / C_BASE)) * jnp.sqrt(near.node_visits)
    low, high = jnp.float32(-1), jnp.float32(1)
    if not bounded:
        values = each(lambda tried, value: where(tried, value, near.node_value), near.tried, near.qvalue)
        low, high = over((jnp.minimum, values), (jnp.maximum, values))
        low, high = jnp.minimum(near.node_value, low), jnp.maximum(near.node_value, high)

    def score(qvalue, logit, visits):
        return (qvalue - low) / jnp.maximum(high - low, 1e-8) + explore * jnp.exp(logit) / (visits + 1)

    return each(score, near.qvalue, near.logit, near.visits), explore * jnp.exp(near.untried.likeliest)


def make(config: PuctConfig, env: Env, model: Model, simulations: int) -> Search:
    if config.engine == "mctx":
        from jaxzero.search import stock  # late: it needs mctx, which few runs do

        return stock.puct(config, env, model, simulations)
    layout = tree_lib.layout(env, config, simulations, model)
    plain = partial(rule, config.c_puct, bounded=env.num_players > 1)

    def find(params, keys, root, legal, explore, kept) -> Finding:
        k = config.forced_playouts if explore else 0.0
        if explore:
            root = root._replace(prior_logits=jax.vmap(partial(noisy_logits, config))(keys, root.prior_logits, legal))
        first = layout.room or 1
        tree = tree_lib.plant(root, layout, layout.nodes(simulations))
        if kept is not None:
            tree = reuse.replant(kept, tree)
        depth, at_root = config.max_depth or tree.size, partial(forced.rule, plain, k) if k else None
        search = simulation.Search(model, params, plain, env.num_actions, model.num_outcomes, depth, at_root)

        def step(i, tree):
            return simulation.simulate(search, tree, jax.random.fold_in(keys[0], i), first + i)[0]

        tree = jax.lax.fori_loop(0, simulations, step, tree)
        child = tree.child[0].astype(jnp.int32)
        visits = tree_lib.by_action(tree, tree_lib.at(tree.visits, child), env.num_actions)
        qvalues = tree_lib.by_action(tree, tree_lib.at(tree.qvalue, child), env.num_actions)
        shown = tree_lib.by_action(tree, forced.prune(plain, tree, k), env.num_actions) if k else visits
        policy = shown / shown.sum(-1, keepdims=True)
        best = jnp.argmax(policy, -1).astype(jnp.int32)
        nodes = tree_lib.by_action(tree, child, env.num_actions)
        return Finding(policy, tree.value[0], visits, qvalues, best, tree, nodes)

    return base.make(config, env, model, find, layout)


def noisy_logits(config: PuctConfig, key: jax.Array, logits: jax.Array, legal: jax.Array) -> jax.Array:
    """log((1 - fraction) · prior + fraction · Dirichlet(alpha)) over the legal actions, [A]; the prior is flattened
    by the root's temperature."""
    if config.root_temperature != 1:
        logits = where(legal, logits / config.root_temperature, logits)
    gamma = where(legal, jax.random.loggamma(key, config.dirichlet_alpha, logits.shape), -jnp.inf)
    mixed = (1 - config.dirichlet_fraction) * jax.nn.softmax(logits) + config.dirichlet_fraction * jax.nn.softmax(gamma)
    return where(legal, jnp.log(jnp.maximum(mixed, 1e-30)), jnp.finfo(logits.dtype).min)
