"""AlphaZero's PUCT search (Silver et al. 2018, supplementary pseudocode) with Dirichlet noise, on our tree.

Values are scaled to [0, 1] and an untried action has the value of a loss, as in the pseudocode. Returns of a one-player
game have no bounds: they are scaled to [0, 1] by the least and greatest value of a node and its children, as mctx does
for MuZero, and an untried action has the least. The noise is drawn over the legal actions only, with one key a game.
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
from jaxzero.search.base import Search, SearchedTree, SearchOutput
from jaxzero.search.config import TreeConfig

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


def rule(c_puct: float, children: tree_lib.Children, bounded: bool = True) -> tuple[jax.Array, jax.Array]:
    """Value + exploration, as a `simulation.Rule`; `bounded`: values lie in [-1, 1]."""
    explore = (c_puct + jnp.log((children.node_visits + C_BASE + 1) / C_BASE)) * jnp.sqrt(children.node_visits)
    low, high = jnp.float32(-1), jnp.float32(1)
    if not bounded:
        values = where(children.tried, children.qvalue, children.node_value)
        low = jnp.minimum(children.node_value, values.min(0, keepdims=True))
        high = jnp.maximum(children.node_value, values.max(0, keepdims=True))
    value = (children.qvalue - low) / jnp.maximum(high - low, 1e-8)
    scores = value + explore * jnp.exp(children.prior_logit) / (children.visits + 1)
    return scores, explore * jnp.exp(children.untried.logit)


def make(config: PuctConfig, env: Env, model: Model, simulations: int) -> Search:
    if config.engine == "mctx":
        from jaxzero.search import stock  # late: it needs mctx, which few runs do

        return stock.puct(config, env, model, simulations)
    layout = tree_lib.layout(env, config, simulations, model)
    plain = partial(rule, config.c_puct, bounded=env.num_players > 1)

    def search_root(params, keys, root, legal, explore, kept):
        k = config.forced_playouts if explore else 0.0
        if explore:
            root = root._replace(prior_logits=jax.vmap(partial(noisy_logits, config))(keys, root.prior_logits, legal))
        first = layout.kept_nodes or 1
        tree = tree_lib.tree_from_root(root, layout, layout.nodes(simulations))
        if kept is not None:
            tree = reuse.graft(kept, tree)
        depth, root_rule = config.max_depth or tree.size, partial(forced.rule, plain, k) if k else None
        search = simulation.TreeSearch(model, params, plain, env.num_actions, model.num_outcomes, depth, root_rule)

        def step(i, tree):
            return simulation.simulate(search, tree, jax.random.fold_in(keys[0], i), first + i)[0]

        tree = jax.lax.fori_loop(0, simulations, step, tree)
        child = tree.children_index[0].astype(jnp.int32)

        def by_action(values):
            return tree_lib.by_action(tree, values, env.num_actions)

        visits, qvalues = (by_action(tree_lib.lookup(field, child)) for field in (tree.visits, tree.qvalue))
        target = by_action(forced.prune(plain, tree, k)) if k else visits
        policy, value = target / target.sum(-1, keepdims=True), tree.value[0]
        best = jnp.argmax(policy, -1).astype(jnp.int32)
        output = SearchOutput(best, policy, value, jnp.ones_like(value), visits, qvalues)
        return output, SearchedTree(tree, by_action(child))

    return base.make(config, env, model, search_root, layout)


def noisy_logits(config: PuctConfig, key: jax.Array, logits: jax.Array, legal: jax.Array) -> jax.Array:
    """log((1 - fraction) · prior + fraction · Dirichlet(alpha)) over the legal actions, [A]; the prior is flattened
    by the root's temperature."""
    if config.root_temperature != 1:
        logits = where(legal, logits / config.root_temperature, logits)
    gamma = where(legal, jax.random.loggamma(key, config.dirichlet_alpha, logits.shape), -jnp.inf)
    mixed = (1 - config.dirichlet_fraction) * jax.nn.softmax(logits) + config.dirichlet_fraction * jax.nn.softmax(gamma)
    return where(legal, jnp.log(jnp.maximum(mixed, 1e-30)), jnp.finfo(logits.dtype).min)
