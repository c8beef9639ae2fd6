"""The configuration of a run: frozen dataclasses, validated once by `validate`.

The string under a field is its help text on the command line and in the documentation.
"""

import dataclasses
import math
import operator
from typing import Any, Literal

import jax

from envs import Env, suggest
from jaxzero.replay import rows


class ConfigError(ValueError):
    """A setting that cannot work; the message names the field and says what to do."""


@dataclasses.dataclass(frozen=True)
class GameConfig:
    name: str = "tic_tac_toe"
    """Registered game; empty when `source` gives it."""
    source: str = ""
    """A game of your own instead: FILE.py:FUNCTION, a function that returns an envs.Env."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Options of the game, such as --game.options.size 7."""


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    kind: str = "resnet"
    """resnet (convolutions over the board) or mlp (dense layers)."""
    channels: int = 32
    """resnet: channels of the trunk."""
    blocks: int = 3
    """resnet: residual blocks of two 3×3 convolutions."""
    norm: Literal["batch", "none"] = "none"
    """resnet: batch normalisation, or none (fixed variance: the second convolution of a block starts near zero)."""
    pooling: bool = True
    """resnet: each block adds a bias computed from the whole board's mean and maximum."""
    sizes: tuple[int, ...] = (64, 64)
    """mlp: hidden layer sizes."""
    dropout: float = 0.0
    """mlp: share of hidden units dropped in training."""
    shared: bool = True
    """mlp: one trunk for policy and value, or two separate networks."""
    value: Literal["scalar", "wdl"] = "scalar"
    """Value head: one tanh number, or win / draw / loss logits."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the network; auto is bfloat16 on accelerators and float32 on CPU. Parameters stay float32."""


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    kind: str = "gumbel"
    """gumbel (Gumbel AlphaZero), puct (AlphaZero) or minimax (of the likeliest moves, guided by the network)."""
    simulations: int = 16
    """Simulations a move; minimax has none."""
    schedule: tuple[int, ...] = ()
    """Simulations a move in self-play, one number for each of as many equal parts of the run, such as 8 16 32: moves
    are cheap while the network knows little. Empty = `simulations` throughout."""
    full_share: float = 1.0
    """Share of self-play's plies searched in full (KataGo: 0.25); the others get `cheap_simulations` and no noise, and
    the policy is not trained on them."""
    cheap_simulations: int = 4
    """Simulations of the plies that are not searched in full."""
    engine: Literal["tree", "mctx"] = "tree"
    """tree (ours) or stock mctx: the same search, slower."""
    max_considered: int = 16
    """gumbel: actions considered at the root."""
    rounds: bool = False
    """gumbel: visits all candidates of a round at once, so that a search takes few, large network calls."""
    value_scale: float = 0.1
    """gumbel: weight of values against the network's logits, c_scale of the paper."""
    rescale: bool = True
    """gumbel: values are stretched to [0, 1] at each node; false takes them as they are, in [-1, 1]: no difference
    between equally good moves is blown up."""
    reuse: bool = False
    """Self-play's next search of a game begins with what the last one found below the move played (gumbel: and below
    the actions that are considered again)."""
    max_depth: int = 0
    """Deepest node below the root, a roll of chance counted as one; 0 = no limit."""
    slots: int = 0
    """Likeliest actions kept in a node; 0 = all that can be needed."""
    c_puct: float = 1.25
    """puct: exploration constant."""
    dirichlet_alpha: float = 0.3
    """puct: concentration of the root noise."""
    dirichlet_fraction: float = 0.25
    """puct: share of the root noise in the prior."""
    root_temperature: float = 1.0
    """puct: in self-play the root's prior is that of logits / root_temperature, before the noise (KataGo: 1.1)."""
    forced_playouts: float = 0.0
    """puct: in self-play a root action, once tried, gets at least √(forced_playouts · prior · simulations) of them,
    which its policy target does not show where they found nothing (KataGo: 2); 0 = off."""
    widths: tuple[int, ...] = (13, 8)
    """minimax: moves looked at in every position, the network's likeliest, ply by ply."""
    value_temperature: float = 0.2
    """minimax: the policy is softmax(values of the root's moves / value_temperature)."""
    epsilon: float = 0.0
    """Share of self-play moves drawn uniformly from the legal ones (ε-greedy)."""
    temperature: float = 1.0
    """Self-play moves are drawn from policy^(1/temperature) for the first `temperature_plies` plies; 0 = never."""
    temperature_plies: int = 8
    """Plies after the opening that are sampled; then the search's own choice is played."""


@dataclasses.dataclass(frozen=True)
class SelfPlayConfig:
    games: int = 256
    """Games played at once, over all devices."""
    plies: int = 32
    """Plies of every game in one iteration."""
    opening_plies: int = 0
    """Each game starts after 0 to this many random plies, which are not trained on."""


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    capacity: int = 100_000
    """Positions kept; the oldest leave first."""
    window: int = 20_000
    """Newest positions sampled at first; grows up to the capacity."""
    growth: float = 0.75
    """The window is window · (positions so far / window) ^ growth, as in KataGo; 0 keeps it constant."""


@dataclasses.dataclass(frozen=True)
class LearnerConfig:
    batch: int = 256
    """Positions an update, over all devices."""
    reuse: float = 4.0
    """Times a position is trained on, on average; sets the updates of an iteration."""
    optimizer: Literal["adam", "sgd", "muon"] = "adam"
    """adam, sgd with momentum 0.9, or muon (orthogonal steps for kernels, Adam's for the rest, of the same size)."""
    lr: float = 2e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Course of the learning rate after warm-up; cosine falls to 1 % of the peak at the end of the run."""
    warmup: int = 100
    """Updates over which the learning rate rises linearly."""
    weight_decay: float = 1e-4
    """Strength of the weight decay."""
    decay: Literal["decoupled", "l2"] = "decoupled"
    """decoupled (AdamW) or l2 (added to the gradient, as a penalty in the loss would be)."""
    clip: float = 1.0
    """Global gradient norm above which gradients are scaled down; 0 = never."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one optimizer step."""
    value_loss: Literal["mse", "huber", "wdl"] = "mse"
    """mse or huber on the scalar value, or wdl: cross-entropy of win / draw / loss (needs network.value = "wdl")."""
    policy_loss: Literal["cross_entropy", "kl"] = "cross_entropy"
    """Same gradients; kl subtracts the target's entropy, so that 0 is perfect."""
    value_weight: float = 1.0
    """Weight of the value loss against the policy loss."""
    td_lambda: float = 0.9
    """λ of the value target: 1 = the game's outcome, 0 = the search's root value; between, a mean of the root values of
    this and the later positions and the outcome, each a factor λ lighter than the one before."""
    ema: float = 0.99
    """Decay of the averaged parameters that play, are evaluated and exported; 0 = the latest parameters."""
    augment: bool = True
    """Each sampled position is turned by a random symmetry of the game."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    every: int = 0
    """Iterations between evaluations; 0 = only after the last."""
    games: int = 100
    """Games against each opponent, half of them from each side."""
    opponents: tuple[str, ...] = ("random", "minimax:2")
    """random, or minimax:DEPTH (in a game with chance, of expectations)."""
    simulations: int = 32
    """Simulations a move in evaluation."""
    opening_plies: int = 2
    """Random plies before each evaluation game; each opening is played from both sides."""
    exhaustive: bool = False
    """After the last iteration play every line of opponent replies (small games only)."""
    final: bool = True
    """Evaluate after the last iteration."""


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    every: int = 10
    """Iterations between checkpoints."""
    keep: int = 3
    """Newest checkpoints kept, beside the best; the newest two hold replay and games too."""


@dataclasses.dataclass(frozen=True)
class LogConfig:
    every: int = 1
    """Iterations between rows of metrics.jsonl (one wait for the device each)."""
    tensorboard: bool = True
    """Write TensorBoard event files."""
    plot_every: int = 10
    """Rows between redraws of learning_curve.png."""


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    final: bool = True
    """Write exports/<name>_stepXXXXXX.pt after the last iteration (needs the export extra)."""


@dataclasses.dataclass(frozen=True)
class Config:
    name: str = ""
    """Run name; the run folder is <root>/<name>. Empty = the preset's name."""
    root: str = "runs"
    """Folder of all runs."""
    iterations: int = 100
    """Iterations of self-play and learning."""
    seed: int = 0
    """Seed of every random choice."""
    devices: int = 0
    """Local devices used (on CPU: cores); 0 = as many as divide games and batch."""
    game: GameConfig = dataclasses.field(default_factory=GameConfig)
    network: NetworkConfig = NetworkConfig()
    search: SearchConfig = SearchConfig()
    selfplay: SelfPlayConfig = SelfPlayConfig()
    replay: ReplayConfig = ReplayConfig()
    learner: LearnerConfig = LearnerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    export: ExportConfig = ExportConfig()

    @property
    def updates(self) -> int:
        """Batches an iteration."""
        return max(1, round(self.selfplay.games * self.selfplay.plies * self.learner.reuse / self.learner.batch))

    def simulations(self, iteration: int) -> int:
        """Simulations a move in self-play after `iteration` iterations."""
        schedule = self.search.schedule or (self.search.simulations,)
        return schedule[min(iteration * len(schedule) // self.iterations, len(schedule) - 1)]

    def simulations_per_move(self, iteration: int) -> float:
        """Simulations (minimax: leaves, if there are moves enough) a move of self-play, on average, after `iteration`
        iterations."""
        if self.search.kind == "minimax":
            return math.prod(self.search.widths)
        share = self.search.full_share
        return share * self.simulations(iteration) + (1 - share) * self.search.cheap_simulations

    def num_devices(self) -> int:
        """Devices that share the games and the batch equally."""
        work = math.gcd(self.selfplay.games, self.learner.batch)
        return self.devices or max(n for n in range(1, jax.local_device_count() + 1) if work % n == 0)


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
    validate_evaluation(config, env)


RANGES = {
    "at least 1": (lambda x: x >= 1, (
        "iterations", "network.channels", "network.blocks", "search.simulations", "search.cheap_simulations",
        "search.max_considered", "selfplay.games", "selfplay.plies", "replay.capacity", "replay.window",
        "learner.batch", "learner.accumulate", "evaluation.games", "evaluation.simulations", "checkpoint.every",
        "checkpoint.keep", "log.every", "log.plot_every",
    )),
    "0 or more": (lambda x: x >= 0, (
        "devices", "search.c_puct", "search.forced_playouts", "search.max_depth", "search.slots", "search.temperature",
        "search.temperature_plies", "selfplay.opening_plies", "learner.warmup", "learner.weight_decay", "learner.clip",
        "learner.value_weight", "evaluation.every", "evaluation.opening_plies",
    )),
    "above 0": (lambda x: x > 0, (
        "search.dirichlet_alpha", "search.root_temperature", "search.value_scale", "search.value_temperature",
        "learner.reuse", "learner.lr",
    )),
    "a share above 0 up to 1": (lambda x: 0 < x <= 1, ("search.full_share",)),
    "a share from 0 to 1": (lambda x: 0 <= x <= 1, (
        "search.dirichlet_fraction", "search.epsilon", "replay.growth", "learner.td_lambda",
    )),
    "a share from 0 to below 1": (lambda x: 0 <= x < 1, ("network.dropout", "learner.ema")),
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
    # Both import this module.
    from jaxzero.networks import NETWORKS
    from jaxzero.search import SEARCHES

    network, learner = config.network, config.learner
    for field, kind, known in (
        ("network.kind", network.kind, list(NETWORKS)),
        ("search.kind", config.search.kind, list(SEARCHES)),
    ):
        if kind not in known:
            raise ConfigError(f"{field}: unknown kind {kind!r}; {suggest(kind, known)}")
    if config.search.engine == "mctx" and env.num_outcomes:
        raise ConfigError(f"search.engine: stock mctx cannot search {env.name}, a game with chance; use tree")
    if config.search.kind == "puct" and env.num_players == 1:
        raise ConfigError(
            f"search.kind: puct takes values to lie in [-1, 1], but the rewards of {env.name} add up without a bound, "
            "as it has one player; use gumbel, which rescales values"
        )
    if network.kind == "resnet" and len(env.observation_shape) != 3:
        raise ConfigError(
            f"network.kind: resnet needs observations [rows, columns, planes], {env.name} has shape "
            f'{env.observation_shape}; use network.kind = "mlp"'
        )
    if network.kind == "mlp" and not (network.sizes and min(network.sizes) >= 1):
        raise ConfigError(f"network.sizes: mlp needs one or more sizes, each at least 1, got {list(network.sizes)}")
    if (learner.value_loss == "wdl") != (network.value == "wdl"):
        raise ConfigError(
            f"learner.value_loss: {learner.value_loss!r} does not fit network.value = {network.value!r}; "
            'set both to "wdl", or neither'
        )


def validate_search(search: SearchConfig, env: Env) -> None:
    from jaxzero.search import SEARCHES  # imports this module

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


def validate_evaluation(config: Config, env: Env) -> None:
    evaluation = config.evaluation
    if evaluation.games % 2:
        raise ConfigError(f"evaluation.games: must be even (half from each side), got {evaluation.games}")
    if evaluation.exhaustive and env.num_outcomes:
        raise ConfigError(f"evaluation.exhaustive: {env.name} has chance; set it to false")
    lines = env.max_legal ** math.ceil(env.max_plies / 2)
    if evaluation.exhaustive and lines > 10_000_000:
        raise ConfigError(f"evaluation.exhaustive: {env.name} has too many lines of play; set it to false")
    for opponent in evaluation.opponents:
        # Late: players need searches, which import this module.
        from jaxzero.evaluation.players import make_opponent

        make_opponent(opponent, env)
