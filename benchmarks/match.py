"""Games of a match played all at once, against the same games one at a time.

    taskset -c 0 python -m benchmarks.match --games 2000 --simulations 64

Both sides are networks with search, of the same size and with different random parameters; each opening is played from
both sides. One at a time is a plain loop: the same players, compiled for a single position, and a compiled step of the
game, over the first games of the same match from where their openings end, scaled by the number of moves. `forwards_s`
is the time of the network's arithmetic alone, for as many positions in batches as wide: no match can be faster.
On a CPU that others use too the ratio of processor times (`cpu_ratio`) on one core is the one to read.
"""

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
from jaxzero import networks
from jaxzero.config.schema import Config
from jaxzero.evaluation import matches
from jaxzero.evaluation.base import Player
from jaxzero.evaluation.players import search_agent
from jaxzero.hardware import use_all_cores
from jaxzero.networks import MlpConfig, ResNetConfig

NETWORKS = {
    "mlp": MlpConfig(sizes=(64, 64)),
    "resnet": ResNetConfig(channels=32, blocks=3),
}


def sides(env: envs.Env, config: Config, simulations: int) -> tuple[Player, list[Any]]:
    """A player and two sets of parameters."""
    network = networks.make(config.network, env)
    params = [network.fold(network.init(jax.random.key(seed))) for seed in (1, 2)]
    return search_agent(env, network, config, simulations), params


def timed(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """The result of a call, and its seconds by the clock and of this process's processor time."""
    began = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(call())
    return result, {"s": time.perf_counter() - began[0], "cpu_s": time.process_time() - began[1]}


def play_alone(env: envs.Env, player: Player, params: list[Any], dealt: matches.MatchState, games: range) -> int:
    """Plays some of the games dealt, both sides of a pair in turn, one after another; returns the moves searched."""
    searched = 0
    for game in games:
        pair, row = divmod(game, 2)
        state = jax.device_get(jax.tree.map(lambda x, place=(row, pair): x[place], dealt.states))
        while not state.terminated:
            key = jax.random.key(searched)[None]
            position = jax.tree.map(lambda x: np.asarray(x)[None], state)
            action = player(params[int(state.player) ^ row], key, position)
            state = step(env, state, action[0])
            searched += 1
    return searched


step = jax.jit(lambda env, state, action: env.step(state, action), static_argnums=0)


def forwards(env: envs.Env, config: Config, params: Any, positions: int) -> Callable[[], jax.Array]:
    """The network alone on so many positions, in batches as wide as the match's."""
    network = networks.make(config.network, env)
    width = matches.LANES.get(jax.default_backend(), 1000)
    observed = jnp.stack([env.observe(env.init(jax.random.key(0)))] * width)

    def batch(_, total):
        said = network.infer(params, observed + total * 0)  # after the one before
        return total + said.value.mean() + said.logits.mean()

    return jax.jit(lambda: jax.lax.fori_loop(0, math.ceil(positions / width), batch, jnp.float32(0)))


def main() -> None:
    parser = argparse.ArgumentParser(description="A match all at once against one pair of games at a time.")
    parser.add_argument("--game", default="connect_four")
    parser.add_argument("--network", choices=NETWORKS, default="resnet")
    parser.add_argument("--games", type=int, default=2000)
    parser.add_argument("--simulations", type=int, default=64)
    parser.add_argument("--opening-plies", type=int, default=6)
    parser.add_argument("--alone", type=int, default=20, help="games played one at a time")
    options = parser.parse_args()
    use_all_cores()
    env, config = envs.make(options.game), dataclasses.replace(Config(), network=NETWORKS[options.network])
    player, params = sides(env, config, options.simulations)
    pairs = options.games // 2
    match, alone = matches.play(env, player, player, options.games, options.opening_plies), jax.jit(player)
    dealt = matches.deal(env, options.opening_plies, pairs, jax.random.key(1), jnp.arange(pairs))
    jax.block_until_ready(match(params[0], params[1], jax.random.key(0)))
    play_alone(env, alone, params, dealt, range(2))
    result, fast = timed(lambda: match(params[0], params[1], jax.random.key(1)))
    searched, slow = timed(lambda: play_alone(env, alone, params, dealt, range(options.alone)))
    moves = int((np.asarray(result.plies) - np.asarray(dealt.plies)).sum())
    infer = forwards(env, config, params[0], moves * (options.simulations + 1))
    jax.block_until_ready(infer())
    _, network = timed(infer)
    device = jax.devices()[0]
    facts = {"device": f"{len(jax.devices())} × {device.device_kind}", **vars(options), "moves": moves}
    for clock in ("s", "cpu_s"):
        whole = slow[clock] * moves / searched
        facts |= {f"at_once_{clock}": fast[clock], f"one_at_a_time_{clock}": whole, f"forwards_{clock}": network[clock]}
        facts["ratio" if clock == "s" else "cpu_ratio"] = whole / fast[clock]
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
