"""Random games as records, for the tests of the formats."""

import jax

import envs
from envs.judges import random_games
from jaxzero.records import Game


def played(size: int, count: int, game: str = "hex", **options) -> list[Game]:
    """Random games to their end."""
    env = envs.make(game, size=size, **options)
    _, play = jax.device_get(random_games(env, count, env.max_plies + 1, jax.random.key(size)))
    games = []
    for g in range(count):
        length = int(play.terminated[:, g].argmax())
        result = tuple(play.rewards[length - 1, g].tolist())
        kept = options or {"swap": True}
        games.append(Game(game, {"size": size, **kept}, play.action[:length, g].tolist(), result))
    return games
