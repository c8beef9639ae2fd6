"""Properties of every search: tactics, legal moves, independence of the games of a batch, move sampling."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nim import Nim, nim_value
from oracles import also
from tables import COUNT, KEY, ROWS, keys, look_up, positions, searcher, table, uninformed

import envs
from jaxzero.models import Model, simulator
from jaxzero.search import SEARCHES, TreeConfig
from jaxzero.search.base import sample_action

TREE_KINDS = [kind for kind, (cls, _) in SEARCHES.items() if issubclass(cls, TreeConfig)]
SETTINGS = {
    **{kind: {"kind": kind} for kind in SEARCHES},
    **{f"{kind} by mctx": {"kind": kind, "engine": "mctx"} for kind in TREE_KINDS},
    "gumbel in rounds": {"kind": "gumbel", "rounds": True},
}
TREES = {name: settings for name, settings in SETTINGS.items() if settings["kind"] in TREE_KINDS}
each_search = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
each_tree_search = pytest.mark.parametrize("settings", TREES.values(), ids=TREES)
each_game = pytest.mark.parametrize("game", ["tic_tac_toe", *also("connect_four", "othello")])


@functools.cache
def watched(env: envs.Env) -> Model:
    """The table's model where an illegal action pays a million: one visit anywhere would show in the root value."""
    model = simulator.make(env, look_up)

    def decision(params, key, actions, states):
        output, after = model.decision(params, key, actions, states)
        legal = jnp.take_along_axis(jax.vmap(env.legal_actions)(states), actions[:, None], 1)[:, 0]
        return output._replace(reward=jnp.where(legal, output.reward, 1e6)), after

    return Model(model.root, decision)


def exploring(settings, game: str):
    """The search that most tests of any search share; of `ROWS` rows."""
    env = envs.make(game)
    return searcher(env, watched(env), explore=True, simulations=32, epsilon=0.3, **settings)


def legal_in(env: envs.Env, states) -> np.ndarray:
    return np.asarray(jax.vmap(env.legal_actions)(states))


def repeat(state, count: int):
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), state)


def stack(states):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


TACTICS = {  # board, the moves that hold what can be had
    "tic_tac_toe": [
        ("XX. OO. ...", "c3"),  # a win in 1, X to move
        ("XX. OO. X..", "c2"),  # a win in 1, O
        ("OO. X.. .X.", "c3"),  # a loss to be blocked, X
        ("XX. O.. ...", "c3"),  # a loss to be blocked, O
        ("XXO O.. ...", "b2"),  # a win in 3, X
        ("XXO ..O ..X", "b2"),  # a win in 3, O
    ],
    "connect_four": [
        ("....... ....... ....... O...... O...... OXXX...", "5"),  # as above
        ("....... ....... ....... X...... X...... XOOO..X", "5"),
        ("....... ....... ....... ....... X...... XOOO..X", "5"),
        ("....... ....... ....... ....... O...... OXXX...", "5"),
        ("....... ....... ....... ....... ..O.... O.XX...", "5"),
        ("....... ....... ....... ....... ..XX... X.OO...", "5"),
    ],
}


@each_tree_search
@pytest.mark.parametrize("game", TACTICS)
def test_tactics(settings, game):
    """With uniform priors and values of zero the tree alone must find the move."""
    env = envs.make(game)
    states = [env.from_text(board) for board, _ in TACTICS[game]]
    run = searcher(env, simulations=512, **settings)
    result = run(uninformed(env), keys(len(states)), stack(states))
    played = [env.action_to_str(state, int(a)) for state, a in zip(states, result.action, strict=True)]
    assert played == [move for _, move in TACTICS[game]]


@each_tree_search
def test_extra_turns(settings):
    """The same in a game where the mover may move again."""
    env, heaps = Nim(), np.arange(2, 10)
    states = jax.vmap(lambda left: dataclasses.replace(env.init(KEY), left=left))(jnp.asarray(heaps, jnp.int32))
    result = searcher(env, simulations=600, **settings)(uninformed(env), keys(len(heaps)), states)
    for left, action, value in zip(heaps.tolist(), result.action, result.value, strict=True):
        assert nim_value(left, int(action) + 1) == nim_value(left)
        assert value * nim_value(left) > 0.3


@each_search
@each_game
def test_no_illegal_action_is_visited_at_any_depth(settings, game):
    env = envs.make(game)
    states, run = positions(env, ROWS), exploring(settings, game)
    legal = legal_in(env, states)
    assert (~legal).any()
    for params in (table(env), uninformed(env)):
        result = run(params, keys(ROWS), states, 1.0)
        assert (np.abs(result.value) <= 1).all()
        assert legal[np.arange(ROWS), result.action].all()
        assert (result.policy[~legal] == 0).all()
        assert (result.visits[~legal] == 0).all()
        np.testing.assert_allclose(result.policy.sum(-1), 1, atol=1e-5)
        np.testing.assert_array_equal(result.policy_weight, np.ones(ROWS))


@each_search
@each_game
def test_a_row_does_not_depend_on_the_others(settings, game):
    """A game's result is the same at any index of the batch and (once for each search) in a batch of another size."""
    env = envs.make(game)
    states, others = positions(env, ROWS), positions(env, ROWS, 2)
    params, run = table(env), exploring(settings, game)
    result = run(params, keys(ROWS), states, 1.0)
    rows = np.arange(ROWS // 2)[::-1]
    mixed = jax.tree.map(lambda x, y: jnp.concatenate([y[: ROWS // 2], x[rows]]), states, others)
    batches = [(keys(ROWS)[np.concatenate([rows, rows])], mixed)]
    if game == "tic_tac_toe":
        batches.append((keys(ROWS)[rows[-1:]], jax.tree.map(lambda x: x[rows[-1:]], states)))
    for sub, batch in batches:
        part = run(params, sub, batch, 1.0)
        expected = rows[-len(sub) :]
        for field in ("action", "policy", "visits"):
            found = getattr(part, field)[-len(expected) :]
            np.testing.assert_array_equal(found, getattr(result, field)[expected])
        np.testing.assert_allclose(part.value[-len(expected) :], result.value[expected], atol=1e-6)


@each_tree_search
def test_only_exploration_depends_on_the_key(settings):
    env = envs.make("tic_tac_toe")
    states, params = positions(env, COUNT), table(env)
    run = still(settings)
    first, second = (run(params, keys(COUNT, seed), states) for seed in (0, 1))
    np.testing.assert_array_equal(first.action, second.action)
    np.testing.assert_array_equal(first.policy, second.policy)
    env = envs.make("connect_four")
    run, states, params = exploring(settings, "connect_four"), positions(env, ROWS), table(env)
    first, second = (run(params, keys(ROWS, seed), states) for seed in (0, 1))
    assert (first.policy != second.policy).any(-1).mean() > 0.5


def still(settings):
    """A search of tic-tac-toe without noise, of `COUNT` rows."""
    return searcher(envs.make("tic_tac_toe"), simulations=16, epsilon=0.5, **settings)


@each_search
@pytest.mark.parametrize("simulations", [12, *also(1)])
def test_the_sampled_move_is_independent_of_the_noise(settings, simulations):
    """Given the policy, the sampled move must be independent of the root noise."""
    env = envs.make("tic_tac_toe")
    states = repeat(env.init(KEY), COUNT)
    noise = {"dirichlet_alpha": 1.0} if settings.get("kind") == "puct" else {}
    run = searcher(env, explore=True, simulations=simulations, **noise, **settings)
    best, drawn = (run(uninformed(env), keys(COUNT), states, temperature) for temperature in (0.0, 1.0))
    favoured = best.policy[np.arange(COUNT), best.action]
    if settings["kind"] == "gumbel" and simulations == 1:
        np.testing.assert_allclose(favoured, 1 / 9, rtol=1e-5)
    surprise = (best.action == drawn.action) - favoured
    assert abs(surprise.mean()) <= 4 * math.sqrt((favoured * (1 - favoured)).mean() / COUNT) + 1e-6


# The move played.

POLICY = jnp.array([0.5, 0.0, 0.2, 0.3, 0.0, 0.0])
LEGAL = jnp.array([True, False, True, True, True, False])
BEST = 2
DRAWS = 20_000
draw = jax.jit(sample_action, static_argnums=5)


def drawn(temperature: float, epsilon: float = 0.0) -> np.ndarray:
    """How often each action is sampled, as a share of `DRAWS` draws."""
    tile = lambda x: jnp.tile(x, (DRAWS, 1))  # noqa: E731
    best = jnp.full(DRAWS, BEST)
    actions = draw(keys(DRAWS), tile(POLICY), best, tile(LEGAL), jnp.full(DRAWS, temperature), epsilon)
    return np.bincount(actions, minlength=6) / DRAWS


@pytest.mark.parametrize("epsilon", [0.0, 0.4])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_shares_of_the_moves_played(temperature, epsilon):
    sampled = np.asarray(POLICY) ** (1 / temperature) if temperature else np.eye(6)[BEST]
    expected = (1 - epsilon) * sampled / sampled.sum() + epsilon * np.asarray(LEGAL) / 4
    shares = drawn(temperature, epsilon)
    assert (shares[expected == 0] == 0).all()
    np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / math.sqrt(DRAWS))


@each_search
def test_temperature(settings):
    """Temperature 0 plays the search's own choice for any sampling key; 1 samples from the returned policy."""
    env = envs.make("tic_tac_toe")
    states = repeat(env.from_text("XO. ... ..."), COUNT)
    run, params = still(settings), table(env)
    assert len(set(run(params, keys(COUNT), states).action.tolist())) == 1
    result = run(params, keys(COUNT), states, 1.0)
    shares = np.bincount(result.action, minlength=9) / COUNT
    np.testing.assert_allclose(shares, result.policy[0], atol=4 * 0.5 / math.sqrt(COUNT))


@each_search
def test_a_model_of_wrong_shapes_is_refused(settings):
    """A single value for all games would be broadcast silently."""
    env = envs.make("tic_tac_toe")
    model = simulator.make(env, look_up)

    def root(params, states):
        found = model.root(params, states)
        return found._replace(value=found.value[:1])

    search = searcher(env, Model(root, model.decision), **settings)
    with pytest.raises(AssertionError):
        jax.eval_shape(search, table(env), keys(4), positions(env, 4), 0.0)
