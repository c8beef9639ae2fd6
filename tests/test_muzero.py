"""MuZero: whose value it is, no rules inside the tree, reanalyse, resumption, chance."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import search_config
from test_muzero_losses import game, short, windows

import envs
from envs.core import random_opening
from envs.tic_tac_toe import TicTacToe
from jaxzero import models, networks, search
from jaxzero.config.schema import Config, LearnerConfig, ReplayConfig, SelfPlayConfig
from jaxzero.networks import DynamicsOutput, Latent, MuZeroConvConfig, MuZeroMlpConfig, Prediction
from jaxzero.runs import table
from jaxzero.search import GumbelConfig, Search, SearchOutput
from jaxzero.training import iteration, learner
from jaxzero.training.losses import muzero_loss

ENV = envs.make("tic_tac_toe")
FORMS = {
    "mlp": MuZeroMlpConfig(hidden_dim=16, latent_dim=8, value="wdl", projection=4),
    "conv": MuZeroConvConfig(channels=4, blocks=1, value="categorical", support=2, projection=4),
}


# Network and search


@pytest.fixture(scope="module", params=list(FORMS))
def modelled(request):
    network = networks.make(FORMS[request.param], ENV)
    return network, lively(network, 0.1)


def lively(network, noise):
    """Folded initial parameters, moved away from zeros."""
    rng = np.random.default_rng(0)
    params = jax.device_get(jax.jit(network.init)(jax.random.key(0)))["params"]
    return jax.tree.map(lambda x: np.float32(x + noise * rng.normal(size=x.shape)), params)


@functools.cache
def some_states():
    """Four positions."""
    play = jax.jit(jax.vmap(lambda key: random_opening(ENV, key, 4)[0]))
    return jax.device_get(play(jax.random.split(jax.random.key(5), 4)))


def test_what_a_network_says(modelled):
    network, params = modelled

    @jax.jit
    def ask(params, observation, action):
        latent = network.latent.represent(params, observation)
        after = network.latent.dynamics(params, latent, action)
        return latent, after, network.latent.predict(params, after.latent), network.infer(params, observation)

    observation = jax.vmap(ENV.observe)(some_states())
    latent, after, said, at_root = ask(params, observation, jnp.arange(4))
    for one in (latent, after.latent):
        flat = np.asarray(one).reshape(4, -1)
        np.testing.assert_allclose(flat.min(1), 0, atol=1e-6)
        np.testing.assert_allclose(flat.max(1), 1, atol=1e-3)
    assert not np.allclose(latent, after.latent)
    same, other, _ = np.asarray(jax.nn.softmax(after.to_play)).T
    np.testing.assert_allclose(after.discount, same - other, rtol=1e-5, atol=1e-6)
    assert said.logits.shape == at_root.logits.shape == (4, 9)
    assert after.reward.shape == (4,)
    _, others, _, _ = ask(params, observation, jnp.arange(4) + 1)
    assert not np.allclose(others.latent, after.latent)


@dataclasses.dataclass(frozen=True)
class Sealed(TicTacToe):
    """Its rules raise; what is seen and what is legal may be asked about the positions that are searched, once each."""

    asked: list = dataclasses.field(default_factory=list, hash=False)

    def step(self, state, action):
        raise AssertionError("the rules were asked inside the tree")

    def legal_actions(self, state):
        self.asked.append("legal")
        return super().legal_actions(state)

    def observe(self, state):
        self.asked.append("seen")
        return super().observe(state)


@pytest.mark.parametrize("engine", ["tree", "mctx"])
@pytest.mark.parametrize("kind", ["gumbel", "puct"])
def test_the_tree_asks_no_rules(kind, engine):
    sealed = Sealed()
    network = networks.make(FORMS["mlp"], ENV)
    params = jax.eval_shape(network.init, jax.random.key(0))["params"]

    def run(made: Search):
        states = some_states()
        keys = jax.random.split(jax.random.key(0), 4)
        sealed.asked.clear()
        return jax.eval_shape(lambda params: made.run(params, keys, states, (), jnp.ones(4), True)[0], params)

    config = search_config(kind, engine=engine)
    run(search.make(config, sealed, models.make(sealed, network), 8))
    assert sorted(sealed.asked) == ["legal", "seen"]
    with pytest.raises(AssertionError, match="rules were asked"):
        run(search.make(config, sealed, models.simulator.make(sealed, network.infer), 8))


@pytest.mark.parametrize("kind", ["gumbel", "puct"])
def test_our_tree_agrees_with_mctx_and_masks_the_root(kind):
    network = networks.make(FORMS["mlp"], ENV)
    params = lively(network, 0.3)
    states, keys = some_states(), jax.random.split(jax.random.key(0), 4)
    results = []
    for engine in ("tree", "mctx"):
        made = search.make(search_config(kind, engine=engine), ENV, models.make(ENV, network), 12)
        run = jax.jit(lambda params, made=made: made.run(params, keys, states, (), jnp.zeros(4), False)[0])
        results.append(run(params))
    ours, theirs = results
    np.testing.assert_array_equal(ours.visits, theirs.visits)
    np.testing.assert_allclose(ours.policy, theirs.policy, atol=1e-5)
    np.testing.assert_allclose(ours.value, theirs.value, atol=1e-5)
    assert not np.any(np.where(jax.vmap(ENV.legal_actions)(states), 0.0, ours.policy))


@pytest.mark.parametrize(("to_play", "expected"), [("same", 0.25 + 0.5), ("other", 0.25 - 0.5), ("end", 0.25)])
def test_whose_value_a_learned_child_has(to_play, expected):
    """Reward to who acted, plus the next value with the sign of who moves next; no illegal action is masked below."""
    logits = 50.0 * jax.nn.one_hot(("same", "other", "end").index(to_play), 3)

    def dynamics(params, latent, action):
        chance = jax.nn.softmax(logits)
        quarter = jnp.full(len(action), 0.25)
        return DynamicsOutput(latent, quarter, jnp.full(len(action), chance[0] - chance[1]), {}, logits)

    def predict(params, latent):
        half = jnp.full(len(latent), 0.5)
        return Prediction(jnp.zeros((len(latent), 9)), half, {"value": half})

    latent = Latent(lambda params, observation: jnp.zeros((len(observation), 1)), dynamics, predict)
    network = networks.Network(lambda key: {}, lambda *_: None, lambda x: x, lambda *_: None, latent=latent)  # pyright: ignore
    model = models.make(ENV, network)
    states = some_states()
    said, _ = model.decision((), jax.random.key(0), jnp.zeros(4, jnp.int32), model.root((), states).embedding)
    np.testing.assert_allclose(said.reward + said.discount * said.value, expected, rtol=1e-6)
    assert np.ptp(np.asarray(said.prior_logits)) == 0
    assert not np.array_equal(model.root((), states).prior_logits, np.zeros((4, 9)))


# Reanalyse and whole iterations

CONFIG = Config(
    iterations=3, devices=1, network=FORMS["mlp"], search=GumbelConfig(simulations=4),
    selfplay=SelfPlayConfig(games=8, plies=6, opening_plies=1), replay=ReplayConfig(capacity=8 * 24, window=64),
    learner=LearnerConfig(
        batch=16, replay_ratio=1.0, warmup=0, unroll=2, value_loss="wdl", consistency_weight=0.5, reanalyse=0.25
    ),
)  # fmt: skip


def test_reanalyse_renews_a_share(monkeypatch):
    """Found values 0.9, -0.5, 0.4 make the λ-returns that they would have made when the game was played."""
    fresh = jnp.float32([0.9, -0.5, 0.4])

    def run(params, keys, states, carry, temperature, explore):
        count = len(keys)
        policy = jnp.zeros((count, 9)).at[:, 8].set(1.0)
        return SearchOutput(
            jnp.full(count, 8), policy, jnp.tile(fresh, count // 3), jnp.full(count, 0.5), policy, policy
        ), carry

    monkeypatch.setattr(learner.search, "make", lambda *_: Search(lambda states: (), run))
    config = dataclasses.replace(CONFIG, learner=LearnerConfig(reanalyse=0.5, td_lambda=0.7))
    reanalyse = learner.make_reanalyse(ENV, networks.make(FORMS["mlp"], ENV), config)
    old = windows(short(), 2, td_lambda=0.7).value[0]
    played = jax.tree.map(lambda x: np.broadcast_to(x[:, 0][None], (4, *x[:, 0].shape)), short())
    renewed, value = jax.jit(reanalyse)(
        {"params": {}}, played, jnp.tile(jnp.asarray(old)[None], (4, 1)), jax.random.key(0)
    )
    again = dataclasses.replace(short(), value=np.asarray(fresh)[:, None])
    np.testing.assert_allclose(value[:2], np.tile(windows(again, 2, td_lambda=0.7).value[0], (2, 1)), rtol=1e-5)
    np.testing.assert_allclose(value[2:], np.tile(old, (2, 1)))
    chosen = np.where(np.asarray(played.moves[0]) == 8, 1.0, 0.0)
    np.testing.assert_allclose(renewed.weights[:2], np.tile(chosen, (2, 1, 1)))
    np.testing.assert_allclose(renewed.weights[2:], played.weights[2:])
    assert renewed.policy_weight[:, 0].tolist() == [0.5, 0.5, 1.0, 1.0]


def test_iterations_learn_and_resume_exactly():
    steps = iteration.make(CONFIG, ENV)

    def run(state, count):
        sums, metrics = {}, {}
        for _ in range(count):
            state, sums = steps.self_play(state)
            state, metrics = steps.learn(state)
        return state, iteration.averages(CONFIG, jax.device_get(sums), jax.device_get(metrics))

    state, _ = run(steps.init(np.int32(0)), 1)
    saved = jax.tree.map(np.array, state)
    whole, row = run(state, 2)
    restored = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), saved, steps.abstract)
    again, _ = run(restored, 2)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.array, whole), jax.tree.map(np.array, again))
    assert int(whole.train_state.step) > 0
    terms = {
        "policy_loss",
        "value_loss",
        "reward_loss",
        "to_play_loss",
        "consistency_loss",
        "reward_error",
        "latent_norm",
    }
    assert terms <= set(row)
    assert all(map(table.find, row))
    assert {f"unroll/value_error_{k}" for k in range(3)} <= set(row)


def test_a_model_of_one_game_is_learned():
    """Every game that is played alike: rewards, values, policies and who moves next are all said right in the end."""
    line = game((0, 3, 1, 4, 2), (0.0, 0.0, 0.0, 0.0, 1.0), (0, 1, 0, 1, 0), (0.0,) * 5)
    config = LearnerConfig(augment=False, td_lambda=1.0, lr=1e-2, warmup=0, value_loss="wdl", unroll=5)
    made = windows(line, 5, td_lambda=1.0)
    network = networks.make(dataclasses.replace(FORMS["mlp"], projection=0, hidden_dim=64), ENV)
    assert network.latent is not None
    optimizer = optax.adam(3e-3)
    params = jax.jit(network.init)(jax.random.key(0))["params"]
    function = network.latent

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            gradient = jax.grad(lambda p: muzero_loss(config, function, p, made)["loss"].mean())(params)
            changes, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, changes), state), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), None, 400)
        return params, muzero_loss(config, function, params, made)

    _, result = train(params)
    assert float(result["reward_error"].max()) < 0.2
    assert float(result["value_error"].max()) < 0.2
    assert float(result["to_play_loss"].max()) < 0.2


# Chance

CHANCE = MuZeroMlpConfig(hidden_dim=8, latent_dim=4, value="categorical", support=3, codes=5)


def test_codes_of_a_window_are_learned_where_something_was_seen():
    """The code that the encoder finds likeliest teaches the afterstate, not where the game has ended; the latent that
    follows is made with it, and passes its gradient to the encoder."""
    whole = networks.make(CHANCE, ENV)
    network, params = whole.latent, lively(whole, 1.0)
    assert network is not None
    assert network.encode is not None
    assert network.settle is not None
    encode, settle = network.encode, network.settle
    played = jax.tree.map(lambda x: x[:, 0][None], short())
    config = LearnerConfig(augment=False, value_loss="categorical", codes_weight=0.0)

    @jax.jit
    def look(params):
        window = learner.make_window(ENV, config, played, jnp.zeros((1, 3)), jax.random.key(0), seen=True)
        window = window._replace(alive=jnp.array([[True, True, False]]))
        first, second = window.observation[:, 0], window.observation[:, 1]
        after = network.dynamics(params, network.represent(params, first), window.action[:, 0].astype(jnp.int32))
        logits = encode(params, first, second)
        code = jax.nn.one_hot(logits.argmax(-1), 5)
        said = network.predict(params, settle(params, after.latent, code))
        share = jax.nn.softmax(logits)  # of the one outcome that was seen: the mean of all
        far = jnp.square(share - code).sum() + (share * jnp.log(share * 5)).sum()
        expected = 0.1 * far - (jax.nn.log_softmax(jnp.asarray(after.codes)) * code).sum()

        def total(params):
            rows = muzero_loss(config, network, params, window)
            return rows["loss"].sum(), rows

        gradient, rows = jax.grad(total, has_aux=True)(params)
        return gradient, rows, said.value, expected

    gradient, rows, value, expected = jax.device_get(look(params))
    np.testing.assert_allclose(rows["codes_loss"][:, 0], [0.0, expected, 0.0], rtol=1e-4)
    np.testing.assert_allclose(rows["value_error"][1], np.abs(value), rtol=1e-3, atol=1e-5)
    assert np.any(gradient["coder"]["out"]["kernel"])


def test_search_with_learned_chance_is_an_expectation():
    """One action, two codes of known probability and known values, each seen: the root is worth what is expected."""

    def dynamics(params, latent, action):
        zero = jnp.zeros(len(action))
        return DynamicsOutput(latent, zero + 0.5, zero + 1, {}, jnp.zeros((len(action), 3)), jnp.log(
            jnp.tile(jnp.float32([[0.75, 0.25]]), (len(action), 1))
        ))  # fmt: skip

    def predict(params, latent):
        logits = jnp.where(jnp.arange(9) == 8, 30.0, 0.0)
        return Prediction(jnp.tile(logits[None], (len(latent), 1)), latent[:, 0], {"value": latent[:, 0]})

    def settle(params, latent, code):
        return code @ jnp.float32([[8.0], [-4.0]])

    latent = Latent(
        lambda params, observation: jnp.zeros((len(observation), 1)), dynamics, predict, num_codes=2, settle=settle
    )
    network = networks.Network(lambda key: {}, lambda *_: None, lambda x: x, lambda *_: None, latent=latent)  # pyright: ignore
    env = envs.make("2048", max_plies=8)
    text = "    .     .     .     .\n" * 3 + "    2     .     .     .\nply 0"
    state = jax.tree.map(lambda x: x[None], env.from_text(text))
    made = search.make(
        GumbelConfig(simulations=6, max_considered=1, max_depth=2), _Nine(), models.make(_Nine(), network)
    )
    found, _ = jax.jit(lambda: made.run((), jax.random.split(jax.random.key(0), 1), state, (), jnp.zeros(1), False))()
    assert float(found.value[0]) == pytest.approx(0.5 + 0.75 * 8 - 0.25 * 4)


@dataclasses.dataclass(frozen=True)
class _Nine(type(envs.make("2048"))):
    """2048 with nine actions, all but the last illegal."""

    num_actions = 9

    def legal_actions(self, state):
        return jnp.arange(9) == 8
