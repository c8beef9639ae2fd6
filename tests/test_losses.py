"""Losses against hand numbers, numpy and finite gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxzero.config.schema import LearnerConfig
from jaxzero.networks import Prediction
from jaxzero.training.losses import alphazero_loss, entropy, policy_loss, value_loss

# Two positions of five actions: legal are 1, 3, 4 in one and only 0 in the other.
LOGITS = jnp.float32([[9.0, 1.0, 7.0, 0.0, -1.0], [2.0, 8.0, 0.0, 1.0, 5.0]])
LEGAL = np.array([1, 3, 4])
MOVES = jnp.int16([[1, 3, 4], [0, -1, -1]])
WEIGHTS = jnp.float16([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])


def reference(logits):
    """Cross-entropy of the first position in float64."""
    legal = np.asarray(logits, np.float64)[LEGAL]
    return -(np.asarray(WEIGHTS[0], np.float64) * (legal - np.log(np.exp(legal).sum()))).sum()


def test_cross_entropy_over_the_legal_moves():
    loss = policy_loss(LOGITS, MOVES, WEIGHTS, "cross_entropy")
    np.testing.assert_allclose(loss, [reference(LOGITS[0]), 0.0], rtol=1e-6)


def test_weights_that_do_not_sum_to_one_are_normalised():
    loss = policy_loss(LOGITS, MOVES, WEIGHTS * jnp.float16(0.5), "cross_entropy")
    np.testing.assert_allclose(loss, [reference(LOGITS[0]), 0.0], rtol=1e-6)


def test_illegal_moves_get_no_gradient():
    gradient = jax.grad(lambda logits: policy_loss(logits, MOVES, WEIGHTS, "cross_entropy").sum())(LOGITS)
    legal = LOGITS[0, LEGAL]
    np.testing.assert_allclose(gradient[0, LEGAL], np.exp(legal) / np.exp(legal).sum() - WEIGHTS[0], atol=1e-6)
    assert gradient[0, np.array([0, 2])].tolist() == [0, 0]
    assert gradient[1].tolist() == [0] * 5  # the only legal move is certain


def test_kl_is_cross_entropy_less_entropy_with_the_same_gradient():
    def total(logits, kind):
        return policy_loss(logits, MOVES, WEIGHTS, kind).sum()

    np.testing.assert_allclose(
        policy_loss(LOGITS, MOVES, WEIGHTS, "kl"),
        policy_loss(LOGITS, MOVES, WEIGHTS, "cross_entropy") - np.array([1.5 * np.log(2), 0.0]),
        atol=1e-6,
    )
    np.testing.assert_array_equal(jax.grad(total)(LOGITS, "kl"), jax.grad(total)(LOGITS, "cross_entropy"))
    perfect = jnp.zeros((1, 5)).at[0, LEGAL].set(jnp.log(WEIGHTS[0].astype(jnp.float32)))
    np.testing.assert_allclose(policy_loss(perfect, MOVES[:1], WEIGHTS[:1], "kl"), [0.0], atol=1e-6)


def test_entropy():
    policy = jnp.float32([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0]])
    np.testing.assert_allclose(entropy(policy), [np.log(4), 0, np.log(2)], atol=1e-6)


def scalar(*values):
    value = jnp.float32(values)
    return Prediction(jnp.zeros((len(values), 5)), value, {"value": value})


def test_mean_squared_error_and_huber():
    prediction, target = scalar(0.5, -1.0, 1.0), jnp.float32([0.0, 1.0, 1.0])
    assert value_loss(prediction.heads, target, "mse").tolist() == [0.25, 4.0, 0.0]
    assert value_loss(prediction.heads, target, "huber").tolist() == [0.125, 1.5, 0.0]


def test_win_draw_loss_cross_entropy():
    logits = jnp.log(jnp.float32([[0.5, 0.25, 0.25]] * 4))
    prediction = Prediction(LOGITS, jnp.zeros(4), {"wdl": logits})
    loss = value_loss(prediction.heads, jnp.float32([1, 0, -1, 0.5]), "wdl")
    np.testing.assert_allclose(loss, np.log(2) * np.array([1, 2, 2, 1.5]), rtol=1e-6)


@pytest.mark.parametrize("kind", ["cross_entropy", "kl"])
def test_policy_weight_zero_removes_only_the_policy_loss(kind):
    config = LearnerConfig(value_weight=0.5, policy_loss=kind)

    def losses(logits, value, policy_weight):
        prediction = Prediction(logits, value, {"value": value})
        return alphazero_loss(config, prediction, MOVES, WEIGHTS, policy_weight, jnp.float32([1.0, 0.0]))

    value = jnp.float32([0.5, 0.5])
    full, half = losses(LOGITS, value, jnp.float16([1, 1])), losses(LOGITS, value, jnp.float16([0, 1]))
    np.testing.assert_array_equal(full["value_loss"], half["value_loss"])
    np.testing.assert_allclose(full["loss"], full["policy_loss"] + 0.5 * full["value_loss"], rtol=1e-6)
    np.testing.assert_allclose(half["policy_loss"], full["policy_loss"] * np.array([0, 1]))
    np.testing.assert_allclose(half["loss"][0], 0.5 * 0.25)
    by_logits, by_value = jax.grad(lambda *x: losses(*x)["loss"].sum(), (0, 1))(LOGITS, value, jnp.float16([0, 1]))
    assert not jnp.any(by_logits[0])
    assert by_value.tolist() == [-0.5, 0.5]


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(AssertionError):
        value_loss({"value": jnp.zeros(4)}, jnp.zeros((4, 1)), "mse")
    with pytest.raises(AssertionError):
        policy_loss(LOGITS, MOVES, WEIGHTS[:1], "cross_entropy")
    with pytest.raises(AssertionError):
        policy_loss(LOGITS[:1], MOVES, WEIGHTS, "cross_entropy")
