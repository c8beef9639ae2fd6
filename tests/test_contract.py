"""Every registered game keeps the contract, and the contract catches games that break one rule each."""

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.contract import check_contract
from envs.core import Env, identity_symmetry, where
from envs.host import parse_action

SQUARES = 4


SHORT = {"2048": {"max_plies": 256}, "backgammon": {"max_plies": 256}, "chess": {"max_plies": 160}, "ur": {"pieces": 4}}


@pytest.mark.parametrize("name", list(envs.GAMES))
def test_registered_game_keeps_the_contract(name):
    """Long games have fewer plies or pieces here, so that random games reach the ply limit."""
    check_contract(envs.make(name, **SHORT.get(name, {})), games=16)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Row:
    stones: jax.Array  # u8[2]  bit a: that player has a stone on square a
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


def bits(stones: Any) -> Any:
    return stones >> np.arange(SQUARES, dtype=np.uint8) & 1 == 1


@dataclasses.dataclass(frozen=True)
class Pairs(Env):
    """Stones on a row of four squares; two neighbours of one's own win, a full row is a draw."""

    name = "pairs"
    num_actions = SQUARES
    observation_shape = (SQUARES, 2)
    max_plies = SQUARES
    max_legal = SQUARES

    def init(self, key):
        return Row(jnp.zeros(2, jnp.uint8), jnp.int8(0), jnp.bool(False), jnp.zeros(2, jnp.float32))

    def step(self, state, action):
        placed = state.stones.at[state.player].set(
            state.stones[state.player] | jnp.uint8(1) << action.astype(jnp.uint8)
        )
        mine = placed[state.player]
        won = (mine & mine >> 1) != 0
        rewards = jnp.where(won, jnp.where(jnp.arange(2) == state.player, 1.0, -1.0), 0.0).astype(jnp.float32)
        after = Row(placed, (1 - state.player).astype(jnp.int8), won | (placed[0] | placed[1] == 15), rewards)
        ended = dataclasses.replace(state, rewards=jnp.zeros(2, jnp.float32))
        return where(state.terminated, ended, after)

    def legal_actions(self, state):
        return state.terminated | ~bits(state.stones[0] | state.stones[1])

    def observe(self, state):
        sides = bits(state.stones[state.player]), bits(state.stones[1 - state.player])
        return jnp.stack(sides, -1).astype(jnp.float32)

    @property
    def symmetries(self):
        return identity_symmetry(SQUARES), (lambda view: view[::-1], np.arange(SQUARES - 1, -1, -1, dtype=np.int32))

    def action_to_str(self, state, action):
        return "abcd"[action]

    def action_from_str(self, state, text):
        return parse_action(self, state, text)

    def to_text(self, state):
        return "".join("X" if x else "O" if o else "." for x, o in zip(*map(bits, state.stones), strict=True))

    def from_text(self, text):
        if len(text) != SQUARES or set(text) - set("XO."):
            raise ValueError(f"not a position: {text!r}")
        stones = jnp.array([sum(1 << i for i, mark in enumerate(text) if mark == side) for side in "XO"], jnp.uint8)
        over = "XX" in text or "OO" in text or "." not in text
        player = jnp.int8(text.count("X") - text.count("O"))
        return Row(stones, player, jnp.bool(over), jnp.zeros(2, jnp.float32))

    def to_svg(self, state, before=None):
        return "<svg xmlns='http://www.w3.org/2000/svg'/>"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Walk:
    place: jax.Array  # i8[]
    plies: jax.Array  # i8[]
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]
    chance: jax.Array  # bool[]


@dataclasses.dataclass(frozen=True)
class Drunkards(Env):
    """Each ply moves a walker one step left or right, then a coin does; player 0 wins if it is home after four."""

    name = "drunkards"
    num_actions = 2
    observation_shape = (2,)
    max_plies = 4
    max_legal = 2
    num_outcomes = 2

    def init(self, key):
        return Walk(jnp.int8(0), jnp.int8(0), jnp.int8(0), jnp.bool(False), jnp.zeros(2, jnp.float32), jnp.bool(False))

    def step(self, state, action):
        plies = state.plies + jnp.int8(1)
        over = plies == 4
        place = state.place + jnp.where(action == 1, 1, -1).astype(jnp.int8)
        rewards = jnp.where(over, jnp.where(place == 0, 1.0, -1.0), 0.0) * jnp.array([1.0, -1.0])
        after = Walk(place, plies, (1 - state.player).astype(jnp.int8), over, rewards.astype(jnp.float32), ~over)
        ended = dataclasses.replace(state, rewards=jnp.zeros(2, jnp.float32))
        return where(state.terminated, ended, after)

    def outcome_logits(self, state):
        return jnp.log(jnp.full(2, 0.5, jnp.float32))

    def resolve(self, state, outcome):
        moved = dataclasses.replace(
            state, place=state.place + jnp.where(outcome == 1, 1, -1).astype(jnp.int8), chance=jnp.bool(False)
        )
        return where(state.chance, moved, state)

    def legal_actions(self, state):
        return jnp.ones(2, bool)

    def observe(self, state):
        return jnp.stack([state.place, state.plies]).astype(jnp.float32)

    @property
    def symmetries(self):
        return identity_symmetry(2), (lambda view: view * jnp.array([-1.0, 1.0]), np.array([1, 0], np.int32))

    def action_to_str(self, state, action):
        return "lr"[action]

    def action_from_str(self, state, text):
        return parse_action(self, state, text)

    def to_text(self, state):
        return f"{state.place} {state.plies}"

    def from_text(self, text):
        try:
            place, plies = map(int, text.split())
        except ValueError:
            raise ValueError(f"not a position: {text!r}") from None
        first = self.init(jax.random.key(0))
        return dataclasses.replace(
            first,
            place=jnp.int8(place),
            plies=jnp.int8(plies),
            player=jnp.int8(plies % 2),
            terminated=jnp.bool(plies == 4),
        )

    def to_svg(self, state, before=None):
        return "<svg/>"


def mutant(base: type[Env], **changes) -> Env:
    """`base` with some members replaced."""
    return dataclasses.dataclass(frozen=True)(type("Mutant", (base,), changes))()


def changed(method: str, change: Callable, base: type[Env] = Pairs) -> Env:
    """`base` whose `method` returns `change(its result, *its arguments)`."""
    return mutant(base, **{method: lambda self, *args: change(getattr(base, method)(self, *args), *args)})


def edit(**fields) -> Callable:
    """A change of a state: each field becomes `function(state, *arguments)`."""
    return lambda new, *args: dataclasses.replace(new, **{name: field(new, *args) for name, field in fields.items()})


def mirror_twice(actions) -> property:
    return property(lambda self: (identity_symmetry(SQUARES), (lambda view: view[::-1], np.array(actions, np.int32))))


@jax.custom_batching.custom_vmap
def not_in_a_batch(x):
    return x


@not_in_a_batch.def_vmap
def _(axis_size, in_batched, x):
    return 2 * x, in_batched[0]


@dataclasses.dataclass(frozen=True)
class Listed(Pairs):
    options: list = dataclasses.field(default_factory=list)


def with_leaf(make_leaf: Callable) -> Env:
    """Pairs whose state has one more leaf, computed from the rest."""

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Wide(Row):
        more: jax.Array

    def widen(row):
        return Wide(**{f.name: getattr(row, f.name) for f in dataclasses.fields(Row)}, more=make_leaf(row))

    def member(method):
        return lambda self, *args: widen(getattr(Pairs, method)(self, *args))

    def step(self, state, action):
        row = Row(state.stones, state.player, state.terminated, state.rewards)
        return widen(Pairs.step(self, row, action))

    return mutant(Pairs, init=member("init"), step=step, from_text=member("from_text"))


def key_error(self, state, text):
    return {"a": 0, "b": 1, "c": 2, "d": 3}[text]


BROKEN = {
    "not a frozen dataclass": type("Bare", (Pairs,), {})(),
    "not hashable": Listed(),
    "name is not a string": mutant(Pairs, name=7),
    "max_plies is not a positive int": mutant(Pairs, max_plies=0),
    "max_legal exceeds num_actions": mutant(Pairs, max_legal=5),
    "num_outcomes is not an int": mutant(Pairs, num_outcomes=-1),
    "observation_shape is": mutant(Pairs, observation_shape=[4, 2]),
    "state is not a frozen dataclass": mutant(Pairs, init=lambda self, key: {"player": jnp.int8(0)}),
    "state.player is int32": changed("init", edit(player=lambda s, *_: jnp.int32(0))),
    "state.rewards is float32[3]": changed("init", edit(rewards=lambda s, *_: jnp.zeros(3, jnp.float32))),
    "state.chance is missing": mutant(Pairs, num_outcomes=2),
    "legal_actions is int32": changed("legal_actions", lambda legal, state: legal.astype(jnp.int32)),
    "observe is bool": changed("observe", lambda view, state: view == 1),
    "observe is float32[2, 4]": changed("observe", lambda view, state: view.T),
    "step returns a state of another type": changed("step", edit(player=lambda s, *_: s.player.astype(jnp.int32))),
    "weakly typed": changed("step", edit(rewards=lambda s, *_: jnp.full(2, jnp.where(s.terminated, 0.0, 0.0)))),
    "symmetry 1 are not a permutation": mutant(Pairs, symmetries=mirror_twice([3, 2, 1, 1])),
    "changes the shape": mutant(
        Pairs, symmetries=property(lambda self: (identity_symmetry(4), (lambda view: view.T, np.arange(4))))
    ),
    "first symmetry is not the identity": mutant(Pairs, symmetries=property(lambda self: Pairs().symmetries[::-1])),
    "symmetries lack the identity": mutant(Pairs, symmetries=()),
    "symmetric games have symmetric observations": mutant(Pairs, symmetries=mirror_twice([3, 1, 2, 0])),
    "symmetric games have symmetric legal actions": changed("legal_actions", lambda legal, s: legal.at[0].set(True)),
    "symmetric games earn the same rewards": changed(
        "step", edit(rewards=lambda new, old, action: new.rewards * jnp.where(action == 0, 0.5, 1.0))
    ),
    "symmetric games end together": changed(
        "step", edit(terminated=lambda new, old, action: new.terminated | (action == 0))
    ),
    "symmetric games have the same player": changed(
        "step", edit(player=lambda new, old, action: jnp.where((action == 0) & ~old.terminated, old.player, new.player))
    ),
    "another that init gives": changed("observe", lambda view, state: view + jnp.arange(8.0).reshape(4, 2)),
    "player 0 begins": changed("init", edit(player=lambda s, *_: jnp.int8(1))),
    "begins with zero rewards": changed("init", edit(rewards=lambda s, *_: jnp.array([1.0, -1.0]))),
    "does not begin terminated": changed("init", edit(terminated=lambda s, *_: jnp.bool(True))),
    "a live position has a legal action": changed(
        "legal_actions", lambda legal, state: legal & (state.terminated | (state.stones.sum() < 3))
    ),
    "all actions are legal in a terminal position": changed(
        "legal_actions", lambda legal, state: ~bits(state.stones[0] | state.stones[1])
    ),
    "more legal actions than max_legal = 3": mutant(Pairs, max_legal=3),
    "a game is longer than max_plies = 3": mutant(Pairs, max_plies=3),
    "zeroes the rewards": changed(
        "step", edit(rewards=lambda new, old, action: jnp.where(old.terminated, old.rewards, new.rewards))
    ),
    "a step after the end changes nothing": changed(
        "step", edit(player=lambda new, old, action: jnp.where(old.terminated, 1 - old.player, new.player))
    ),
    "player is a number from 0": changed("step", edit(player=lambda new, *_: new.player + jnp.int8(1))),
    "rewards are finite": changed("step", edit(rewards=lambda new, *_: new.rewards / new.rewards)),
    "observations are finite": changed("observe", lambda view, state: view / (state.stones.sum() < 3)),
    "two players sum to zero": changed("step", edit(rewards=lambda new, *_: jnp.abs(new.rewards))),
    "repeats the observation": with_leaf(Pairs().observe),
    "repeats the legal actions": with_leaf(lambda row: ~Pairs().legal_actions(row)),
    "more than 72": with_leaf(lambda row: jnp.zeros(20, jnp.int32)),
    "called again": changed("observe", lambda view, state: view + np.random.rand()),
    "observe gives other results under jit": changed(
        "observe",
        lambda view, state: view + isinstance(view, jax.core.Tracer),  # pyright: ignore[reportAttributeAccessIssue]
    ),
    "legal_actions gives other results under vmap": changed(
        "legal_actions", lambda legal, state: not_in_a_batch(legal.astype(jnp.int32)) == 1
    ),
    "changes state.player": changed("from_text", edit(player=lambda s, *_: jnp.int8(0))),
    "from_text('') is accepted": mutant(Pairs, from_text=lambda self, text: Pairs().from_text(text or "....")),
    "from_text('') raises IndexError": mutant(Pairs, from_text=lambda self, text: text[0] and Pairs().from_text(text)),
    "to_svg gives no XML": mutant(Pairs, to_svg=lambda self, state: "<svg>"),
    "not an <svg>": mutant(Pairs, to_svg=lambda self, state: "<html/>"),
    "written alike": changed("action_to_str", lambda text, *_: text.replace("b", "a")),
    "action_from_str('a') gives 1, not 0": changed("action_from_str", lambda action, *_: action ^ 1),
    "action_from_str('no such move') raises KeyError": mutant(Pairs, action_from_str=key_error),
    "is refused without naming it": mutant(Pairs, action_from_str=lambda self, s, text: "abcd".index(text)),
    "is accepted": mutant(Pairs, action_from_str=lambda self, s, text: max(0, "abcd".find(text))),
    "first roll is already resolved": changed("init", edit(chance=lambda s, *_: jnp.bool(True)), Drunkards),
    "no step sets `chance`": changed("step", edit(chance=lambda s, *_: jnp.bool(False)), Drunkards),
    "no outcome is due in a terminal": changed(
        "step", edit(chance=lambda new, old, action: ~old.terminated), Drunkards
    ),
    "outcome_logits is float32[2]": mutant(Drunkards, num_outcomes=3),
    "that sum to one": changed("outcome_logits", lambda logits, state: logits + 1, Drunkards),
    "leaves player and rewards": changed(
        "resolve", edit(player=lambda new, old, _: jnp.where(old.chance, 0, new.player).astype(jnp.int8)), Drunkards
    ),
    "settles the outcome": changed("resolve", edit(chance=lambda new, old, _: old.chance), Drunkards),
    "where no outcome is due": changed("resolve", edit(place=lambda new, *_: new.place + jnp.int8(1)), Drunkards),
    "advance is a step and then": mutant(Drunkards, advance=lambda self, state, action, key: self.step(state, action)),
    "broken at ply 1 after actions": changed(
        "outcome_logits", lambda logits, state: jnp.log(jnp.array([0.3, 0.7])), Drunkards
    ),
}


@pytest.mark.parametrize("env", [Pairs(), Drunkards()], ids=lambda env: env.name)
def test_sound_toy_keeps_the_contract(env):
    check_contract(env, games=16)


TEXTS = ("action_to_str", "action_from_str", "to_text", "from_text", "to_board", "to_svg")


@pytest.mark.parametrize("base", [Pairs, Drunkards])
def test_a_game_without_texts_of_its_own_keeps_the_contract(base):
    env = mutant(base, **{name: vars(Env)[name] for name in TEXTS})
    check_contract(env, games=8)
    first = env.init(jax.random.key(0))
    assert env.action_from_str(first, "1") == 1
    for text in ("", "[]", "{}", "no JSON", env.to_text(first)[:-1], env.to_text(first).replace("0", '"x"', 1)):
        with pytest.raises(ValueError, match="not a position"):
            env.from_text(text)
    assert "&lt;" in mutant(Pairs, to_board=lambda self, state: "<&", to_svg=Env.to_svg).to_svg(first)


def test_a_method_that_is_not_there_is_named():
    with pytest.raises(NotImplementedError, match="Mutant has no method observe; write it as"):
        check_contract(mutant(Pairs, observe=Env.observe), games=8)


@pytest.mark.parametrize("message", list(BROKEN))
def test_broken_game_is_caught(message):
    with pytest.raises(AssertionError) as caught:
        check_contract(BROKEN[message], games=16)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", list(envs.GAMES))
def test_auto_reset_leaks_nothing(name):
    """Trap 5: after a reset every leaf is that of a new game; a live game is left alone."""
    env = envs.make(name, **SHORT.get(name, {}))
    key = jax.random.key(3)
    state = fresh = env.init(key)
    legal, step, renew = (jax.jit(f) for f in (env.legal_actions, env.advance, partial(envs.auto_reset, env)))
    plies = map(jax.random.key, itertools.count())
    while not state.terminated:
        renewed = renew(state, key)
        assert all(map(np.array_equal, jax.tree.leaves(renewed), jax.tree.leaves(state)))
        state = step(state, jnp.argmax(legal(state)), next(plies))
    renewed = renew(state, key)
    assert not np.array_equal(jax.tree.leaves(state)[0], jax.tree.leaves(fresh)[0])
    assert all(map(np.array_equal, jax.tree.leaves(renewed), jax.tree.leaves(fresh)))
