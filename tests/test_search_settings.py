"""Settings of searches that do not fit together are refused with one line."""

import re

import pytest
from tables import search_config

import envs
from envs.tic_tac_toe import TicTacToe
from jaxzero.config.schema import Config, EvaluationConfig
from jaxzero.config.validation import validate
from jaxzero.messages import ConfigError
from jaxzero.networks import ResNetConfig
from jaxzero.search import MinimaxConfig

ENV = envs.make("tic_tac_toe")


def check(**settings):
    validate(Config(name="trial", search=search_config(**settings), evaluation=EvaluationConfig(opponents=())), ENV, 1)


@pytest.mark.parametrize(("settings", "message"), [
    ({"kind": "minimax", "widths": ()}, "search.widths: needs one or more widths, got []"),
    ({"kind": "minimax", "widths": (3, 0)}, "search.widths: must be from 1 to 65536, got 0"),
    (
        {"kind": "minimax", "value_temperature": 0.0},
        "search.value_temperature: must be from 0.0001 to 1000000, got 0.0",
    ),
    (
        {"kind": "minimax", "full_share": 0.5},
        "search.full_share: minimax has no simulations; leave it out",
    ),
    ({"full_share": 0.0}, "search.full_share: must be from 0.001 to 1, got 0.0"),
    ({"full_share": 0.5, "cheap_simulations": 0}, "search.cheap_simulations: must be from 1 to 32766, got 0"),
    (
        {"full_share": 0.5, "cheap_simulations": 16},
        "search.cheap_simulations: 16 save nothing beside the 16 simulations of a full search; use fewer, or "
        "search.full_share = 1",
    ),
    ({"kind": "puct", "root_temperature": 0.0}, "search.root_temperature: must be from 0.01 to 100, got 0.0"),
    ({"kind": "puct", "forced_playouts": -1.0}, "search.forced_playouts: must be from 0 to 1000000, got -1.0"),
    *[
        (
            {"kind": kind, "engine": "mctx", name: value},
            f'search.{name}: stock mctx cannot do this; set search.engine = "tree", or leave it out',
        )
        for kind, name, value in [
            ("gumbel", "rounds", True), ("gumbel", "slots", 4), ("puct", "reuse_tree", True),
            ("puct", "forced_playouts", 2.0),
        ]
    ],
])  # fmt: skip
def test_refused(settings, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check(**settings)


@pytest.mark.parametrize("settings", [
    {"simulations": 2},  # cheap_simulations do not matter when every ply is searched in full
    {"kind": "minimax", "simulations": 1},
    {"engine": "mctx", "full_share": 0.5},
    {"kind": "puct", "engine": "mctx", "root_temperature": 1.1, "full_share": 0.5},
    {"kind": "puct", "forced_playouts": 2.0, "root_temperature": 1.1, "full_share": 0.25, "max_depth": 3, "slots": 2},
    {"rounds": True, "full_share": 0.25},
], ids=str)  # fmt: skip
def test_accepted(settings):
    check(**settings)


def test_minimax_does_not_play_games_of_chance():
    class Dice(TicTacToe):
        num_outcomes = 6

    with pytest.raises(
        ConfigError, match=r"^search\.kind: minimax cannot play games of chance such as tic_tac_toe; use"
    ):
        MinimaxConfig().check(Dice(), ResNetConfig())


def test_simulations_a_move():
    def per_move(done=0, **settings):
        return Config(iterations=9, search=search_config(**settings)).simulations_per_move(done)

    assert per_move(simulations=16) == 16
    assert per_move(simulations=16, full_share=0.25, cheap_simulations=4) == 7
    assert per_move(5, simulations=16, schedule=(8, 12, 16), full_share=0.5, cheap_simulations=4) == 8
    assert per_move(kind="minimax", widths=(13, 8)) == 104
