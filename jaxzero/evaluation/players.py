"""Players, and players by name. A new kind is one line in `KINDS`.

Letters: B batch (games), A actions, M `env.max_legal` slots.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs import Env, State, suggest
from envs.core import random_action
from jaxzero import models, search
from jaxzero.config import settings
from jaxzero.config.games import make_env
from jaxzero.config.schema import Config
from jaxzero.config.values import TEXT, quoted
from jaxzero.evaluation import rollouts
from jaxzero.evaluation.base import Contestant, HostPlayer, Player
from jaxzero.evaluation.engines import Engine
from jaxzero.evaluation.perfect import Perfect
from jaxzero.messages import ConfigError
from jaxzero.models import Params
from jaxzero.models.simulator import mask
from jaxzero.networks import Network, Prediction
from jaxzero.runs import folder as folder_lib
from jaxzero.search import Search

DEEPEST, MOST_LEAVES = 32, 10**12  # of minimax: more could not be played to an end
SIMULATIONS = 32_766  # nodes of a tree are numbered in 16 bits
LEAVES = 1 << 18  # leaves of minimax in memory at once
BRANCH = 1 << 10  # and at once below one node, in trees larger than that


def random_player(env: Env) -> Player:
    """Plays any legal action, all equally likely."""

    def play(params, keys, states):
        return jax.vmap(lambda key, state: random_action(key, env.legal_actions(state)))(keys, states)

    return play


def policy_player(env: Env, infer: Callable[[Params, jax.Array], Prediction]) -> Player:
    """Plays the network's most likely legal action; `infer` and its parameters are a network's folded form."""

    def play(params, keys, states):
        logits = infer(params, jax.vmap(env.observe)(states)).logits
        return jnp.argmax(mask(logits, jax.vmap(env.legal_actions)(states)), -1).astype(jnp.int32)

    return play


def search_player(env: Env, search: Search) -> Player:
    """Plays the search's own choice, without noise; every move is searched afresh."""

    def play(params, keys, states):
        temperature = jnp.zeros(keys.shape[0], jnp.float32)
        return search.run(params, keys, states, search.init(states), temperature, False)[0].action

    return play


def minimax_player(env: Env, depth: int) -> Player:
    """Looks `depth` plies ahead at full width, at every outcome of chance too (expectiminimax); undecided leaves count
    0; equally good moves are equally likely."""
    leaves = num_leaves(env, depth)
    width, games_at_once = (LEAVES, LEAVES // leaves) if leaves <= LEAVES else (BRANCH, None)

    def choose(game):
        key, state = game
        actions, values = minimax_values(env, state, depth, width)
        return actions[random_action(key, values == values.max())]

    def play(params, keys, states):
        return jax.lax.map(choose, (keys, states), batch_size=games_at_once)

    return play


def minimax_values(env: Env, state: State, depth: int, width: int = LEAVES) -> tuple[jax.Array, jax.Array]:
    """The moves of one position: actions i32[M] and their values f32[M] for the mover, -inf in unused slots.

    A value is the sum of the mover's rewards on the best line of `depth` plies in a zero-sum game, its expectation in
    a game with chance; the sign follows who moves next, as movers need not alternate. A node with more than `width`
    leaves looks at its moves one by one, which bounds the memory and, for a single game, skips what is illegal or
    over.
    """
    used, actions = legal_slots(env, state)

    def best(state):
        return minimax_values(env, state, depth - 1, width)[1].max()

    def ahead(after):
        if not env.num_outcomes:
            return best(after)
        settled = jax.vmap(env.resolve, (None, 0))(after, jnp.arange(env.num_outcomes, dtype=jnp.int32))
        values = jnp.where(settled.terminated, 0.0, jax.vmap(best)(settled))
        return jax.nn.softmax(env.outcome_logits(after)) @ values  # where none is due all outcomes are alike

    def value(action):
        after = env.step(state, action)
        reward = after.rewards[state.player]
        if depth == 1:
            return reward
        sign = jnp.where(after.player == state.player, 1.0, -1.0)
        return reward + sign * jax.lax.cond(after.terminated, zero, ahead, after)

    if depth == 1 or num_leaves(env, depth) <= width:
        values = jax.vmap(value)(actions)
    else:
        values = jax.lax.map(lambda slot: jax.lax.cond(slot[0], value, zero, slot[1]), (used, actions))
    return actions, jnp.where(used, values, -jnp.inf)


def num_leaves(env: Env, depth: int) -> int:
    return env.max_legal**depth * max(1, env.num_outcomes) ** (depth - 1)


def deepest(env: Env) -> int:
    """Plies that minimax can look ahead: to the end of the longest game, as long as the leaves can be counted out."""
    most = min(env.max_plies, DEEPEST)
    return next((depth for depth in range(1, most) if num_leaves(env, depth + 1) > MOST_LEAVES), most)


def legal_slots(env: Env, state: State) -> tuple[jax.Array, jax.Array]:
    """used bool[M] and actions i32[M]: the legal actions of a position first, then others to fill the slots."""
    legal = env.legal_actions(state)
    if env.max_legal == env.num_actions:
        return legal, jnp.arange(env.num_actions, dtype=jnp.int32)
    used, actions = jax.lax.top_k(legal.astype(jnp.int32), env.max_legal)
    return used > 0, actions


def search_agent(env: Env, network: Network, config: Config, simulations: int) -> Player:
    """The network as it plays a match: with search and no noise, or its raw policy at 0 simulations."""
    if not simulations:
        return policy_player(env, network.infer)
    return search_player(env, fresh_search(env, network, config, simulations))


def fresh_search(env: Env, network: Network, config: Config, simulations: int) -> Search:
    """The configured search, without what is kept between moves."""
    return search.make(config.search.afresh(), env, models.make(env, network), simulations)


# Players by name


class PlayerKind(NamedTuple):
    """A kind of players. `make(argument, env)` takes the text after the colon; ValueError says what is wrong."""

    form: str
    make: Callable[[str, Env], Player | HostPlayer]


KINDS: dict[str, PlayerKind] = {
    "random": PlayerKind("random", lambda argument, env: random_player(env)),
    "greedy": PlayerKind("greedy", lambda argument, env: minimax_player(env, 1)),
    "minimax": PlayerKind(
        "minimax:DEPTH", lambda argument, env: minimax_player(env, count(argument, "DEPTH", 1, deepest(env)))
    ),
    "mcts": PlayerKind(
        "mcts:SIMULATIONS",
        lambda argument, env: search_player(env, rollouts.make(env, count(argument, "SIMULATIONS", 1, SIMULATIONS))),
    ),
    "perfect": PlayerKind("perfect", lambda argument, env: Perfect(env)),
    "uci": PlayerKind("uci:PROGRAM[:OPTION=VALUE,...]", lambda argument, env: Engine("uci", argument, env)),
    "gtp": PlayerKind("gtp:PROGRAM[:OPTION=VALUE,...]", lambda argument, env: Engine("gtp", argument, env)),
}
RUN = "RUN[@STEP][:SIMULATIONS]"
RUN_PARTS = re.compile(r"(?P<run>[^@:]+)(?:@(?P<step>[^@:]*))?(?:(?P<colon>:)(?P<simulations>.*))?")


def make_player(spec: str, env: Env, field: str = "player") -> Contestant:
    """The player that a text names.

    random      any legal move
    greedy      the best reward of this ply, as minimax:1
    minimax:DEPTH   full width; expectations in games of chance
    mcts:SIMULATIONS    UCT with random games (`jaxzero.evaluation.rollouts`)
    perfect     by an exact solver (`jaxzero.solvers`)
    uci:PROGRAM[:OPTION=VALUE,...], gtp:PROGRAM[...]    a program (`jaxzero.evaluation.engines`)
    RUN[@STEP][:SIMULATIONS]    a run, by its folder or name: its newest checkpoint, that of a step, or @best; with
        evaluation.simulations of the run, or as many, or by the raw policy at 0

    Raises:
        ConfigError: one line that names the field and the player, and says what is known.
    """
    name, colon, argument = spec.partition(":")
    if name not in KINDS:
        loaded, simulations = load_run(spec, env, field)
        return Contestant(spec, search_agent(env, loaded.network, loaded.config, simulations), loaded.params)
    with blamed(spec, field):
        kind = KINDS[name]
        if bool(colon) != (":" in kind.form):
            raise ValueError(f"it is written {kind.form}")
        return Contestant(spec, kind.make(argument, env))


@contextlib.contextmanager
def blamed(spec: str, field: str) -> Iterator[None]:
    """Makes a ValueError a ConfigError that names the field and the player."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{field}: {quoted(spec, 160)}: {error}") from error


def load_run(spec: str, env: Env | None = None, field: str = "player") -> tuple[folder_lib.Loaded, int]:
    """The network that RUN[@STEP][:SIMULATIONS] names, and its simulations a move; `env` must be the run's game.

    Raises:
        ConfigError: one line that names the field and the player.
    """
    folder, step, simulations = find_run(spec, env, field)
    with blamed(spec, field):
        return folder_lib.load(folder, step, env), simulations


def find_run(spec: str, env: Env | None, field: str) -> tuple[Path, int | None, int]:
    """The folder, the step (None: the newest) and the simulations of what `load_run` loads.

    Raises:
        ConfigError: as `load_run`, except for what only loading shows.
    """
    with blamed(spec, field):
        parts = RUN_PARTS.fullmatch(spec)
        try:
            folder = folder_lib.find(parts["run"] if parts else spec)
        except ConfigError:
            forms = [kind.form for kind in KINDS.values()]
            near = suggest(spec[:TEXT], [*forms, RUN])
            raise ValueError(f"no such player, and no run of that name; {near}") from None
        assert parts is not None
        config = settings.load(folder / folder_lib.CONFIG)
        if env and not config.game.source and (own := make_env(config.game)) != env:
            raise ValueError(f"the run plays {own}, not {env}")
        simulations = config.evaluation.simulations
        if parts["colon"]:
            simulations = count(parts["simulations"], "SIMULATIONS", 0, SIMULATIONS)
        return folder, checkpoint_step(folder, parts["step"] or "latest"), simulations


def checkpoint_step(folder: Path, text: str) -> int | None:
    """latest (None), best or a number, as `runs.load` takes it."""
    if text == "latest":
        return None
    return folder_lib.best_step(folder) if text == "best" else count(text, "STEP", 0, 10**9)


def make_device_player(spec: str, env: Env, field: str = "player") -> tuple[Player, Params]:
    """`make_player` of one that plays on the device."""
    found = make_player(spec, env, field)
    if isinstance(found.player, HostPlayer):
        found.player.close()
        raise ConfigError(f"{field}: {quoted(spec, 160)} does not play on the device; `jaxzero match` takes it")
    return found.player, found.params


def check_device_player(spec: str, env: Env, field: str = "player") -> None:
    """ConfigError as `make_device_player`, except for what only loading the checkpoint of a run shows."""
    if spec.partition(":")[0] in KINDS:
        make_device_player(spec, env, field)
    else:
        find_run(spec, env, field)


def count(text: str, what: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
        raise ValueError(f"{what} must be a whole number from {least} to {most}, got {quoted(text)}")
    return int(text)


def require_deterministic(env: Env, what: str) -> None:
    if env.num_outcomes:
        raise ConfigError(f"evaluation: {what} needs a game without chance, and {env.name} has chance outcomes")


def zero(_: Any) -> jax.Array:
    return jnp.float32(0)
