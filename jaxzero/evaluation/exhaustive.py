"""Every game that an opponent can force on a deterministic agent: exact for small games.

Letters: N positions, A actions.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from envs import Env
from envs.host import legal_actions_of_all, step_all
from jaxzero.config.schema import ConfigError
from jaxzero.evaluation.players import require_deterministic

BATCH = 256  # positions in one call, always, so that nothing is traced twice


def exhaustive(env: Env, act: Callable[[Any], jax.Array], limit: int = 100_000, batch: int = BATCH) -> dict[str, Any]:
    """Plays `act(states) -> actions i32[batch]`, a pure function of the state, against every legal reply.

    Returns, JSON-ready, for the agent as "first" and as "second" player: how many "lines" (sequences of replies) and
    how many distinct final "positions" it wins, draws and loses, and the positions "visited" on the way.

    Raises:
        ConfigError: the game has chance, or more than `limit` positions would be visited.
    """
    require_deterministic(env, "evaluation.exhaustive")
    return {name: one_side(env, act, side, limit, batch) for side, name in enumerate(("first", "second"))}


def one_side(env: Env, act: Callable[[Any], jax.Array], side: int, limit: int, batch: int) -> dict[str, Any]:
    states = jax.tree.map(lambda x: np.asarray(x)[None], env.init(jax.random.key(0)))
    lines, lead = np.ones(1, np.int64), np.zeros(1, np.float32)
    visited, ends = 0, []
    while len(lines):
        visited += len(lines)
        if visited > limit:
            raise ConfigError(
                f"evaluation.exhaustive: {env.name} has more than {limit} positions to visit; set it to false"
            )
        moves = np.array(batched(partial(legal_actions_of_all, env), batch, states))
        mine = np.flatnonzero(states.player == side)
        if len(mine):
            actions = batched(act, batch, take(states, mine))
            if not moves[mine, actions].all():
                raise ValueError("exhaustive: the agent chose an illegal action")
            moves[mine] = np.arange(env.num_actions) == actions[:, None]
        parents, actions = np.nonzero(moves)
        states = batched(partial(step_all, env), batch, take(states, parents), actions.astype(np.int32))
        lead = lead[parents] + states.rewards[:, side] - states.rewards[:, 1 - side]
        states, lead, lines = merge(states, lead, lines[parents])
        over = states.terminated
        ends.append(take((states, lead, lines), over))
        states, lead, lines = take((states, lead, lines), ~over)
    _, lead, lines = merge(*jax.tree.map(lambda *x: np.concatenate(x), *ends))
    signs = (("wins", 1), ("draws", 0), ("losses", -1))
    return {
        "visited": visited,
        "lines": {name: int(lines[np.sign(lead) == sign].sum()) for name, sign in signs},
        "positions": {name: int((np.sign(lead) == sign).sum()) for name, sign in signs},
    }


def batched(function: Callable[..., Any], batch: int, *args: Any) -> Any:
    """`function(*args)` for numpy trees of any length N > 0, `batch` rows at a time, the last ones repeated as
    padding. Padding is marked terminated, which players that search may skip."""
    count = len(jax.tree.leaves(args)[0])
    parts = []
    for start in range(0, count, batch):
        rows = np.arange(start, start + batch)
        states, *rest = take(args, np.minimum(rows, count - 1))
        states = dataclasses.replace(states, terminated=states.terminated | (rows >= count))
        parts.append(take(jax.device_get(function(states, *rest)), rows < count))
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def take(tree: Any, index: np.ndarray) -> Any:
    return jax.tree.map(lambda x: x[index], tree)


def merge(states: Any, lead: np.ndarray, lines: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
    """Equal positions (with an equal lead) made one, their lines added."""
    columns = [np.ascontiguousarray(x).reshape(len(lines), -1).view(np.uint8) for x in (*jax.tree.leaves(states), lead)]
    _, first, group = np.unique(np.concatenate(columns, 1), axis=0, return_index=True, return_inverse=True)
    total = np.zeros(len(first), np.int64)
    np.add.at(total, group.reshape(-1), lines)
    return take(states, first), lead[first], total
