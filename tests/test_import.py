"""Weights from files: the same as went out, and trained further."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exports import CASES, MLP, RESNET, fold, model_of, scrambled

import envs
from jaxzero import networks
from jaxzero.export import formats, parity
from jaxzero.export.load import KINDS, load
from jaxzero.messages import ConfigError

TIC_TAC_TOE = envs.make("tic_tac_toe")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["resnet-batch-norm-wdl", "mlp-separate"])
def test_weights_come_back_as_they_left(tmp_path, kind, case):
    going = model_of(case)
    path = tmp_path / f"x.{kind}"
    formats.load(kind).write(path, going, "")
    params, metadata = load(path, going.env, CASES[case][1])
    assert metadata == going.metadata
    jax.tree.map(np.testing.assert_array_equal, params, going.params)
    half = model_of(case, half=True)
    formats.load(kind).write(path, half, "")
    params, _ = load(path, going.env, CASES[case][1])
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y.astype(np.float16)), params, going.params)


@pytest.mark.parametrize("case", ["resnet-batch-norm-wdl", "resnet", "mlp-separate"])
def test_unfolded_network_computes_the_same_and_trains_from_there(case):
    game, config = CASES[case]
    env = envs.make(game)
    network = networks.make(config, env)
    variables = scrambled(network)
    params = fold(network, variables)
    states = jax.tree.map(
        lambda *x: jnp.concatenate(x), *(games.states for games in parity.entered(env, jax.random.key(5))[1])
    )
    observation = jax.vmap(env.observe)(states)
    assert network.unfold is not None
    with jax.numpy_rank_promotion("allow"):
        found = network.unfold(params, lambda: observation)
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    wanted = network.infer(params, observation)
    given, _ = network.predict(found, observation)
    np.testing.assert_allclose(given.logits, wanted.logits, atol=1e-4)
    np.testing.assert_allclose(given.value, wanted.value, atol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), fold(network, found), params)
    if vars(config).get("norm") == "batch":
        # In training, normalisation takes the statistics of the batch: from these positions they are the ones found.
        training, _ = network.predict(found, observation, train=True, key=jax.random.key(0))
        np.testing.assert_allclose(training.logits, wanted.logits, atol=1e-3)
        for name in ("mean", "var"):
            assert float(jnp.std(found["stats"]["block0"]["first"]["norm"][name])) > 1e-3


def test_half_a_character_becomes_a_question_mark(tmp_path):
    """As in the name of a run's folder that is no UTF-8."""
    going = model_of("mlp-dropout", training={"job": "l\udce4uf"})
    assert going.metadata["training"] == {"job": "l?uf"}


def test_refusals_say_what_to_change(tmp_path):
    formats.load("json").write(path := tmp_path / "x.json", model_of("mlp-dropout"), "")
    for config, message in (
        (
            dataclasses.replace(MLP, sizes=(24, 8)),
            r"sizes is \[24, 16\], this run has \[24, 8\]; set network.sizes",
        ),
        (RESNET, r"network.kind is mlp, this run has resnet; set network.kind"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(path, TIC_TAC_TOE, config)
    with pytest.raises(ConfigError, match=r'game is \{"name": "tic_tac_toe", .*, this run has .*connect_four'):
        load(path, envs.make("connect_four"), MLP)
