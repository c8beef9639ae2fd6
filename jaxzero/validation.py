"""What of a configuration can be checked before anything is compiled: one line names the field and what to do."""

import math
import operator

from envs import Env, suggest
from jaxzero.config import Config, ConfigError, PromotionConfig, SearchConfig
from jaxzero.evaluation import oracles
from jaxzero.evaluation.players import make_device_player
from jaxzero.games import own_function
from jaxzero.networks import NETWORKS
from jaxzero.replay import rows
from jaxzero.search import SEARCHES


def validate(config: Config, env: Env, num_devices: int) -> None:
    """Checks everything that can be known before anything is compiled.

    Raises:
        ConfigError: for the first setting that cannot work with this game on `num_devices` local devices.
    """
    validate_name(config.name)
    validate_ranges(config)
    validate_game(env)
    validate_choices(config, env)
    validate_search(config.search, env)
    validate_sharding(config, num_devices)
    validate_replay(config, env)
    validate_promotion(config.promotion, env)
    validate_evaluation(config, env)


RANGES = {
    "at least 1": (lambda x: x >= 1, (
        "iterations", "network.channels", "network.blocks", "network.dynamics_blocks", "network.hidden_dim",
        "network.latent_dim", "network.support", "learner.unroll", "search.simulations", "search.cheap_simulations",
        "search.max_considered", "selfplay.games", "selfplay.plies", "replay.capacity", "replay.window",
        "learner.batch", "learner.accumulate", "promotion.every", "promotion.games", "promotion.batch",
        "evaluation.games", "evaluation.simulations", "checkpoint.every", "checkpoint.keep", "log.every",
        "log.plot_every",
    )),
    "0 or more": (lambda x: x >= 0, (
        "devices", "search.c_puct", "search.forced_playouts", "search.max_depth", "search.slots", "search.temperature",
        "search.temperature_plies", "selfplay.opening_plies", "learner.warmup", "learner.weight_decay", "learner.clip",
        "learner.value_weight", "learner.td_steps", "learner.reward_weight", "learner.follows_weight",
        "learner.consistency_weight", "learner.codes_weight", "learner.priority", "network.projection", "network.codes",
        "promotion.simulations", "promotion.opening_plies", "evaluation.every", "evaluation.opening_plies",
    )),
    "above 0": (lambda x: x > 0, (
        "search.dirichlet_alpha", "search.root_temperature", "search.value_scale", "search.value_temperature",
        "learner.reuse", "learner.lr",
    )),
    "a share above 0 up to 1": (lambda x: 0 < x <= 1, ("search.full_share",)),
    "a share from 0 to 1": (lambda x: 0 <= x <= 1, (
        "search.dirichlet_fraction", "search.epsilon", "replay.growth", "learner.td_lambda", "learner.reanalyse",
        "promotion.threshold",
    )),
    "a share from 0 to below 1": (lambda x: 0 <= x < 1, ("network.dropout", "learner.ema")),
    "an error rate above 0 and below 0.5": (lambda x: 0 < x < 0.5, ("promotion.alpha", "promotion.beta")),
    "from -2000 to 2000": (lambda x: abs(x) <= 2000, ("promotion.elo0", "promotion.elo1")),
    "from 0 to 4294967295": (lambda x: 0 <= x < 2**32, ("seed",)),
}  # fmt: skip


def validate_name(name: str) -> None:
    if name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise ConfigError(
            f"name: {name!r} is not a folder name; give one without path separators, such as --name trial"
        )


def validate_ranges(config: Config) -> None:
    for wanted, (holds, fields) in RANGES.items():
        for field in fields:
            value = operator.attrgetter(field)(config)
            if not (math.isfinite(value) and holds(value)):
                raise ConfigError(f"{field}: must be {wanted}, got {value}")


def validate_game(env: Env) -> None:
    if env.num_players not in (1, 2):
        raise ConfigError(f"game: {env.name} has {env.num_players} players; games of 1 or 2 players can be trained")


def validate_choices(config: Config, env: Env) -> None:
    network, learner = config.network, config.learner
    for field, kind, known in (
        ("network.kind", network.kind, list(NETWORKS)),
        ("search.kind", config.search.kind, list(SEARCHES)),
    ):
        if kind not in known:
            raise ConfigError(f"{field}: unknown kind {kind!r}; {suggest(kind, known)}")
    if config.search.engine == "mctx" and env.num_outcomes:
        raise ConfigError(f"search.engine: stock mctx cannot search {env.name}, a game with chance; use tree")
    if network.kind in ("resnet", "muzero_conv") and len(env.observation_shape) != 3:
        raise ConfigError(
            f"network.kind: {network.kind} needs observations [rows, columns, planes], {env.name} has shape "
            f'{env.observation_shape}; use network.kind = "{"mlp" if network.kind == "resnet" else "muzero_mlp"}"'
        )
    if network.kind == "mlp" and not (network.sizes and min(network.sizes) >= 1):
        raise ConfigError(f"network.sizes: mlp needs one or more sizes, each at least 1, got {list(network.sizes)}")
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
    if network.kind.startswith("muzero"):
        validate_model(config)
    if learner.reanalyse and learner.td_steps:
        raise ConfigError("learner.reanalyse: renews λ-returns only; set learner.td_steps = 0, or leave it out")


def validate_model(config: Config) -> None:
    network, learner = config.network, config.learner
    if network.norm != "none" or network.dropout:
        field = "norm" if network.norm != "none" else "dropout"
        raise ConfigError(f"network.{field}: {network.kind} has none, as one network serves every depth; leave it out")
    if learner.consistency_weight and not network.projection:
        raise ConfigError(
            "learner.consistency_weight: latent states are compared in a projection; set network.projection too, such "
            "as 128, or leave it out"
        )
    if network.codes and config.search.engine != "tree":
        raise ConfigError('network.codes: outcomes of chance need search.engine = "tree"; set it, or leave them out')
    if network.codes and config.search.kind == "minimax":
        raise ConfigError("network.codes: minimax looks at no chance; use gumbel or puct, or leave them out")
    if config.search.reuse:
        raise ConfigError("search.reuse: a subtree of a learned model holds illegal moves; leave it out")


def validate_search(search: SearchConfig, env: Env) -> None:
    if search.engine not in SEARCHES[search.kind]:
        raise ConfigError(f'search.engine: {search.kind} has no engine {search.engine!r}; use "tree"')
    if search.schedule and min(search.schedule) < 1:
        raise ConfigError(f"search.schedule: each must be at least 1, got {list(search.schedule)}")
    if search.kind == "minimax":
        validate_minimax(search, env)
    for field in ("rounds", "reuse", "slots"):
        if search.engine == "mctx" and getattr(search, field):
            raise ConfigError(f'search.{field}: stock mctx cannot do this; set search.engine = "tree", or leave it out')
    if search.reuse and env.num_outcomes:
        raise ConfigError(f"search.reuse: {env.name} has chance, below which no subtree is kept; leave it out")
    if search.rounds and search.kind != "gumbel":
        raise ConfigError(f'search.rounds: {search.kind} has no rounds; set search.kind = "gumbel", or leave it out')
    if search.kind != "puct" and search.root_temperature != 1:
        raise ConfigError('search.root_temperature: belongs to puct; set it to 1 or use search.kind = "puct"')
    if search.forced_playouts and (search.kind, search.engine) != ("puct", "tree"):
        raise ConfigError(
            'search.forced_playouts: belong to puct on our tree; set it to 0, or search.kind = "puct" and '
            'search.engine = "tree"'
        )
    most = max((search.simulations, *search.schedule))
    nodes = most * (3 if search.reuse else 1) * (2 if env.num_outcomes else 1)
    if search.kind != "minimax" and search.engine == "tree" and nodes >= 1 << 15:
        raise ConfigError(
            f"search.simulations: {most} need {nodes} nodes a game, and a tree numbers no more than "
            f"{(1 << 15) - 1}; use fewer"
        )
    fewest = min(search.schedule or (search.simulations,))
    if search.full_share < 1 and search.cheap_simulations >= fewest:
        raise ConfigError(
            f"search.cheap_simulations: {search.cheap_simulations} save nothing beside the {fewest} simulations of a "
            "full search; use fewer, or search.full_share = 1"
        )


def validate_minimax(search: SearchConfig, env: Env) -> None:
    if not (search.widths and min(search.widths) >= 1):
        raise ConfigError(f"search.widths: needs one or more widths, each at least 1, got {list(search.widths)}")
    if search.reuse or search.schedule:
        field = "reuse" if search.reuse else "schedule"
        raise ConfigError(f"search.{field}: minimax has neither a tree nor simulations; leave it out")
    if search.full_share < 1:
        raise ConfigError("search.full_share: minimax has no simulations to save; set it to 1")
    if env.num_outcomes:
        raise ConfigError(f"search.kind: minimax cannot play games of chance such as {env.name}; use gumbel or puct")


def validate_sharding(config: Config, num_devices: int) -> None:
    if config.devices > num_devices:
        raise ConfigError(f"devices: {config.devices} asked for, {num_devices} here; 0 uses all")
    used = config.num_devices()
    for field, count in (("selfplay.games", config.selfplay.games), ("learner.batch", config.learner.batch)):
        if count % used:
            near = math.ceil(count / used) * used
            raise ConfigError(f"{field}: {count} cannot be divided over {used} devices; use {near}, or set devices")
    here, share = config.learner.batch // used, config.learner.reanalyse
    if share and not round(share * here):
        raise ConfigError(
            f"learner.reanalyse: {share} of the {here} positions of a device are none; use {1 / here:g} or more, or 0"
        )


def validate_replay(config: Config, env: Env) -> None:
    games, plies, replay = config.selfplay.games, config.selfplay.plies, config.replay
    if config.selfplay.opening_plies >= env.max_plies:
        raise ConfigError(
            f"selfplay.opening_plies: {config.selfplay.opening_plies} random plies leave nothing to learn; "
            f"{env.name} ends after {env.max_plies}"
        )
    # A game's outcome is written back to all its positions, so they must still be there when it ends.
    if rows(replay.capacity, games, plies) <= env.max_plies + plies:
        smallest = games * plies * ((env.max_plies + plies) // plies + 1)
        raise ConfigError(
            f"replay.capacity: {replay.capacity} positions cannot hold {games} games of {env.max_plies} plies and "
            f"an iteration's {plies}; use at least {smallest}"
        )
    if replay.window > replay.capacity:
        raise ConfigError(f"replay.window: {replay.window} is more than replay.capacity = {replay.capacity}")
    if config.learner.batch > replay.capacity:
        raise ConfigError(f"learner.batch: {config.learner.batch} is more than replay.capacity = {replay.capacity}")


def validate_promotion(promotion: PromotionConfig, env: Env) -> None:
    for field in ("games", "batch"):
        if (count := getattr(promotion, field)) < 2 or count % 2:
            raise ConfigError(f"promotion.{field}: must be even and at least 2 (half from each side), got {count}")
    if promotion.rule != "off" and not (promotion.opening_plies or env.num_outcomes):
        raise ConfigError("promotion.opening_plies: at 0 all games of a match would be the same; use 1 or more")
    if promotion.elo0 >= promotion.elo1:
        raise ConfigError(f"promotion.elo1: must be above elo0 = {promotion.elo0}, got {promotion.elo1}")


def validate_evaluation(config: Config, env: Env) -> None:
    evaluation = config.evaluation
    if evaluation.games % 2:
        raise ConfigError(f"evaluation.games: must be even (half from each side), got {evaluation.games}")
    if evaluation.exhaustive and env.num_outcomes:
        raise ConfigError(f"evaluation.exhaustive: {env.name} has chance; set it to false")
    lines = env.max_legal ** math.ceil(env.max_plies / 2)
    if evaluation.exhaustive and lines > 10_000_000:
        raise ConfigError(f"evaluation.exhaustive: {env.name} has too many lines of play; set it to false")
    if evaluation.oracle:
        oracles.check(env)
    if evaluation.metric:
        own_function(evaluation.metric, "evaluation.metric", "name a function of a Python file")
    for opponent in evaluation.opponents:
        make_device_player(opponent, env, "evaluation.opponents")
