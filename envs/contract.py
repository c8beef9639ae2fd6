"""The contract that every game keeps, checked on random play: `check_contract(env)`.

Run it on a game of your own before training on it. A broken rule raises AssertionError that says which.
Letters: T plies, G games, S symmetries without the identity, A actions, K chance outcomes.
"""

import dataclasses
import itertools
import math
import xml.etree.ElementTree as ElementTree
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import host
from envs.core import Env, State, random_action

STARTS = 256  # first positions among which a symmetric copy of a first position is looked for


class Trace(NamedTuple):
    """Random games. The name of a rule is the message for when it is broken."""

    states: Any  # [T, G, …]  before each ply; T = max_plies + 1
    actions: jax.Array  # i32[T, G]
    due: jax.Array  # bool[T, G]  the ply led to a chance outcome
    rules: dict[str, jax.Array]  # bool[T, G] or bool[T, G, S]


def check_contract(env: Env, games: int = 32, seed: int = 0) -> None:
    """Plays `games` random games and checks every rule of the game interface on them.

    Raises:
        AssertionError: naming the game and the broken rule.
    """
    check_facts(env)
    check_types(env)
    check_symmetries(env)
    check_execution(env, seed)
    trace = jax.device_get(jax.jit(partial(play, env, games))(jax.random.key(seed)))
    broken = []
    for message, kept in trace.rules.items():
        if not kept.all():
            ply, game, *symmetry = (int(i) for i in np.argwhere(~kept)[0])
            where = f"at ply {ply} after actions {trace.actions[:ply, game].tolist()}"
            broken.append(f"{message}; broken {where}" + "".join(f" under symmetry {i + 1}" for i in symmetry))
    demand(env, not broken, "\n".join(broken))
    demand(env, trace.states.terminated[-1].all(), f"a game is longer than max_plies = {env.max_plies}")
    demand(env, not env.num_outcomes or trace.due.any(), "num_outcomes > 0, but no step sets `chance`")
    positions = sample_positions(trace)
    check_state_is_small(env, positions)
    for state, _ in positions:
        check_text(env, state)
        check_moves(env, state, positions[0][0])


def demand(env: Env, kept: Any, message: str) -> None:
    if not bool(kept):
        raise AssertionError(f"{getattr(env, 'name', type(env).__name__)}: {message}")


def same(a: Any, b: Any) -> jax.Array:
    """Whether two pytrees agree bit for bit in every leaf, bool[]."""
    return jnp.stack(
        [jnp.array_equal(x, y, equal_nan=True) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)]
    ).all()


def check_facts(env: Env) -> None:
    parameters = type(env).__dict__.get("__dataclass_params__")
    demand(env, parameters is not None and parameters.frozen, "the game is not a frozen dataclass")
    try:
        copy = dataclasses.replace(env)  # pyright: ignore[reportArgumentType]
        demand(env, copy == env and hash(copy) == hash(env), "equal options do not make equal games")
    except TypeError as error:
        raise AssertionError(f"{env.name}: the game is not hashable ({error})") from error
    demand(env, isinstance(env.name, str) and env.name, "name is not a string")
    for fact in ("num_actions", "num_players", "max_plies", "max_legal"):
        value = getattr(env, fact)
        demand(env, isinstance(value, int) and value > 0, f"{fact} is not a positive int: {value!r}")
    demand(env, env.max_legal <= env.num_actions, "max_legal exceeds num_actions")
    demand(env, isinstance(env.num_outcomes, int) and env.num_outcomes >= 0, "num_outcomes is not an int >= 0")
    shape = env.observation_shape
    demand(env, isinstance(shape, tuple) and all(n > 0 for n in shape), f"observation_shape is {shape!r}")


def check_types(env: Env) -> None:
    """Dtypes and shapes, and that every function returns states of one type (so that they can be scanned)."""
    first = jax.eval_shape(env.init, jax.random.key(0))
    action = jax.ShapeDtypeStruct((), jnp.int32)
    frozen = dataclasses.is_dataclass(first) and type(first).__dataclass_params__.frozen  # pyright: ignore
    demand(env, frozen, "the state is not a frozen dataclass")
    demand(env, jax.tree.leaves(first), "the state is not a registered pytree")
    wanted = {"player": ((), jnp.int8), "terminated": ((), jnp.bool), "rewards": ((env.num_players,), jnp.float32)}
    if env.num_outcomes:
        wanted["chance"] = ((), jnp.bool)
    for field, kind in wanted.items():
        demand_type(env, f"state.{field}", getattr(first, field, None), *kind)
    demand_type(env, "legal_actions", jax.eval_shape(env.legal_actions, first), (env.num_actions,), jnp.bool)
    demand_type(env, "observe", jax.eval_shape(env.observe, first), env.observation_shape, jnp.float32)
    results = {"step": jax.eval_shape(env.step, first, action)}
    if env.num_outcomes:
        demand_type(env, "outcome_logits", jax.eval_shape(env.outcome_logits, first), (env.num_outcomes,), jnp.float32)
        results["resolve"] = jax.eval_shape(env.resolve, first, action)
    for function, result in results.items():
        unlike = f"{function} returns a state of another type than init"
        demand(env, jax.tree.structure(result) == jax.tree.structure(first), unlike)
        for (path, leaf), other in zip(jax.tree.leaves_with_path(first), jax.tree.leaves(result), strict=True):
            agree = (leaf.shape, leaf.dtype, leaf.weak_type) == (other.shape, other.dtype, other.weak_type)
            demand(env, agree, f"{unlike}: {jax.tree_util.keystr(path)} {describe(leaf)} became {describe(other)}")


def demand_type(env: Env, what: str, got: Any, shape: tuple[int, ...], dtype: Any) -> None:
    kept = hasattr(got, "dtype") and (got.shape, got.dtype) == (shape, jnp.dtype(dtype))
    demand(env, kept, f"{what} is {describe(got)}, not {jnp.dtype(dtype)}{list(shape)}")


def describe(leaf: Any) -> str:
    weak = "weakly typed " if getattr(leaf, "weak_type", False) else ""
    return f"{weak}{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "dtype") else "missing"


def check_symmetries(env: Env) -> None:
    """Identity first; actions are permutations; observations keep their shape."""
    ramp = np.arange(math.prod(env.observation_shape), dtype=np.float32).reshape(env.observation_shape)
    for i, (transform, actions) in enumerate(env.symmetries):
        permutation = actions.shape == (env.num_actions,) and (np.sort(actions) == np.arange(env.num_actions)).all()
        demand(env, permutation, f"the actions of symmetry {i} are not a permutation")
        seen = np.asarray(transform(jnp.asarray(ramp)))
        demand(env, seen.shape == ramp.shape, f"symmetry {i} changes the shape of the observation to {seen.shape}")
        if i == 0:
            identity = (seen == ramp).all() and (actions == np.arange(env.num_actions)).all()
            demand(env, identity, "the first symmetry is not the identity")
    demand(env, len(env.symmetries) > 0, "symmetries lack the identity")


def check_execution(env: Env, seed: int) -> None:
    """Results are equal when called twice, compiled or not, with or without a batch."""

    def everything(key, action):
        state = env.init(key)
        after = env.step(state, action)
        result = {"init": state, "step": after}
        result |= {"legal_actions": env.legal_actions(after), "observe": env.observe(after)}
        if env.num_outcomes:
            result |= {"outcome_logits": env.outcome_logits(after), "resolve": env.resolve(after, jnp.int32(0))}
        return result

    key = jax.random.key(seed)
    inputs = key, jnp.argmax(env.legal_actions(env.init(key))).astype(jnp.int32)
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), inputs)
    plain = everything(*inputs)
    others = {
        "gives other results when called again with the same inputs": everything(*inputs),
        "gives other results under jit": jax.jit(everything)(*inputs),
        "gives other results under vmap": jax.tree.map(lambda leaf: leaf[1], jax.jit(jax.vmap(everything))(*batch)),
    }
    for (message, other), name in itertools.product(others.items(), plain):
        demand(env, same(plain[name], other[name]), f"{name} {message}")


# Random play, traced: everything below here down to `chance_rules` runs under jit, one game at a time under vmap.


def play(env: Env, games: int, key: jax.Array) -> Trace:
    """Random games, each beside its symmetric copies."""
    start, pool, moves = jax.random.split(key, 3)
    states = jax.vmap(env.init)(jax.random.split(start, games))
    pool = jax.vmap(env.init)(jax.random.split(pool, STARTS))
    copies, known = jax.vmap(partial(symmetric_copies, env, pool))(states)

    def ply(carry, key):
        states, copies = carry
        keys = jax.random.split(key, games)
        after, copies, action, due, rules = jax.vmap(partial(one_ply, env))(states, copies, known, keys)
        return (after, copies), (states, action, due, rules)

    first = jax.vmap(partial(start_rules, env), (0, None))(states, known.any(0))
    _, (states, actions, due, rules) = jax.lax.scan(ply, (states, copies), jax.random.split(moves, env.max_plies + 1))
    return Trace(states, actions, due, {message: kept[None] for message, kept in first.items()} | rules)


def symmetric_copies(env: Env, pool: State, state: State) -> tuple[State, jax.Array]:
    """For each symmetry the first position of `pool` that looks like `state` transformed: states [S, …], and
    whether there is one, bool[S]."""
    seen = jax.vmap(env.observe)(pool)
    wanted = transformed(env, env.observe(state))
    match = (seen[None] == wanted[:, None]).all(tuple(range(2, seen.ndim + 1)))  # [S, STARTS]
    return jax.tree.map(lambda leaf: leaf[jnp.argmax(match, -1)], pool), match.any(-1)


def transformed(env: Env, observation: jax.Array) -> jax.Array:
    """The observation under each symmetry but the identity, [S, …]."""
    views = [transform(observation) for transform, _ in env.symmetries[1:]]
    return jnp.stack(views) if views else jnp.zeros((0, *observation.shape), observation.dtype)


def one_ply(
    env: Env, state: State, copies: State, known: jax.Array, key: jax.Array
) -> tuple[State, State, jax.Array, jax.Array, dict[str, jax.Array]]:
    """Plays a random action in a game and its copies -> (state, copies, action, due, rules)."""
    choose, chance, again = jax.random.split(key, 3)
    legal = env.legal_actions(state)
    action = random_action(choose, legal)
    after = env.step(state, action)
    rules = move_rules(env, state, after, legal) | symmetry_rules(env, state, copies, known)
    permutations = np.stack([actions for _, actions in env.symmetries])[1:]
    copies = jax.vmap(env.step)(copies, jnp.asarray(permutations)[:, action])
    if not env.num_outcomes:
        return after, copies, action, jnp.bool(False), rules
    logits = env.outcome_logits(after)
    outcome = jax.random.categorical(chance, logits)
    resolved = env.resolve(after, outcome)
    rules |= chance_rules(env, state, after, resolved, outcome, env.advance(state, action, again))
    wanted = transformed(env, env.observe(resolved))
    copies = jax.vmap(partial(matching_outcome, env, logits[outcome]))(copies, wanted)
    return resolved, copies, action, after.chance, rules


def start_rules(env: Env, state: State, known: jax.Array) -> dict[str, jax.Array]:
    """`known` bool[S]: whether a symmetric copy of any first position was found."""
    rules = {
        "player 0 begins": state.player == 0,
        "a game begins with zero rewards": (state.rewards == 0).all(),
        "a game does not begin terminated": ~state.terminated,
        "a symmetry makes of a first position another that init gives": known,
    }
    if env.num_outcomes:
        rules["a first roll is already resolved by init"] = ~state.chance
    return rules


def move_rules(env: Env, state: State, after: State, legal: jax.Array) -> dict[str, jax.Array]:
    live = ~state.terminated
    ended = dataclasses.replace(state, rewards=jnp.zeros_like(state.rewards))
    rules = {
        "a live position has a legal action": legal.any(),
        "all actions are legal in a terminal position": live | legal.all(),
        f"no position has more legal actions than max_legal = {env.max_legal}": ~live | (legal.sum() <= env.max_legal),
        "a step after the end changes nothing but zeroes the rewards": live | same(after, ended),
        "player is a number from 0 to num_players - 1": (after.player >= 0) & (after.player < env.num_players),
        "rewards are finite": jnp.isfinite(after.rewards).all(),
        "observations are finite": jnp.isfinite(env.observe(state)).all(),
    }
    if env.num_players == 2:
        rules["the rewards of two players sum to zero"] = jnp.abs(after.rewards.sum()) < 1e-6
    return rules


def symmetry_rules(env: Env, state: State, copies: State, known: jax.Array) -> dict[str, jax.Array]:
    """A game and its copies [S, …], where the images of the same actions were played."""
    images = jnp.asarray(np.stack([actions for _, actions in env.symmetries])[1:])
    image_legal = jnp.take_along_axis(jax.vmap(env.legal_actions)(copies), images, 1)
    alike = jax.vmap(env.observe)(copies) == transformed(env, env.observe(state))
    alike = alike.all(tuple(range(1, alike.ndim)))  # a reshape could not do without any copy
    return {
        "symmetric games have symmetric observations": ~known | alike,
        "symmetric games have symmetric legal actions": ~known
        | (image_legal == env.legal_actions(state)[None]).all(-1),
        "symmetric games have the same player to move": ~known | (copies.player == state.player),
        "symmetric games end together": ~known | (copies.terminated == state.terminated),
        "symmetric games earn the same rewards": ~known | (copies.rewards == state.rewards[None]).all(-1),
    }


def matching_outcome(env: Env, logit: jax.Array, copy: State, wanted: jax.Array) -> State:
    """The copy after an outcome as probable as `logit` that makes it look like `wanted`."""
    after = jax.vmap(env.resolve, (None, 0))(copy, jnp.arange(env.num_outcomes))
    alike = (jax.vmap(env.observe)(after) == wanted[None]).reshape(env.num_outcomes, -1).all(-1)
    best = jnp.argmax(alike & (jnp.abs(env.outcome_logits(copy) - logit) < 1e-5))
    return jax.tree.map(lambda leaf: leaf[best], after)


def chance_rules(
    env: Env, state: State, after: State, resolved: State, outcome: jax.Array, advanced: State
) -> dict[str, jax.Array]:
    """`state` -> `after` its step -> `resolved` with `outcome`; `advanced` is `state` after `advance`."""
    logits = env.outcome_logits(after)
    kept = (resolved.player == after.player) & (resolved.rewards == after.rewards).all()
    total = jax.nn.logsumexp(jnp.where(after.chance, logits, -math.log(env.num_outcomes)))
    everything = jax.vmap(env.resolve, (None, 0))(after, jnp.arange(env.num_outcomes))
    possible = (jax.vmap(same, (0, None))(everything, advanced) & (logits > -jnp.inf)).any()
    return {
        "no outcome is due in a terminal position": ~(after.terminated & after.chance),
        "outcome_logits are log-probabilities that sum to one": jnp.abs(total) < 1e-4,
        "resolve leaves player and rewards as they are": kept,
        "resolve settles the outcome (clears `chance`)": ~resolved.chance,
        "resolve changes nothing where no outcome is due": same(env.resolve(resolved, outcome), resolved),
        "advance is a step and then a possible outcome": possible | (~after.chance & same(after, advanced)),
    }


# On the host, on a few positions of the trace.


def sample_positions(trace: Trace) -> list[tuple[State, jax.Array]]:
    """(state, action played) from the beginning, middle and end of some games."""
    plies = trace.states.terminated.argmax(0)  # [G] length of each game
    picks = [(ply, g) for g, n in enumerate(plies[:6]) for ply in sorted({0, n // 3, n // 2, n - 1, n})]
    return [(jax.tree.map(lambda x: jnp.asarray(x[p]), trace.states), jnp.asarray(trace.actions[p])) for p in picks]  # noqa: B023


def check_state_is_small(env: Env, positions: list[tuple[State, jax.Array]]) -> None:
    """The state is packed and holds nothing that can be computed: the search stores one for every node."""
    live = jax.tree.map(lambda *leaves: np.stack(leaves), *(state for state, _ in positions if not state.terminated))
    seen, legal = jax.jit(lambda s: (jax.vmap(env.observe)(s), jax.vmap(env.legal_actions)(s)))(live)
    for path, leaf in jax.tree.leaves_with_path(live):
        flat = leaf.reshape(len(leaf), -1)
        name = f"state{jax.tree_util.keystr(path)}"
        repeats = flat.shape == seen.reshape(len(seen), -1).shape and (flat == seen.reshape(flat.shape)).all()
        demand(env, not repeats, f"{name} repeats the observation: compute it in observe")
        mask = flat.shape == legal.shape and leaf.dtype == bool and ((flat == legal).all() or (flat != legal).all())
        demand(env, not mask, f"{name} repeats the legal actions: compute them in legal_actions")
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(positions[0][0]))
    bound = 64 + math.prod(env.observation_shape)
    demand(
        env,
        size <= bound or not env.packed,
        f"a state takes {size} bytes, more than {bound} (64 + one for each observed number)",
    )


def check_text(env: Env, state: State) -> None:
    """to_text and from_text are inverse; text that is no position is refused; to_svg gives XML."""
    text = env.to_text(state)
    again = env.from_text(text)
    for path, leaf in jax.tree.leaves_with_path(state):
        other = dict(jax.tree.leaves_with_path(again)).get(path)
        alike = other is not None and other.dtype == leaf.dtype and np.array_equal(other, leaf)
        name = jax.tree_util.keystr(path)
        demand(env, alike or name == ".rewards", f"from_text(to_text(state)) changes state{name} of {text!r}")
    for garbage in ("", "no such position", text + " and more of it"):
        must_refuse(env, garbage, f"from_text({garbage!r})", lambda: env.from_text(garbage), naming=False)  # noqa: B023
    try:
        root = ElementTree.fromstring(env.to_svg(state))
    except ElementTree.ParseError as error:
        raise AssertionError(f"{env.name}: to_svg gives no XML ({error})") from error
    demand(env, root.tag.endswith("svg"), f"to_svg gives a <{root.tag}>, not an <svg>")


def check_moves(env: Env, state: State, first: State) -> None:
    """action_to_str and action_from_str are inverse on legal actions; other moves are refused."""
    legal = [int(action) for action in np.flatnonzero(np.asarray(host.legal_actions(env, state)))]
    names = {} if state.terminated else {env.action_to_str(state, action): action for action in legal}
    demand(env, state.terminated or len(names) == len(legal), f"two legal actions are written alike: {sorted(names)}")
    for name, action in list(names.items())[:: max(1, len(names) // 8)]:
        got = env.action_from_str(state, name)
        demand(env, got == action, f"action_from_str({name!r}) gives {got}, not {action}")
    start = {env.action_to_str(first, int(a)) for a in np.flatnonzero(np.asarray(host.legal_actions(env, first)))}
    for move in ["no such move", *sorted(start - set(names))[:2]]:
        must_refuse(env, move, f"action_from_str({move!r})", lambda: env.action_from_str(state, move))  # noqa: B023


def must_refuse(env: Env, text: str, call: str, function: Any, naming: bool = True) -> None:
    """Demands a ValueError, whose message contains `text` if `naming`."""
    try:
        function()
    except ValueError as error:
        demand(env, not naming or text in str(error), f"{call} is refused without naming it: {error}")
    except Exception as error:
        raise AssertionError(f"{env.name}: {call} raises {type(error).__name__}, not ValueError") from error
    else:
        demand(env, False, f"{call} is accepted")
