"""Our tree against mctx's, visit by visit."""

# mctx builds its types with chex, whose dataclasses pyright cannot read.
# pyright: reportCallIssue=false, reportArgumentType=false

import pathlib

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest
import torch
from nim import Nim
from oracles import also
from tables import KEY, ROWS, keys, look_up, positions, searcher, table

import envs
from jaxzero import networks
from jaxzero.models import simulator
from jaxzero.search import stock
from jaxzero.search.slots import compact


@pytest.mark.parametrize(
    ("settings", "game"),
    [
        ({"simulations": 32}, "othello"),
        # More children than one width serves.
        *also(({"simulations": 96, "max_considered": 1}, "othello"), ({"kind": "puct", "simulations": 48}, "othello")),
        ({"simulations": 100}, "tic_tac_toe"),  # most lines end, below some roots all actions are tried
        ({"simulations": 24, "max_considered": 4}, "connect_four"),
        ({"simulations": 24, "rescale_values": False, "value_scale": 0.5}, "connect_four"),
        *also(({"simulations": 24, "max_depth": 2}, "connect_four")),
        ({"simulations": 60}, "nim"),  # extra turns, single legal moves
        ({"kind": "puct", "simulations": 100, "c_puct": 3.0}, "tic_tac_toe"),
        ({"kind": "puct", "simulations": 24, "max_depth": 2}, "connect_four"),
        ({"kind": "puct", "simulations": 60}, "nim"),
        ({"kind": "puct", "simulations": 40}, "treasure"),  # rewards beyond [-1, 1]
    ],
    ids=str,
)
def test_the_tree_is_that_of_mctx(settings, game):
    env = Nim() if game == "nim" else envs.make(game)
    states = positions(env, 64)
    ours, theirs = (searcher(env, explore=True, engine=engine, **settings) for engine in ("tree", "mctx"))
    for seed in range(4):
        params = table(env, seed)
        result, expected = (run(params, keys(64, seed), states) for run in (ours, theirs))
        np.testing.assert_array_equal(result.visits, expected.visits)
        np.testing.assert_allclose(result.qvalues, expected.qvalues, atol=1e-5)
        np.testing.assert_array_equal(result.action, expected.action)
        np.testing.assert_allclose(result.policy, expected.policy, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(result.value, expected.value, atol=1e-5)


def test_equally_likely_actions_are_tried_in_their_order():
    """Priors of two heights, so that nodes have many alike, and few candidates, so that nodes try most actions."""
    env = envs.make("tic_tac_toe")
    states, (logits, values) = positions(env, 64), table(env)
    params = jnp.sign(logits), values
    for considered in (1, 3):
        ours, theirs = (
            searcher(env, explore=True, engine=engine, simulations=60, max_considered=considered)
            for engine in ("tree", "mctx")
        )
        result, expected = (run(params, keys(64), states) for run in (ours, theirs))
        np.testing.assert_array_equal(result.visits, expected.visits)
        np.testing.assert_allclose(result.qvalues, expected.qvalues, atol=1e-5)


TRAINED = pathlib.Path(__file__).parent.parent / "benchmarks" / "results" / "connect_four_fast_step000960.pt"


def real_networks(env: envs.Env):
    """A network in double precision, which gives its value before tanh; its trained parameters and random ones."""
    contents = torch.load(TRAINED, weights_only=True)
    facts = {key: contents["metadata"]["network"][key] for key in ("channels", "blocks", "pooling")}
    network = networks.make(networks.ResNetConfig(value="transformed", dtype="float64", **facts), env)  # pyright: ignore
    blank = jax.jit(lambda: network.fold(network.init(KEY)))()

    def fill(path, leaf):
        *names, last = (step.key for step in path)
        names = names[:-1] if names[-1] == "conv" else names
        weights = contents["state_dict"][".".join([*names, {"kernel": "weight"}.get(last, last)])].numpy()
        return jnp.asarray(weights.transpose((2, 3, 1, 0) if leaf.ndim == 4 else None))

    return network, jax.tree_util.tree_map_with_path(fill, blank), blank


@pytest.mark.parametrize("settings", [{}, *also({"rescale_values": False}), {"kind": "puct"}], ids=str)
def test_the_tree_is_that_of_mctx_with_real_networks(settings):
    """Trees of a trained network are deep. In double precision: stretching the values of a position that is all but won
    or lost stretches the rounding too in which two programs differ."""
    env = envs.make("connect_four")
    network, *both = real_networks(env)
    states = positions(env, ROWS)
    with jax.enable_x64(True):

        def evaluate(params, key, states):
            said = network.infer(params, jax.vmap(env.observe)(states))
            logits, value = (x.astype(jnp.float64) for x in (said.logits, said.heads["transformed"]))
            return simulator.mask(logits, jax.vmap(env.legal_actions)(states)), jnp.tanh(value)

        model = simulator.make_with_evaluation(env, evaluate)
        ours, theirs = (
            searcher(env, model, True, engine=engine, simulations=32, **settings) for engine in ("tree", "mctx")
        )
        for params in both:
            result, expected = (run(params, keys(ROWS), states) for run in (ours, theirs))
            assert result.value.dtype == np.float64
            np.testing.assert_array_equal(result.visits, expected.visits)
            np.testing.assert_array_equal(result.action, expected.action)
            np.testing.assert_allclose(result.policy, expected.policy, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(result.value, expected.value, atol=1e-9)


@pytest.mark.parametrize(("simulations", "considered"), [(32, 16), (24, 4)])
def test_stock_gumbel_without_noise_is_the_policy_of_mctx(simulations, considered):
    env = envs.make("connect_four")
    model = simulator.make(env, look_up)
    states = positions(env, 64)
    run = searcher(env, engine="mctx", simulations=simulations, max_considered=considered)

    @jax.jit
    def reference(params):
        return mctx.gumbel_muzero_policy(
            params, KEY, stock.converted(model.root(params, states)), stock.stepping(model), simulations,
            invalid_actions=~jax.vmap(env.legal_actions)(states), gumbel_scale=0.0,
            max_num_considered_actions=considered,
        )  # fmt: skip

    result, expected = run(table(env), keys(64), states), reference(table(env))
    np.testing.assert_array_equal(result.action, expected.action)
    np.testing.assert_allclose(result.policy, expected.action_weights, rtol=1e-4, atol=1e-7)
    summary = jax.device_get(expected.search_tree.summary())
    weights = np.where(summary.visit_counts > 0, expected.action_weights, 0.0)
    np.testing.assert_allclose(result.value, (weights * summary.qvalues).sum(-1) / weights.sum(-1), atol=1e-5)


def test_nodes_with_few_slots():
    """Chess keeps the likeliest of 4,672 actions in a node, as many as simulations can try, which changes nothing; or
    fewer, if told."""
    env = envs.make("chess")
    states, params = positions(env, 8), table(env)
    exact, stock, capped = (
        searcher(env, simulations=24, max_considered=2, **settings)(params, keys(8), states)
        for settings in ({}, {"engine": "mctx"}, {"slots": 1})
    )
    np.testing.assert_array_equal(exact.visits, stock.visits)
    np.testing.assert_allclose(exact.value, stock.value, atol=1e-5)
    np.testing.assert_allclose(exact.policy, stock.policy, rtol=1e-4, atol=1e-6)
    assert (exact.value != capped.value).any()
    np.testing.assert_array_equal(capped.visits.sum(-1), np.full(8, 24))


@pytest.mark.parametrize(("actions", "slots"), [(4672, 218), (33, 40), (64, 5)])
def test_legal_actions_find_their_slots(actions, slots):
    """In order, as many as there are slots."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, actions)).astype(np.float32)
    legal = np.zeros(logits.shape, bool)
    legal[0] = True  # as where a game has ended
    for row in legal[1:]:
        row[rng.choice(actions, rng.integers(min(2 * slots, actions) + 1), replace=False)] = True
    found, index = jax.device_get(jax.jit(compact, static_argnums=2)(logits, legal, slots))
    for row, mask, values, places in zip(logits, legal, found, index, strict=True):
        there = np.flatnonzero(mask)[:slots]
        np.testing.assert_array_equal(places[: len(there)], there)
        np.testing.assert_array_equal(values[: len(there)], row[there])
        assert (values[len(there) :] == -np.inf).all()
