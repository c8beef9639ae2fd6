"""Players: pure functions that choose moves, and opponents by name.

Letters: B batch (games), A actions, M `env.max_legal` slots.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from envs import Env, State, suggest
from jaxzero.config import ConfigError
from jaxzero.models import Params
from jaxzero.models.simulator import mask
from jaxzero.networks import Prediction
from jaxzero.search import Search

Player = Callable[[Params, jax.Array, Any], jax.Array]
"""`player(params, keys[B], states) -> actions i32[B]`, one key a game; legal unless the game is over."""

OPPONENTS = ["random", "minimax:DEPTH"]
LEAVES = 1 << 18  # leaves of minimax in memory at once
BRANCH = 1 << 10  # and at once below one node, in trees larger than that


def random_player(env: Env) -> Player:
    """Plays any legal action, all equally likely."""

    def play(params, keys, states):
        return jax.vmap(lambda key, state: uniform(key, env.legal_actions(state)))(keys, states)

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
        return actions[uniform(key, values == values.max())]

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


def legal_slots(env: Env, state: State) -> tuple[jax.Array, jax.Array]:
    """used bool[M] and actions i32[M]: the legal actions of a position first, then others to fill the slots."""
    legal = env.legal_actions(state)
    if env.max_legal == env.num_actions:
        return legal, jnp.arange(env.num_actions, dtype=jnp.int32)
    used, actions = jax.lax.top_k(legal.astype(jnp.int32), env.max_legal)
    return used > 0, actions


def make_opponent(name: str, env: Env) -> Player:
    """An opponent of `evaluation.opponents`: "random" or "minimax:DEPTH". It ignores its parameters."""
    kind, _, depth = name.partition(":")
    if name == "random":
        return random_player(env)
    if kind == "minimax" and depth.isdecimal() and int(depth) > 0:
        return minimax_player(env, int(depth))
    raise ConfigError(f"evaluation.opponents: unknown opponent {name!r}; {suggest(name, OPPONENTS)}")


def require_deterministic(env: Env, what: str) -> None:
    if env.num_outcomes:
        raise ConfigError(f"evaluation: {what} needs a game without chance, and {env.name} has chance outcomes")


def uniform(key: jax.Array, allowed: jax.Array) -> jax.Array:
    """One index of bool[N] drawn from the allowed ones, i32[]."""
    return jax.random.categorical(key, jnp.where(allowed, 0.0, -jnp.inf)).astype(jnp.int32)


def zero(_: Any) -> jax.Array:
    return jnp.float32(0)
