"""Playout cap randomisation: who shares the draw, what it leaves of a ply, what it saves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_iteration import CONFIG, ENV, assert_identical, host, lookup_network

from jaxzero.config.schema import Config, SelfPlayConfig
from jaxzero.search import GumbelConfig, MinimaxConfig, PuctConfig, Search, SearchOutput
from jaxzero.training import iteration, selfplay

LANES, PLIES, SHARE = 8, 200, 0.25


def fake_search(value: float):
    """Plays at random; its value tells which search it was, its visits whether it explored."""

    def run(params, keys, states, carry, temperature, explore):
        legal = jax.vmap(ENV.legal_actions)(states)
        logits = jnp.where(legal, jax.vmap(lambda key: jax.random.normal(key, (9,)))(keys), -jnp.inf)
        values = jnp.full(len(keys), value + 0.25 * explore)
        policy, weight = jax.nn.softmax(logits), jnp.ones(len(keys))
        return SearchOutput(jnp.argmax(logits, -1), policy, values, weight, logits, logits), carry

    return Search(lambda states: (), run)


def test_every_ply_is_searched_in_full_or_not_by_one_draw_for_all_games():
    config = Config(search=GumbelConfig(full_share=SHARE), selfplay=SelfPlayConfig(games=LANES, plies=PLIES))
    search = fake_search(0.5)
    games = selfplay.start(ENV, search, jax.random.key(1), jnp.arange(LANES), 0)
    play = jax.jit(selfplay.make_play(ENV, search, config, fake_search(-0.5)))
    full = []
    for seed in range(2):
        _, chunk = jax.device_get(play((), games, jax.random.key(seed)))
        played = chunk.transitions
        full.append(played.value[:, 0] == 0.75)
        # Positions of cheap plies are kept, and their values with them.
        np.testing.assert_array_equal(played.value, np.where(full[-1], 0.75, -0.5)[:, None].repeat(LANES, 1))
        np.testing.assert_array_equal(played.policy_weight, full[-1][:, None].repeat(LANES, 1))
    assert (full[0] != full[1]).any()
    share, spread = np.mean(full), np.sqrt(SHARE * (1 - SHARE) / (2 * PLIES))
    assert abs(share - SHARE) < 4 * spread


def test_cheap_plies_cost_no_more_than_their_simulations():
    """The network is asked as often as the plies that were drawn need, and no more: one branch is run."""
    asked = []
    network = lookup_network(ENV)

    def infer(params, observation):
        jax.debug.callback(lambda: asked.append(1))
        return network.infer(params, observation)

    search = GumbelConfig(simulations=12, cheap_simulations=2, full_share=0.3)
    config = dataclasses.replace(CONFIG, search=search, selfplay=SelfPlayConfig(games=8, plies=12))
    steps = iteration.make(config, ENV, network._replace(infer=infer))
    state, _ = steps.self_play(steps.init(np.int32(0)))
    jax.effects_barrier()
    full = int(np.asarray(state.replay.transitions.policy_weight)[:12, 0].sum())
    assert 0 < full < 12
    assert len(asked) == 13 * full + 3 * (12 - full)


@pytest.mark.parametrize("search", [
    GumbelConfig(simulations=6, full_share=0.5, cheap_simulations=2),
    PuctConfig(
        simulations=6, full_share=0.5, cheap_simulations=2, forced_playouts=2.0, root_temperature=1.2
    ),
    MinimaxConfig(widths=(3, 2)),
], ids=["gumbel", "puct", "minimax"])  # fmt: skip
def test_any_number_of_devices_plays_the_same_games(search):
    results = []
    for devices in (1, 2, 4):
        config = dataclasses.replace(CONFIG, devices=devices, search=search)
        steps = iteration.make(config, ENV, lookup_network(ENV))
        state, _ = steps.self_play(steps.init(np.int32(0)))
        assert state.games.plies.sharding.num_devices == devices
        results.append(host((state.games, state.replay)))
    for games in results[1:]:
        assert_identical(games, results[0])
    weights = results[0][1].transitions.policy_weight[: CONFIG.selfplay.plies]
    assert set(weights[:, 0]) == ({0.0, 1.0} if search.full_share < 1 else {1.0})
