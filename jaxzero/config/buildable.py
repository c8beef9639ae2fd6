"""Whether the network and the search of a configuration can be built for a game."""

from envs import Env
from jaxzero.config import catalog
from jaxzero.config.schema import Config
from jaxzero.config.values import coerce
from jaxzero.messages import ConfigError
from jaxzero.networks import NETWORKS
from jaxzero.search import TreeConfig

LEARNED_ONLY = ("unroll", "reward_weight", "to_play_weight", "codes_weight", "consistency_weight")


def validate_network(config: Config, env: Env) -> None:
    """The part that whoever loads a trained run relies on: whether its network and search can be built.

    Raises:
        ConfigError: for the first setting that cannot work with this game.
    """
    validate_fields(config)
    validate_game(env)
    config.network.check(env)
    validate_value(config, env)
    config.search.check(env, config.network)
    validate_nodes(config, env)


def validate_fields(config: Config) -> None:
    """Types, ranges and texts of all settings."""
    for name, field in catalog.fields(config).items():
        coerce(field, catalog.value_at(config, field.path), name)


def validate_game(env: Env) -> None:
    if env.num_players not in (1, 2):
        raise ConfigError(f"game: {env.name} has {env.num_players} players; games of 1 or 2 players can be trained")


def validate_value(config: Config, env: Env) -> None:
    """Value head, loss and targets."""
    network, learner = config.network, config.learner
    if env.num_players == 1 and network.value in ("scalar", "wdl"):
        raise ConfigError(
            f"network.value: {network.value!r} lies in [-1, 1], but the rewards of {env.name}, which has one "
            'player, add up without a bound; set network.value and learner.value_loss to "categorical"'
        )
    cross_entropy = [kind for kind in (learner.value_loss, network.value) if kind in ("wdl", "categorical")]
    if cross_entropy and learner.value_loss != network.value:
        raise ConfigError(
            f"learner.value_loss: {learner.value_loss!r} does not fit network.value = {network.value!r}; "
            f'set both to "{cross_entropy[0]}", or neither'
        )
    for name in () if network.learned_model else LEARNED_ONLY:
        if getattr(learner, name) != getattr(type(learner), name):
            kinds = [kind for kind, (cls, _) in NETWORKS.items() if cls.learned_model]
            raise ConfigError(
                f"learner.{name}: needs a learned model, which {network.kind} has not; leave it out, or set "
                f"network.kind to {' or '.join(kinds)}"
            )
    boundaries = learner.boundaries
    if len(learner.factors) != len(boundaries) or list(boundaries) != sorted(set(boundaries)):
        raise ConfigError(
            f"learner.factors: give one for each of learner.boundaries, which ascend; got {len(learner.factors)} for "
            f"{list(boundaries)}"
        )
    if network.learned_model and learner.consistency_weight and not getattr(network, "projection", 0):
        raise ConfigError(
            "learner.consistency_weight: latent states are compared in a projection; set network.projection too, such "
            "as 128, or leave it out"
        )
    if learner.reanalyse and learner.td_steps:
        raise ConfigError("learner.reanalyse: renews λ-returns only; set learner.td_steps = 0, or leave it out")


def validate_nodes(config: Config, env: Env) -> None:
    """A tree numbers its nodes in 16 bits; a kept one holds up to two thirds more from before."""
    search = config.search
    if not isinstance(search, TreeConfig) or search.engine != "tree":
        return
    chance = config.network.outcomes(env)
    for field, most, kept in (
        ("search.simulations", max(search.simulations, *search.schedule, 0), search.reuse_tree),
        ("evaluation.simulations", config.evaluation.simulations, False),
        ("promotion.simulations", config.promotion.simulations, False),
    ):
        nodes = (2 * most if kept else 1) + most * (2 if chance else 1)
        if nodes >= 1 << 15:
            raise ConfigError(
                f"{field}: {most} need {nodes} nodes a game, and a tree numbers no more than {(1 << 15) - 1}; use fewer"
            )
