"""A run's folder without training: settings, metrics and evaluations written by hand, parameters drawn at random."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxzero.config import settings
from jaxzero.config.games import make_env
from jaxzero.config.schema import Config, EvaluationConfig, GameConfig, LearnerConfig, SelfPlayConfig
from jaxzero.evaluation import write_results
from jaxzero.networks import MlpConfig, NetworkConfig
from jaxzero.runs import folder as folder_lib
from jaxzero.runs import metrics
from jaxzero.runs.checkpoint import Checkpointer
from jaxzero.training import iteration

STEP = 40
MLP = MlpConfig(sizes=(8,))
SCORED = """
name = "tiny"
devices = 1
network = {kind = "mlp", sizes = [8]}
search = {simulations = 2, max_considered = 2}
selfplay = {games = 8, plies = 8}
replay = {capacity = 256, window = 64}
learner = {batch = 16}
evaluation = {games = 2, opponents = ["random", "greedy"], simulations = 2, opening_plies = 3}
"""


def rows() -> list[metrics.Row]:
    """Of iterations 1 to 40, evaluated at 20 and 40; nothing is known of iteration 7's loss."""
    found = []
    for i in range(1, STEP + 1):
        row = {"iteration": i, "seconds": 2.0 * i, "games": 8 * i, "positions": 100 * i, "updates": i}
        row |= {"loss": None if i == 7 else 2 / i, "value_error": 0.5, "device": "2 CPU cores, 4 GiB memory"}
        truth = {"oracle/policy_moves": i / 80, "oracle/search_moves": i / 40, "oracle/policy_value_error": 10 / i}
        found.append(row | ({"eval/random/score": i / 50, "metric/mine": i, **truth} if i in (20, STEP) else {}))
    return found


def result(wins: int, losses: int) -> dict:
    side = {"games": 50, "wins": wins // 2, "draws": 0, "losses": losses // 2, "score": wins / 100}
    both = {"games": 100, "wins": wins, "draws": 0, "losses": losses, "score": wins / 100}
    return both | {"interval": [0.1, 0.9], "mean_length": 6.5, "as_first": side, "as_second": side}


def ratings(name: str) -> list[metrics.Row]:
    """As `jaxzero rate` writes them of two checkpoints and an anchor, strongest first."""
    found = [
        {
            "player": f"{name}@{step}:4",
            "run": name,
            "iteration": step,
            "elo": 10.0 * step,
            "interval": [8.0 * step, 500.0],
        }
        for step in (STEP, 20)
    ]
    found[0]["gain"] = {"on": found[1]["player"], "elo": 200.0, "interval": [-20.0, 420.0]}
    found.append({"player": "random", "run": "", "iteration": 0, "elo": 0.0, "interval": [0.0, 0.0]})
    return [row | {"games": 200, "score": 0.5} for row in found]


def run_folder(folder: Path, game: str = "tic_tac_toe", seed: int = 0, network: NetworkConfig = MLP) -> Config:
    config = Config(
        name=folder.name, root=str(folder.parent), iterations=50, devices=1, game=GameConfig(game),
        network=network, selfplay=SelfPlayConfig(games=8, plies=8),
        learner=LearnerConfig(batch=8), evaluation=EvaluationConfig(simulations=4, opponents=("random", "minimax:1")),
    )  # fmt: skip
    folder.mkdir(parents=True)
    folder_lib.record(folder, config, [], 0)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    for step, wins in ((20, 40), (STEP, 80)):
        found = {"random": result(wins, 100 - wins), "minimax:1": result(wins // 2, 100 - wins // 2)}
        write_results(folder, step, found, "2026-01-01T00:00:00+00:00")
    (folder / folder_lib.RATINGS).write_text(json.dumps({"zero": "random", "ratings": ratings(folder.name)}))
    rng = np.random.default_rng(seed)

    def drawn(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        noise = rng.normal(size=leaf.shape) if jnp.issubdtype(leaf.dtype, jnp.floating) else np.zeros(leaf.shape)
        return jnp.asarray(noise / np.sqrt(np.prod(leaf.shape[:-1])), leaf.dtype)

    learner = jax.tree.map(drawn, iteration.learner_part(iteration.make(config, make_env(config.game)).abstract))
    with Checkpointer(folder / "checkpoints") as checkpoints:
        checkpoints.save(STEP, learner, {"nothing": np.zeros(1)}, {})
    return config


def scored_run(folder: Path) -> Path:
    """A run folder with two checkpoints of random networks; that of step 3 has a better score than that of step 7."""
    folder.mkdir()
    (folder / "config.toml").write_text(SCORED)
    config = settings.load(folder / "config.toml")
    abstract = iteration.learner_part(iteration.make(config, make_env(config.game)).abstract)
    rng = np.random.default_rng(0)
    with Checkpointer(folder / "checkpoints") as checkpoints:
        for step, score in ((3, 0.9), (7, 0.4)):
            draw = lambda x: rng.normal(0, 1, x.shape).astype(x.dtype)  # noqa: E731
            checkpoints.save(step, jax.tree.map(draw, abstract), {}, {}, score)
    return folder
