"""Games of a match played all at once, against the same games one at a time.

    python -m benchmarks.match --games 2000 --simulations 64

Both sides are networks with search, of the same size and with different random parameters; each opening is played from
both sides. One at a time is measured on a few pairs of games, each pair by itself with the same functions compiled for
one pair, and scaled to the number of games: a pair is two games side by side, so this flatters the slow way. On a CPU
that others use too the ratio of CPU times (`cpu_ratio`) is the one to read.
"""

import argparse
import dataclasses
import json
import time
from typing import Any

import jax

import envs
from jaxzero import networks
from jaxzero.config import Config, NetworkConfig
from jaxzero.evaluation import matches
from jaxzero.evaluation.players import Player, search_agent
from jaxzero.hardware import use_all_cores

NETWORKS = {
    "mlp": NetworkConfig(kind="mlp", sizes=(64, 64)),
    "resnet": NetworkConfig(kind="resnet", channels=32, blocks=3),
}


def sides(env: envs.Env, config: Config, simulations: int) -> tuple[Player, list[Any]]:
    """A player and two sets of parameters."""
    network = networks.make(config.network, env)
    params = [network.fold(network.init(jax.random.key(seed))) for seed in (1, 2)]
    return search_agent(env, network, config, simulations), params


def measure(
    env: envs.Env, player: Player, params: list[Any], games: int, opening_plies: int, seeds: range
) -> tuple[float, float]:
    """Seconds of one match of `games`, by the clock and of this process's CPU time; mean over seeds, warm."""
    match = matches.play(env, player, player, games, opening_plies)
    jax.block_until_ready(match(params[0], params[1], jax.random.key(0)))
    began = time.perf_counter(), time.process_time()
    for seed in seeds:
        jax.block_until_ready(match(params[0], params[1], jax.random.key(seed)))
    return (time.perf_counter() - began[0]) / len(seeds), (time.process_time() - began[1]) / len(seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description="A match all at once against one pair of games at a time.")
    parser.add_argument("--game", default="connect_four")
    parser.add_argument("--network", choices=NETWORKS, default="resnet")
    parser.add_argument("--games", type=int, default=2000)
    parser.add_argument("--simulations", type=int, default=64)
    parser.add_argument("--opening-plies", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=5, help="pairs of games played one at a time")
    options = parser.parse_args()
    use_all_cores()
    env, config = envs.make(options.game), dataclasses.replace(Config(), network=NETWORKS[options.network])
    player, params = sides(env, config, options.simulations)
    plies = options.opening_plies
    slow = [x * options.games / 2 for x in measure(env, player, params, 2, plies, range(1, 1 + options.pairs))]
    fast = measure(env, player, params, options.games, plies, range(1, 2))
    device = jax.devices()[0]
    facts = {"device": f"{len(jax.devices())} × {device.device_kind}", **vars(options)}
    for i, kind in enumerate(("", "cpu_")):
        facts |= {f"{kind}at_once_s": fast[i], f"{kind}one_at_a_time_s": slow[i], f"{kind}ratio": slow[i] / fast[i]}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
