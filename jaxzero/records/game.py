"""What every format of game records shares: a game, a problem found in a file, and replay through the rules.

Letters: G games, T = the longest record that a game's rules allow, P players.
"""

import copy
import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import envs
from jaxzero.config.games import make_env
from jaxzero.config.schema import GameConfig
from jaxzero.messages import shortened

FEW, CHUNK = 16, 256  # games replayed at once
MOST = 240  # characters of a message
LINES = (re.compile(rb"\n"),)  # match the end of the text before a game, where each is a line


@dataclasses.dataclass(frozen=True)
class Game:
    game: str  # a name that `envs.make` takes, or FILE.py:FUNCTION for a game of one's own
    options: dict[str, Any]  # of that game
    moves: list[int]  # actions
    result: tuple[float, ...] | None = None  # reward of each player, None if not known
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    start: str | None = None  # first position as `env.from_text` reads it, None = that of a new game
    outcomes: list[int] | None = None  # of chance, after each move (-1: none was due); None = a game without chance
    line: int = dataclasses.field(default=0, compare=False, repr=False)  # of its file, from 1; 0 = not from a file

    @property
    def env(self) -> envs.Env:
        own = ".py:" in self.game
        return make_env(GameConfig("" if own else self.game, self.game if own else "", self.options))


@dataclasses.dataclass(frozen=True)
class Problem:
    file: str
    line: int  # from 1
    move: int  # from 1; 0 = not about a move
    message: str  # one line, of at most MOST characters

    def __post_init__(self) -> None:
        message = "".join(c if c.isprintable() else "\ufffd" for c in shortened(self.message, MOST))
        object.__setattr__(self, "message", message)  # the one way to set a field here: the class is frozen

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" + (f", move {self.move}" if self.move else "")
        return f"{place}: {self.message}"


class RecordError(Exception):
    """What is wrong with a record: line, number of the move (0 = none), message."""


class Replayed(NamedTuple):
    played: int  # moves before the first illegal one; all of them in a sound record
    over: bool  # the game has ended
    result: tuple[float, ...]  # rewards summed over the moves played


def loosened(env: envs.Env) -> tuple[envs.Env, dict[str, float]]:
    """A registered game with the defaults of its fractional options, such as komi, and these options: as `follow` takes
    them for each record, it is not compiled for each of their values."""
    registered = type(env) in envs.GAMES.values()
    fields = [f for f in dataclasses.fields(env) if registered and f.type is float]  # pyright: ignore[reportArgumentType]
    numbers = {field.name: getattr(env, field.name) for field in fields}
    return dataclasses.replace(env, **{f.name: f.default for f in fields}), numbers  # pyright: ignore[reportArgumentType]


def with_options(env: envs.Env, numbers: dict[str, jax.Array]) -> envs.Env:
    env = copy.copy(env)
    for name, value in numbers.items():
        object.__setattr__(env, name, value)  # the one way to set a field of a frozen class
    return env


@functools.partial(jax.jit, static_argnums=0)
def follow(
    loose: envs.Env,
    numbers: dict[str, jax.Array],
    states: Any,
    actions: jax.Array,
    outcomes: jax.Array,
    longest: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Fractional options f32[G], first positions [G, …], actions i32[T, G], -1 after the last, outcomes of chance
    i32[T, G], -1 where none is due, plies to look at i32[] -> (moves played i32[G], over bool[G], rewards f32[G, P])
    """

    def move(numbers, carry, action, outcome):
        env, (state, sound, played, rewards) = with_options(loose, numbers), carry
        sound &= (action >= 0) & ~state.terminated & env.legal_actions(state)[action]
        after = env.step(state, action)
        if env.num_outcomes:
            possible = (outcome < env.num_outcomes) & (env.outcome_logits(after)[outcome] > -jnp.inf)
            sound &= (after.chance == (outcome >= 0)) & (~after.chance | possible)
            after = env.resolve(after, outcome)
        state = jax.tree.map(lambda new, old: jnp.where(sound, new, old), after, state)
        return state, sound, played + sound, rewards + jnp.where(sound, after.rewards, 0)

    count = len(states.terminated)
    none = (
        jnp.ones(count, bool),
        jnp.zeros(count, jnp.int32),
        jnp.where(states.terminated[:, None], states.rewards, 0.0),
    )
    ply = lambda t, carry: jax.vmap(move)(numbers, carry, actions[t], outcomes[t])  # noqa: E731
    state, _, played, rewards = jax.lax.fori_loop(0, longest, ply, (states, *none))
    return played, state.terminated, rewards


@functools.lru_cache(1 << 14)
def first_state(env: envs.Env, start: str | None) -> Any:
    """The position in the words of `env.to_text`, None: that of a new game.

    Raises:
        ValueError: no position.
    """
    return jax.device_get(env.init(jax.random.key(0)) if start is None else env.from_text(start))


def first_states(env: envs.Env, starts: Sequence[str | None], size: int = CHUNK) -> Any:
    """`size` first positions, those of `starts` before others that are not used."""
    states = [first_state(env, start) for start in [*starts, *[None] * (size - len(starts))]]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def check_moves(game: Game, env: envs.Env) -> None:
    """Raises:
    ValueError: a move that the game has not in any position.
    """
    if strange := [move for move in game.moves if not 0 <= move < env.num_actions]:
        raise ValueError(f"{strange[0]} is no action of {game.game}")


def replay(
    env: envs.Env,
    games: list[list[int]],
    starts: Sequence[str | None] = (),
    outcomes: Sequence[list[int] | None] = (),
) -> list[Replayed]:
    """Plays records from new games, or from positions in the words of `env.to_text`, with the outcomes of chance after
    each move; a move may be any integer, and one after the end is illegal."""
    loose, numbers = loosened(env)
    unknown = [None] * len(games)
    return replay_alike(loose, [numbers] * len(games), games, starts or unknown, outcomes or unknown)


def replay_games(games: Sequence[Game]) -> list[Replayed]:
    """`replay` of records of one game with the same options."""
    columns = ([getattr(game, name) for game in games] for name in ("moves", "start", "outcomes"))
    return replay(games[0].env, *columns)


def replay_alike(
    env: envs.Env,
    numbers: Sequence[dict[str, float]],
    games: Sequence[list[int]],
    starts: Sequence[str | None],
    outcomes: Sequence[list[int] | None],
) -> list[Replayed]:
    """`replay` with fractional options for each record."""
    size = FEW if len(games) <= FEW else CHUNK
    order = sorted(range(len(games)), key=lambda i: len(games[i]))  # alike in length, so that few plies are idle
    found: dict[int, Replayed] = {}
    for first in range(0, len(games), size):
        chosen = order[first : first + size]
        longest = min(env.max_plies, len(games[chosen[-1]])) + 1
        plies = 1 << max(8, longest.bit_length())  # few lengths, as each is compiled
        actions, chance = np.full((2, plies, size), -1, np.int32)
        for row, i in enumerate(chosen):
            moves, drawn = games[i][:longest], (outcomes[i] or [])[:longest]
            known = range(-1, env.num_outcomes)
            actions[: len(moves), row] = [move if 0 <= move < env.num_actions else -1 for move in moves]
            chance[: len(drawn), row] = [outcome if outcome in known else env.num_outcomes for outcome in drawn]
        options = {name: np.zeros(size, np.float32) for name in numbers[0]}
        for name, values in options.items():
            values[: len(chosen)] = [numbers[i][name] for i in chosen]
        states = first_states(env, [starts[i] for i in chosen], size)
        played, over, rewards = jax.device_get(follow(env, options, states, actions, chance, longest))
        for row, i in enumerate(chosen):
            found[i] = Replayed(int(played[row]), bool(over[row]), tuple(rewards[row].tolist()))
    return [found[i] for i in range(len(games))]


class Entry(NamedTuple):
    """A record as written, not yet replayed."""

    file: str
    lines: list[int]  # of the record's begin and of each move
    game: Game  # that it claims


def written(game: Game, action: int) -> str:
    """A move of a game whose moves are written alike in all positions."""
    return game.env.action_to_str(None, action)


def checked_game(entry: Entry, outcome: Replayed, write: Callable[[Game, int], str] = written) -> Game | Problem:
    """The game with the result of its replay, or what the rules object to."""
    file, lines, game = entry
    if outcome.played < len(game.moves):
        move = write(game, game.moves[outcome.played])
        why = "after the end of the game" if outcome.over else "not legal here"
        if game.outcomes is not None and not outcome.over:
            why += f", or its outcome {game.outcomes[outcome.played]} is impossible"
        return Problem(file, lines[outcome.played + 1], outcome.played + 1, f"{move} is {why}")
    if not outcome.over:
        return game  # given up, agreed, or still going on
    if game.result not in (None, outcome.result):
        said = f"the record gives the result {game.result}, its moves lead to {outcome.result}"
        return Problem(file, lines[-1], len(game.moves), said)
    return dataclasses.replace(game, result=outcome.result)


def sift(
    entries: Sequence[Entry], checked_game: Callable[[Entry, Replayed], Game | Problem] = checked_game
) -> list[Game | Problem]:
    """Each record with the result of its replay through the rules, or what is wrong with it."""
    made: dict[tuple, tuple[envs.Env, dict[str, float]]] = {}
    alike: dict[envs.Env, list[tuple[int, dict[str, float]]]] = {}
    for i, (_, _, game) in enumerate(entries):
        key = game.game, *game.options.items()
        if key not in made:
            made[key] = loosened(game.env)
        env, numbers = made[key]
        alike.setdefault(env, []).append((i, numbers))
    checked: dict[int, Game | Problem] = {}
    for env, group in alike.items():
        which, numbers = zip(*group, strict=True)
        games = [entries[i].game for i in which]
        try:
            columns = ([getattr(game, name) for game in games] for name in ("moves", "start", "outcomes"))
            outcomes = replay_alike(env, numbers, *columns)
            checked |= {i: checked_game(entries[i], outcome) for i, outcome in zip(which, outcomes, strict=True)}
        except Exception as error:  # the rules of one's own game may raise anything; other games are still read
            message = f"the rules of {games[0].game} fail: {type(error).__name__}: {error}"
            checked |= {i: Problem(entries[i].file, entries[i].lines[0], 0, message) for i in which}
    return [checked[i] for i in range(len(entries))]
