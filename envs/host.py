"""The rules as programs on the host call them: jitted, compiled once a game and number of positions.

Positions may hold arrays of JAX or numpy. Letters: N positions, A actions.
"""

from functools import partial
from typing import Any

import jax
import numpy as np

from envs.core import Env, State, advance_and_tell


@partial(jax.jit, static_argnums=0)
def init(env: Env, key: jax.Array) -> Any:
    """A new game."""
    return env.init(key)


@partial(jax.jit, static_argnums=0)
def legal_actions(env: Env, state: Any) -> jax.Array:
    """bool[A] of one position."""
    return env.legal_actions(state)


@partial(jax.jit, static_argnums=0)
def advance(env: Env, state: Any, action: Any, key: jax.Array) -> tuple[Any, jax.Array]:
    """`envs.core.advance_and_tell` for one position: the next state, and the outcome of chance i32[]."""
    return advance_and_tell(env, state, action, key)


@partial(jax.jit, static_argnums=0)
def legal_actions_of_all(env: Env, states: Any) -> jax.Array:
    """bool[N, A]."""
    return jax.vmap(env.legal_actions)(states)


@partial(jax.jit, static_argnums=0)
def step_all(env: Env, states: Any, actions: Any) -> Any:
    """`env.step` in N positions with actions i32[N]."""
    return jax.vmap(env.step)(states, actions)


def parse_action(env: Env, state: State, text: str) -> int:
    """The legal action that `action_to_str` writes as `text`; case and outer spaces are ignored.

    Raises:
        ValueError: naming the move and what would be legal.
    """
    if bool(state.terminated):
        raise ValueError(f"{env.name}: move {text!r} after the end of the game")
    legal = np.flatnonzero(np.asarray(legal_actions(env, state)))
    names = {env.action_to_str(state, int(a)): int(a) for a in legal}
    if (move := text.strip().lower()) in names:
        return names[move]
    raise ValueError(f"{env.name}: {text!r} is not a legal move here; legal: {', '.join(names)}")
