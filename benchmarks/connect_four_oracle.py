"""How often a policy or a search preserves the game value in Connect Four, measured by a perfect solver.

`jaxzero/evaluation/oracles/connect_four.txt` holds positions in which at least two legal moves differ in game value
(win, draw, loss), distinct up to the mirror, half from uniformly random play and half from play in which 60 % of the
moves are best (quickest win, else slowest loss); at most every sixth position of a game. Judging needs no solver; the
file is written by

    python benchmarks/connect_four_oracle.py --generate

which needs `pip install bitbully` and takes a few minutes. A run is measured by

    python benchmarks/connect_four_oracle.py runs/my_run --simulations 0 32

where 0 simulations is the raw policy.
"""

import argparse
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxzero.evaluation import search_agent
from jaxzero.evaluation.base import Player
from jaxzero.evaluation.oracles.connect_four import FILE, HALVES, LAST_PLY, StoredPositions, read
from jaxzero.messages import ConfigError
from jaxzero.runs.folder import Loaded, load

FIRST_PLY = 4
SPACING = 6  # plies between two positions of one game, and the width of a bucket
BEST_SHARE = 0.6


def evaluate(policy: Callable[[Any], jax.Array], positions: StoredPositions | None = None) -> dict[str, Any]:
    """Shares of positions in which `policy(states) -> actions i32[N]` keeps the game value: all, by half, by ply."""
    positions = positions or read()
    actions = np.asarray(policy(positions.states))
    kept = positions.preserving[np.arange(len(actions)), actions]
    plies = np.array([len(moves) for moves in positions.moves])
    starts = range(FIRST_PLY, LAST_PLY + 1, SPACING)
    return {
        "positions": len(kept),
        "overall": float(kept.mean()),
        "by_half": {half: float(kept[positions.halves == half].mean()) for half in HALVES.values()},
        "by_ply": {
            f"{low}-{low + SPACING - 1}": float(kept[(plies >= low) & (plies < low + SPACING)].mean()) for low in starts
        },
    }


def describe(scores: dict[int, int]) -> str:
    """The value of each column for the player to move, as in the file, from the solver's scores."""
    return "".join("." if column not in scores else "=+-"[np.sign(scores[column])] for column in range(7))


def sampled_game(solver: Any, rng: random.Random, share: float) -> Iterator[tuple[int, str, str]]:
    """(key, moves, values) of every SPACING-th position of one game; the key is the same for a mirrored position."""
    from bitbully import Board

    board, moves = Board(), ""
    due = rng.randrange(FIRST_PLY, FIRST_PLY + SPACING)
    while len(moves) <= LAST_PLY and not board.is_game_over():
        columns, best = board.legal_moves(), rng.random() < share
        scores = solver.score_all_moves(board) if best or len(moves) == due else {}
        if len(moves) == due:
            yield min(board.uid(), board.mirror().uid()), moves, describe(scores)
            due += SPACING
        if best:
            columns = [column for column in columns if scores[column] == max(scores.values())]
        column = rng.choice(columns)
        moves += str(column + 1)
        board.play(column)


def generate(count: int, seed: int) -> list[str]:
    """`count` lines of the file, half of each kind."""
    from bitbully import BitBully

    solver, rng, seen, lines = BitBully(), random.Random(seed), set(), []
    for half, share in (("r", 0.0), ("b", BEST_SHARE)):
        goal = len(lines) + count // 2
        while len(lines) < goal:
            for key, moves, values in sampled_game(solver, rng, share):
                if key not in seen and len(set(values) - {"."}) > 1 and len(lines) < goal:
                    seen.add(key)
                    lines.append(f"{moves} {values} {half}")
    return lines


def load_run(path: str) -> Loaded:
    """The network of a run folder."""
    run = load(path)
    if run.env.name != "connect_four":
        raise ConfigError(f"{path} is a run of {run.env.name}; these positions are Connect Four's")
    return run


def bind(player: Player, params: Any, seed: int = 0) -> Callable[[Any], jax.Array]:
    """A player as the policy that `evaluate` takes."""

    def policy(states: Any) -> jax.Array:
        keys = jax.random.split(jax.random.key(seed), len(states.player))
        return jax.jit(player)(params, keys, states)

    return policy


def main() -> None:
    parser = argparse.ArgumentParser(description="Share of Connect Four moves that preserve the game value.")
    parser.add_argument("run", nargs="?", help="run folder")
    parser.add_argument("--simulations", type=int, nargs="+", default=[0], help="0 = raw policy")
    parser.add_argument("--generate", action="store_true", help=f"write {FILE.name} anew")
    parser.add_argument("--count", type=int, default=2400, help="positions to generate")
    parser.add_argument("--seed", type=int, default=0, help="seed of the generation")
    options = parser.parse_args()
    if options.generate:
        command = f"benchmarks/connect_four_oracle.py --generate --count {options.count} --seed {options.seed}"
        FILE.write_text("\n".join([f"# python {command}", *generate(options.count, options.seed)]) + "\n")
    elif options.run is None:
        parser.error("give a run folder, or --generate")
    else:
        run = load_run(options.run)
        for simulations in options.simulations:
            agent = search_agent(run.env, run.network, run.config, simulations)
            print(json.dumps({"simulations": simulations, **evaluate(bind(agent, run.params))}))


if __name__ == "__main__":
    main()
