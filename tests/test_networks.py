"""Networks: shapes, folding, statistics over devices, dropout, separation, precision."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import envs
from envs.core import random_opening
from jaxzero import networks
from jaxzero.networks import NETWORKS

BOARD, DENSE, LATENT = {"channels": 4, "blocks": 1}, {"sizes": (16, 8)}, {"hidden_dim": 16, "latent_dim": 8}
SIZES: dict[str, dict[str, Any]] = {"resnet": BOARD, "mlp": DENSE, "muzero_conv": BOARD, "muzero_mlp": LATENT}
SMALL = {kind: cls(**SIZES.get(kind, {}), dtype="float32") for kind, (cls, _) in NETWORKS.items()}
# Kind -> what can be changed about it.
VARIANTS = {"resnet": ({"norm": "batch"}, {"pooling": False}), "mlp": ({"dropout": 0.5}, {"shared": False})}
CASES = [
    pytest.param(dataclasses.replace(SMALL[kind], value=value, **variant), id=f"{kind}-{value}-{variant}")
    for kind in NETWORKS
    for value in ("scalar", "wdl")
    for variant in ({}, *VARIANTS.get(kind, ()))
]
KEY = jax.random.key(0)
GAME = envs.make("connect_four")


def positions(env: envs.Env, count: int) -> jax.Array:
    """Observations of `count` random positions."""
    states, _ = jax.vmap(lambda key: random_opening(env, key, 8))(jax.random.split(jax.random.key(1), count))
    return jax.vmap(env.observe)(states)


def lively(network: networks.Network, key: jax.Array = KEY) -> networks.Variables:
    """Initial variables with every array moved away from zeros and ones; variances stay positive."""
    leaves, tree = jax.tree.flatten(network.init(key))
    keys = jax.random.split(key, len(leaves))
    moved = [x + 0.5 * jax.random.uniform(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


def same(a, b) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))


@pytest.mark.parametrize("game", envs.GAMES)
@pytest.mark.parametrize("kind", NETWORKS)
def test_shapes_and_types(game, kind):
    env = envs.make(game)
    if kind in ("resnet", "muzero_conv") and len(env.observation_shape) != 3:
        pytest.skip("resnet reads boards")
    network = networks.make(SMALL[kind], env)
    variables = jax.eval_shape(network.init, KEY)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
    observations = jax.ShapeDtypeStruct((3, *env.observation_shape), jnp.float32)
    prediction = jax.eval_shape(lambda v, seen: network.infer(network.fold(v), seen), variables, observations)
    assert prediction.logits.shape == (3, env.num_actions)
    assert prediction.value.shape == (3,)
    assert {prediction.logits.dtype, prediction.value.dtype} == {jnp.dtype("float32")}


@pytest.mark.parametrize("config", CASES)
class TestEveryNetwork:
    def test_value_and_heads(self, config):
        """Even from far-out variables the value stays in [-1, 1]; it follows from the raw head."""
        network = networks.make(config, GAME)
        variables = jax.tree.map(lambda x: 3 * x, lively(network))
        prediction, stats = network.predict(variables, 5 * positions(GAME, 16))
        value = np.asarray(prediction.value)
        assert (np.abs(value) <= 1).all()
        assert same(stats, variables["stats"])
        if config.value == "wdl":
            head = np.asarray(prediction.heads["wdl"], np.float64)
            odds = np.exp(head - head.max(-1, keepdims=True))
            assert odds.shape == (16, 3)
            expected = (odds[:, 0] - odds[:, 2]) / odds.sum(-1)
            np.testing.assert_allclose(value, expected, atol=1e-6)
        else:
            np.testing.assert_array_equal(value, prediction.heads["value"])

    def test_folded_form_predicts_the_same(self, config):
        network = networks.make(config, GAME)
        variables = lively(network)
        observation = positions(GAME, 8)
        whole, _ = network.predict(variables, observation)
        folded = network.infer(network.fold(variables), observation)
        assert float(whole.logits.std()) > 1e-3
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(folded), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)

    def test_init_follows_the_key(self, config):
        init = networks.make(config, GAME).init
        assert same(init(KEY), init(KEY))
        kernels = [
            (a, b) for a, b in zip(jax.tree.leaves(init(KEY)), jax.tree.leaves(init(jax.random.key(1))), strict=True)
            if a.ndim > 1
        ]  # fmt: skip
        assert kernels
        assert all((a != b).any() for a, b in kernels)

    def test_every_parameter_gets_a_gradient(self, config):
        network = networks.make(config, GAME)
        variables = network.init(KEY)
        observation = positions(GAME, 16)

        def loss(params):
            prediction, _ = network.predict(
                {"params": params, "stats": variables["stats"]}, observation, train=True, key=KEY
            )
            total = (prediction.logits**2).sum() + (prediction.value - 1).sum() ** 2
            if network.latent is None:
                return total
            latent = network.latent.represent(params, observation)
            after = network.latent.dynamics(params, latent, jnp.arange(16) % GAME.num_actions)
            return total + (after.latent**2).sum() + (after.to_play**2).sum() + (after.reward - 1).sum() ** 2

        gradients = jax.jit(jax.grad(loss))(variables["params"])
        silent = [jax.tree_util.keystr(path) for path, g in jax.tree.leaves_with_path(gradients) if not (g != 0).any()]
        assert not silent

    def test_bfloat16_is_close_to_float32(self, config):
        exact = networks.make(config, GAME)
        rough = networks.make(dataclasses.replace(config, dtype="bfloat16"), GAME)
        variables = exact.init(KEY)
        observation = positions(GAME, 8)
        assert same(rough.init(KEY), variables)
        a = exact.infer(exact.fold(variables), observation)
        b = rough.infer(rough.fold(variables), observation)
        assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(b))
        assert (a.logits != b.logits).any()
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(x, y, atol=0.03 * float(jnp.abs(x).max()))


BATCH_NORM = networks.make(dataclasses.replace(SMALL["resnet"], norm="batch"), GAME)


def test_batch_statistics_over_devices_equal_those_of_the_whole_batch():
    variables = lively(BATCH_NORM)
    observation = positions(GAME, 16)
    whole = jax.jit(lambda v, x: BATCH_NORM.predict(v, x, train=True))(variables, observation)
    mesh = jax.make_mesh((4,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.jit(
        jax.shard_map(
            lambda v, x: BATCH_NORM.predict(v, x, train=True, axis_name="devices"),
            mesh=mesh, in_specs=(P(), P("devices")), out_specs=(P("devices"), P()),
        )
    )(variables, observation)  # fmt: skip
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(split), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_training_normalises_the_batch_and_moves_the_statistics_towards_it():
    variables = BATCH_NORM.init(KEY)
    observation = positions(GAME, 32)
    _, stats = BATCH_NORM.predict(variables, observation, train=True)
    kernel = variables["params"]["stem"]["conv"]["kernel"]
    stem = jax.lax.conv_general_dilated(observation, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    norm = stats["stem"]["norm"]
    np.testing.assert_allclose(norm["mean"], 0.05 * stem.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(norm["var"], 0.95 + 0.05 * stem.var((0, 1, 2)), atol=1e-5)


class TestDropout:
    config = dataclasses.replace(SMALL["mlp"], dropout=0.25)
    network = networks.make(config, GAME)

    def logits(self, train: bool, key: int) -> np.ndarray:
        prediction, _ = self.network.predict(
            lively(self.network), positions(GAME, 4), train=train, key=jax.random.key(key)
        )
        return np.asarray(prediction.logits)

    def test_off_in_evaluation(self):
        plain = networks.make(dataclasses.replace(self.config, dropout=0.0), GAME)
        expected, _ = plain.predict(lively(self.network), positions(GAME, 4))
        np.testing.assert_array_equal(self.logits(False, 0), self.logits(False, 1))
        np.testing.assert_array_equal(self.logits(False, 0), expected.logits)

    def test_drawn_from_the_key_in_training(self):
        np.testing.assert_array_equal(self.logits(True, 0), self.logits(True, 0))
        assert (self.logits(True, 0) != self.logits(True, 1)).any()

    @pytest.mark.parametrize("shared", [True, False])
    def test_share(self, shared):
        """One hidden layer of ones into one weight of ones: an output is the share kept, scaled by 1 / 0.75."""
        width = 1000
        network = networks.make(dataclasses.replace(self.config, sizes=(width,), shared=shared), GAME)
        ones = jax.tree.map(lambda x: jnp.ones_like(x) if x.ndim == 2 else 0 * x, network.init(KEY)["params"])
        observation = jnp.zeros((64, *GAME.observation_shape)).at[:, 0, 0, 0].set(1 / width)
        prediction, _ = network.predict({"params": ones, "stats": {}}, observation, train=True, key=KEY)
        kept = {"policy": prediction.logits[:, 0] * 0.75, "value": jnp.arctanh(prediction.value) * 0.75}
        for share in kept.values():
            assert float(share.mean()) == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / width / 64) ** 0.5)
            assert float(share.std()) == pytest.approx((0.75 * 0.25 / width) ** 0.5, rel=0.4)
        assert bool(jnp.allclose(kept["policy"], kept["value"], atol=1e-5)) == shared


@pytest.mark.parametrize("shared", [True, False])
def test_shared_trunk_or_two_networks(shared):
    network = networks.make(dataclasses.replace(SMALL["mlp"], shared=shared), GAME)
    variables = network.init(KEY)
    observation = positions(GAME, 16)

    def output(params, head):
        prediction, _ = network.predict({"params": params, "stats": {}}, observation)
        return prediction.value.sum() if head == "value" else (prediction.logits**2).sum()

    touched = {
        head: {name for name, g in jax.grad(output)(variables["params"], head).items() if touches(g)}
        for head in ("value", "policy")
    }
    assert touched["policy"] == {"trunk", "policy"}
    assert touched["value"] == ({"trunk", "value"} if shared else {"value_trunk", "value"})


def touches(gradients) -> bool:
    return any((g != 0).any() for g in jax.tree.leaves(gradients))
