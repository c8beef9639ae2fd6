"""The game interface: what every game provides, and auto-reset.

A game is a frozen, hashable object of static facts and pure functions over one unbatched state; callers `vmap`.
Letters used beside shapes: A actions, P players, K chance outcomes.

A state is a frozen dataclass registered as a pytree (`jax.tree_util.register_dataclass`) with at least

    player      i8[]    who moves next; player 0 begins; need not alternate
    terminated  bool[]
    rewards     f32[P]  earned by the last step
    chance      bool[]  an outcome is due (only when `num_outcomes > 0`)

and otherwise holds only what the rules need, packed: the search keeps one state for every tree node and the replay
one for every position, so no observation, no legal mask, nothing derivable.
"""

import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import svg
from envs.backend import materialized

State = Any
Symmetry = tuple[Callable[[jax.Array], jax.Array], np.ndarray]


class Env:
    """Base class of games. Subclasses are frozen dataclasses whose fields are the game's options.

    Attributes a game sets:
        name: the registry name.
        num_actions: A.
        num_players: P.
        observation_shape: shape of one observation, without batch.
        max_plies: no game is longer; the game's own rules end it there.
        max_legal: no position has more legal actions.
        num_outcomes: K, the number of chance outcomes; 0 for a deterministic game.
        marks: who each player is on a board, such as "X" and "O".
        packed: states are as small as the contract asks; an adapter of another library's states may say False.
    """

    name: str
    num_actions: int
    num_players: int = 2
    observation_shape: tuple[int, ...]
    max_plies: int
    max_legal: int
    num_outcomes: int = 0
    marks: tuple[str, ...] = ()
    packed: bool = True

    def init(self, key: jax.Array) -> State:
        """First position of a new game; where a game begins with a roll, it is already resolved."""
        raise lacking(self, "init")

    def step(self, state: State, action: jax.Array) -> State:
        """Plays a legal action. On a terminal state: the same state with rewards zeroed."""
        raise lacking(self, "step")

    def legal_actions(self, state: State) -> jax.Array:
        """bool[A]; all True on a terminal state."""
        raise lacking(self, "legal_actions")

    def observe(self, state: State) -> jax.Array:
        """f32[*observation_shape], as the player to move sees it."""
        raise lacking(self, "observe")

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """Pairs (observation -> observation, actions i32[A]), identity first.

        Action `a` in the game corresponds to `actions[a]` in the transformed game.
        """
        return (identity_symmetry(self.num_actions),)

    # Text in and out, on the host. Illegal input raises ValueError naming it. A finished two-player game is read with
    # its rewards; the score of a one-player game is not part of a position. A game without methods of its own writes
    # numbers.

    def action_to_str(self, state: State, action: int) -> str:
        return str(action)

    def action_from_str(self, state: State, text: str) -> int:
        from envs.host import parse_action  # late: it needs this module

        return parse_action(self, state, text)

    def to_text(self, state: State) -> str:
        """The arrays of the state, as JSON."""
        return json.dumps([np.asarray(leaf).tolist() for leaf in jax.tree.leaves(state)])

    def from_text(self, text: str) -> State:
        return state_from_json(self, text)

    def to_board(self, state: State) -> str:
        """The position for display in a terminal, with the names of squares; it is never parsed."""
        return self.to_text(state)

    def to_svg(self, state: State, before: State | None = None) -> str:
        """An SVG drawing that marks the last move. Where the state does not store that move, it is found by comparison
        with the position `before` it; without one nothing is marked. Here: `to_board` as text."""
        return svg.text_board(self.to_board(state))

    # Chance, for games with num_outcomes > 0.

    def outcome_logits(self, state: State) -> jax.Array:
        """f32[K], log-probabilities of the outcomes due in an afterstate."""
        raise lacking(self, "outcome_logits")

    def resolve(self, state: State, outcome: jax.Array) -> State:
        """Applies the outcome; keeps player and rewards, may set terminated; identity if none is due."""
        return state

    def advance(self, state: State, action: jax.Array, key: jax.Array) -> State:
        """`step`, then a sampled chance outcome where one is due: the next decision, in any game."""
        return advance_and_tell(self, state, action, key)[0]


def lacking(env: Env, method: str) -> NotImplementedError:
    return NotImplementedError(f"{type(env).__name__} has no method {method}; write it as envs.core.Env describes")


def state_from_json(env: Env, text: str) -> State:
    """The state of `Env.to_text`.

    Raises:
        ValueError: it is none of this game.
    """
    leaves, structure = jax.tree.flatten(jax.eval_shape(env.init, jax.random.key(0)))
    try:
        found = [np.asarray(value, leaf.dtype) for value, leaf in zip(json.loads(text), leaves, strict=True)]
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{env.name}: not a position: {text[:80]!r}") from error
    if any(value.shape != leaf.shape for value, leaf in zip(found, leaves, strict=True)):
        raise ValueError(f"{env.name}: not a position: {text[:80]!r}")
    return jax.tree.unflatten(structure, [jnp.asarray(value) for value in found])


def identity_symmetry(num_actions: int) -> Symmetry:
    return (lambda observation: observation), np.arange(num_actions, dtype=np.int32)


def square_symmetries(size: int, extra_actions: int = 0) -> tuple[Symmetry, ...]:
    """The eight symmetries of a square, identity first: k quarter turns, after a left-right mirror or not.

    For observations [size, size, ...] and actions row·size + column, then `extra_actions` (a pass) that stay fixed.
    """
    return tuple(_square_symmetry(size, extra_actions, turns, mirror) for mirror in (False, True) for turns in range(4))


def _square_symmetry(size: int, extra_actions: int, turns: int, mirror: bool) -> Symmetry:
    def transform(board):
        flipped = board[:, ::-1] if mirror else board
        return (np if isinstance(board, np.ndarray) else jnp).rot90(flipped, turns)

    # transform() says which old square each new square shows; actions needs the inverse.
    squares = size * size
    source = transform(np.arange(squares).reshape(size, size)).reshape(-1)
    actions = np.concatenate([np.argsort(source), np.arange(squares, squares + extra_actions)])
    return transform, actions.astype(np.int32)


def direction_symmetries() -> tuple[Symmetry, ...]:
    """The eight symmetries of a square for actions 0 left, 1 up, 2 right, 3 down: quarter turns to the left, plain and
    after a mirror."""
    plain, flipped = np.arange(4, dtype=np.int32), np.array([2, 1, 0, 3], np.int32)
    return tuple(
        (lambda view, k=k, side=side: jnp.rot90(view[:, ::side], k), (actions - k) % 4)
        for side, actions in ((1, plain), (-1, flipped))
        for k in range(4)
    )


def random_action(key: jax.Array, legal: jax.Array) -> jax.Array:
    """One of the legal actions bool[A], each with the same probability, i32[]."""
    return jax.random.categorical(key, jnp.where(legal, 0.0, -jnp.inf)).astype(jnp.int32)


def sample_outcome(key: jax.Array, logits: jax.Array) -> jax.Array:
    """An outcome i32[] drawn from log-probabilities f32[K] with one random number; `categorical` draws K of them."""
    total = jnp.cumsum(jnp.exp(logits))
    return jnp.argmax(total > jax.random.uniform(key) * total[-1]).astype(jnp.int32)


def earned(lead: Any, player: int = 0) -> jax.Array:
    """Rewards f32[2] of two players: `player` earns `lead` (1 or True for a win) and the other loses it."""
    lead = float(lead) * (1 - 2 * player)
    # `or` turns -0 into 0.
    return jnp.array([lead or 0.0, -lead or 0.0], jnp.float32)


def where(condition: jax.Array, on_true: Any, on_false: Any) -> Any:
    """`jnp.where` of arrays or whole pytrees, without its `jit`: many nested calls take long to trace and compile."""

    def select(x: Any, y: Any) -> jax.Array:
        shape, dtype = jnp.broadcast_shapes(condition.shape, jnp.shape(x), jnp.shape(y)), jnp.result_type(x, y)
        fit = lambda z: jnp.broadcast_to(z.astype(dtype), shape) if jnp.ndim(z) else jax.lax.full(shape, z, dtype)  # noqa: E731
        return jax.lax.select(jnp.broadcast_to(condition, shape) if condition.ndim else condition, fit(x), fit(y))

    return jax.tree.map(select, on_true, on_false)


def appended(legal: jax.Array, last: jax.Array) -> jax.Array:
    """The mask bool[N] followed by `last` bool[] -> bool[N + 1]."""
    return materialized(jnp.append(legal, last))


def auto_reset(env: Env, state: State, key: jax.Array) -> State:
    """A fresh game in place of a finished one; any other state unchanged."""
    return where(state.terminated, env.init(key), state)


def advance_and_tell(env: Env, state: State, action: jax.Array, key: jax.Array) -> tuple[State, jax.Array]:
    """`step`, then a sampled outcome where one is due. Returns the state and the outcome i32[], -1 if none was due."""
    state = env.step(state, action)
    if not env.num_outcomes:
        return state, jnp.int32(-1)
    outcome = sample_outcome(key, env.outcome_logits(state))
    return env.resolve(state, outcome), jnp.where(state.chance, outcome, -1)


@functools.cache
def begins_alike(env: Env) -> bool:
    """Whether all games begin in the same position, with nothing drawn at random."""
    return len({env.to_text(env.init(jax.random.key(seed))) for seed in range(8)}) == 1


def random_opening(env: Env, key: jax.Array, plies: int) -> tuple[State, jax.Array]:
    """A new game after 0 to `plies` random legal plies, and their number i32[], uniformly drawn. No game ends in it."""
    _, state, moves, _ = opening_moves(env, key, plies)
    return state, (moves >= 0).sum(dtype=jnp.int32)


def opening_moves(env: Env, key: jax.Array, plies: int) -> tuple[State, State, jax.Array, jax.Array]:
    """A random opening: its first and last position, its moves i32[plies] and the outcomes after them i32[plies].

    Both are -1 after the last move, outcomes also where none was due.
    """
    first, length, moves = jax.random.split(key, 3)
    wanted = jax.random.randint(length, (), 0, plies + 1)
    start = env.init(first)

    def ply(i, carry):
        state, played, drawn = carry
        choose, chance = jax.random.split(jax.random.fold_in(moves, i))
        action = random_action(choose, env.legal_actions(state))
        after, outcome = advance_and_tell(env, state, action, chance)
        keep = (i < wanted) & ~after.terminated
        here = keep & (jnp.arange(plies) == (played >= 0).sum())
        return where(keep, after, state), jnp.where(here, action, played), jnp.where(here, outcome, drawn)

    none = jnp.full(plies, -1, jnp.int32)
    return start, *jax.lax.fori_loop(0, plies, ply, (start, none, none))
