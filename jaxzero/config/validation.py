"""What of a configuration can be checked before anything is compiled: one line names the field and what to do."""

import math
from pathlib import Path

from envs import Env, suggest
from jaxzero.config.buildable import validate_network
from jaxzero.config.games import own_function
from jaxzero.config.schema import Config, PromotionConfig
from jaxzero.config.values import quoted
from jaxzero.evaluation import oracles
from jaxzero.evaluation.players import check_device_player
from jaxzero.messages import ConfigError
from jaxzero.runs.sinks import SINKS
from jaxzero.training import footprint
from jaxzero.training.replay import rows


def validate(config: Config, env: Env, num_devices: int) -> None:
    """Checks everything that can be known before anything is compiled.

    Raises:
        ConfigError: for the first setting that cannot work with this game on `num_devices` local devices, or for a run
            that the memory or the disk of this machine cannot hold.
    """
    validate_network(config, env)
    validate_folder(config)
    validate_counters(config)
    validate_sinks(config)
    validate_sharding(config, num_devices)
    validate_openings(config, env)
    validate_replay(config, env)
    validate_data(config)
    validate_promotion(config.promotion, env)
    validate_evaluation(config, env)
    footprint.check(config, env)


LIMIT = 2**31 - 1  # what is counted on the device
LONGEST = 200, 2000  # bytes of a run's name, which begins names of files, and of its root
LINES = 10_000_000  # of play, which evaluation.exhaustive goes through


def validate_folder(config: Config) -> None:
    name, root = config.name, config.root
    if name in ("", ".", "..") or set(name) & set("/\\") or name.startswith("-"):
        raise ConfigError(
            f"name: {quoted(name)} is not a folder name; give one without path separators, such as --name trial"
        )
    for field, text, most in (("name", name, LONGEST[0]), ("root", root, LONGEST[1])):
        if (size := len(text.encode())) > most or max(len(part.encode()) for part in Path(text).parts or "-") > 255:
            raise ConfigError(f"{field}: {size} bytes are too many for a folder; give a shorter one")


def validate_counters(config: Config) -> None:
    """What is counted over all iterations fits into 32 bits."""
    counted = {
        "updates": config.updates, "plies of a game": config.selfplay.plies,
        "steps of the schedule": len(config.search.schedule),
    }  # fmt: skip
    for what, number in counted.items():
        if config.iterations * number > LIMIT:
            raise ConfigError(
                f"iterations: {config.iterations} of {number} {what} are more than can be counted; use at most "
                f"{LIMIT // number}, or fewer {what}"
            )


def validate_sinks(config: Config) -> None:
    for name in config.log.sinks:
        if name not in SINKS:
            raise ConfigError(f"log.sinks: unknown sink {quoted(name)}; {suggest(name, list(SINKS))}")


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


def validate_data(config: Config) -> None:
    """What can be trained on positions from disk, which have lost their neighbours."""
    if not config.data.sources:
        return
    if config.network.learned_model:
        raise ConfigError(
            f"data.sources: network.kind {config.network.kind!r} learns from plies in a row, which positions on disk "
            "are not; choose another network.kind, such as resnet"
        )
    if config.learner.reanalyse:
        raise ConfigError("learner.reanalyse: renews positions of self-play only; set it to 0 with data.sources")
    if config.plays and config.learner.batch // config.num_devices() < 2:
        raise ConfigError("data.share: a batch of 1 position a device cannot be shared; raise learner.batch")
    if config.promotion.rule != "off" and not config.plays:
        raise ConfigError("promotion.rule: without self-play nothing is promoted; set it to off, or lower data.share")
    if config.data.patience and not config.data.validation:
        raise ConfigError("data.patience: needs positions held back; raise data.validation")


def validate_openings(config: Config, env: Env) -> None:
    asked = {
        "selfplay.opening_plies": config.selfplay.opening_plies,
        "promotion.opening_plies": config.promotion.opening_plies if config.promotion.rule != "off" else 0,
        "evaluation.opening_plies": config.evaluation.opening_plies if config.evaluation.opponents else 0,
    }
    for field, plies in asked.items():
        if plies >= env.max_plies:
            raise ConfigError(
                f"{field}: {plies} random plies leave nothing to play; {env.name} ends after {env.max_plies}"
            )


def validate_replay(config: Config, env: Env) -> None:
    games, plies, replay = config.selfplay.games, config.selfplay.plies, config.replay
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
        if (count := getattr(promotion, field)) % 2:
            raise ConfigError(f"promotion.{field}: must be even (half from each side), got {count}")
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
    lines = math.ceil(env.max_plies / 2) * math.log(env.max_legal)
    if evaluation.exhaustive and lines > math.log(LINES):
        raise ConfigError(f"evaluation.exhaustive: {env.name} has too many lines of play; set it to false")
    if evaluation.oracle:
        oracles.check(env)
    if evaluation.metric:
        own_function(evaluation.metric, "evaluation.metric", "name a function of a Python file")
    for opponent in evaluation.opponents:
        check_device_player(opponent, env, "evaluation.opponents")
