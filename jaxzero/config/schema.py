"""The configuration of a run: frozen dataclasses, checked once by `jaxzero.config.validation.validate`.

The string under a field is its help text on the command line and in the documentation.
"""

import dataclasses
import math
from typing import Annotated, Any, Literal

import jax

from jaxzero.config.fields import COMMON, Count, Matches, Plies, Positions, Range, Share, Simulations, Weight
from jaxzero.networks import NetworkConfig, ResNetConfig
from jaxzero.search import GumbelConfig, SearchConfig
from jaxzero.training.optimizers import AdamConfig, OptimizerConfig


@dataclasses.dataclass(frozen=True)
class GameConfig:
    name: Annotated[str, COMMON] = "tic_tac_toe"
    """Name of a registered game. Empty if `source` gives the game."""
    source: str = ""
    """A game of your own instead: FILE.py:FUNCTION, a function that returns an envs.Env."""
    options: Annotated[dict[str, Any], COMMON] = dataclasses.field(default_factory=dict)
    """Options of the game, such as --game.options.size 7."""


@dataclasses.dataclass(frozen=True)
class SelfPlayConfig:
    games: Annotated[int, Range(1, 2**20), COMMON] = 256
    """Games played in parallel, over all devices."""
    plies: Annotated[int, Range(1, 65_536), COMMON] = 32
    """Plies that each game advances per iteration."""
    opening_plies: Plies = 0
    """Each game starts after 0 to this many random plies, which are not trained on."""


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    capacity: Annotated[Positions, COMMON] = 100_000
    """Positions kept; the oldest leave first."""
    window: Positions = 20_000
    """At first, batches are sampled from this many of the newest positions. The window grows up to the capacity."""
    growth: Share = 0.75
    """The window is window · (positions so far / window)^growth, as in KataGo. 0 keeps it constant."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    sources: tuple[str, ...] = ()
    """Folders of positions to train on, made by `jaxzero data convert` and `shuffle`, each DIR[:WEIGHT[:SKIP]]: its
    weight among them (its size if not given), and how many positions at its beginning are left out."""
    share: Annotated[float, Range(0.001, 1)] = 1.0
    """Share of each batch that is read from them. The rest is self-play; with 1 no games are played."""
    epochs: Annotated[float, Range(0.001, 10**6, or_zero=True)] = 0.0
    """Train for so many passes over the positions, whatever `iterations` says. 0: for `iterations`."""
    positions: Annotated[int, Range(0, 10**12)] = 0
    """Positions read of each folder at most. 0: all."""
    shuffle: bool = True
    """Read in a new random order each epoch, else in that of the folders."""
    validation: Annotated[float, Range(0, 0.9)] = 0.02
    """Share of the games that are held back, with all their positions, to measure the loss on."""
    validate_every: Count = 10
    """Iterations between such measurements. The checkpoint of the lowest loss is kept."""
    patience: Annotated[int, Range(0, 10**9)] = 0
    """End the run after so many measurements in a row without a lower loss. 0: never."""


@dataclasses.dataclass(frozen=True)
class LearnerConfig:
    batch: Annotated[int, Range(1, 2**20), COMMON] = 256
    """Positions per update, over all devices."""
    replay_ratio: Annotated[float, Range(1e-6, 10_000), COMMON] = 4.0
    """How often a position is trained on, on average. It sets the updates per iteration."""
    optimizer: OptimizerConfig = dataclasses.field(default_factory=AdamConfig)
    lr: Annotated[float, Range(1e-30, 100), COMMON] = 2e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "constant", "step", "piecewise"] = "cosine"
    """Learning rate after the warm-up. cosine falls to 1 % of the peak by the end of the run; step is multiplied by
    `factor` every `step_size` updates; piecewise by each of `factors` at each of `boundaries`."""
    step_size: Annotated[int, Range(1, 10**9)] = 10_000
    """schedule = step: updates between two changes."""
    factor: Annotated[float, Range(1e-6, 1)] = 0.1
    """schedule = step: what the learning rate is multiplied by."""
    boundaries: Annotated[tuple[int, ...], Range(1, 10**9)] = ()
    """schedule = piecewise: updates, counted from the beginning, at which the learning rate changes."""
    factors: Annotated[tuple[float, ...], Range(1e-6, 1000)] = ()
    """schedule = piecewise: what it is multiplied by at each of them."""
    warmup: Annotated[int, Range(0, 10**9)] = 100
    """Updates over which the learning rate rises linearly."""
    weight_decay: Annotated[float, Range(0, 100)] = 1e-4
    """Weight decay."""
    decay: Literal["decoupled", "l2"] = "decoupled"
    """How weights decay: decoupled (AdamW), or l2 (added to the gradient, as a penalty in the loss would be)."""
    clip: Annotated[float, Range(1e-6, 10**6, or_zero=True)] = 1.0
    """Global gradient norm above which gradients are scaled down. 0: never."""
    accumulate: Annotated[int, Range(1, 10**6)] = 1
    """Batches whose gradients are averaged into one optimizer step."""
    value_loss: Annotated[Literal["mse", "huber", "wdl", "categorical"], COMMON] = "mse"
    """Value loss. mse and huber are for a value head of one number; wdl and categorical are the cross-entropy of the
    value head of that name (network.value)."""
    policy_loss: Literal["cross_entropy", "kl"] = "cross_entropy"
    """Both have the same gradients; kl subtracts the target's entropy, so that 0 is perfect."""
    value_weight: Weight = 1.0
    """Weight of the value loss; that of the policy loss is 1."""
    td_lambda: Share = 0.9
    """λ of the value target: 1 is the game's outcome, 0 the search's root value. In between, it is a mean of the root
    values of this and later positions and of the outcome, each weighted a factor λ less than the one before."""
    td_steps: Annotated[int, Range(0, 65_536)] = 0
    """n-step value target instead of λ: the rewards of n plies plus the root value after them. 0: off."""
    unroll: Annotated[int, Range(1, 64)] = 5
    """Learned model: actions that it is unrolled over from each position."""
    reward_weight: Weight = 1.0
    """Learned model: weight of the reward loss."""
    to_play_weight: Weight = 1.0
    """Learned model: weight of the loss on who is to play next (the same player, the other, nobody)."""
    codes_weight: Weight = 1.0
    """Learned model with network.codes: weight of the loss on chance outcomes."""
    consistency_weight: Weight = 0.0
    """Learned model: weight of the loss that pulls an unrolled latent state towards that of the position reached
    (EfficientZero: 2; needs network.projection). 0: off."""
    reanalyse: Share = 0.0
    """Share of each batch that is searched anew with the latest network: its policy targets, and the root values in its
    value targets, are replaced by what that search finds."""
    priority: Annotated[float, Range(0, 10)] = 0.0
    """Positions are sampled in proportion to |root value - value target|^priority, with weights that correct for it
    (MuZero: 1). 0: uniformly."""
    ema: Annotated[float, Range(0, 0.999999)] = 0.99
    """Decay of the EMA parameters, which play, are evaluated and are exported. 0: the latest parameters."""
    augment: bool = True
    """Each sampled position is transformed by a random symmetry of the game."""


@dataclasses.dataclass(frozen=True)
class PromotionConfig:
    rule: Literal["off", "threshold", "sprt"] = "off"
    """off: the latest parameters play. Otherwise the best ones play, and a match decides whether the latest replace
    them: by a score above `threshold`, or by a sequential probability ratio test (sprt)."""
    every: Count = 10
    """Iterations between matches."""
    games: Matches = 400
    """Games per match; sprt may stop earlier."""
    simulations: Annotated[int, Range(0, 32_766)] = 16
    """Simulations per move in these matches. 0: both play their raw policies."""
    opening_plies: Plies = 4
    """Each game starts after up to this many random plies; each opening is played from both sides."""
    threshold: Share = 0.55
    """threshold: the score above which the latest parameters are promoted."""
    elo0: Annotated[float, Range(-2000, 2000)] = 0.0
    """sprt: H0 says that the latest parameters are this much stronger than the best, in Elo."""
    elo1: Annotated[float, Range(-2000, 2000)] = 35.0
    """sprt: H1 says that they are this much stronger; then they are promoted. 35 is a score of 0.55."""
    alpha: Annotated[float, Range(1e-6, 0.499)] = 0.05
    """sprt: probability of promoting parameters that are only elo0 stronger."""
    beta: Annotated[float, Range(1e-6, 0.499)] = 0.05
    """sprt: probability of not promoting parameters that are elo1 stronger."""
    batch: Matches = 100
    """sprt: games between two tests of the result."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    every: Annotated[int, Range(0, 10**9), COMMON] = 0
    """Iterations between evaluations. 0: only after the last."""
    games: Matches = 100
    """Games against each opponent, half of them from each side."""
    opponents: Annotated[tuple[str, ...], COMMON] = ("random", "minimax:2")
    """Opponents in evaluation. random, greedy, minimax:DEPTH (expectiminimax in games of chance), mcts:SIMULATIONS, or
    another run: RUN[@STEP][:SIMULATIONS]."""
    simulations: Annotated[Simulations, COMMON] = 32
    """Simulations per move in evaluation."""
    opening_plies: Plies = 2
    """Each game starts after up to this many random plies; each opening is played from both sides."""
    oracle: bool = False
    """Compare with solved positions too: the share of moves that keep the value, and the error of values, by the raw
    policy and with `simulations` (tic_tac_toe, connect_four, hex up to 4×4, ur up to 3 pieces, mates in chess)."""
    metric: str = ""
    """A metric of your own: FILE.py:FUNCTION, called as FUNCTION(env, agent, iteration) at each evaluation. agent has
    infer(observations) and act(states, key). It returns a dict of numbers."""
    exhaustive: bool = False
    """After the last iteration, play every line of opponent replies (small games only)."""
    final: bool = True
    """Evaluate after the last iteration."""


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    every: Annotated[Count, COMMON] = 10
    """Iterations between checkpoints."""
    keep: Annotated[int, Range(1, 10_000)] = 3
    """Newest checkpoints kept, besides the best. The newest two also hold the replay and the games."""


@dataclasses.dataclass(frozen=True)
class LogConfig:
    every: Count = 1
    """Iterations between rows of metrics.jsonl. Each row waits for the device once."""
    sinks: tuple[str, ...] = ("tensorboard",)
    """Where rows go beside metrics.jsonl: tensorboard."""
    plot_every: Count = 10
    """Rows between redraws of learning_curve.png."""


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    final: bool = True
    """Write exports/<name>_stepXXXXXX.pt after the last iteration (needs the export extra)."""
    licence: str = ""
    """Licence of the exported weights for their model card, such as Apache-2.0."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The configuration of a run. The classes of `network`, `search` and `learner.optimizer` are those of the kinds
    chosen; `jaxzero.config.catalog` knows every setting by its dotted name."""

    name: Annotated[str, COMMON] = ""
    """Name of the run; its folder is <root>/<name>. Empty: the preset's name."""
    root: str = "runs"
    """Folder of all runs."""
    iterations: Annotated[Count, COMMON] = 100
    """Iterations of self-play and learning."""
    seed: Annotated[int, Range(0, 2**32 - 1), COMMON] = 0
    """Seed of every random choice."""
    devices: Annotated[int, Range(0, 4096)] = 0
    """Local devices to use (on a CPU: cores). 0: as many as divide games and batch."""
    init_from: str = ""
    """Start with the weights of this .pt, .safetensors or .json file instead of random ones. A resumed run goes on with
    its own."""
    game: GameConfig = dataclasses.field(default_factory=GameConfig)
    network: NetworkConfig = dataclasses.field(default_factory=ResNetConfig)
    search: SearchConfig = dataclasses.field(default_factory=GumbelConfig)
    selfplay: SelfPlayConfig = SelfPlayConfig()
    replay: ReplayConfig = ReplayConfig()
    data: DataConfig = DataConfig()
    learner: LearnerConfig = LearnerConfig()
    promotion: PromotionConfig = PromotionConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    export: ExportConfig = ExportConfig()

    @property
    def plays(self) -> bool:
        """Whether there is self-play, or all batches are read from disk."""
        return not self.data.sources or self.data.share < 1

    def from_disk(self, here: int) -> int:
        """Positions read from disk in each batch of `here` positions of a device."""
        if not self.data.sources:
            return 0
        return here if not self.plays else min(max(1, round(self.data.share * here)), here - 1)

    @property
    def updates(self) -> int:
        """Batches an iteration."""
        return max(1, round(self.selfplay.games * self.selfplay.plies * self.learner.replay_ratio / self.learner.batch))

    def simulations(self, iteration: int) -> int:
        """Simulations a move in self-play after `iteration` iterations."""
        schedule = self.search.schedule or (self.search.simulations,)
        return schedule[min(iteration * len(schedule) // self.iterations, len(schedule) - 1)]

    def simulations_per_move(self, iteration: int) -> float:
        """Simulations (minimax: leaves, if there are moves enough) a move of self-play, on average, after `iteration`
        iterations."""
        return self.search.cost(self.simulations(iteration))

    def num_devices(self) -> int:
        """Devices that share the games and the batch equally."""
        work = math.gcd(self.selfplay.games, self.learner.batch)
        return self.devices or max(n for n in range(1, jax.local_device_count() + 1) if work % n == 0)
