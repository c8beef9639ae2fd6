"""The configuration of a run: frozen dataclasses, checked once by `jaxzero.config.validation.validate`.

The string under a field is its help text on the command line and in the documentation.
"""

import dataclasses
import math
from typing import Annotated, Any, Literal

import jax

from jaxzero.messages import ConfigError as ConfigError


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a setting, or each entry of a list, may be: `low` to `high`, both included.

    Whole numbers are bounded so that nothing counted on the device overflows 32 bits; others so that nothing becomes 0
    or infinite in float32.
    """

    low: float
    high: float
    or_zero: bool = False  # 0 may be chosen too

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high or (self.or_zero and value == 0)

    def __str__(self) -> str:
        low, high = (f"{end:g}" if isinstance(end, float) else str(end) for end in (self.low, self.high))
        return f"{'0, or ' if self.or_zero else ''}from {low} to {high}"

    @property
    def sentence(self) -> str:
        """For help texts."""
        return f"{str(self).capitalize()}."


Count = Annotated[int, Range(1, 10**9)]
Share = Annotated[float, Range(0, 1)]
Weight = Annotated[float, Range(0, 10**6)]
Width = Annotated[int, Range(1, 65_536)]
Simulations = Annotated[int, Range(1, 32_766)]  # nodes of a tree are numbered in 16 bits
Plies = Annotated[int, Range(0, 65_536)]
Positions = Annotated[int, Range(1, 10**9)]
Matches = Annotated[int, Range(2, 10**6)]


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
    """resnet (convolutions over the board) or mlp (dense layers); muzero_conv or muzero_mlp: the same with a model of
    the game, in which the search looks ahead without asking the rules (MuZero)."""
    channels: Annotated[int, Range(1, 4096)] = 32
    """resnet, muzero_conv: channels of the trunk (muzero_conv: and of the latent state)."""
    blocks: Annotated[int, Range(1, 64)] = 3
    """resnet, muzero_conv: residual blocks of two 3×3 convolutions (muzero_conv: of the representation)."""
    dynamics_blocks: Annotated[int, Range(1, 16)] = 1
    """muzero_conv: residual blocks of the dynamics."""
    hidden_dim: Width = 128
    """muzero_mlp: width of the hidden layers, two in the representation and in the dynamics, one in each head; with
    codes, of the two layers that tell them."""
    latent_dim: Width = 64
    """muzero_mlp: numbers of a latent state."""
    codes: Annotated[int, Range(0, 1024)] = 0
    """muzero: kinds of outcomes of chance that the model tells apart, such as 32 for 2048 (Stochastic MuZero); 0 = an
    action leads to what is expected of it."""
    projection: Annotated[int, Range(0, 65_536)] = 0
    """muzero: width in which latent states are compared (learner.consistency_weight); 0 = no such layers."""
    norm: Literal["batch", "none"] = "none"
    """resnet: batch normalisation, or none (fixed variance: the second convolution of a block starts near zero)."""
    pooling: bool = True
    """resnet: each block adds a bias computed from the whole board's mean and maximum."""
    sizes: Annotated[tuple[int, ...], Range(1, 65_536)] = (64, 64)
    """mlp: hidden layer sizes."""
    dropout: Annotated[float, Range(0, 0.99)] = 0.0
    """mlp: share of hidden units dropped in training."""
    shared: bool = True
    """mlp: one trunk for policy and value, or two separate networks."""
    value: Literal["scalar", "wdl", "transformed", "categorical"] = "scalar"
    """Value head (muzero: and reward head): for outcomes one tanh number, or win / draw / loss logits; for returns of
    any size h(value) = ±(√(|value| + 1) - 1) + value / 1000 as one number, or as a distribution over whole numbers."""
    support: Annotated[int, Range(1, 10_000)] = 20
    """categorical: the whole numbers are -support to support; h(400) = 19.4, h(10,000) = 109."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the network; auto is bfloat16 on accelerators and float32 on CPU. Parameters stay float32."""


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    kind: str = "gumbel"
    """gumbel (Gumbel AlphaZero), puct (AlphaZero) or minimax (of the likeliest moves, guided by the network)."""
    simulations: Simulations = 16
    """Simulations a move; minimax has none."""
    schedule: Annotated[tuple[int, ...], Range(1, 32_766)] = ()
    """Simulations a move in self-play, one number for each of as many equal parts of the run, such as 8 16 32: moves
    are cheap while the network knows little. Empty = `simulations` throughout."""
    full_share: Annotated[float, Range(0.001, 1)] = 1.0
    """Share of self-play's plies searched in full (KataGo: 0.25); the others get `cheap_simulations` and no noise, and
    the policy is not trained on them."""
    cheap_simulations: Simulations = 4
    """Simulations of the plies that are not searched in full."""
    engine: Literal["tree", "mctx"] = "tree"
    """tree (ours) or stock mctx: the same search, slower."""
    max_considered: Annotated[int, Range(1, 65_536)] = 16
    """gumbel: actions considered at the root."""
    rounds: bool = False
    """gumbel: visits all candidates of a round at once, so that a search takes few, large network calls; in blocks on a
    CPU, where large calls are no faster."""
    value_scale: Annotated[float, Range(1e-6, 10**6)] = 0.1
    """gumbel: weight of values against the network's logits, c_scale of the paper."""
    rescale: bool = True
    """gumbel: values are stretched to [0, 1] at each node; false takes them as they are, in [-1, 1]: no difference
    between equally good moves is blown up."""
    reuse: bool = False
    """Self-play's next search of a game begins with what the last one found below the move played (gumbel: and below
    the actions that are considered again)."""
    max_depth: Annotated[int, Range(0, 1_000_000)] = 0
    """Deepest node below the root, a roll of chance counted as one; 0 = no limit."""
    slots: Annotated[int, Range(0, 65_536)] = 0
    """Likeliest actions kept in a node; 0 = all that can be needed."""
    c_puct: Weight = 1.25
    """puct: exploration constant."""
    dirichlet_alpha: Annotated[float, Range(0.001, 1000)] = 0.3
    """puct: concentration of the root noise."""
    dirichlet_fraction: Share = 0.25
    """puct: share of the root noise in the prior."""
    root_temperature: Annotated[float, Range(0.01, 100)] = 1.0
    """puct: in self-play the root's prior is that of logits / root_temperature, before the noise (KataGo: 1.1)."""
    forced_playouts: Weight = 0.0
    """puct: in self-play a root action, once tried, gets at least √(forced_playouts · prior · simulations) of them,
    which its policy target does not show where they found nothing (KataGo: 2); 0 = off."""
    widths: Annotated[tuple[int, ...], Range(1, 65_536)] = (13, 8)
    """minimax: moves looked at in every position, the network's likeliest, ply by ply."""
    value_temperature: Annotated[float, Range(1e-4, 10**6)] = 0.2
    """minimax: the policy is softmax(values of the root's moves / value_temperature)."""
    epsilon: Share = 0.0
    """Share of self-play moves drawn uniformly from the legal ones (ε-greedy)."""
    temperature: Annotated[float, Range(0.001, 100, or_zero=True)] = 1.0
    """Self-play moves are drawn from policy^(1/temperature) for the first `temperature_plies` plies; 0 = never."""
    temperature_plies: Annotated[int, Range(0, 1_000_000)] = 8
    """Plies after the opening that are sampled; then the search's own choice is played."""


@dataclasses.dataclass(frozen=True)
class SelfPlayConfig:
    games: Annotated[int, Range(1, 2**20)] = 256
    """Games played at once, over all devices."""
    plies: Annotated[int, Range(1, 65_536)] = 32
    """Plies of every game in one iteration."""
    opening_plies: Plies = 0
    """Each game starts after 0 to this many random plies, which are not trained on."""


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    capacity: Positions = 100_000
    """Positions kept; the oldest leave first."""
    window: Positions = 20_000
    """Newest positions sampled at first; grows up to the capacity."""
    growth: Share = 0.75
    """The window is window · (positions so far / window) ^ growth, as in KataGo; 0 keeps it constant."""


@dataclasses.dataclass(frozen=True)
class LearnerConfig:
    batch: Annotated[int, Range(1, 2**20)] = 256
    """Positions an update, over all devices."""
    reuse: Annotated[float, Range(1e-6, 10_000)] = 4.0
    """Times a position is trained on, on average; sets the updates of an iteration."""
    optimizer: Literal["adam", "sgd", "muon"] = "adam"
    """adam, sgd with momentum 0.9, or muon (orthogonal steps for kernels, Adam's for the rest, of the same size)."""
    lr: Annotated[float, Range(1e-30, 100)] = 2e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Course of the learning rate after warm-up; cosine falls to 1 % of the peak at the end of the run."""
    warmup: Annotated[int, Range(0, 10**9)] = 100
    """Updates over which the learning rate rises linearly."""
    weight_decay: Annotated[float, Range(0, 100)] = 1e-4
    """Strength of the weight decay."""
    decay: Literal["decoupled", "l2"] = "decoupled"
    """decoupled (AdamW) or l2 (added to the gradient, as a penalty in the loss would be)."""
    clip: Annotated[float, Range(1e-6, 10**6, or_zero=True)] = 1.0
    """Global gradient norm above which gradients are scaled down; 0 = never."""
    accumulate: Annotated[int, Range(1, 10**6)] = 1
    """Batches whose gradients are averaged into one optimizer step."""
    value_loss: Literal["mse", "huber", "wdl", "categorical"] = "mse"
    """mse or huber on the one number of the value head, or the cross-entropy of network.value = "wdl" or
    "categorical"."""
    policy_loss: Literal["cross_entropy", "kl"] = "cross_entropy"
    """Same gradients; kl subtracts the target's entropy, so that 0 is perfect."""
    value_weight: Weight = 1.0
    """Weight of the value loss against the policy loss."""
    td_lambda: Share = 0.9
    """λ of the value target: 1 = the game's outcome, 0 = the search's root value; between, a mean of the root values of
    this and the later positions and the outcome, each a factor λ lighter than the one before."""
    td_steps: Annotated[int, Range(0, 65_536)] = 0
    """Instead of λ, n: the value target is the rewards of n plies and the root value after them; 0 = off."""
    unroll: Annotated[int, Range(1, 64)] = 5
    """muzero: actions that the model is unrolled over from each position."""
    reward_weight: Weight = 1.0
    """muzero: weight of the reward loss."""
    follows_weight: Weight = 1.0
    """muzero: weight of the loss on who moves next (the same player, the other, none)."""
    codes_weight: Weight = 1.0
    """muzero: weight of the loss on the outcomes of chance, where network.codes is not 0."""
    consistency_weight: Weight = 0.0
    """muzero: weight of the distance between an unrolled latent state and the one seen (EfficientZero: 2; needs
    network.projection); 0 = off."""
    reanalyse: Share = 0.0
    """Share of each batch whose policies and values are searched anew with the latest network; 0 = off."""
    priority: Annotated[float, Range(0, 10)] = 0.0
    """Positions are sampled in proportion to |search value - value target| ^ priority, with weights that make up for it
    (MuZero: 1); 0 = all alike."""
    ema: Annotated[float, Range(0, 0.999999)] = 0.99
    """Decay of the averaged parameters that play, are evaluated and exported; 0 = the latest parameters."""
    augment: bool = True
    """Each sampled position is turned by a random symmetry of the game."""


@dataclasses.dataclass(frozen=True)
class PromotionConfig:
    rule: Literal["off", "threshold", "sprt"] = "off"
    """off: the latest parameters play. Else self-play is by `best`, and a match decides whether the latest replace it:
    by a score above `threshold`, or by a sequential probability ratio test."""
    every: Count = 10
    """Iterations between matches."""
    games: Matches = 400
    """Games of a match; sprt: at most."""
    simulations: Annotated[int, Range(0, 32_766)] = 16
    """Simulations a move in these matches; 0 = bare policies."""
    opening_plies: Plies = 4
    """Random plies before each game; each opening is played from both sides."""
    threshold: Share = 0.55
    """threshold: the score above which the latest are promoted."""
    elo0: Annotated[float, Range(-2000, 2000)] = 0.0
    """sprt: the latest stay what they are if they are this much stronger than best, in Elo …"""
    elo1: Annotated[float, Range(-2000, 2000)] = 35.0
    """sprt: … and are promoted if they are this much stronger (35: a score of 0.55)."""
    alpha: Annotated[float, Range(1e-6, 0.499)] = 0.05
    """sprt: probability to promote parameters that are only elo0 stronger."""
    beta: Annotated[float, Range(1e-6, 0.499)] = 0.05
    """sprt: probability not to promote parameters that are elo1 stronger."""
    batch: Matches = 100
    """sprt: games between two looks at the result."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    every: Annotated[int, Range(0, 10**9)] = 0
    """Iterations between evaluations; 0 = only after the last."""
    games: Matches = 100
    """Games against each opponent, half of them from each side."""
    opponents: tuple[str, ...] = ("random", "minimax:2")
    """random, greedy, minimax:DEPTH (in a game with chance, of expectations), mcts:SIMULATIONS, or another run:
    RUN[@STEP][:SIMULATIONS]."""
    simulations: Simulations = 32
    """Simulations a move in evaluation."""
    opening_plies: Plies = 2
    """Random plies before each evaluation game; each opening is played from both sides."""
    oracle: bool = False
    """Judge by the truth too: the share of moves that keep a solved position's value, and the error of values, by the
    bare policy and with `simulations` (tic_tac_toe, connect_four, hex up to 4×4, ur up to 3 pieces, mates in chess)."""
    metric: str = ""
    """A measure of your own: FILE.py:FUNCTION, called as FUNCTION(env, agent, iteration) at each evaluation; agent has
    infer(observations) and act(states, key); it returns a dict of numbers."""
    exhaustive: bool = False
    """After the last iteration play every line of opponent replies (small games only)."""
    final: bool = True
    """Evaluate after the last iteration."""


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    every: Count = 10
    """Iterations between checkpoints."""
    keep: Annotated[int, Range(1, 10_000)] = 3
    """Newest checkpoints kept, beside the best; the newest two hold replay and games too."""


@dataclasses.dataclass(frozen=True)
class LogConfig:
    every: Count = 1
    """Iterations between rows of metrics.jsonl (one wait for the device each)."""
    tensorboard: bool = True
    """Write TensorBoard event files."""
    plot_every: Count = 10
    """Rows between redraws of learning_curve.png."""


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    final: bool = True
    """Write exports/<name>_stepXXXXXX.pt after the last iteration (needs the export extra)."""
    licence: str = ""
    """Licence of the exported weights for their card, such as Apache-2.0."""


@dataclasses.dataclass(frozen=True)
class Config:
    name: str = ""
    """Run name; the run folder is <root>/<name>. Empty = the preset's name."""
    root: str = "runs"
    """Folder of all runs."""
    iterations: Count = 100
    """Iterations of self-play and learning."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """Seed of every random choice."""
    devices: Annotated[int, Range(0, 4096)] = 0
    """Local devices used (on CPU: cores); 0 = as many as divide games and batch."""
    init_from: str = ""
    """Begin with the weights of this .pt, .safetensors or .json file instead of random ones; a resumed run goes on with
    its own."""
    game: GameConfig = dataclasses.field(default_factory=GameConfig)
    network: NetworkConfig = NetworkConfig()
    search: SearchConfig = SearchConfig()
    selfplay: SelfPlayConfig = SelfPlayConfig()
    replay: ReplayConfig = ReplayConfig()
    learner: LearnerConfig = LearnerConfig()
    promotion: PromotionConfig = PromotionConfig()
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
