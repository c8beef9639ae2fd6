"""How often a policy or a search preserves the game value in Connect Four, judged by a perfect solver.

`connect_four_positions.txt` holds positions in which at least two legal moves differ in game value (win, draw, loss),
distinct up to the mirror, half from uniformly random play and half from play in which 60 % of the moves are best
(quickest win, else slowest loss); at most every sixth position of a game. A line is `<moves so far> <value of each
column> <half, r or b>`: columns are 1 to 7; the values are + = - for a game that the player to move then wins, draws
or loses, and . for a full column. Judging needs no solver; the file is written by

    python benchmarks/connect_four_oracle.py --generate

which needs `pip install bitbully` and takes a few minutes. A run is judged by

    python benchmarks/connect_four_oracle.py runs/my_run --simulations 0 32

where 0 simulations is the bare policy.
"""

import argparse
import json
import pathlib
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import envs
from jaxzero import search
from jaxzero.config import ConfigError
from jaxzero.evaluation import players
from jaxzero.models import simulator

FILE = pathlib.Path(__file__).with_name("connect_four_positions.txt")
HALVES = {"r": "random", "b": "partly_best"}
FIRST_PLY, LAST_PLY = 4, 33
SPACING = 6  # plies between two positions of one game, and the width of a bucket
BEST_SHARE = 0.6


class Positions(NamedTuple):
    """N positions with the value of every move."""

    states: Any  # Connect Four states, [N]
    moves: list[str]  # the moves that led there, columns 1 to 7
    values: np.ndarray  # i8[N, 7]  1, 0, -1 for the player to move; -2 = column full
    halves: np.ndarray  # str[N]  "random" or "partly_best"

    @property
    def preserving(self) -> np.ndarray:
        """bool[N, 7]: moves that keep the position's value."""
        return self.values == self.values.max(1, keepdims=True)


def read(file: pathlib.Path = FILE) -> Positions:
    """The stored positions, replayed by the game's own rules."""
    lines = [line.split(" ") for line in file.read_text().splitlines() if not line.startswith("#")]
    moves = [line[0] for line in lines]
    values = np.array([[".-=+".index(value) - 2 for value in line[1]] for line in lines], np.int8)
    plies = np.full((len(moves), LAST_PLY), -1, np.int32)
    for row, text in zip(plies, moves, strict=True):
        row[: len(text)] = [int(column) - 1 for column in text]
    return Positions(replay(jnp.asarray(plies)), moves, values, np.array([HALVES[line[2]] for line in lines]))


@jax.jit
@jax.vmap
def replay(moves: jax.Array) -> Any:
    """The position after `moves` i32[plies]; -1 = no more moves."""
    env = envs.make("connect_four")

    def play(state, move):
        return jax.tree.map(lambda new, old: jnp.where(move >= 0, new, old), env.step(state, move), state), None

    return jax.lax.scan(play, env.init(jax.random.key(0)), moves)[0]


def judge(policy: Callable[[Any], jax.Array], positions: Positions | None = None) -> dict[str, Any]:
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


def load_run(path: str) -> tuple[envs.Env, Any, Any, Any]:
    """(env, network, folded parameters, config) of a run folder."""
    from jaxzero.train import load

    run = load(path)
    if run.env.name != "connect_four":
        raise ConfigError(f"{path} is a run of {run.env.name}; these positions are Connect Four's")
    return run.env, run.network, run.params, run.config


def bind(player: players.Player, params: Any, seed: int = 0) -> Callable[[Any], jax.Array]:
    """A player as the policy that `judge` takes."""

    def policy(states: Any) -> jax.Array:
        keys = jax.random.split(jax.random.key(seed), len(states.player))
        return jax.jit(player)(params, keys, states)

    return policy


def main() -> None:
    parser = argparse.ArgumentParser(description="Share of Connect Four moves that preserve the game value.")
    parser.add_argument("run", nargs="?", help="run folder")
    parser.add_argument("--simulations", type=int, nargs="+", default=[0], help="0 = bare policy")
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
        env, network, params, config = load_run(options.run)
        for simulations in options.simulations:
            if simulations:
                search_ = search.make(config.search, env, simulator.make(env, network.infer), simulations)
                player = players.search_player(env, search_)
            else:
                player = players.policy_player(env, network.infer)
            print(json.dumps({"simulations": simulations, **judge(bind(player, params))}))


if __name__ == "__main__":
    main()
