"""Networks to be exported in tests."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import torch

import envs
from jaxzero import networks
from jaxzero.export import formats, model, publish
from jaxzero.networks import MlpConfig, MuZeroConvConfig, MuZeroMlpConfig, ResNetConfig

RESNET = ResNetConfig(channels=8, blocks=2, dtype="float32")
MLP = MlpConfig(sizes=(24, 16), dtype="float32")
CASES = {
    "resnet": ("connect_four", RESNET),
    "resnet-batch-norm-wdl": ("connect_four", dataclasses.replace(RESNET, norm="batch", value="wdl")),
    "resnet-batch-norm-no-pooling": ("tic_tac_toe", dataclasses.replace(RESNET, norm="batch", pooling=False)),
    "resnet-wdl": ("tic_tac_toe", dataclasses.replace(RESNET, value="wdl")),
    "mlp": ("connect_four", MLP),
    "mlp-separate-wdl": ("connect_four", dataclasses.replace(MLP, shared=False, value="wdl")),
    "mlp-separate": ("ur", dataclasses.replace(MLP, shared=False)),
    "mlp-dropout": ("tic_tac_toe", dataclasses.replace(MLP, dropout=0.5)),
    "mlp-2048": ("2048", MLP),
    "muzero-mlp-codes": (
        "2048",
        MuZeroMlpConfig(hidden_dim=24, latent_dim=12, value="categorical", support=4, codes=3, projection=8),
    ),
    "muzero-mlp": ("tic_tac_toe", MuZeroMlpConfig(hidden_dim=24, latent_dim=12, value="transformed")),
    "muzero-conv-codes": (
        "2048",
        MuZeroConvConfig(channels=8, blocks=1, hidden_dim=12, value="categorical", support=4, codes=3),
    ),
    "muzero-conv": ("connect_four", MuZeroConvConfig(channels=8, blocks=1, value="wdl")),
}


def scrambled(network):
    """Variables far from initialisation: no head near zero, no bias at zero, no statistics at 0 and 1."""
    rng = np.random.default_rng(1)

    def draw(leaf):
        if leaf.ndim == 1:
            return jnp.asarray(np.abs(rng.normal(0, 0.3, leaf.shape)) + 0.3, jnp.float32)
        return jnp.asarray(rng.normal(0, 1 / np.sqrt(np.prod(leaf.shape[:-1])), leaf.shape), jnp.float32)

    return jax.tree.map(draw, jax.eval_shape(network.init, jax.random.key(0)))


def fold(network, variables):
    with jax.numpy_rank_promotion("allow"):
        return jax.device_get(network.fold(variables))


def model_of(case, params=None, config=None, training=None, half=False):
    """A network of `CASES`, on its way out."""
    game, ours = CASES[case]
    env = envs.make(game)
    network = networks.make(ours, env)
    params = fold(network, scrambled(network)) if params is None else params
    return model.make(env, config or ours, params, {"step": 7} if training is None else training, half=half)


def export(folder, case, names=("pt",), *, int8=False, overwrite=False, version="n_step000007", **changes):
    """Files of a network of `CASES`, as `jaxzero export` writes them; its lines."""
    going = model_of(case, **changes)
    modules = {name: formats.load(name) for name in names}
    jobs = publish.plan(folder, version, modules, going, "int8" if int8 else going.metadata["dtype"])
    return publish.publish(folder, version, going, jobs, overwrite)


def write_pt(path, case, **changes):
    """A .pt file of a network of `CASES`, without a certificate, which would have to be compiled."""
    formats.load("pt").write(path, model_of(case, **changes), "predict")


def contents(path):
    """What a .pt file holds."""
    return torch.load(path, weights_only=True)
