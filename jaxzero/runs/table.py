"""The numbers that a run measures: one line each with its group, label and unit.

TensorBoard, progress, pictures, `jaxzero compare` and the report take them from here; a new number gets a line here.
"""

import re
from typing import NamedTuple


class Metric(NamedTuple):
    group: str  # in TensorBoard
    label: str  # "*" stands for what the "*" of the name does
    unit: str = ""  # "%": a share from 0 to 1

    @property
    def text(self) -> str:
        """Label and unit, for legends."""
        if self.unit in ("", "%"):
            return self.label
        return self.label + self.unit if self.unit.startswith("/") else f"{self.label}, {self.unit}"


METRICS = {
    "iteration": Metric("row", "iteration"),
    "span": Metric("row", "iterations that the row covers"),
    "device": Metric("row", "device"),
    "loss": Metric("loss", "loss"),
    "policy_loss": Metric("loss", "policy"),
    "value_loss": Metric("loss", "value"),
    "reward_loss": Metric("loss", "reward"),
    "to_play_loss": Metric("loss", "who moves next"),
    "codes_loss": Metric("loss", "outcomes of chance"),
    "consistency_loss": Metric("loss", "consistency"),
    "reward_error": Metric("loss", "reward error"),
    "latent_norm": Metric("loss", "norm of latents"),
    "gradient_norm": Metric("loss", "norm of gradients"),
    "lr": Metric("loss", "learning rate"),
    "policy_entropy": Metric("loss", "entropy of policy targets", "nats"),
    "value_error": Metric("selfplay", "value error, mean |search − outcome|"),
    "value_correlation": Metric("selfplay", "correlation of value and outcome"),
    "game_length": Metric("selfplay", "game length", "plies"),
    "points": Metric("selfplay", "points of a game"),
    "window": Metric("selfplay", "replay window", "positions"),
    "first_player_wins": Metric("outcome", "first player wins", "%"),
    "draws": Metric("outcome", "draws", "%"),
    "second_player_wins": Metric("outcome", "second player wins", "%"),
    "epoch": Metric("total", "epochs of the positions on disk"),
    "seconds": Metric("total", "training time", "s"),
    "games": Metric("total", "games"),
    "positions": Metric("total", "positions"),
    "updates": Metric("total", "updates"),
    "games_per_s": Metric("speed", "games", "/s"),
    "positions_per_s": Metric("speed", "positions", "/s"),
    "simulations_per_s": Metric("speed", "simulations", "/s"),
    "samples_per_s": Metric("speed", "samples", "/s"),
    "self_play_s": Metric("time", "self-play", "s"),
    "learn_s": Metric("time", "learning", "s"),
    "evaluation_s": Metric("time", "evaluation", "s"),
    "promotion_s": Metric("time", "promotion match", "s"),
    "checkpoint_s": Metric("time", "checkpoint", "s"),
    "compile_s": Metric("time", "compilation", "s"),
    "device_memory_mb": Metric("hardware", "device memory", "MiB"),
    "device_utilisation": Metric("hardware", "device utilisation", "percent"),
    "cpu_percent": Metric("hardware", "processor", "percent of a core"),
    "memory_mb": Metric("hardware", "memory", "MiB"),
    # A name with "/" begins with its group.
    "eval/*/score": Metric("eval", "*", "%"),
    "eval/*/wins": Metric("eval", "wins against *"),
    "eval/*/draws": Metric("eval", "draws against *"),
    "eval/*/losses": Metric("eval", "losses against *"),
    "eval/*/mean_length": Metric("eval", "game length against *", "plies"),
    "validation/*": Metric("validation", "* on games held back"),
    "promotion/score": Metric("promotion", "score against the best network", "%"),
    "promotion/games": Metric("promotion", "games of the match"),
    "promotion/best": Metric("promotion", "iteration of the best network"),
    "oracle/*_moves": Metric("oracle", "right moves, *", "%"),
    "oracle/*_value_error": Metric("oracle", "value error, *"),
    "unroll/*": Metric("unroll", "*"),
    "metric/*": Metric("metric", "*"),
}


def find(name: str) -> Metric | None:
    """The line of a number, with its label filled in; None where there is none."""
    if name in METRICS:
        return METRICS[name]
    for pattern, metric in METRICS.items():
        if "*" in pattern and (found := re.fullmatch(re.escape(pattern).replace(r"\*", "(.+)"), name)):
            return metric._replace(label=metric.label.replace("*", found[1]))
    return None


def text(name: str) -> str:
    """Label and unit of a number; its name where the table lacks it."""
    metric = find(name)
    return metric.text if metric else name


def tag(name: str) -> str:
    """Its name in TensorBoard: group/name."""
    if "/" in name:
        return name
    metric = find(name)
    return f"{metric.group if metric else 'other'}/{name}"


def is_score(name: str) -> bool:
    """Whether it is the score against an opponent of the evaluation."""
    return name.startswith("eval/") and name.endswith("/score")
