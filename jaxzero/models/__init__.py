"""Models for a search, behind one interface: the game itself (AlphaZero) or a learned model of it (MuZero)."""

from envs import Env
from jaxzero.models import learned, simulator
from jaxzero.models.base import Afterstate, Embedding, Model, Params, Root, Step
from jaxzero.networks import Network

__all__ = ["Afterstate", "Embedding", "Model", "Params", "Root", "Step", "make"]


def make(env: Env, network: Network) -> Model:
    """The model of a network: learned if the network has one, else the rules."""
    return simulator.make(env, network.infer) if network.latent is None else learned.make(env, network.latent)
